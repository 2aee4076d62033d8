//! Messages of the BPF programs' slow paths, on standard error.

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{LevelFilter, Metadata, Record};
use tokio::{io::unix::AsyncFd, task::JoinHandle};

/// Prints what the programs log for as long as it lives.
pub(super) struct Log(JoinHandle<()>);

struct StandardError;

impl log::Log for StandardError {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= LevelFilter::Info
    }

    #[expect(clippy::print_stderr, reason = "the one place where the programs' messages reach a person")]
    fn log(&self, record: &Record<'_>) {
        eprintln!("memtrace: {}", record.args());
    }

    fn flush(&self) {}
}

impl Log {
    /// Starts printing; `None` when the log's ring cannot be opened, which is no reason not to trace.
    pub(super) fn start(programs: &mut Ebpf) -> Option<Self> {
        let logger = EbpfLogger::init_with_logger(programs, StandardError).ok()?;
        // SAFETY: the logger owns its ring's descriptor and keeps it open and the same for as long as it lives.
        let mut logger = unsafe { AsyncFd::register(logger) }.ok()?;
        Some(Self(tokio::spawn(async move {
            while let Ok(mut guard) = logger.readable_mut().await {
                guard.get_inner_mut().flush();
                guard.clear_ready();
            }
        })))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.abort();
    }
}
