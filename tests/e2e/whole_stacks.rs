//! Real software under load, as distributions build it, without frame pointers: nearly every allocation has a whole
//! stack.
//!
//! The shares are printed (`cargo test -- --nocapture`). Each program must make a number of allocations first, so that
//! no share is one of nothing.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::scope,
};

use anyhow::{Context, Result, bail, ensure};
use memtrace_tests::{
    Memtrace, Report, Service, Stack, Target,
    client::{ask, connect},
    postgres::{self, Postgres},
    wait,
};
use rustix::process::Signal;

/// One program at a time: the load of one is no other's.
static ALONE: Mutex<()> = Mutex::new(());

/// Allocations and mappings of all stacks.
fn calls(report: &Report) -> u64 {
    report.stacks.iter().map(|stack| stack.allocations).sum()
}

/// Traces processes while `request` is made again and again, until there are `enough` allocations and mappings.
fn trace_under_load(
    name: &str,
    pids: &[u32],
    enough: u64,
    mut request: impl FnMut() -> Result<()> + Send,
) -> Result<Report> {
    let (first, others) = pids.split_first().with_context(|| format!("{name} has processes"))?;
    let others: Vec<String> = others.iter().map(u32::to_string).collect();
    let more: Vec<&str> = others.iter().flat_map(|pid| ["--pid", pid]).collect();
    let over = AtomicBool::new(false);
    let trace = || -> Result<Report> {
        let mut memtrace = Memtrace::attach(*first, &more)?;
        memtrace.report_where(&format!("{enough} calls of {name}"), |report| calls(report) >= enough)?;
        memtrace.interrupt()?.final_report()
    };
    scope(|threads| {
        let client = threads.spawn(|| -> Result<()> {
            while !over.load(Ordering::Relaxed) {
                request()?;
            }
            Ok(())
        });
        let result = trace();
        over.store(true, Ordering::Relaxed);
        match client.join() {
            Ok(client) => client.with_context(|| format!("{name}'s client")).and(result),
            Err(_) => bail!("{name}'s client panicked"),
        }
    })
}

/// Whether a stack ends where the C library lets a process or a thread begin.
fn begins_at_the_start(stack: &Stack) -> bool {
    // `_start` itself is behind it, and has no name in a stripped program.
    const STARTS: &[&str] = &["clone3", "__clone3", "clone", "__clone"];
    let outermost: Vec<_> = stack.real_frames().rev().take(2).filter_map(|frame| frame.function.as_deref()).collect();
    outermost.iter().any(|function| STARTS.contains(function) || function.starts_with("__libc_start_main"))
}

/// At least 99 of 100 allocations have a stack that reaches the outermost frame; prints how many.
#[expect(clippy::print_stdout, reason = "the shares are what a reader wants from these tests")]
fn assert_nearly_all_are_whole(name: &str, report: &Report, enough: u64) {
    assert!(report.losses().is_empty(), "{name}: {:?}", report.losses());
    let heap = report.stacks.iter().filter(|stack| stack.kind == "heap").map(|stack| stack.allocations).sum::<u64>();
    let totals = report.processes.iter().map(|process| process.totals.allocations).sum::<u64>();
    assert_eq!(heap, totals, "{name}: every allocation is in a stack of the report");
    let mut short: BTreeMap<&str, (u64, &Stack)> = BTreeMap::new();
    for stack in &report.stacks {
        // memtrace's own word for it is not enough.
        let reason =
            stack.truncated.as_deref().or((!begins_at_the_start(stack)).then_some("does not begin at the start"));
        if let Some(reason) = reason {
            short.entry(reason).or_insert((0, stack)).0 += stack.allocations;
        }
    }
    let all = calls(report);
    let whole = all - short.values().map(|(allocations, _)| allocations).sum::<u64>();
    let reasons: Vec<_> = short.iter().map(|(reason, (allocations, _))| format!("{allocations} {reason}")).collect();
    println!(
        "{name}: {:.3} % of {all} allocations and mappings have a whole stack, {} stacks{}{}",
        100.0 * whole as f64 / all as f64,
        report.stacks.len(),
        if reasons.is_empty() { "" } else { "; short: " },
        reasons.join(", ")
    );
    assert!(all >= enough, "{name} made {all} calls");
    assert!(whole * 100 >= all * 99, "{name}: {whole} of {all} are whole; the others, with one stack each: {short:#?}");
}

