//! Processes that come and go: a server's workers in a cgroup, children, and a storm of short ones.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use memtrace_tests::{Build, Memtrace, Target, code::changed_libc_bytes, report, wait};

/// A cgroup of its own, gone with the test.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Result<Self> {
        Self::called(&format!("memtrace-test-{name}-{}", std::process::id()))
    }

    fn called(name: &str) -> Result<Self> {
        // The unified hierarchy, or the memory controller's where there are several.
        let root = ["/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/memory/cgroup.procs"].map(Path::new);
        let root =
            root.into_iter().find(|path| path.exists()).and_then(Path::parent).context("a cgroup file system")?;
        let folder = root.join(name);
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(Self(folder))
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }

    /// Starts a command inside.
    fn start(&self, program: &Path, arguments: &[&str]) -> Result<Inside> {
        let list = self.0.join("cgroup.procs");
        let script = "echo $$ > \"$0\" && exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(&list).arg(program).args(arguments);
        Ok(Inside(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?))
    }

    fn processes(&self) -> Result<BTreeSet<u32>> {
        let text = fs::read_to_string(self.0.join("cgroup.procs"))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let ended = wait::until("the cgroup to be empty", || {
            for pid in self.processes()? {
                let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
                // Gone already, if this fails.
                let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
            }
            Ok(fs::remove_dir(&self.0).is_ok().then_some(()))
        });
        // A test that fails to clean up must say so; panicking while another panic unwinds would hide that one.
        assert!(ended.is_ok() || std::thread::panicking(), "{}: {ended:?}", self.path());
    }
}

