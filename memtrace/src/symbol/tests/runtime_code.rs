//! Code made at run time, and the perf maps that name it: by a program that makes its own, and by node.

use std::{
    fs::File,
    io::Write,
    os::unix::fs::FileExt,
    process::ChildStdin,
    thread::sleep,
    time::{Duration, Instant},
};

use super::*;

/// Makes a function that calls `report`, names it, and calls it; on each line that it reads it does so again at the same
/// place, under another name.
const RUNTIME: &str = r#"#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
__attribute__((noinline)) void report(void) { printf("%p\n", __builtin_return_address(0)); }
int main(void) {
    char path[64];
    snprintf(path, sizeof path, "/tmp/perf-%d.map", getpid());
    unsigned char *code = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *function = code + 256;
    /* push rbp; mov rbp, rsp; mov rax, report; call rax; pop rbp; ret */
    memcpy(function, "\x55\x48\x89\xe5\x48\xb8________\xff\xd0\x5d\xc3", 18);
    void (*target)(void) = report;
    memcpy(function + 6, &target, 8);
    for (int round = 0; round < 9; round++) {
        FILE *map = fopen(path, "a");
        fprintf(map, "%lx %x round %d\n", (unsigned long)function, 18, round);
        fclose(map);
        ((void (*)(void))function)();
        puts("ready");
        fflush(stdout);
        if (getchar() == EOF) return 0;
    }
}
"#;

struct Runtime {
    running: Running,
    input: ChildStdin,
    map: PathBuf,
    _dir: TempDir,
}

impl Runtime {
    fn start() -> Runtime {
        let dir = TempDir::new().expect("a temporary directory");
        let mut running = Running::start(&compile(dir.path(), "target.c", RUNTIME, &[]));
        let input = running.child.stdin.take().expect("piped");
        let map = PathBuf::from(format!("/tmp/perf-{}.map", running.child.id()));
        Runtime { running, input, map, _dir: dir }
    }

    fn next_round(&mut self) {
        self.input.write_all(b"\n").expect("the program reads");
        assert_eq!(self.running.read_until_ready(), self.running.frames);
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.map);
    }
}

fn observe_as(symbolizer: &mut Symbolizer, id: u64, frames: &[u64]) {
    let observed = symbolizer.observe(SLOT, StackId(id), &native(frames), StackEnd::Complete);
    assert!(!observed.unknown_addresses);
}

/// The name and the module of the first frame.
fn first(symbolizer: &mut Symbolizer, id: u64) -> (Option<String>, Option<String>) {
    let frame = symbolizer.frames(SLOT, StackId(id)).frames.remove(0);
    (frame.function, frame.module)
}

fn jit(name: &str) -> (Option<String>, Option<String>) {
    (Some(name.to_owned()), Some("[jit]".to_owned()))
}

#[test]
fn a_stack_keeps_the_name_of_the_code_it_went_through() {
    let mut runtime = Runtime::start();
    let mut symbolizer = symbolizer(&[]);
    symbolizer.add_process(SLOT, runtime.running.child.id(), runtime.running.mappings());
    let frames = runtime.running.frames.clone();
    for round in 0..4 {
        observe_as(&mut symbolizer, round, &frames);
        assert_eq!(symbolizer.frames(SLOT, StackId(round)).frames[0].address, frames[0]);
        // Looked at no sooner than the share of the time allows.
        sleep(Duration::from_millis(50));
        runtime.next_round();
    }
    for round in 0..4 {
        assert_eq!(first(&mut symbolizer, round), jit(&format!("round {round}")));
    }
    no_problems(&symbolizer);
}

#[test]
fn names_are_there_when_the_map_is_deleted_and_the_process_has_ended() {
    let mut runtime = Runtime::start();
    let mut symbolizer = symbolizer(&[]);
    symbolizer.add_process(SLOT, runtime.running.child.id(), runtime.running.mappings());
    let frames = runtime.running.frames.clone();
    observe_as(&mut symbolizer, 1, &frames);
    assert!(symbolizer.counts().runtime_code_bytes > 0);
    fs::remove_file(&runtime.map).expect("the program wrote it");
    runtime.running.end();
    assert_eq!(first(&mut symbolizer, 1), jit("round 0"));
    no_problems(&symbolizer);
    symbolizer.remove_process(SLOT);
    assert_eq!(symbolizer.counts(), Counts::default());
}

#[test]
fn a_map_that_comes_after_the_stack_names_it_in_the_report_and_the_name_stays() {
    let mut runtime = Runtime::start();
    let aside = runtime.map.with_extension("aside");
    fs::rename(&runtime.map, &aside).expect("the program wrote it");
    let mut symbolizer = symbolizer(&[]);
    symbolizer.add_process(SLOT, runtime.running.child.id(), runtime.running.mappings());
    let frames = runtime.running.frames.clone();
    observe_as(&mut symbolizer, 1, &frames);
    assert_eq!(first(&mut symbolizer, 1), (None, Some("[anonymous]".to_owned())));
    // As an agent does that writes it at the end.
    fs::rename(&aside, &runtime.map).expect("our own file");
    sleep(Duration::from_millis(50));
    assert_eq!(first(&mut symbolizer, 1), jit("round 0"));
    runtime.next_round();
    sleep(Duration::from_millis(50));
    assert_eq!(first(&mut symbolizer, 1), jit("round 0"));
}

