//! What gdb, which unwinds by the same tables with code of its own, says of a stack.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::Target;

/// One frame as gdb sees it, inlined and tail-called functions left out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GdbFrame {
    /// The return address, or where a signal interrupted.
    pub address: u64,
    /// Its function; `None` where the object has no debug information and gdb would guess.
    pub function: Option<String>,
}

/// The register that holds the first argument of a call.
const FIRST_ARGUMENT: &str = if cfg!(target_arch = "aarch64") { "$x0" } else { "$rdi" };

/// Prints a line a frame, from malloc's caller on. Frames of tail calls are gdb's guess: nothing of them is left on the
/// stack.
const WALK: &str = "
frame = gdb.newest_frame().older()
while frame is not None:
    if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
        name = frame.name() if frame.find_sal().symtab is not None else None
        print('frame', hex(frame.pc()), name or '?', flush=True)
    frame = frame.older()
print('end', flush=True)
";

/// The stack of the next call of `malloc(bytes)` in a process, its caller first. `then` is called once gdb waits for
/// it. The process runs on afterwards.
///
/// # Errors
/// When gdb cannot be run or cannot attach, or the call does not come by the deadline.
pub fn stack_of_malloc(pid: u32, bytes: u64, then: impl FnOnce() -> Result<()>) -> Result<Vec<GdbFrame>> {
    let mut command = Command::new("gdb");
    command.args(["-nx", "-batch", "-p", &pid.to_string()]);
    for line in [
        "set debuginfod enabled off",
        // Beyond main, to where the process began.
        "set backtrace past-main on",
        "handle SIGILL nostop noprint pass",
        // By a debug register, not by an instruction in malloc's place. There the kernel would take it for a probe of a
        // memtrace that another test runs at the time, and run on: a process that was ever traced has it look.
        &format!("hbreak *malloc if {FIRST_ARGUMENT} == {bytes}"),
        "python print('waiting', flush=True)",
        "continue",
        &format!("python exec({WALK:?})"),
        "delete",
        "detach",
    ] {
        command.args(["-ex", line]);
    }
    let mut gdb = Target::spawn(&mut command).context("is gdb installed?")?;
    while gdb.hear().context("waiting for gdb to attach")? != "waiting" {}
    then()?;
    let mut frames = Vec::new();
    loop {
        let line = gdb.hear().with_context(|| format!("waiting for the process to call malloc({bytes})"))?;
        if line == "end" {
            break;
        }
        let Some(frame) = line.strip_prefix("frame 0x") else { continue };
        let (address, name) = frame.split_once(' ').context("a frame has a name or a question mark")?;
        let address = u64::from_str_radix(address, 16).with_context(|| format!("reading gdb's {line:?}"))?;
        frames.push(GdbFrame { address, function: Some(name.to_owned()).filter(|name| name != "?") });
    }
    let status = gdb.ended()?;
    if frames.is_empty() || !status.success() {
        bail!("gdb ended with {status} after {} frames", frames.len());
    }
    Ok(frames)
}
