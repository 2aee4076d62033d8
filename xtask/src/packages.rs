//! Every Debian package that xtask installs, each with its reason.

use crate::process;

/// A Debian package.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// Its name.
    pub name: &'static str,
    /// Why we want it.
    pub why: &'static str,
}

/// Those packages whose names `is_needed` accepts. A Node from elsewhere than Debian will do.
pub fn needed(packages: &[Package], is_needed: impl Fn(&str) -> bool) -> Vec<Package> {
    let is_there = |name: &str| name == "nodejs" && process::find("node").is_some();
    packages.iter().copied().filter(|package| is_needed(package.name) && !is_there(package.name)).collect()
}

const fn package(name: &'static str, why: &'static str) -> Package {
    Package { name, why }
}

/// A compiler with the library's sources.
pub const COMPILER: &[Package] = &[
    package("rustc-web", "a compiler that comes with its library's sources"),
    package("cargo-web", "the cargo that belongs to it"),
    package("rust-web-src", "the sources of core, which is built for BPF"),
];

/// What bpf-linker builds on.
pub const LINKER: &[Package] = &[
    package("llvm-22-dev", "bpf-linker links to LLVM 22"),
    package("libpolly-22-dev", "LLVM's build configuration names it"),
    package("libzstd-dev", "LLVM's build configuration names it"),
    package("g++", "links the C++ side of LLVM"),
];

/// What the demonstration is compiled with.
pub const C_COMPILER: &[Package] =
    &[package("gcc", "compiles C programs"), package("libc6-dev", "the C library's headers")];

/// What the tests trace, or compare with.
pub const TESTS: &[Package] = &[
    package("gcc", "compiles the C programs that the tests trace"),
    package("g++", "compiles the C++ programs that the tests trace"),
    package("libc6-dev", "the C library's headers"),
    package("libc6-dbg", "the C library's symbols, where a test looks inside it"),
    package("musl", "another C library's allocator as a target"),
    package("musl-tools", "compiles programs against musl"),
    package("libjemalloc2", "an allocator to preload into a target"),
    package("libgoogle-perftools4", "tcmalloc, to preload into a target"),
    package("libmimalloc2.0", "an allocator to preload into a target"),
    package("libjemalloc-dev", "an allocator to link into a target"),
    package("libgoogle-perftools-dev", "tcmalloc, to link into a target"),
    package("libboost-context-dev", "coroutines as a target"),
    package("binutils", "strips targets, and takes their symbols apart"),
    package("xz-utils", "packs symbols as distributions do"),
    package("redis-server", "a real service, with jemalloc linked in"),
    package("redis-tools", "makes that service work"),
    package("sqlite3", "a real program whose allocations can be counted exactly"),
    package("nginx-light", "a real service of several processes"),
    package("postgresql", "a real service that runs as a user of its own; installed without a database"),
    package("php-cli", "an interpreter with an allocator of its own"),
    package("php-fpm", "workers of the same, which wait for requests"),
    package("python3", "an interpreter as a target, and a reader of reports"),
    package("libssl3", "hand-written code with unusual unwind rules"),
    package("debuginfod", "elfutils' server of debug files, which has those of a target"),
    package("gdb", "an independent view of a target's stacks"),
    package("valgrind", "an independent count of allocations"),
    package("jq", "a program whose allocations are compared"),
    package("bc", "a program whose allocations are compared"),
    package("curl", "a program whose allocations are compared"),
    package("git", "a program whose allocations are compared"),
    package("openssl", "a program whose allocations are compared"),
    package("zstd", "a program whose allocations are compared"),
    package("mawk", "a program whose allocations are compared"),
    package("bpftrace", "another tool with probes on the same functions"),
    package("golang-go", "go tool pprof, which has to open our profiles, and programs that call C"),
    package("default-jdk-headless", "a virtual machine that counts its objects by class"),
    package("chromium", "the browser that opens our pages and flame graphs"),
    package("fonts-dejavu-core", "letters for its screenshots"),
];

/// What the tests trace that often comes from elsewhere than Debian: asked for when there is no `node`.
pub const NODE: &[Package] = &[package("nodejs", "a runtime that names the code it makes in a perf map")];