struct Inside(Child);

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn open_descriptors(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

#[test]
fn workers_that_come_and_go_in_a_cgroup_are_all_traced_and_their_leak_is_one() -> Result<()> {
    let cgroup = Cgroup::new("workers")?;
    let outside = Target::start(&Build::c("prefork.c"), &["1", "1000000"])?;
    let program = Build::c("prefork.c").without_frame_pointers().compile()?;
    // Each worker lives for 200 requests of 50 ms or more and leaks at each; then it is replaced.
    let server = cgroup.start(&program, &["8", "200"])?;
    wait::until("eight workers", || Ok((cgroup.processes()?.len() >= 9).then_some(())))?;
    let folder = cgroup.path();
    let arguments = ["--cgroup", &folder, "--format", "json", "--interval", "500ms", "--top", "100000"];
    let mut memtrace = Memtrace::start(&arguments)?;
    memtrace.attached()?;
    let report = memtrace.report_where("twenty workers and their leak", |report| {
        let workers = report.processes.iter().filter(|process| process.totals.allocations > 0).count();
        workers >= 20 && report.grows("leak_in_worker")
    })?;
    ensure!(report.stacks_of("leak_in_worker").count() == 1, "one leak: {:#?}", report.stacks);
    let leak = report.stacks_of("leak_in_worker").next().context("the leak")?;
    ensure!(leak.pids.len() >= 8, "it is every worker's: {:?}", leak.pids);
    ensure!(!report.grows("cache_of_worker"), "{:#?}", report.stacks);
    ensure!(changed_libc_bytes(outside.pid())?.is_empty(), "no probe outside the cgroup");
    for pid in cgroup.processes()? {
        // Those that have just started may have none yet, or be gone.
        let traced = report.processes.iter().any(|process| process.pid == pid && !process.exited);
        ensure!(!traced || changed_libc_bytes(pid).map_or(true, |bytes| !bytes.is_empty()), "{pid} has no probe");
    }
    memtrace.interrupt()?.final_report()?;
    drop(server);
    Ok(())
}

#[test]
fn children_are_followed_and_each_has_its_own_ledger() -> Result<()> {
    let program = Build::c("prefork.c").compile()?.display().to_string();
    // What the command prints goes elsewhere.
    let script = "exec \"$0\" 3 100000 > /dev/null";
    let arguments =
        ["--follow", "--format", "json", "--interval", "500ms", "--top", "100000", "--", "sh", "-c", script];
    let arguments: Vec<&str> = arguments.into_iter().chain([program.as_str()]).collect();
    let mut memtrace = Memtrace::start(&arguments)?;
    let report = memtrace.report_where("three workers", |report| {
        report.processes.iter().filter(|process| process.totals.allocations > 20).count() >= 3
    })?;
    let first = report.processes.first().context("the parent")?;
    ensure!(first.totals.inherited_blocks == 0, "{first:?}");
    for worker in report.processes.iter().skip(1).filter(|worker| worker.totals.inherited_frees == 0) {
        ensure!((5_000_000..5_100_000).contains(&worker.totals.inherited_bytes), "{worker:?}");
    }
    ensure!(first.totals.outstanding_bytes >= 5_000_000, "what the parent allocated is its own: {first:?}");
    for worker in report.processes.iter().skip(1) {
        ensure!(worker.totals.outstanding_bytes < 5_000_000, "nothing inherited is counted: {worker:?}");
    }
    // The parent's block is known to them as inherited, and so is its end.
    let given_back =
        |process: &report::Process| process.totals.inherited_frees == 1 && process.totals.inherited_bytes < 5_000_000;
    let report = memtrace.report_where("three workers that gave it back", |report| {
        report.processes.iter().filter(|process| given_back(process)).count() == 3
    })?;
    for worker in report.processes.iter().skip(1) {
        ensure!(worker.totals.frees_unmatched == 0, "every release is of a block that is known: {worker:?}");
    }
    memtrace.signal(rustix::process::Signal::TERM)?;
    memtrace.finish()?.final_report()?;
    Ok(())
}

#[test]
fn a_storm_of_short_processes_leaves_nothing_behind() -> Result<()> {
    const SECONDS: usize = 30;
    let cgroup = Cgroup::new("storm")?;
    let script = "(while :; do sleep 0.3; done) & while :; do for i in 1 2 3 4 5 6 7 8 9 10; do /bin/true & done; wait $!; sleep 0.03; done";
    let storm = cgroup.start(Path::new("/bin/sh"), &["-c", script])?;
    let folder = cgroup.path();
    let arguments = ["--cgroup", &folder, "--format", "json", "--interval", "1s", "--top", "100"];
    let mut memtrace = Memtrace::start(&arguments)?;
    memtrace.attached()?;
    let pid = memtrace.pid();
    let mut descriptors = Vec::new();
    let mut last = None;
    for _ in 0..SECONDS {
        last = Some(memtrace.next_report()?);
        descriptors.push(open_descriptors(pid)?);
    }
    let report = last.context("a report")?;
    let seen = report.processes.len() as u64 + report.retired.processes + report.retired.too_short;
    println!(
        "{seen} processes seen, {} attached and forgotten, {} too short; descriptors {descriptors:?}",
        report.retired.processes, report.retired.too_short
    );
    ensure!(
        report.retired.too_short > 200 && report.retired.processes > 10,
        "the storm was seen: {:?}",
        report.retired
    );
    ensure!(report.processes.len() < 200, "ended processes are forgotten");
    // A live process has a handful of descriptors, and so have those that wait to be detached.
    let (early, late) = (descriptors[SECONDS / 3..].iter().min(), descriptors[SECONDS * 2 / 3..].iter().min());
    ensure!(late <= early.map(|early| early + 100).as_ref(), "{descriptors:?}");
    memtrace.interrupt()?.final_report()?;
    drop(storm);
    Ok(())
}

/// A root that has a musl program and its loader, and nothing else.
fn musl_root(folder: &Path) -> Result<()> {
    let loader = "lib/ld-musl-x86_64.so.1";
    fs::create_dir_all(folder.join("lib"))?;
    fs::copy(Path::new("/").join(loader), folder.join(loader)).context("musl's loader")?;
    fs::copy(Build::musl("prefork.c").without_frame_pointers().compile()?, folder.join("prefork"))?;
    Ok(())
}

#[test]
fn a_container_is_traced_by_its_id_with_names_from_its_own_root() -> Result<()> {
    let folder = tempfile::tempdir()?;
    musl_root(folder.path())?;
    // A cgroup as Docker names it, and the namespaces of a container.
    let id = format!("{:08x}{:056x}", std::process::id(), 0xc0_ffee);
    let cgroup = Cgroup::called(&format!("docker-{id}.scope"))?;
    let root = format!("--root={}", folder.path().display());
    let unshare = ["--mount", "--pid", "--cgroup", "--ipc", "--uts", "--fork", &root, "/prefork", "2", "100000"];
    let container = cgroup.start(Path::new("unshare"), &unshare)?;
    wait::until("the container's processes", || Ok((cgroup.processes()?.len() >= 4).then_some(())))?;
    let arguments = ["--container", &id[..12], "--format", "json", "--interval", "500ms", "--top", "100000"];
    let mut memtrace = Memtrace::start(&arguments)?;
    memtrace.attached()?;
    let report =
        memtrace.report_where("the leak of the container's workers", |report| report.grows("leak_in_worker"))?;
    let leak = report.stacks_of("leak_in_worker").next().context("the leak")?;
    ensure!(leak.pids.len() == 2 && leak.mentions("main"), "{leak:#?}");
    ensure!(leak.frames.iter().any(|frame| frame.module.as_deref() == Some("prefork")), "{leak:#?}");
    ensure!(report.processes.iter().all(|process| process.cgroup.contains(&id)), "{:?}", report.processes);
    memtrace.interrupt()?.final_report()?;

    let missing = Memtrace::start(&["--container", "no-such-container"])?.finish()?;
    ensure!(missing.code() == Some(1) && missing.errors.len() == 1, "{:?}", missing.errors);
    ensure!(missing.errors[0].contains("no running container"), "{:?}", missing.errors);

    let mut watch = Memtrace::start(&["watch", "--container", &id, "--interval", "200ms", "--window", "2s"])?;
    let line = watch.next_line()?;
    ensure!(line.contains(&id[..12]) || line.contains("pid"), "{line}");
    drop(watch);
    drop(container);
    Ok(())
}
