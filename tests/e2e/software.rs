//! Real servers under a client's load: memtrace comes and goes, and they go on answering.
//!
//! The times are printed (`cargo test -- --nocapture`); only what would be a hang fails.
//! `MEMTRACE_TEST_SECONDS` sets how long each is traced.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{scope, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use memtrace_tests::{
    Memtrace, Report, Target,
    client::{ask, connect},
    code::changed_libc_bytes,
    wait,
};

const SECONDS: u64 = 8;
/// The time in which requests are counted before and after the tracing.
const SAMPLE: Duration = Duration::from_secs(2);
const HANG: Duration = Duration::from_secs(10);

/// One server at a time: the times are of interest.
static ALONE: Mutex<()> = Mutex::new(());

fn seconds() -> u64 {
    env::var("MEMTRACE_TEST_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS)
}

/// Keeps a client busy while memtrace attaches, stays and detaches; the last report and what memtrace said.
#[expect(clippy::print_stdout, reason = "the times are what a reader wants from this test")]
fn trace_under_load(
    name: &str,
    pid: u32,
    mut request: impl FnMut() -> Result<()> + Send,
) -> Result<(Report, Vec<String>)> {
    let (served, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let rate = |time: Duration| {
        let (before, start) = (served.load(Ordering::Relaxed), Instant::now());
        sleep(time);
        (served.load(Ordering::Relaxed) - before) as f64 / start.elapsed().as_secs_f64()
    };
    let trace = || -> Result<_> {
        let before = rate(SAMPLE);
        let mut memtrace = Memtrace::attach(pid, &[])?;
        let attach = memtrace.attached()?;
        let during = rate(Duration::from_secs(seconds()));
        let finished = memtrace.interrupt()?;
        let after = rate(SAMPLE);
        println!(
            "{name}: attach {attach:.2?}, detach {:.2?}; requests a second: {before:.0} before, {during:.0} during, \
             {after:.0} after",
            finished.took
        );
        ensure!(attach < HANG && finished.took < HANG, "{name} took {attach:?} and {:?}", finished.took);
        // How fast is for the reader: on two cores the rate changes tenfold with where client and server happen to run.
        ensure!(before > 0.0 && during > 0.0 && after > 0.0, "{name} goes on");
        let report = finished.final_report()?;
        Ok((report, finished.errors))
    };
    let result = scope(|threads| {
        let client = threads.spawn(|| -> Result<()> {
            while !over.load(Ordering::Relaxed) {
                request()?;
                served.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let result = trace();
        over.store(true, Ordering::Relaxed);
        match client.join() {
            Ok(client) => client.with_context(|| format!("{name}'s client")).and(result),
            Err(_) => bail!("{name}'s client panicked"),
        }
    })?;
    ensure!(changed_libc_bytes(pid)?.is_empty(), "{name}: a probe was left");
    Ok(result)
}

fn check_totals(report: &Report, pid: u32) -> Result<()> {
    let totals = report.process(pid)?.totals;
    assert_eq!(totals.allocations - totals.frees, totals.outstanding_blocks, "{totals:?}");
    assert!(!report.process(pid)?.exited);
    Ok(())
}

fn redis(folder: &Path) -> Result<(Target, UnixStream)> {
    let socket = folder.join("redis.sock");
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--daemonize", "no", "--logfile", "redis.log", "--unixsocket"]);
    let redis = Target::spawn(command.arg(&socket).current_dir(folder))?;
    Ok((redis, connect(&socket)?))
}

#[test]
fn redis_goes_on_and_its_allocator_is_named() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir()?;
    let (mut redis, mut stream) = redis(folder.path())?;
    let mut key = 0_u64;
    let (report, errors) = trace_under_load("redis-server", redis.pid(), || {
        key += 1;
        ask(&mut stream, &format!("SET key{} {}\r\n", key % 5000, "x".repeat(200)), "+OK\r\n")
    })?;
    ask(&mut stream, "PING\r\n", "+PONG\r\n")?;
    assert!(redis.runs()?);
    assert!(errors.iter().any(|line| line.contains("has jemalloc in")), "{errors:?}");
    check_totals(&report, redis.pid())
}

/// What redis says that its data takes, in bytes: what its allocator gives for it, which rounds sizes up.
fn used_by_data(stream: &mut UnixStream) -> Result<f64> {
    stream.write_all(b"INFO memory\r\n")?;
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&answer).contains("lazyfreed_objects") {
        let length = stream.read(&mut part)?;
        answer.extend_from_slice(&part[..length]);
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let line = answer.lines().find_map(|line| line.strip_prefix("used_memory_dataset:"));
    Ok(line.context("redis says used_memory_dataset")?.trim().parse()?)
}

#[test]
fn redis_keys_that_pile_up_grow_by_name_and_by_as_much_as_redis_says() -> Result<()> {
    const KEYS: u64 = 20_000;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir()?;
    let (redis, mut stream) = redis(folder.path())?;
    ask(&mut stream, "SET first 1\r\n", "+OK\r\n")?;
    let mut memtrace = Memtrace::attach(redis.pid(), &[])?;
    let before = used_by_data(&mut stream)?;
    // Some each interval, for long enough to tell.
    for part in 0..20 {
        for key in 0..KEYS / 20 {
            ask(&mut stream, &format!("SET key{part}-{key} {}\r\n", "x".repeat(500)), "+OK\r\n")?;
        }
        memtrace.next_report()?;
    }
    let grown = used_by_data(&mut stream)? - before;
    let report = memtrace.interrupt()?.final_report()?;
    assert!(report.losses().is_empty(), "{:?}", report.loss);
    let values: Vec<_> = report.stacks.iter().filter(|stack| stack.outstanding_blocks >= KEYS).collect();
    assert!(!values.is_empty() && values.iter().any(|stack| stack.verdict == "growing"), "{values:#?}");
    assert!(
        values.iter().all(|stack| stack.mentions("zmalloc") || stack.mentions("sds") || stack.mentions("Command")),
        "{values:#?}"
    );
    // Sizes in jemalloc's classes are at most a quarter above what was asked for; the table of keys is no data of redis'.
    let held = values.iter().map(|stack| stack.outstanding_bytes as f64).sum::<f64>();
    assert!((0.75..1.05).contains(&(held / grown)), "{held} of {grown}: {values:#?}");
    check_totals(&report, redis.pid())
}

#[test]
fn sqlite_goes_on() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut sqlite = Target::spawn(Command::new("sqlite3").args(["-batch", ":memory:"]))?;
    sqlite.tell("create table t(id integer primary key, text); select 'made';")?;
    assert_eq!(sqlite.hear()?, "made");
    let pid = sqlite.pid();
    let (report, _) = trace_under_load("sqlite3", pid, || {
        sqlite.tell("insert into t(text) values (hex(randomblob(100)));")?;
        sqlite.tell("delete from t where id < (select max(id) from t) - 1000;")?;
        sqlite.tell("select 'x' || count(*) > 0 from t;")?;
        ensure!(sqlite.hear()? == "1", "a wrong answer");
        Ok(())
    })?;
    assert!(sqlite.runs()?);
    assert!(report.process(pid)?.totals.allocations > 1000, "{:?}", report.processes);
    check_totals(&report, pid)
}

#[test]
fn nginx_goes_on() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir()?;
    let at = folder.path().display();
    let socket = folder.path().join("nginx.sock");
    let configuration = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;
         events {{ }}
         http {{
             access_log off; keepalive_requests 100000000; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;
             fastcgi_temp_path {at}/fastcgi; uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
             server {{ listen unix:{at}/nginx.sock; location / {{ return 200 \"served\\n\"; }} }}
         }}"
    );
    let file = folder.path().join("nginx.conf");
    fs::write(&file, configuration)?;
    let mut nginx = Target::spawn(Command::new("nginx").arg("-p").arg(folder.path()).arg("-c").arg(&file))?;
    let mut stream = connect(&socket)?;
    let request = "GET / HTTP/1.1\r\nHost: here\r\n\r\n";
    let (report, _) = trace_under_load("nginx", nginx.pid(), || ask(&mut stream, request, "served\n"))?;
    ask(&mut connect(&socket)?, request, "200 OK")?;
    assert!(nginx.runs()?);
    assert!(report.process(nginx.pid())?.totals.allocations > 100, "{:?}", report.processes);
    check_totals(&report, nginx.pid())
}

const PYTHON_SERVICE: &str = "
import json, socket, sys
server = socket.socket()
server.bind(('127.0.0.1', int(sys.argv[1])))
server.listen()
kept = {}
while True:
    client, _ = server.accept()
    with client, client.makefile('rw') as lines:
        for line in lines:
            asked = json.loads(line)
            kept[asked['n'] % 100] = 'x' * (1000 + asked['n'] % 7000)
            lines.write(json.dumps({'n': asked['n'] + 1, 'kept': len(kept)}) + '\\n')
            lines.flush()
";

#[test]
fn python_goes_on() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    // The distribution's own: one in PATH may be a script that starts another process.
    let system = Path::new("/usr/bin/python3");
    let python = if system.exists() { system } else { Path::new("python3") };
    let mut command = Command::new(python);
    let mut service = Target::spawn(command.args(["-c", PYTHON_SERVICE, &port.to_string()]).stderr(Stdio::inherit()))?;
    let address = ("127.0.0.1", port);
    let mut stream = wait::until("python's port", || Ok(std::net::TcpStream::connect(address).ok()))?;
    stream.set_read_timeout(Some(wait::DEADLINE))?;
    stream.set_nodelay(true)?;
    let mut n = 0_u64;
    let (report, _) = trace_under_load("python3", service.pid(), || {
        n += 1;
        ask(&mut stream, &format!("{{\"n\": {n}}}\n"), &format!("\"n\": {}", n + 1))
    })?;
    assert!(service.runs()?);
    assert!(report.process(service.pid())?.totals.allocations > 100, "{:?}", report.processes);
    check_totals(&report, service.pid())
}
