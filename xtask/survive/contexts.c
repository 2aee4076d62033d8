// Coroutines by makecontext and swapcontext, which switch away between an allocation and its release; stacks come from
// malloc and from mmap.
#include "survive.h"

#include <sys/mman.h>
#include <ucontext.h>

enum { COROUTINES = 40, STACK = 64 << 10 };
static ucontext_t main_context, contexts[COROUTINES];
static uint64_t results[COROUTINES];
static int running;

static void coroutine(int self) {
    uint64_t hash = self;
    for (int i = 0; i < 20; i++) {
        char *block = malloc(100 + self * 7 + i);
        MUST(block);
        memset(block, self, 100);
        hash = mix(hash, churn(hash, 5));
        swapcontext(&contexts[self], &main_context);
        MUST(block[99] == self);
        free(block);
    }
    results[self] = hash;
    running--;
}

int main(void) {
    say_ready();
    while (!stopped()) {
        void *stacks[COROUTINES];
        for (int i = 0; i < COROUTINES; i++) {
            int flags = MAP_PRIVATE | MAP_ANONYMOUS;
            stacks[i] = i % 2 ? malloc(STACK) : mmap(NULL, STACK, PROT_READ | PROT_WRITE, flags, -1, 0);
            MUST(stacks[i] != NULL && stacks[i] != MAP_FAILED && getcontext(&contexts[i]) == 0);
            contexts[i].uc_stack.ss_sp = stacks[i];
            contexts[i].uc_stack.ss_size = STACK;
            contexts[i].uc_link = &main_context;
            makecontext(&contexts[i], (void (*)(void))coroutine, 1, i);
        }
        running = COROUTINES;
        uint64_t hash = 1;
        for (int turn = 0; running > 0; turn++)
            for (int i = 0; i < COROUTINES; i++)
                if (turn <= 20) swapcontext(&main_context, &contexts[i]);
        for (int i = 0; i < COROUTINES; i++) {
            hash = mix(hash, results[i]);
            if (i % 2) free(stacks[i]);
            else MUST(munmap(stacks[i], STACK) == 0);
        }
        round_ends(hash);
    }
    return end();
}
