/* malloc_loop.c's loop in four threads at once: each line on standard input is a number of pairs, of which each thread
 * makes its share, answered by the nanoseconds that they took. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

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

int main(void) {
    static char line[64];
    setvbuf(stdout, NULL, _IONBF, 0);
    setvbuf(stdin, line, _IOFBF, sizeof line);
    char word[32];
    while (fgets(word, sizeof word, stdin) != NULL) {
        struct timespec begin, end;
        clock_gettime(CLOCK_MONOTONIC, &begin);
        in_threads(atol(word));
        clock_gettime(CLOCK_MONOTONIC, &end);
        printf("%ld\n", (end.tv_sec - begin.tv_sec) * 1000000000L + (end.tv_nsec - begin.tv_nsec));
    }
    return 0;
}
