//! What the `memtrace` program calls: flags, the commands that they ask for, and what comes of each.

/// The command line: flags as typed, and the command that they ask for.
pub mod cli {
    pub use crate::cli::{Command, Flags, resolve};
}

/// Reports of runs that were saved before.
pub mod saved_runs {
    pub use crate::report::saved_runs::{SavedRunError, diff, report};
}

/// Runs, and the other commands that look at processes.
pub mod session {
    pub use crate::session::{SessionError, allocation_loop, doctor, mark, run, shell_status, watch};
}

/// The helper process that holds targets.
pub mod guard {
    pub use crate::target::guard::helper;
}
