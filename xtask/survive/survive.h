// What the C and C++ programs share. A program prints `ready PID`, works in rounds until the file that STOP names is there,
// finds the same result in each round, prints it, and ends with status 7.
#ifndef SURVIVE_H
#define SURVIVE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MUST(condition) ((condition) ? (void)0 : give_up(#condition, __LINE__))

__attribute__((unused)) static void give_up(const char *what, int line) {
    fprintf(stderr, "survive: line %d: not true: %s\n", line, what);
    _exit(1);
}

__attribute__((unused)) static void say_ready(void) {
    printf("ready %d\n", (int)getpid());
    fflush(stdout);
}

__attribute__((unused)) static uint64_t mix(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

static uint64_t result_of_all;
static unsigned long rounds_done;

// Whether it is time to end; there is one round at least.
__attribute__((unused)) static int stopped(void) {
    const char *file = getenv("STOP");
    return rounds_done > 0 && (file == NULL || access(file, F_OK) == 0);
}

// Takes the result of a round, which must be that of the first.
__attribute__((unused)) static void round_ends(uint64_t result) {
    MUST(rounds_done == 0 || result == result_of_all);
    result_of_all = result;
    rounds_done++;
}

__attribute__((unused)) static int end(void) {
    printf("result %016lx\n", (unsigned long)result_of_all);
    fprintf(stderr, "%lu rounds\n", rounds_done);
    return 7;
}

// Allocates, writes, moves, checks and frees blocks; a hash of what was in them.
__attribute__((unused)) static uint64_t churn(uint64_t seed, int times) {
    enum { KEPT = 32 };
    unsigned char *kept[KEPT] = {NULL};
    size_t sizes[KEPT] = {0};
    uint64_t hash = seed | 1;
    for (int i = 0; i < times; i++) {
        int at = hash % KEPT;
        size_t size = 16 + (hash >> 8) % 3000;
        if (hash % 5 == 0 && kept[at]) {
            kept[at] = (unsigned char *)realloc(kept[at], size);
            MUST(kept[at] && kept[at][0] == (unsigned char)sizes[at]);
        } else {
            MUST(kept[at] == NULL || kept[at][sizes[at] - 1] == (unsigned char)sizes[at]);
            free(kept[at]);
            kept[at] = (unsigned char *)(hash % 7 == 0 ? calloc(1, size) : malloc(size));
            MUST(kept[at]);
        }
        sizes[at] = size;
        kept[at][0] = kept[at][size - 1] = (unsigned char)size;
        hash = mix(hash, size + at);
    }
    for (int at = 0; at < KEPT; at++) free(kept[at]);
    return hash;
}

#endif