/// What the benchmark runs and compares with.
pub const BENCH: &[Package] = &[
    package("gcc", "compiles the allocation loops"),
    package("g++", "compiles the C++ program"),
    package("libc6-dev", "the C library's headers"),
    package("sqlite3", "runs a script of known allocations"),
    package("redis-server", "a real service, with jemalloc as its allocator"),
    package("redis-tools", "makes that service work"),
    package("python3", "an interpreter as a target"),
    package("bpftrace", "the tool that people would use instead"),
    package("heaptrack", "a tool that is preloaded and sees every call"),
    package("valgrind", "a tool that emulates the processor"),
    package("libjemalloc2", "an allocator that profiles itself"),
];

/// What boots other kernels. The kernels themselves are fetched, not installed: `vm_test/kernel.rs`.
pub const VM_TEST: &[Package] = &[
    package("qemu-system-x86", "the machine that other kernels boot in"),
    package("busybox-static", "the guest's shell and tools, and the packer of its files"),
    package("bpftool", "tells which programs the guest's kernel has loaded"),
    package("python3", "an interpreter as a target in the guest"),
    package("gcc", "compiles the service that leaks"),
    package("g++", "compiles the program that throws"),
    package("libc6-dev", "the C library's headers"),
];

/// What runs while memtrace comes and goes, besides what compiles it: `survive/table.rs`.
pub const SURVIVE: &[Package] = &[
    package("musl-tools", "compiles a program against another C library"),
    package("libjemalloc2", "an allocator to preload"),
    package("libgoogle-perftools4", "tcmalloc, to preload"),
    package("libmimalloc2.0", "an allocator to preload"),
    package("libboost-context-dev", "fibers and coroutines of C++"),
    package("golang-go", "goroutines, with and without C"),
    package("bubblewrap", "puts a program into a sandbox"),
    package("nodejs", "a runtime that makes and moves code"),
    package("ruby", "an interpreter with fibers"),
    package("libcoro-perl", "coroutines of Perl that switch C stacks"),
    package("lua5.4", "an interpreter with coroutines"),
    package("luajit", "a compiler at run time with coroutines"),
    package("php-cli", "an interpreter with fibers"),
    package("ocaml-nox", "a compiler with a heap of its own"),
    package("sbcl", "a compiler at run time with a heap of its own"),
    package("default-jdk-headless", "a virtual machine with threads and a compiler"),
    package("sqlite3", "a real program"),
    package("redis-server", "a real service"),
    package("nginx-light", "a real service of several processes"),
    package("postgresql", "a real service of several processes; installed without a database"),
    package("chromium", "a real program of several processes that confine themselves"),
    package("qemu-system-x86", "a real program with coroutines and translated code"),
    package("make", "a program that starts others all the time"),
    package("strace", "looks at a program beside memtrace"),
    package("gdb", "looks at a program beside memtrace"),
    package("linux-perf", "looks at a program beside memtrace"),
];

/// What services under load are made of, besides what npm and PyPI have: `services/table.rs`.
pub const SERVICES: &[Package] = &[
    package("wrk", "makes HTTP services work, in a closed loop"),
    package("python3-venv", "makes environments for packages of PyPI"),
    package("redis-server", "the broker between a worker and who asks it for jobs"),
    package("nodejs", "a runtime of services"),
    package("golang-go", "compiles a service"),
    package("golang-github-mattn-go-sqlite3-dev", "SQLite for Go, through cgo"),
    package("gcc", "compiles its C side"),
    package("libc6-dev", "the C library's headers"),
    package("openjdk-17-jdk-headless", "a virtual machine with threads, and its compiler"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_is_listed_once_and_has_a_reason() {
        for list in [COMPILER, LINKER, C_COMPILER, TESTS, NODE, BENCH, VM_TEST, SURVIVE, SERVICES] {
            let mut names: Vec<_> = list.iter().map(|package| package.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), list.len());
            assert!(list.iter().all(|package| !package.why.is_empty()));
        }
    }
}
