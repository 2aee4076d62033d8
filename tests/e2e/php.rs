//! PHP: the functions, files and lines of its stacks against `debug_backtrace`, in its program and in a worker of its FastCGI server; a script
//! that leaks is told with its own line.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use memtrace_tests::{
    Memtrace, Stack, Target, client,
    own_stacks::{Compared, Comparison},
    service::Service,
    wait,
};
use rustix::process::Signal;

/// A string of PHP has a head of 24 bytes and ends in one more, and what it asks for is a multiple of 8.
const COMPARISON: Comparison = Comparison { rounds: 200, at_least: 15_000, more: &[32] };

/// More programs of PHP's that are tested, separated by colons.
const MORE_PHPS: &str = "MEMTRACE_TEST_PHPS";

/// How PHP keeps its code: in its own memory, in memory that processes share, and compiled.
const WAYS: [&[&str]; 3] = [
    &["-d", "opcache.enable_cli=0"],
    &["-d", "opcache.enable_cli=1", "-d", "opcache.jit=disable"],
    &["-d", "opcache.enable_cli=1", "-d", "opcache.jit=tracing", "-d", "opcache.jit_buffer_size=64M"],
];

fn phps() -> Vec<PathBuf> {
    let more = env::var_os(MORE_PHPS).unwrap_or_default();
    [PathBuf::from("php")].into_iter().chain(env::split_paths(&more).filter(|path| path.is_absolute())).collect()
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/php_frames.php")
}

/// Whether PHP's own loop stands nowhere in a stack, since what it runs stands in its place; and each function in C has its own native frames
/// below it.
fn is_joined(stack: &Stack) -> bool {
    let is_loop = |function: Option<&str>| function == Some("execute_ex");
    let calls_back = ["array_map", "usort", "array_walk", "preg_replace_callback"];
    let names: Vec<Option<&str>> = stack.frames.iter().map(|frame| frame.function.as_deref()).collect();
    let frames = stack.frames.iter().enumerate();
    let mut in_c = frames.filter(|(_, frame)| frame.function.as_deref().is_some_and(|name| calls_back.contains(&name)));
    !names.iter().any(|name| is_loop(*name))
        && in_c.all(|(index, _)| index > 0 && stack.frames[index - 1].kind == "native")
}

#[test]
fn every_block_has_the_stack_that_debug_backtrace_says() -> Result<()> {
    for php in phps() {
        for way in WAYS {
            let mut command = Command::new(&php);
            let compared = COMPARISON.run(command.args(["-d", "memory_limit=-1"]).args(way).arg(fixture()));
            let Compared { blocks, stacks, report } = compared.with_context(|| format!("{} {way:?}", php.display()))?;
            println!("{} {way:?}: {blocks} blocks on {stacks} stacks", php.display());
            let is_compiled = way.len() > 4;
            let of_php = report.stacks.iter().filter(|stack| stack.frames.iter().any(|frame| frame.language == "php"));
            for stack in of_php {
                // Code that was made at run time has no rules for unwinding.
                ensure!(is_compiled || is_joined(stack), "{way:?}: {stack:#?}");
            }
        }
    }
    Ok(())
}