#[test]
fn stacks_of_sqlite_are_whole() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut sqlite = Target::spawn(Command::new("sqlite3").args(["-batch", ":memory:"]))?;
    sqlite.tell("create table t(id integer primary key, kind int, text); create index by_kind on t(kind, text);")?;
    sqlite.tell("select 'made';")?;
    assert_eq!(sqlite.hear()?, "made");
    let report = trace_under_load("sqlite3", &[sqlite.pid()], 200_000, || {
        sqlite.tell("insert into t(kind, text) values (abs(random()) % 50, hex(randomblob(100)));")?;
        sqlite.tell("delete from t where id < (select max(id) from t) - 500;")?;
        sqlite.tell("with k as (select kind, count(*) n, group_concat(text) from t group by kind order by n)")?;
        sqlite.tell("select 'x' || max(n) > 0 from k join t using (kind) where json_array(text) like '%A%';")?;
        sqlite.hear().map(drop)
    })?;
    assert!(sqlite.runs()?);
    assert_nearly_all_are_whole("sqlite3", &report, 200_000);
    Ok(())
}

/// Its heap is jemalloc's: of that, only what it maps reaches libc. jemalloc is told to keep nothing for later, so that
/// values of changing size make it map and unmap all the time.
#[test]
fn stacks_of_redis_are_whole() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("redis.sock");
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--daemonize", "no", "--logfile", "redis.log", "--unixsocket"]);
    command.arg(&socket).current_dir(folder.path());
    command.env("MALLOC_CONF", "retain:false,dirty_decay_ms:0,muzzy_decay_ms:0");
    let mut redis = Target::spawn(&mut command)?;
    let mut stream = connect(&socket)?;
    let mut n = 0;
    let script = "local t = {} for i = 1, 2000 do t[i] = redis.sha1hex(i) end return #t";
    let report = trace_under_load("redis-server", &[redis.pid()], 3000, || {
        n += 1;
        let value = "x".repeat(1000 + n * 37 % 97 * 30_000);
        let set = format!("*3\r\n$3\r\nSET\r\n$4\r\nk{:03}\r\n${}\r\n{value}\r\n", n % 40, value.len());
        ask(&mut stream, &set, "+OK\r\n")?;
        ask(&mut stream, &format!("EVAL \"{script}\" 0\r\n"), ":2000\r\n")?;
        ask(&mut stream, &format!("APPEND k{:03} {}\r\n", n % 40, "y".repeat(50_000)), "\r\n")?;
        ask(&mut connect(&socket)?, "CONFIG SET maxclients 500\r\n", "+OK\r\n")
    })?;
    assert!(redis.runs()?);
    assert_nearly_all_are_whole("redis-server", &report, 3000);
    Ok(())
}

const PYTHON: &str = "
import json, re, sys, threading, zlib
kept = {}
def work(n):
    text = json.dumps({'n': n, 'list': list(range(n % 300)), 'words': ['x' * (600 + i) for i in range(40)]})
    kept[n % 50] = json.loads(text), re.sub('x{7}', 'y', text), zlib.compress(text.encode())
    try:
        raise ValueError(text)
    except ValueError as error:
        return len(str(error))
print('ready', flush=True)
for line in sys.stdin:
    thread = threading.Thread(target=work, args=(int(line),))
    thread.start()
    thread.join()
    print(work(int(line)), flush=True)
";

#[test]
fn stacks_of_python_are_whole() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // The distribution's own: one in PATH may be a script that starts another process.
    let system = Path::new("/usr/bin/python3");
    let python = if system.exists() { system } else { Path::new("python3") };
    let mut python = Target::spawn(Command::new(python).args(["-c", PYTHON]))?;
    assert_eq!(python.hear()?, "ready");
    let mut n = 0_u64;
    let report = trace_under_load("python3", &[python.pid()], 200_000, || {
        n += 1;
        python.tell(&n.to_string())?;
        python.hear().map(drop)
    })?;
    assert!(python.runs()?);
    assert_nearly_all_are_whole("python3", &report, 200_000);
    Ok(())
}

/// `hot` is made machine code after a few thousand calls, and allocates from there.
const NODE: &str = "
const zlib = require('zlib'), crypto = require('crypto');
const kept = [];
function hot(n) {
    const buffer = Buffer.allocUnsafeSlow(5000 + n % 3000);
    buffer.fill(n);
    return buffer[n % 5000] + buffer.length;
}
function work(n) {
    let sum = 0;
    for (let i = 0; i < 500; i++) sum += hot(n + i);
    const text = JSON.stringify({ n, list: Array.from({ length: 300 }, (_, i) => ({ i, s: 'x'.repeat(i) })) });
    kept[n % 20] = JSON.parse(text);
    const packed = zlib.deflateSync(text);
    zlib.inflateSync(packed);
    zlib.gzip(packed, () => {});
    return sum + crypto.createHash('sha256').update(packed).digest('hex');
}
require('readline').createInterface({ input: process.stdin }).on('line', (line) => console.log(work(Number(line))));
";

