//! One emulated machine from power-on to power-off. It has two serial lines: a console for people, kept in a file, and a
//! line that carries what the test found out.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// A guest takes less than a minute; a machine that is busy besides may take several times as long.
const HARD_LIMIT_SECONDS: &str = "300";
/// What timeout(1) exits with.
const TIMED_OUT: i32 = 124;

/// What a guest did.
pub struct Run {
    /// From power-on to the test's first word.
    pub boot: Duration,
    /// From power-on to power-off.
    pub whole: Duration,
    /// What came out of the second serial line.
    pub said: String,
}

/// Boots the kernel and waits for the end of its test.
pub fn boot(kernel: &Path, initramfs: &Path, console: &Path, report: &Path) -> Result<Run> {
    fs::write(report, "").with_context(|| format!("cannot write {}", report.display()))?;
    let start = Instant::now();
    // Ends the machine even when we are killed; `--foreground` leaves Ctrl-C to it.
    let mut machine = Command::new("timeout");
    machine.args(["--foreground", "--kill-after=5", HARD_LIMIT_SECONDS, "qemu-system-x86_64"]);
    // Emulated even where hardware support is there, so that every machine runs the same test.
    // By one thread: with one for each processor, the kernel once met a breakpoint that it had already taken back while it
    // switched a tracepoint on, and panicked. It takes no longer.
    machine.args(["-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2", "-m", "1536"]);
    machine.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    machine.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
    // A panic ends the machine. Mitigations of processor bugs cost time and protect nobody here.
    machine.args(["-append", "console=ttyS0 panic=-1 mitigations=off"]);
    for line in [console, report] {
        machine.arg("-serial").arg(format!("file:{}", line.display()));
    }
    let mut machine = machine.spawn().context("cannot run timeout and qemu-system-x86_64")?;
    let mut boot = None;
    let status = loop {
        if boot.is_none() && fs::metadata(report).is_ok_and(|file| file.len() > 0) {
            boot = Some(start.elapsed());
        }
        match machine.try_wait().context("cannot wait for the guest")? {
            Some(status) => break status,
            None => thread::sleep(Duration::from_millis(100)),
        }
    };
    ensure!(status.code() != Some(TIMED_OUT), "not done after {HARD_LIMIT_SECONDS} s");
    ensure!(status.success(), "qemu failed: {status}");
    let said = fs::read(report).with_context(|| format!("cannot read {}", report.display()))?;
    let said = String::from_utf8_lossy(&said).into_owned();
    Ok(Run {
        boot: boot.context("the kernel did not come up, or could not start the test")?,
        whole: start.elapsed(),
        said,
    })
}

/// The last lines of the console, where the reason of a failure stands.
pub fn end_of(console: &Path) -> String {
    const LINES: usize = 40;
    let text = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
