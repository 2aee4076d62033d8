//! The signals that a run listens to, and what each asks for.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::SessionError;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Told {
    /// The run is to end with a report.
    End(SignalKind),
    /// A new measuring window is to begin.
    Mark,
}

/// The signals that a run listens to.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    mark: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, SessionError> {
        let listen =
            |kind| signal(kind).map_err(|source| SessionError::System { action: "listening for signals", source });
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            mark: listen(SignalKind::user_defined1())?,
        })
    }

    pub(super) async fn next(&mut self) -> Told {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => Told::End(SignalKind::interrupt()),
            _ = self.terminate.recv() => Told::End(SignalKind::terminate()),
            _ = self.hangup.recv() => Told::End(SignalKind::hangup()),
            _ = self.mark.recv() => Told::Mark,
        }
    }
}
