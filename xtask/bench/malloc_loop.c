/* Allocates and releases as fast as it can, when told to: each line on standard input is a number of pairs, answered by
 * the nanoseconds that they took. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

__attribute__((noinline)) static void pair(void) {
    void *volatile block = malloc(64);
    free(block);
}

__attribute__((noinline)) static void pairs(long count) {
    for (long i = 0; i < count; i++)
        pair();
}

int main(void) {
    static char line[64];
    setvbuf(stdout, NULL, _IONBF, 0);
    setvbuf(stdin, line, _IOFBF, sizeof line);
    char word[32];
    while (fgets(word, sizeof word, stdin) != NULL) {
        struct timespec begin, end;
        clock_gettime(CLOCK_MONOTONIC, &begin);
        pairs(atol(word));
        clock_gettime(CLOCK_MONOTONIC, &end);
        printf("%ld\n", (end.tv_sec - begin.tv_sec) * 1000000000L + (end.tv_nsec - begin.tv_nsec));
    }
    return 0;
}
