/* Allocates and releases as fast as it can, when told to: so many pairs (orders.h). */
#include <stdlib.h>

__attribute__((noinline)) static void pair(void) {
    void *volatile block = malloc(64);
    free(block);
}

__attribute__((noinline)) static void pairs(long count) {
    for (long i = 0; i < count; i++)
        pair();
}

#define WORK pairs
#include "orders.h"
