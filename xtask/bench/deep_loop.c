/* malloc_loop.c's loop below a stack as whole programs have: from the function that allocates to the program's first
 * instruction there are 20 frames, each of a function of its own, with a frame of its own size, and (as compiled for the
 * benchmark) without frame pointers. */
#include <stdlib.h>

#define SITE __attribute__((noinline, noclone, noipa))

SITE static void pair(void) {
    void *volatile block = malloc(64);
    free(block);
}

SITE static void level_1(long count) {
    for (long i = 0; i < count; i++)
        pair();
}

/* Calls the level below, with something on the stack and something to do afterwards: no tail calls. */
#define LEVEL(number, below)                          \
    SITE static void level_##number(long count) {     \
        volatile char local[(number) * 16];           \
        local[0] = 1;                                 \
        level_##below(count);                         \
        (void)local[0];                               \
    }

LEVEL(2, 1)
LEVEL(3, 2)
LEVEL(4, 3)
LEVEL(5, 4)
LEVEL(6, 5)
LEVEL(7, 6)
LEVEL(8, 7)
LEVEL(9, 8)
LEVEL(10, 9)
LEVEL(11, 10)
LEVEL(12, 11)
LEVEL(13, 12)
LEVEL(14, 13)
LEVEL(15, 14)

/* With pair, 15 levels, main, the C library's two and _start: 20. */
#define WORK level_15
#include "orders.h"
