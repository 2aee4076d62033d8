//! The ordinary trace that an alert sets off: the same session as `memtrace --pid`, for a bounded time.

use std::{cell::RefCell, pin::Pin, rc::Rc, time::Duration};

use crate::{
    report::snapshot::Snapshot,
    session::{SessionError, TraceConfig, notice, output::Output, run::trace},
    target::{Pid, Target},
};

/// What a trace brought; `None` when its targets had ended before it began.
pub(super) type Traced = Result<Option<Snapshot>, SessionError>;

/// A trace that runs.
pub(super) type Escalation = Pin<Box<dyn Future<Output = Traced>>>;

/// Prepares a trace of those of the processes that can be traced; nothing is attached before it is first polled. `None`
/// when none can be.
pub(super) fn start(pids: &[Pid], time: Duration) -> Option<Escalation> {
    let mut traceable = Vec::new();
    for &pid in pids {
        match Target::open(pid) {
            Ok(_) => traceable.push(pid.0),
            Err(error) => notice::not_escalated(&SessionError::from(error)),
        }
    }
    let config = TraceConfig::brief(&traceable, time)?;
    Some(Box::pin(async move {
        let last = Rc::new(RefCell::new(None));
        let kept = Rc::clone(&last);
        trace(&config, Some(Output::telling(move |report| drop(kept.replace(Some(report.clone()))))), None).await?;
        Ok(last.take())
    }))
}

/// Waits for the trace that runs; for ever when none does.
pub(super) async fn finished(running: &mut Option<Escalation>) -> Traced {
    match running {
        Some(running) => running.await,
        None => std::future::pending().await,
    }
}
