/* Maps four pages, touches one and unmaps them as fast as it can, when told to: so many times (orders.h). */
#include <stdlib.h>
#include <sys/mman.h>

__attribute__((noinline)) static void pair(void) {
    volatile char *pages = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        abort();
    *pages = 1;
    munmap((void *)pages, 16384);
}

__attribute__((noinline)) static void pairs(long count) {
    for (long i = 0; i < count; i++)
        pair();
}

#define WORK pairs
#include "orders.h"
