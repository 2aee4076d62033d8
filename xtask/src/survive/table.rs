//! The programs.

use super::program::{GROWTH, Program, WITH_CHILDREN};

/// The version of what gcc compiles.
const GCC: &str = "gcc --version";
const PYTHON: &str = "python3 --version";
const SHELL: &str = "dpkg-query -W -f 'dash ${Version}' dash";

/// All of them, in the order in which they run.
pub const PROGRAMS: &[Program] = &[
    Program::new("threads", "C, many short threads", GCC, "exec $BUILD/threads")
        .built("gcc -O2 -g -pthread -o $BUILD/threads $SOURCE/threads.c")
        .with(&[&[], &["--sample", "4KiB"], &["--no-prediction"], &["--syscalls"], &["--no-return-probes"]]),
    Program::new("threads-static", "the same, statically linked: its own code is probed", GCC, "exec $BUILD/threads-static")
        .built("gcc -O2 -g -static -pthread -o $BUILD/threads-static $SOURCE/threads.c")
        .quick(),
    Program::new("threads-musl", "the same on musl", "dpkg-query -W -f 'musl ${Version}' musl", "exec $BUILD/threads-musl")
        .of(&["musl-tools"])
        .built("musl-gcc -O2 -g -pthread -o $BUILD/threads-musl $SOURCE/threads.c"),
    Program::new(
        "threads-jemalloc",
        "the same with jemalloc preloaded",
        "dpkg-query -W -f 'jemalloc ${Version}' libjemalloc2",
        "LD_PRELOAD=libjemalloc.so.2 exec $BUILD/threads-jemalloc",
    )
    .of(&["libjemalloc2"])
    .built("gcc -O2 -g -pthread -o $BUILD/threads-jemalloc $SOURCE/threads.c"),
    Program::new(
        "threads-tcmalloc",
        "the same with tcmalloc preloaded",
        "dpkg-query -W -f 'tcmalloc ${Version}' libgoogle-perftools4",
        "LD_PRELOAD=libtcmalloc.so.4 exec $BUILD/threads-tcmalloc",
    )
    .of(&["libgoogle-perftools4"])
    .built("gcc -O2 -g -pthread -o $BUILD/threads-tcmalloc $SOURCE/threads.c"),
    Program::new(
        "threads-mimalloc",
        "the same with mimalloc preloaded",
        "dpkg-query -W -f 'mimalloc ${Version}' libmimalloc2.0",
        "LD_PRELOAD=libmimalloc.so.2 exec $BUILD/threads-mimalloc",
    )
    .of(&["libmimalloc2.0"])
    .built("gcc -O2 -g -pthread -o $BUILD/threads-mimalloc $SOURCE/threads.c"),
    Program::new("contexts", "C, coroutines by makecontext", GCC, "exec $BUILD/contexts")
        .built("gcc -O2 -g -o $BUILD/contexts $SOURCE/contexts.c")
        .quick(),
    Program::new("alternate-stacks", "C, handlers on alternate stacks that allocate and jump away", GCC, "exec $BUILD/alternate")
        .built("gcc -O2 -g -pthread -o $BUILD/alternate $SOURCE/alternate_stacks.c")
        .quick(),
    Program::new("signal-storm", "C, a timer's signal at 1 kHz whose handler allocates", GCC, "exec $BUILD/storm")
        .built("gcc -O2 -g -pthread -o $BUILD/storm $SOURCE/signal_storm.c")
        .quick(),
    Program::new("confined", "C, a seccomp filter with a short list of calls", GCC, "exec $BUILD/confined")
        .built("gcc -O2 -g -o $BUILD/confined $SOURCE/confined.c")
        .with(&[&[], &["--no-return-probes"]])
        .quick(),
    Program::new("plugins", "C, dlopen and dlclose in a loop", GCC, "exec $BUILD/plugins $BUILD/plugin.so")
        .built(
            "gcc -O2 -g -DPLUGIN -shared -fPIC -o $BUILD/plugin.so $SOURCE/plugins.c && \
             gcc -O2 -g -o $BUILD/plugins $SOURCE/plugins.c",
        )
        .quick(),
    Program::new("children", "C, children by fork, vfork, posix_spawn and popen", GCC, "exec $BUILD/children")
        .built("gcc -O2 -g -o $BUILD/children $SOURCE/children.c")
        .with(WITH_CHILDREN)
        .quick(),
    Program::new("children-static", "the same, statically linked: it and its children are held", GCC, "exec $BUILD/children-static")
        .built("gcc -O2 -g -static -o $BUILD/children-static $SOURCE/children.c")
        .with(WITH_CHILDREN),
    Program::new("signal-storm-static", "the storm of signals, statically linked: each one passes the helper", GCC, "exec $BUILD/storm-static")
        .built("gcc -O2 -g -static -pthread -o $BUILD/storm-static $SOURCE/signal_storm.c"),
    Program::new("exec-loop", "C, replaces itself by exec all the time, from two threads in turn", GCC, "exec $BUILD/exec-loop")
        .built("gcc -O2 -g -pthread -o $BUILD/exec-loop $SOURCE/exec_loop.c"),
    Program::new("exec-loop-static", "the same, statically linked", GCC, "exec $BUILD/exec-loop-static")
        .built("gcc -O2 -g -static -pthread -o $BUILD/exec-loop-static $SOURCE/exec_loop.c"),
    Program::new("exceptions", "C++, exceptions through containers and threads", "g++ --version", "exec $BUILD/exceptions")
        .built("g++ -O2 -g -std=c++17 -pthread -o $BUILD/exceptions $SOURCE/exceptions.cpp"),
    Program::new(
        "boost-fibers",
        "C++, Boost.Context fibers and Boost.Coroutine2",
        "dpkg-query -W -f 'Boost ${Version}' libboost-context-dev",
        "exec $BUILD/fibers",
    )
    .of(&["libboost-context-dev"])
    .built("g++ -O2 -g -std=c++17 -o $BUILD/fibers $SOURCE/fibers.cpp -lboost_context"),
    Program::new(
        "corosensei",
        "Rust, corosensei coroutines that panic and are dropped",
        "rustc --version",
        "exec $BUILD/corosensei/release/survive-corosensei",
    )
    .built("cargo build -q --release --manifest-path $SOURCE/corosensei/Cargo.toml --target-dir $BUILD/corosensei"),
    Program::new("go", "goroutines without C, by --mode growth", "go version", "exec $BUILD/go-pure")
        .of(&["golang-go"])
        .built("cd $SOURCE/go && CGO_ENABLED=0 go build -o $BUILD/go-pure .")
        .with(GROWTH),
    Program::new("go-cgo", "goroutines that call C, which calls Go", "go version", "exec $BUILD/go-cgo")
        .of(&["golang-go"])
        .built("cd $SOURCE/cgo && go build -o $BUILD/go-cgo ."),
    Program::new("python-threads", "Python, threads", PYTHON, "exec python3 $SOURCE/python_threads.py").quick(),
    Program::new("python-forks", "Python, fork and pools of processes", PYTHON, "exec python3 $SOURCE/python_forks.py")
        .with(WITH_CHILDREN),
    Program::new(
        "python-su",
        "Python as another user, by su",
        PYTHON,
        "cp $SOURCE/*.py . && exec su -p -s /bin/sh nobody -c 'PYTHONPATH=. exec python3 ./python_threads.py'",
    ),
    Program::new(
        "bubblewrap",
        "Python in bubblewrap: namespaces, no new privileges",
        "bwrap --version",
        "exec bwrap --die-with-parent --unshare-user --unshare-ipc --unshare-net --unshare-uts --ro-bind / / --dev /dev \
         --proc /proc python3 $SOURCE/python_threads.py",
    )
    .of(&["bubblewrap"]),
    Program::new("node", "JavaScript: JIT, worker threads", "node --version", "exec node $SOURCE/node.js").of(&["nodejs"]),
    Program::new(
        "node-largepages",
        "the same after it has moved its code to huge pages",
        "node --version",
        "exec node --use-largepages=on $SOURCE/node.js",
    )
    .of(&["nodejs"]),
    Program::new("ruby", "Ruby, fibers and threads", "ruby --version", "exec ruby $SOURCE/fibers.rb").of(&["ruby"]),
    Program::new("perl-coro", "Perl, Coro's coroutines", "perl -e 'print \"perl $^V\"'", "exec perl $SOURCE/coro.pl")
        .of(&["libcoro-perl"]),
    Program::new("lua", "Lua, coroutines", "lua5.4 -v", "exec lua5.4 $SOURCE/coroutines.lua").of(&["lua5.4"]),
    Program::new("luajit", "the same, compiled while it runs", "luajit -v", "exec luajit $SOURCE/coroutines.lua").of(&["luajit"]),
    Program::new("php", "PHP, fibers and generators", "php --version", "exec php $SOURCE/survive.php").of(&["php-cli"]),
    Program::new("ocaml", "OCaml, a heap that is compacted", "ocamlfind ocamlopt -version || ocamlopt -version", "exec $BUILD/ocaml")
        .of(&["ocaml-nox"])
        .built(
            "cp $SOURCE/survive.ml $BUILD && cd $BUILD && ocamlopt -o ocaml unix.cmxa survive.ml",
        ),
    Program::new("sbcl", "Common Lisp, a compiler and a heap that moves", "sbcl --version", "exec sbcl --noinform --disable-debugger --eval '(require :sb-posix)' --load $SOURCE/survive.lisp")
        .of(&["sbcl"]),
    Program::new("java", "Java, JIT, threads, memory outside of the heap", "java --version", "exec java -Xmx256m $SOURCE/Survive.java")
        .of(&["default-jdk-headless"]),
    Program::new("sqlite", "sqlite3, fed statements", "sqlite3 --version", "exec python3 $SOURCE/sqlite.py").of(&["sqlite3"]),
    Program::new("redis", "redis-server with jemalloc and two I/O threads", "redis-server --version", "exec python3 $SOURCE/redis.py")
        .of(&["redis-server"])
        .quick(),
    Program::new("nginx", "nginx, a master and two workers", "nginx -v 2>&1", "exec python3 $SOURCE/nginx.py").of(&["nginx-light"]),
    Program::new(
        "postgres",
        "PostgreSQL with JIT: server, backends, pgbench",
        "dpkg-query -W -f 'PostgreSQL ${Version}' postgresql",
        "exec python3 $SOURCE/postgres.py",
    )
    .of(&["postgresql"])
    .with(WITH_CHILDREN),
    Program::new("qemu", "qemu-system: translated code, coroutines of the block layer", "qemu-system-x86_64 --version", "exec python3 $SOURCE/qemu.py")
        .of(&["qemu-system-x86"]),
    Program::new(
        "chromium",
        "Chromium in its sandbox, started again and again",
        "chromium --version",
        "cp $SOURCE/survive.sh $SOURCE/chromium.sh . && chown -R nobody . && \
         HOME=$FOLDER SOURCE=. exec setpriv --reuid=65534 --regid=65534 --clear-groups sh ./chromium.sh",
    )
    .of(&["chromium"])
    .with(&[&["--follow"]]),
    Program::new("shell", "a shell that starts programs all the time", SHELL, "exec sh $SOURCE/shell.sh").with(WITH_CHILDREN),
    Program::new("make", "make, which compiles and runs", "make --version", "exec sh $SOURCE/make.sh")
        .of(&["make"])
        .with(&[&["--follow"]]),
    Program::new(
        "setuid",
        "a shell of nobody's that starts set-user-id programs",
        SHELL,
        "cp /usr/bin/id set-id && chmod 4755 set-id && cp $SOURCE/survive.sh $SOURCE/setuid.sh . && \
         SETUID_ID=$FOLDER/set-id SOURCE=. exec setpriv --reuid=65534 --regid=65534 --clear-groups sh ./setuid.sh",
    )
    .with(WITH_CHILDREN),
    Program::new("frozen", "threads, stopped by SIGSTOP and by the freezer of its cgroup", GCC, "WORKER=$BUILD/threads exec sh $SOURCE/frozen.sh")
        .built("gcc -O2 -g -pthread -o $BUILD/threads $SOURCE/threads.c"),
    Program::new("frozen-static", "the same, statically linked: it is held", GCC, "WORKER=$BUILD/threads-static exec sh $SOURCE/frozen.sh")
        .built("gcc -O2 -g -static -pthread -o $BUILD/threads-static $SOURCE/threads.c"),
    Program::new("tools", "threads, with strace, gdb and perf at it as well", "gdb --version", "exec sh $SOURCE/tools.sh")
        .of(&["strace", "gdb", "linux-perf"])
        .built("gcc -O2 -g -pthread -o $BUILD/threads $SOURCE/threads.c"),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::packages;

    #[test]
    fn every_name_is_there_once_and_every_package_is_known() {
        let names: HashSet<_> = PROGRAMS.iter().map(|program| program.name).collect();
        assert_eq!(names.len(), PROGRAMS.len());
        let known: HashSet<_> = packages::SURVIVE.iter().map(|package| package.name).collect();
        let used: HashSet<_> = PROGRAMS.iter().flat_map(|program| program.packages).copied().collect();
        assert_eq!(used, known);
        let of_tests: HashSet<_> = packages::TESTS.iter().map(|package| package.name).collect();
        let quick = PROGRAMS.iter().filter(|program| program.is_quick);
        assert!(quick.flat_map(|program| program.packages).all(|package| of_tests.contains(package)));
    }
}
