//! Counts what processes allocate, by tracing them for a moment.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use super::calibrate;
use crate::{
    allocator::wrapper::Wrapper,
    report::{
        doctor::{Measured, Prices, Rate},
        loss,
        snapshot::{Snapshot, Totals},
    },
    session::{
        SessionError, TraceConfig,
        output::Output,
        run::{event_loop, trace},
    },
    target::Pid,
};

/// Traces the processes for `time` and says how often they allocate; `None` when there is none.
///
/// # Errors
///
/// When they cannot be traced.
pub(super) fn measure(pids: &[u32], wrappers: &[Wrapper], time: Duration) -> Result<Option<Measured>, SessionError> {
    if pids.is_empty() {
        return Ok(None);
    }
    let pair_ns = calibrate::pair_ns(|config| config.probes.no_prediction = true)?;
    let predicted_pair_ns = calibrate::pair_ns(|_| {})?;
    let looks = run(pids, time, |config| config.probes.wrappers = wrappers.to_vec(), || {})?;
    let (Some(first), Some(last)) = (looks.first(), looks.last()) else { return Ok(None) };
    let seconds = (last.at - first.at).as_secs_f64().max(1e-3);
    let made = |look: &Look| look.snapshot.processes.iter().map(|process| process.totals.allocations).sum::<u64>();
    let known = |look: &Look| look.snapshot.tracer.results_predicted;
    let predicted = (known(last) - known(first)) as f64 / (made(last) - made(first)).max(1) as f64;
    let prices = Prices::new(pair_ns, predicted_pair_ns, predicted.min(1.0));
    let rates = pids.iter().enumerate().filter_map(|(index, &pid)| {
        let totals = |look: &Look| look.snapshot.processes.iter().find(|process| process.pid == pid).map(|p| p.totals);
        let (before, after) = (totals(first)?, totals(last)?);
        let busy = (last.processor_seconds[index] - first.processor_seconds[index]).max(0.0);
        let releases = |totals: Totals| totals.frees + totals.frees_unmatched;
        let (allocations, releases) =
            (after.allocations - before.allocations, releases(after).saturating_sub(releases(before)));
        Some(Rate::new(pid, seconds, allocations, releases, busy, prices))
    });
    let tracer = &last.snapshot.tracer;
    let stacks = tracer.stacks_complete + tracer.stacks_short.values().sum::<u64>();
    Ok(Some(Measured {
        elapsed_ms: u64::try_from((last.at - first.at).as_millis()).unwrap_or(u64::MAX),
        pair_ns,
        predicted_pair_ns,
        predicted: predicted.min(1.0),
        lost: loss::wrong(&last.snapshot.loss),
        whole_stacks: (stacks > 0).then(|| tracer.stacks_complete as f64 / stacks as f64),
        processes: rates.collect(),
    }))
}

/// How things stood at one moment of a run.
pub(super) struct Look {
    at: Instant,
    snapshot: Snapshot,
    /// What each process has used in its life.
    processor_seconds: Vec<f64>,
}

/// A quiet run over these processes, looked at while the probes are in place.
pub(super) fn run(
    pids: &[u32],
    time: Duration,
    adjust: impl FnOnce(&mut TraceConfig),
    mut on_look: impl FnMut() + 'static,
) -> Result<Vec<Look>, SessionError> {
    let Some(mut config) = TraceConfig::brief(pids, time) else { return Ok(Vec::new()) };
    adjust(&mut config);
    config.internal.quiet = true;
    let looks = Rc::new(RefCell::new(Vec::new()));
    let (seen, clocks) = (Rc::clone(&looks), pids.to_vec());
    let output = Output::telling(move |snapshot| {
        // The last report comes after the probes have stopped counting.
        if !snapshot.is_final {
            let processor_seconds = clocks.iter().map(|&pid| Pid(pid).processor_seconds().unwrap_or(0.0)).collect();
            on_look();
            seen.borrow_mut().push(Look { at: Instant::now(), snapshot: snapshot.clone(), processor_seconds });
        }
    });
    event_loop()?.block_on(trace(&config, Some(output), None))?;
    Ok(looks.take())
}
