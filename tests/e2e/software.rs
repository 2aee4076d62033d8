//! Real servers under a client's load: memtrace comes and goes, and they go on answering.
//!
//! The times are printed (`cargo test -- --nocapture`); only what would be a hang fails.
//! `MEMTRACE_TEST_SECONDS` sets how long each is traced.

use std::{
    env, fs,
    io::{Read, Write},
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
use memtrace_tests::{Memtrace, Report, Target, code::changed_libc_bytes, wait};

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

fn connect(socket: &Path) -> Result<UnixStream> {
    let stream = wait::until("the server's socket", || Ok(UnixStream::connect(socket).ok()))?;
    stream.set_read_timeout(Some(wait::DEADLINE))?;
    Ok(stream)
}

/// Sends one request and reads until the answer holds `wanted`.
fn ask(stream: &mut (impl Read + Write), request: &str, wanted: &str) -> Result<()> {
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&answer).contains(wanted) {
        let length = stream.read(&mut part)?;
        ensure!(length > 0, "{request:?} was answered with {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&part[..length]);
    }
    Ok(())
}

#[test]
fn redis_goes_on_and_its_allocator_is_named() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("redis.sock");
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--daemonize", "no", "--logfile", "redis.log", "--unixsocket"]);
    let mut redis = Target::spawn(command.arg(&socket).current_dir(folder.path()))?;
    let mut stream = connect(&socket)?;
    let mut key = 0_u64;
    let (report, errors) = trace_under_load("redis-server", redis.pid(), || {
        key += 1;
        ask(&mut stream, &format!("SET key{} {}\r\n", key % 5000, "x".repeat(200)), "+OK\r\n")
    })?;
    ask(&mut stream, "PING\r\n", "+PONG\r\n")?;
    assert!(redis.runs()?);
    assert!(errors.iter().any(|line| line.contains("jemalloc")), "{errors:?}");
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
