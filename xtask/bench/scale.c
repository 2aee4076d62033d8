// Holds many blocks, from many stacks, in many threads. Allocates when told to, says so, and waits.
//
//   scale BLOCKS DEPTH THREADS
//   -> ready   <- go   -> done   <- the end of standard input
//
// Each thread allocates BLOCKS / THREADS blocks of 16 to 79 bytes, in turn from the ends of a tree of 2^DEPTH stacks.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SITE __attribute__((noinline, noclone, noipa))

static size_t depth, each;
static pthread_barrier_t begin, end;

static void keep(void *p) { __asm__ volatile("" : : "r"(p) : "memory"); }

void left(size_t path, size_t left_to_go, size_t blocks);
void right(size_t path, size_t left_to_go, size_t blocks);

// The block count is shared out among the ends of the tree.
static inline void step(size_t path, size_t left_to_go, size_t blocks) {
    if (left_to_go == 0) {
        for (size_t i = 0; i < blocks; i++) keep(malloc(16 + (path + i) % 64));
        return;
    }
    left(path * 2, left_to_go - 1, blocks / 2);
    right(path * 2 + 1, left_to_go - 1, blocks - blocks / 2);
    keep(&path);
}

SITE void left(size_t path, size_t left_to_go, size_t blocks) { step(path, left_to_go, blocks); }

SITE void right(size_t path, size_t left_to_go, size_t blocks) { step(path, left_to_go, blocks); }

static void *work(void *unused) {
    pthread_barrier_wait(&begin);
    step(1, depth, each);
    pthread_barrier_wait(&end);
    pause();
    return unused;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    size_t threads = strtoul(argv[3], NULL, 10);
    depth = strtoul(argv[2], NULL, 10);
    each = strtoul(argv[1], NULL, 10) / threads;
    pthread_barrier_init(&begin, NULL, threads + 1);
    pthread_barrier_init(&end, NULL, threads + 1);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 128 << 10);
    for (size_t i = 0; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, &small, work, NULL) != 0) return 1;
    }
    char line[16];
    puts("ready");
    fflush(stdout);
    if (fgets(line, sizeof line, stdin) == NULL) return 1;
    pthread_barrier_wait(&begin);
    pthread_barrier_wait(&end);
    puts("done");
    fflush(stdout);
    // The threads go with the process.
    while (fgets(line, sizeof line, stdin) != NULL) {}
    _exit(0);
}
