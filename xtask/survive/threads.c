// Many short threads, which allocate.
#include "survive.h"

#include <pthread.h>

static void *work(void *seed) {
    uint64_t *result = malloc(sizeof *result);
    MUST(result);
    *result = churn((uintptr_t)seed, 300);
    return result;
}

int main(void) {
    say_ready();
    while (!stopped()) {
        uint64_t hash = 1;
        for (uintptr_t wave = 0; wave < 20; wave++) {
            pthread_t threads[8];
            for (uintptr_t i = 0; i < 8; i++) MUST(pthread_create(&threads[i], NULL, work, (void *)(wave * 8 + i)) == 0);
            for (int i = 0; i < 8; i++) {
                void *result;
                MUST(pthread_join(threads[i], &result) == 0);
                hash = mix(hash, *(uint64_t *)result);
                free(result);
            }
        }
        round_ends(hash);
    }
    return end();
}
