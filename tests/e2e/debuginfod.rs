//! Names of stripped programs, whose debug files a server has.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use memtrace_tests::{
    Build, Finished, Frame, Memtrace, Report, Target, client,
    debuginfod::{DebugServer, split},
    memtrace, wait,
};

/// A stripped program that leaks a block of 64 bytes a millisecond, and its debug file elsewhere.
struct Stripped {
    target: Target,
    build_id: String,
    debug: PathBuf,
    /// Deleted in the end; where debug files are kept is in it as well.
    folder: tempfile::TempDir,
}

impl Stripped {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (program, debug) = (folder.path().join("service"), folder.path().join("elsewhere"));
        // The harness has fixtures export what they define, and exported names are not stripped.
        let build = Build::c("two_leaks.c").flag("-Wl,--no-export-dynamic").flag("-Wl,--build-id");
        fs::copy(build.compile()?, &program)?;
        let build_id = split(&program, &debug)?;
        let mut target = Target::start_file(&program, &[])?;
        target.tell("go")?;
        target.tell("early")?;
        Ok(Self { target, build_id, debug, folder })
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// Attaches with more flags, and servers in the environment.
    fn attach(&self, urls: &str, more: &[&str]) -> Result<Memtrace> {
        self.attach_with(urls, more, &[])
    }

    /// [`attach`](Self::attach) with more in the environment.
    fn attach_with(&self, urls: &str, more: &[&str], variables: &[(&str, &Path)]) -> Result<Memtrace> {
        let pid = self.target.pid().to_string();
        let mut command = Command::new(memtrace::program()?);
        command.args(["--pid", &pid, "--format", "json", "--top", "100000"]).args(more);
        command.env("DEBUGINFOD_URLS", urls).env("DEBUGINFOD_CACHE_PATH", self.cache());
        command.env("NO_PROXY", "127.0.0.1,localhost").envs(variables.iter().copied());
        let mut memtrace = Memtrace::spawn(&mut command)?;
        memtrace.attached()?;
        Ok(memtrace)
    }
}

/// The frames of the program in stacks that hold something.
fn frames(report: &Report) -> impl Iterator<Item = &Frame> {
    let holding = report.stacks.iter().filter(|stack| stack.outstanding_blocks > 0);
    holding.flat_map(|stack| &stack.frames).filter(|frame| frame.module.as_deref() == Some("service"))
}

/// Function, file and line of the leak are those of the source.
fn is_named(report: &Report) -> bool {
    frames(report).any(|frame| {
        let file = frame.file.as_deref().unwrap_or_default();
        frame.function.as_deref() == Some("leak_early") && file.ends_with("/two_leaks.c") && frame.line == Some(12)
    })
}

fn is_nameless(report: &Report) -> bool {
    frames(report).next().is_some()
        && frames(report).all(|frame| frame.function.is_none() && frame.line.is_none() && frame.offset.is_some())
}

fn named_at_the_end(finished: &Finished) -> Result<()> {
    let last = finished.final_report()?;
    ensure!(is_named(&last), "{:#?}\n{:?}", frames(&last).collect::<Vec<_>>(), finished.errors);
    Ok(())
}

#[test]
fn reports_have_names_once_the_file_has_come_and_a_second_run_asks_nobody() -> Result<()> {
    let service = Stripped::start()?;
    let server = DebugServer::start(&service.build_id, &service.debug, true)?;
    let mut memtrace = service.attach(&server.url(), &["--interval", "500ms"])?;
    memtrace.report_where("the leak without names", is_nameless)?;
    memtrace.errors_where("it says that it fetches", |lines| {
        lines.iter().any(|line| line.contains("fetching the debug file of service from http://127.0.0.1:"))
    })?;
    // More reports come meanwhile.
    memtrace.report_where("the leak without names", is_nameless)?;
    server.let_go();
    memtrace.report_where("the leak with names", is_named)?;
    let finished = memtrace.interrupt()?;
    named_at_the_end(&finished)?;
    assert_eq!(server.requests(&service.build_id), 1);
    let told = finished.errors.iter().filter(|line| line.contains("debug file of service")).count();
    assert_eq!(told, 1, "{:?}", finished.errors);

    let mut memtrace = service.attach(&server.url(), &["--interval", "500ms"])?;
    memtrace.report_where("the leak with names", is_named)?;
    named_at_the_end(&memtrace.interrupt()?)?;
    assert_eq!(server.requests(&service.build_id), 1);
    Ok(())
}

#[test]
fn the_only_report_of_a_short_run_waits_for_the_names() -> Result<()> {
    let service = Stripped::start()?;
    let server = DebugServer::start(&service.build_id, &service.debug, false)?;
    // The flag's servers are asked, and not those of the environment.
    let flag = format!("--debuginfod={}/", server.url());
    let run = ["--interval", "60s", "--duration", "2s", &flag];
    let finished = service.attach("http://127.0.0.1:1", &run)?.finish()?;
    named_at_the_end(&finished)?;
    assert_eq!(finished.reports()?.len(), 1);
    assert!(!finished.errors.iter().any(|line| line.contains("127.0.0.1:1 ")), "{:?}", finished.errors);
    Ok(())
}

