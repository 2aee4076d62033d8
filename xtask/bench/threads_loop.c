/* malloc_loop.c's loop in four threads at once, each of which makes its share of the pairs. */
#include <pthread.h>
#include <stdlib.h>

enum { THREADS = 4 };

__attribute__((noinline)) static void pair(void) {
    void *volatile block = malloc(64);
    free(block);
}

static void *pairs(void *count) {
    for (long i = 0; i < *(long *)count; i++)
        pair();
    return NULL;
}

static void in_threads(long count) {
    pthread_t threads[THREADS];
    long share = count / THREADS;
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, pairs, &share) != 0)
            exit(1);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

#define WORK in_threads
#include "orders.h"