#[test]
fn stacks_of_node_are_whole() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut node = Target::spawn(Command::new("node").args(["-e", NODE]))?;
    let (pid, mut n) = (node.pid(), 0_u64);
    let mut work = || {
        n += 1;
        node.tell(&n.to_string())?;
        node.hear().map(drop)
    };
    // The machine code is there before memtrace comes.
    for _ in 0..30 {
        work()?;
    }
    let report = trace_under_load("node", &[pid], 200_000, work)?;
    assert!(node.runs()?);
    assert_nearly_all_are_whole("node", &report, 200_000);
    // The machine code that V8 makes lies in no file: its frames are those of the functions that it was made of.
    let is_hot =
        |frame: &memtrace_tests::Frame| frame.language == "javascript" && frame.function.as_deref() == Some("hot");
    let through_hot = |stack: &&Stack| stack.frames.iter().any(is_hot);
    let through_hot = report.stacks.iter().filter(through_hot).map(|stack| stack.allocations).sum::<u64>();
    assert!(through_hot > 20_000, "{through_hot} allocations from code made at run time");
    Ok(())
}

/// Each request on a connection of its own; some answers are compressed, some come by way of another server.
#[test]
fn stacks_of_nginx_are_whole() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir()?;
    let at = folder.path().display();
    let socket = folder.path().join("nginx.sock");
    let configuration = format!(
        "daemon off; user root; worker_processes 2; pid {at}/pid; error_log {at}/error.log;
         events {{ }}
         http {{
             access_log off; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;
             fastcgi_temp_path {at}/fastcgi; uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
             large_client_header_buffers 8 32k; gzip on; gzip_proxied any; gzip_types text/plain;
             server {{
                 listen unix:{at}/nginx.sock; root {at};
                 location / {{ default_type text/plain; }}
                 location /by/ {{ proxy_pass http://unix:{at}/nginx.sock:/; }}
             }}
         }}"
    );
    let file = folder.path().join("nginx.conf");
    fs::write(&file, configuration)?;
    fs::write(folder.path().join("page.txt"), "some words of a page\n".repeat(5000))?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder.path()).arg("-c").arg(&file);
    let mut nginx = Service::spawn(&mut command, Signal::TERM)?;
    drop(connect(&socket)?);
    let workers = wait::until("two workers", || Ok(Some(nginx.children()?).filter(|pids| pids.len() == 2)))?;
    let mut n = 0;
    let report = trace_under_load("nginx", &workers, 50_000, || {
        n += 1;
        let path = ["page.txt", "by/page.txt"][n % 2];
        let accept = ["Accept-Encoding: gzip\r\n", ""][n / 2 % 2];
        let cookie = "c".repeat(n % 3 * 10_000);
        let mut stream = connect(&socket)?;
        write!(stream, "GET /{path} HTTP/1.1\r\nHost: here\r\n{accept}Cookie: {cookie}\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&answer));
        let packed = String::from_utf8_lossy(&answer).contains("Content-Encoding: gzip");
        ensure!(packed != accept.is_empty(), "{path} with {accept:?} came packed: {packed}");
        Ok(())
    })?;
    assert!(nginx.runs()?);
    assert_nearly_all_are_whole("nginx", &report, 50_000);
    Ok(())
}

/// Sorts, aggregates, and makes texts, beside what pgbench does by itself.
const PGBENCH_SCRIPT: &str = "
\\set from random(1, 90000)
select count(*), max(length(j)) from (select json_agg(a order by abalance, aid desc)::text j from pgbench_accounts a
 where aid between :from and :from + 300 group by aid % 7) x;
";

#[test]
fn stacks_of_postgresql_are_whole() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut postgres = Postgres::start()?;
    postgres::run(postgres.client("pgbench").args(["--initialize", "--quiet", "postgres"]))?;
    let script = postgres.folder().join("script.sql");
    fs::write(&script, PGBENCH_SCRIPT)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o644))?;
    let mut pgbench = postgres.client("pgbench");
    pgbench.args(["--no-vacuum", "--client", "2", "--time", "3600", "--builtin", "tpcb-like@9", "--file"]);
    pgbench.arg(&script).arg("postgres");
    let mut pgbench = Target::spawn(&mut pgbench)?;
    // Only the clients' own connections write; the one on which pgbench looks around first has another process.
    let backends = "select pid from pg_stat_activity where application_name = 'pgbench' and query ~ '^(UPDATE|INSERT)'";
    let backends = wait::until("two backends", || {
        let pids: Vec<u32> = postgres.query(backends)?.lines().filter_map(|line| line.parse().ok()).collect();
        Ok(Some(pids).filter(|pids| pids.len() == 2))
    })?;
    let report = trace_under_load("postgresql", &backends, 50_000, || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        ensure!(pgbench.runs()?, "pgbench has ended");
        Ok(())
    })?;
    assert!(postgres.runs()?);
    drop(pgbench);
    assert_nearly_all_are_whole("postgresql", &report, 50_000);
    Ok(())
}