#[test]
fn a_run_does_not_wait_for_a_server_that_hangs_nor_ask_one_that_nobody_named() -> Result<()> {
    let service = Stripped::start()?;
    let server = DebugServer::start(&service.build_id, &service.debug, true)?;
    let run = ["--interval", "500ms", "--duration", "2s"];
    let finished = service.attach(&server.url(), &run)?.finish()?;
    let last = finished.final_report()?;
    assert!(is_nameless(&last), "{:#?}", frames(&last).collect::<Vec<_>>());
    assert_eq!(server.requests(&service.build_id), 1);
    // The wait is no part of what was traced.
    assert!(last.elapsed_ms < 10_000, "{}", last.elapsed_ms);

    let off = [&run[..], &["--debuginfod="]].concat();
    for (urls, run) in [("", &run[..]), (&server.url(), &off)] {
        assert!(is_nameless(&service.attach(urls, run)?.finish()?.final_report()?));
    }
    assert_eq!(server.requests(&service.build_id), 1);
    assert_eq!(fs::read_dir(service.cache())?.count(), 0, "nothing was received");
    Ok(())
}

#[test]
fn the_server_of_elfutils_is_understood() -> Result<()> {
    let service = Stripped::start()?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new("debuginfod");
    command.args(["-F", "-d", ":memory:", "-p", &port.to_string()]).arg(service.folder.path());
    command.env_remove("DEBUGINFOD_URLS").env("DEBUGINFOD_CACHE_PATH", service.folder.path().join("server"));
    let _server = Target::spawn(command.stderr(Stdio::null())).context("debuginfod: `cargo xtask test` installs it")?;
    wait::until("the server has the file", || Ok(serves(port, &service.build_id).then_some(())))?;
    let run = ["--interval", "60s", "--duration", "2s"];
    named_at_the_end(&service.attach(&format!("http://127.0.0.1:{port}"), &run)?.finish()?)?;
    let kept = service.cache().join(&service.build_id).join("debuginfo");
    assert!(same(&kept, &service.debug)?, "it is kept where elfutils' client would look");
    Ok(())
}

/// A certificate for `localhost` that its own key has signed.
const CERTIFICATE: &str = "[req]
distinguished_name = name
x509_extensions = extensions
[name]
[extensions]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost
";

#[test]
fn a_server_is_asked_in_secret_if_the_system_trusts_its_certificate() -> Result<()> {
    let service = Stripped::start()?;
    let site = service.folder.path().join("site");
    let file = site.join("buildid").join(&service.build_id).join("debuginfo");
    fs::create_dir_all(file.parent().context("it is in a folder")?)?;
    fs::copy(&service.debug, &file)?;
    let (configuration, certificate, key) = (site.join("configuration"), site.join("certificate"), site.join("key"));
    fs::write(&configuration, CERTIFICATE)?;
    let mut make = Command::new("openssl");
    make.args([
        "req",
        "-x509",
        "-nodes",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-subj",
        "/CN=localhost",
    ]);
    make.arg("-config").arg(&configuration).arg("-keyout").arg(&key).arg("-out").arg(&certificate);
    let made = make.output().context("openssl")?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new("openssl");
    command.args(["s_server", "-WWW", "-accept", &format!("127.0.0.1:{port}")]);
    command.arg("-cert").arg(&certificate).arg("-key").arg(&key).current_dir(&site);
    let _server = Target::spawn(command.stderr(Stdio::null()))?;
    wait::until("the server listens", || Ok(TcpStream::connect(("127.0.0.1", port)).ok()))?;
    let url = format!("https://localhost:{port}");
    let run = ["--interval", "60s", "--duration", "2s"];
    let finished = service.attach(&url, &run)?.finish()?;
    assert!(is_nameless(&finished.final_report()?), "a certificate that nobody trusts");
    let told = finished.errors.iter().filter(|line| line.contains(&format!("debuginfod: {url} gave no debug file: ")));
    assert_eq!(told.count(), 1, "{:?}", finished.errors);
    named_at_the_end(&service.attach_with(&url, &run, &[("SSL_CERT_FILE", &certificate)])?.finish()?)
}

/// Whether a server has the debug file.
fn serves(port: u16, build_id: &str) -> bool {
    let request = format!("GET /buildid/{build_id}/debuginfo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let stream = TcpStream::connect(("127.0.0.1", port));
    stream.is_ok_and(|mut stream| client::ask(&mut stream, &request, " 200 ").is_ok())
}

fn same(a: &Path, b: &Path) -> Result<bool> {
    Ok(fs::read(a)? == fs::read(b)?)
}
