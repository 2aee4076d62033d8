// A program that seccomp ends at any system call that is not on a short list.
#include "survive.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define ALLOW(call) \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

int main(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(read), ALLOW(write), ALLOW(access), ALLOW(faccessat), ALLOW(brk), ALLOW(mmap), ALLOW(munmap),
        ALLOW(mremap), ALLOW(exit_group), ALLOW(rt_sigreturn), ALLOW(fstat), ALLOW(newfstatat),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    say_ready();
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    while (!stopped()) {
        void *large = malloc(1 << 20);
        MUST(large && (large = realloc(large, 3 << 20)));
        uint64_t hash = churn(3, 20000);
        free(large);
        round_ends(hash);
    }
    return end();
}
