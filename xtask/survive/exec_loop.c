// A program that replaces itself by exec all the time, by its first thread and by another one in turn.
#include "survive.h"

#include <pthread.h>
#include <time.h>

static char **own_arguments;

static void *again(void *unused) {
    (void)unused;
    execv("/proc/self/exe", own_arguments);
    give_up("exec", __LINE__);
    return NULL;
}

int main(int argc, char **argv) {
    // Of the program before: how often this has happened, and its result.
    unsigned long times = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
    uint64_t before = argc > 2 ? strtoull(argv[2], NULL, 16) : 0;
    if (times == 0) say_ready();
    uint64_t hash = churn(5, 2000);
    MUST(times == 0 || hash == before);
    // Now long enough for an attach, now not.
    struct timespec begun, now;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    do {
        MUST(churn(5, 2000) == hash);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - begun.tv_sec) * 1000 + (now.tv_nsec - begun.tv_nsec) / 1000000 < (long)(times * 470 % 3000));
    round_ends(hash);
    if (times > 0 && stopped()) return end();
    char count[24], result[24];
    snprintf(count, sizeof count, "%lu", times + 1);
    snprintf(result, sizeof result, "%lx", (unsigned long)hash);
    own_arguments = (char *[]){argv[0], count, result, NULL};
    pthread_t thread;
    if (times % 2 == 0) again(NULL);
    MUST(pthread_create(&thread, NULL, again, NULL) == 0);
    pthread_join(thread, NULL);
    return 1;
}