/// Keeps each of some texts that a function makes: the line of `remember` leaks.
const LEAK: &str = "<?php
class Cache {
    private array $entries = [];
    public function remember(string $key): void {
        $this->entries[] = strtoupper(str_repeat($key, 300));
    }
}
function handle(Cache $cache, int $request): void {
    array_map(fn ($part) => $cache->remember($part), [\"a$request\", \"b$request\"]);
}
$cache = new Cache();
echo \"ready\\n\";
for ($request = 0; ; $request++) {
    handle($cache, $request);
    usleep(2000);
}
";

#[test]
fn a_leak_is_told_with_the_line_of_the_script() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("leak.php");
    fs::write(&script, LEAK)?;
    let mut target = Target::spawn(Command::new("php").args(["-d", "memory_limit=-1"]).arg(&script))?;
    ensure!(target.hear()? == "ready");
    let pid = target.pid().to_string();
    let run = Memtrace::start(&["--pid", &pid, "--interval", "1s", "--duration", "14s", "--format", "text"])?;
    let text = run.finish()?.output.join("\n");
    let line = text.lines().find(|line| line.contains("keeps growing")).context("nothing grows")?;
    ensure!(line.contains("Cache::remember (leak.php:5)"), "{line} in {text}");
    ensure!(target.runs()?, "the target ended");
    Ok(())
}

/// A page that keeps 300 texts until a file is there.
const PAGE: &str = "<?php
class Page {
    private array $parts = [];
    public function build(int $number): void {
        $this->parts[] = str_repeat('x', 1000 + $number % 2);
    }
}
$page = new Page();
array_map(fn ($number) => $page->build($number), range(1, 300));
while (!file_exists(__DIR__ . '/end')) {
    usleep(20000);
    clearstatcache();
}
echo 'built';
";

/// A request for a script in the FastCGI protocol, version 1: its beginning, its variables, and no body.
fn request(script: &Path) -> Result<Vec<u8>> {
    let record = |kind: u8, content: &[u8]| -> Result<Vec<u8>> {
        let [high, low] = u16::try_from(content.len())?.to_be_bytes();
        Ok([&[1, kind, 0, 1, high, low, 0, 0], content].concat())
    };
    let script = script.to_str().context("a path in UTF-8")?;
    let mut variables = Vec::new();
    for (name, value) in [("SCRIPT_FILENAME", script), ("REQUEST_METHOD", "GET")] {
        variables.extend([u8::try_from(name.len())?, u8::try_from(value.len())?]);
        variables.extend([name, value].concat().into_bytes());
    }
    let responder = [0, 1, 0, 0, 0, 0, 0, 0];
    Ok([record(1, &responder)?, record(4, &variables)?, record(4, &[])?, record(5, &[])?].concat())
}

/// The FastCGI server, whose name has PHP's version in it.
fn server() -> Result<PathBuf> {
    let programs = fs::read_dir("/usr/sbin")?.filter_map(|entry| Some(entry.ok()?.path()));
    let is_server = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("php-fpm"));
    programs.filter(is_server).max().context("PHP's FastCGI server is missing (apt-get install php-fpm)")
}

#[test]
fn a_worker_that_waited_when_it_was_attached_to_has_its_functions() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (page, socket, settings) =
        (folder.path().join("page.php"), folder.path().join("s"), folder.path().join("conf"));
    fs::write(&page, PAGE)?;
    let text = format!(
        "[global]\nerror_log = /dev/null\ndaemonize = no\n[www]\nuser = root\nlisten = {}\npm = static\npm.max_children = 1\n",
        socket.display()
    );
    fs::write(&settings, text)?;
    let mut service = Service::spawn(Command::new(server()?).arg("-R").arg("-y").arg(&settings), Signal::TERM)?;
    let mut stream = client::connect(&socket)?;
    let worker = wait::until("a worker", || Ok(service.children()?.first().copied()))?;
    let mut memtrace = Memtrace::attach(worker, &[])?;
    stream.write_all(&request(&page)?)?;
    let is_built = |stack: &&Stack| {
        let frame = stack.frames.iter().find(|frame| frame.function.as_deref() == Some("Page::build"));
        frame.is_some_and(|frame| frame.file.as_deref() == page.to_str() && frame.line == Some(5)) && is_joined(stack)
    };
    memtrace.report_where("the page's texts", |report| {
        report.stacks.iter().filter(is_built).map(|stack| stack.outstanding_blocks).sum::<u64>() >= 300
    })?;
    fs::write(folder.path().join("end"), "")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(answer.windows(5).any(|part| part == b"built"), "{}", String::from_utf8_lossy(&answer));
    memtrace.interrupt()?.final_report()?;
    ensure!(service.runs()?, "the server ended");
    Ok(())
}