#[test]
fn after_exec_the_old_stacks_keep_their_names_and_new_ones_have_the_new_maps() {
    let runtime = Runtime::start();
    let mut symbolizer = symbolizer(&[]);
    let frames = runtime.running.frames.clone();
    symbolizer.add_process(SLOT, runtime.running.child.id(), runtime.running.mappings());
    observe_as(&mut symbolizer, 1, &frames);
    // The same addresses in the program that comes next: no map tells of them.
    fs::write(&runtime.map, "1000 10 elsewhere\n").expect("room for a small file");
    symbolizer.add_process(SLOT, runtime.running.child.id(), runtime.running.mappings());
    observe_as(&mut symbolizer, 2, &frames);
    assert_eq!(first(&mut symbolizer, 1), jit("round 0"));
    assert_eq!(first(&mut symbolizer, 2), (None, Some("[anonymous]".to_owned())));
}

#[test]
fn without_room_for_names_the_frames_are_there_without() {
    let runtime = Runtime::start();
    let options = Options { runtime_code_bytes: 80, ..Options::default() };
    let mut symbolizer = Symbolizer::new(options).expect("our own root");
    symbolizer.add_process(SLOT, runtime.running.child.id(), runtime.running.mappings());
    observe_as(&mut symbolizer, 1, &runtime.running.frames);
    assert_eq!(first(&mut symbolizer, 1), (None, Some("[anonymous]".to_owned())));
    assert!(symbolizer.counts().runtime_code_bytes <= 80);
}

/// Waits in `hold_the_line`, which `outer_one` calls.
const NODE: &str = "const fs = require('fs');
function hold_the_line(buffer) { return fs.readSync(0, buffer, 0, 1, null) + 1; }
function outer_one(buffer) { return hold_the_line(buffer) + 1; }
console.log('ready');
outer_one(Buffer.alloc(1));
";

/// What the main thread's stack holds that points behind a call in anonymous executable memory, innermost first. The
/// thread must be in a system call.
fn runtime_code_on_the_stack(pid: u32) -> Vec<u64> {
    let code: Vec<_> = mappings(pid).into_iter().filter(|mapping| mapping.path.is_none()).collect();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the maps of our own child");
    let stack = maps.lines().find(|line| line.ends_with("[stack]")).expect("a stack");
    let (_, end) = stack.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
    let end = u64::from_str_radix(end, 16).expect("an address");
    let started = Instant::now();
    let sp = loop {
        // The system call's number, its arguments, stack pointer and instruction pointer (proc(5)): read is 0.
        let call = fs::read_to_string(format!("/proc/{pid}/syscall")).expect("these tests run as root");
        let fields: Vec<_> = call.split_whitespace().collect();
        if let [number, descriptor, .., sp, _] = fields[..]
            && (number, descriptor) == ("0", "0x0")
        {
            break u64::from_str_radix(sp.trim_start_matches("0x"), 16).expect("an address");
        }
        assert!(started.elapsed() < Duration::from_secs(10), "node does not read: {call}");
        sleep(Duration::from_millis(5));
    };
    let mut bytes = vec![0; (end - sp) as usize];
    File::open(format!("/proc/{pid}/mem")).and_then(|memory| memory.read_exact_at(&mut bytes, sp)).expect("a stack");
    let words = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")));
    words.filter(|&word| code.iter().any(|code| code.start < word && word <= code.end)).collect()
}

#[test]
fn javascript_functions_have_the_names_that_node_gives_them() {
    let dir = TempDir::new().expect("a temporary directory");
    let script = dir.path().join("script.js");
    fs::write(&script, NODE).expect("room for a small file");
    let mut command = Command::new("node");
    // Otherwise functions are interpreted until they are hot, and the interpreter is one function for all.
    command.args(["--perf-basic-prof", "--always-sparkplug"]).arg(&script);
    // It writes a log to where it runs, too.
    command.current_dir(dir.path());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("node: {error}; the Debian package is nodejs"));
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let mut running = Running { child, output, frames: Vec::new() };
    running.read_until_ready();
    let pid = running.child.id();
    let map = PathBuf::from(format!("/tmp/perf-{pid}.map"));
    let frames = runtime_code_on_the_stack(pid);

    let mut symbolizer = symbolizer(&[]);
    symbolizer.add_process(SLOT, pid, running.mappings());
    observe_as(&mut symbolizer, 1, &frames);
    running.end();
    fs::remove_file(map).expect("node wrote it");
    let frames = symbolizer.frames(SLOT, StackId(1)).frames;
    let names = functions(&frames);
    let expected = format!("JS:^hold_the_line {}:2:23", script.display());
    let inner = names.iter().position(|&name| name == Some(&*expected)).unwrap_or_else(|| panic!("{names:?}"));
    let expected = format!("JS:^outer_one {}:3:19", script.display());
    assert_eq!(names[inner + 1], Some(&*expected), "{names:?}");
    assert!(frames[inner].module.as_deref() == Some("[jit]"));
    no_problems(&symbolizer);
}
