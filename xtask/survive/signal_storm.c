// A timer's signal a thousand times a second, handled by whatever thread is there; the handler allocates where the thread is
// not in the allocator itself.
#include "survive.h"

#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

static __thread volatile int outside;
static volatile unsigned long signals;

static void handler(int signal) {
    (void)signal;
    signals++;
    if (outside) {
        outside = 0;
        churn(signals, 3);
        outside = 1;
    }
}

static void *work(void *seed) {
    uint64_t hash = (uintptr_t)seed;
    for (int i = 0; i < 200; i++) {
        hash = mix(hash, churn(hash, 20));
        outside = 1;
        for (int step = 0; step < 20000; step++) hash = mix(hash, step);
        outside = 0;
    }
    return (void *)(uintptr_t)hash;
}

int main(void) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    MUST(sigaction(SIGALRM, &action, NULL) == 0);
    struct itimerval timer = {{0, 1000}, {0, 1000}};
    MUST(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    say_ready();
    while (!stopped()) {
        pthread_t threads[2];
        uint64_t hash = 1;
        for (uintptr_t i = 0; i < 2; i++) MUST(pthread_create(&threads[i], NULL, work, (void *)(i + 1)) == 0);
        for (int i = 0; i < 2; i++) {
            void *result;
            MUST(pthread_join(threads[i], &result) == 0);
            hash = mix(hash, (uintptr_t)result);
        }
        round_ends(hash);
    }
    MUST(signals > 0);
    return end();
}
