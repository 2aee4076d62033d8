// A library that is loaded and unloaded all the time; built as the program, and with PLUGIN as the library.
#include "survive.h"

#include <dlfcn.h>

#ifdef PLUGIN
static void *kept;
__attribute__((constructor)) static void loaded(void) { kept = malloc(5000); }
__attribute__((destructor)) static void unloaded(void) { free(kept); }
uint64_t plugin(uint64_t seed) {
    memset(kept, 1, 5000);
    return churn(seed, 50);
}
#else
int main(int argc, char **argv) {
    MUST(argc == 2);
    say_ready();
    while (!stopped()) {
        uint64_t hash = 1;
        for (int i = 0; i < 50; i++) {
            void *library = dlopen(argv[1], i % 2 ? RTLD_NOW : RTLD_LAZY);
            MUST(library);
            uint64_t (*plugin)(uint64_t) = (uint64_t (*)(uint64_t))dlsym(library, "plugin");
            hash = mix(hash, plugin(hash));
            MUST(dlclose(library) == 0);
        }
        MUST(dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD) == NULL);
        round_ends(hash);
    }
    return end();
}
#endif
