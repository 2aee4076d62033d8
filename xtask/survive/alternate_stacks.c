// Handlers on an alternate stack, which allocate, return or jump away, in several threads.
#include "survive.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>

static __thread sigjmp_buf back;
static __thread int jumps;
static __thread uint64_t handled;

static void handler(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info, (void)context;
    handled = mix(handled, churn(handled, 10));
    if (jumps) siglongjmp(back, 1);
}

static void *work(void *seed) {
    stack_t stack = {.ss_size = 128 << 10};
    MUST((stack.ss_sp = malloc(stack.ss_size)) && sigaltstack(&stack, NULL) == 0);
    uint64_t hash = handled = (uintptr_t)seed;
    for (int i = 0; i < 100; i++) {
        jumps = i % 3 == 0;
        if (sigsetjmp(back, 1) == 0) pthread_kill(pthread_self(), SIGUSR1);
        hash = mix(hash, churn(hash ^ handled, 10));
    }
    stack.ss_flags = SS_DISABLE;
    MUST(sigaltstack(&stack, NULL) == 0);
    free(stack.ss_sp);
    return (void *)(uintptr_t)hash;
}

int main(void) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    MUST(sigaction(SIGUSR1, &action, NULL) == 0);
    say_ready();
    while (!stopped()) {
        pthread_t threads[4];
        uint64_t hash = 1;
        for (uintptr_t i = 0; i < 4; i++) MUST(pthread_create(&threads[i], NULL, work, (void *)(i + 1)) == 0);
        for (int i = 0; i < 4; i++) {
            void *result;
            MUST(pthread_join(threads[i], &result) == 0);
            hash = mix(hash, (uintptr_t)result);
        }
        round_ends(hash);
    }
    return end();
}
