/* A small service to watch: 200 requests a second, each of which uses memory in three ways.
 *
 *   remember_session  keeps something of every visitor and never lets go of it: a leak, 200 KiB a second
 *   cache_lookup      keeps the last pages that were asked for: it fills in the first seconds, then stays level
 *   render_page       takes and returns memory all the time, and keeps none
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define REQUESTS_PER_SECOND 200
#define CACHE_ENTRIES 256
#define CACHED_BYTES 8192
#define SESSION_BYTES 1024
#define PAGES 1024

struct session {
    struct session *next;
    unsigned visitor;
    char notes[SESSION_BYTES - 16];
};

struct cached_page {
    unsigned page;
    uint64_t last_use;
    char *text;
};

static struct session *sessions;
static struct cached_page cache[CACHE_ENTRIES];
static uint64_t uses;

static void *must(void *memory) {
    if (memory == NULL) {
        perror("service");
        exit(1);
    }
    return memory;
}

/* The leak: nothing ever walks this list to forget a visitor who has left. */
__attribute__((noinline)) static void remember_session(unsigned visitor) {
    struct session *session = must(malloc(sizeof *session));
    memset(session, 0, sizeof *session);
    session->visitor = visitor;
    session->next = sessions;
    sessions = session;
}

/* The cache: a page that is not in it takes the place of the one that was used the longest ago. */
__attribute__((noinline)) static const char *cache_lookup(unsigned page) {
    struct cached_page *oldest = &cache[0];
    for (int i = 0; i < CACHE_ENTRIES; i++) {
        if (cache[i].text != NULL && cache[i].page == page) {
            cache[i].last_use = ++uses;
            return cache[i].text;
        }
        if (cache[i].last_use < oldest->last_use)
            oldest = &cache[i];
    }
    free(oldest->text);
    oldest->text = must(malloc(CACHED_BYTES));
    memset(oldest->text, 'a' + (int)(page % 26), CACHED_BYTES - 1);
    oldest->text[CACHED_BYTES - 1] = '\0';
    oldest->page = page;
    oldest->last_use = ++uses;
    return oldest->text;
}

/* The churn: several blocks of different sizes, all returned before it is. */
__attribute__((noinline)) static size_t render_page(unsigned visitor, const char *text) {
    char *parts[8];
    size_t length = 0;
    for (unsigned i = 0; i < 8; i++) {
        size_t size = 64u << (i + visitor) % 6;
        parts[i] = must(malloc(size));
        length += (size_t)snprintf(parts[i], size, "%u:%.20s", visitor, text);
    }
    for (int i = 0; i < 8; i++)
        free(parts[i]);
    return length;
}

__attribute__((noinline)) static size_t handle_request(unsigned visitor) {
    const char *text = cache_lookup((unsigned)rand() % PAGES);
    remember_session(visitor);
    return render_page(visitor, text);
}

int main(void) {
    /* However the demonstration ends, this ends with it. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() == 1)
        return 1;
    const struct timespec pause = {.tv_sec = 0, .tv_nsec = 1000000000L / REQUESTS_PER_SECOND};
    size_t served = 0;
    for (unsigned visitor = 0;; visitor++) {
        served += handle_request(visitor);
        nanosleep(&pause, NULL);
    }
    return served == 0;
}
