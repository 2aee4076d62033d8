//! `demo`: a service with a leak, a cache and churn (`demo/service.c`), and memtrace watching it.
//!
//! The service never outlives the demonstration: it is stopped at the end, and asks the kernel to be stopped when this
//! program dies. Ctrl-C goes to memtrace, which prints its final report.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{debian, packages, process, tree};

/// Watches the service for so many seconds; memtrace's report goes to the terminal.
pub fn run(seconds: u32) -> Result<ExitCode> {
    let mut memtrace = process::as_root(process::build_memtrace()?, "memtrace")?;
    let service = Service::start(&compile_service()?)?;
    let pid = service.child.id().to_string();
    eprintln!("The service is process {pid}; watching it for {seconds} s. Ctrl-C ends early.");
    let arguments = ["--pid", &pid, "--interval", "1s", "--duration", &format!("{seconds}s")];
    let status = memtrace.args(arguments).status().context("cannot run memtrace")?;
    drop(service);
    if !status.success() {
        bail!("memtrace failed: {status}");
    }
    println!(
        "\nLook for: `remember_session` growing by some 200 KiB a second: the leak. `cache_lookup` holds more at first, but \
         fills and stays level at 2 MiB: no leak. `render_page` allocates the most often and keeps nothing."
    );
    Ok(ExitCode::SUCCESS)
}

/// The running service; dropping it stops it.
struct Service {
    child: Child,
}

impl Service {
    fn start(binary: &Path) -> Result<Self> {
        let mut command = Command::new(binary);
        // A process group of its own, so that Ctrl-C leaves memtrace something to report on.
        command.stdin(Stdio::null()).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {}", binary.display()))?;
        Ok(Self { child })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds the service and gives its path.
pub fn compile_service() -> Result<PathBuf> {
    if process::find("cc").is_none() {
        debian::install("The demonstration's service", packages::C_COMPILER)?;
    }
    let folder = tree::target().join("demo");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let binary = folder.join("service");
    let source = tree::root().join("xtask/demo/service.c");
    process::run(Command::new("cc").args(["-g", "-O1", "-fno-omit-frame-pointer", "-o"]).arg(&binary).arg(source))?;
    Ok(binary)
}
