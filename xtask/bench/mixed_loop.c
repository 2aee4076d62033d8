/* malloc_loop.c's loop with sizes from 16 bytes to 1 MiB and 64 blocks alive: each step releases the oldest and allocates
 * another. Sizes are the same in every run. Small ones are more frequent: of two numbers from 0 to 16 the smaller one is
 * the power of two, so that about one block in 18 has 128 KiB or more. */
#include <malloc.h>
#include <stdlib.h>

enum { ALIVE = 64, POWERS = 17, LEAST = 16, MMAP_FROM = 128 * 1024 };

/* Numerical Recipes' linear congruential generator; its upper bits are the good ones. */
static unsigned next(unsigned *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static size_t size(unsigned *state) {
    unsigned one = next(state) % POWERS, other = next(state) % POWERS;
    size_t power = (size_t)LEAST << (one < other ? one : other);
    /* Between this power of two and the next, but for the greatest. */
    return power == (size_t)LEAST << (POWERS - 1) ? power : power + next(state) % power;
}

__attribute__((noinline)) static char *allocate(size_t bytes) {
    char *block = malloc(bytes);
    if (block == NULL)
        exit(1);
    block[0] = 1;
    return block;
}

__attribute__((noinline)) static void pairs(long count) {
    static char *alive[ALIVE];
    unsigned state = 1;
    for (long i = 0; i < count; i++) {
        free(alive[i % ALIVE]);
        alive[i % ALIVE] = allocate(size(&state));
    }
    for (int i = 0; i < ALIVE; i++) {
        free(alive[i]);
        alive[i] = NULL;
    }
}

/* glibc maps large blocks one by one, and raises the bound when the first of them is released. Setting it keeps it. */
__attribute__((constructor)) static void set_bound(void) {
    mallopt(M_MMAP_THRESHOLD, MMAP_FROM);
}

#define WORK pairs
#include "orders.h"
