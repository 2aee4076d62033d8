//! What is said of a process that was ended by a signal which probes are known to cause.

/// SIGTRAP: the kernel answers a breakpoint by it that is not where it was put, as in a copy of probed code.
const TRAP: u32 = libc::SIGTRAP as u32;

/// SIGILL: the kernel answers a function's return by it that it has put a probe on and cannot find again
/// (`uprobe_handle_trampoline`, kernel/events/uprobes.c), as after a switch of stacks.
const ILLEGAL: u32 = libc::SIGILL as u32;

/// Whether probes are known to end processes by this signal.
pub fn is_suspect(signal: u32) -> bool {
    matches!(signal, TRAP | ILLEGAL)
}

/// What ended the process, why memtrace is suspected, and what to do about it; `None` for a signal that probes do not cause.
pub fn sentence(pid: u32, signal: u32) -> Option<String> {
    let (name, cause) = match signal {
        TRAP => ("SIGTRAP", "the program probably ran a copy of its own code that has a breakpoint of memtrace in it"),
        ILLEGAL => ("SIGILL", "the kernel probably did not find the way back from a function whose return is probed"),
        _ => return None,
    };
    Some(format!(
        "Process {pid} was ended by {name}, and memtrace is the likely cause: {cause}. If the program does not end so without \
         memtrace, trace it with --mode growth, which puts no probes into it."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_signals_that_probes_cause_are_suspect() {
        for signal in 0..128 {
            assert_eq!(is_suspect(signal), [4, 5].contains(&signal));
            assert_eq!(sentence(7, signal).is_some(), is_suspect(signal));
        }
        assert!(sentence(7, 5).is_some_and(|text| text.contains("SIGTRAP") && text.contains("--mode growth")));
    }
}
