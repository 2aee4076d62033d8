//! How a run is started for a user: what has to be measured before it is measured first.

use std::borrow::Cow;

use super::{
    Outcome, SessionError,
    budget::{Budget, Costs},
    config::TraceConfig,
    doctor::pair_ns,
    notice,
    run::{event_loop, trace},
    tui,
};
use crate::{
    allocator::{self, Ends},
    object::{mapped, maps},
    runtime::go,
    target::Pid,
};

/// A distance at which next to no block is drawn, to measure what the others cost.
const FAR: u64 = 1 << 30;

/// Traces until a signal, the end of the duration or the end of the last target.
///
/// # Errors
///
/// When nothing can be attached, or the run cannot go on.
pub fn run(config: &TraceConfig) -> Result<Outcome, SessionError> {
    if config.output.tui {
        tui::require_terminal()?;
    }
    let config = &with_growth_where_nothing_else_tells(config);
    // In loops of their own, before the command is started, which would have to wait.
    let budget = config.sampling.max_overhead.map(|share| Ok::<_, SessionError>(Budget::new(share, calibrate()?)));
    event_loop()?.block_on(trace(config, None, budget.transpose()?))
}

/// The configuration with `--mode growth`, where all that is traced are Go programs without C whose heap cannot be read: there is
/// nothing else to see of it.
fn with_growth_where_nothing_else_tells(config: &TraceConfig) -> Cow<'_, TraceConfig> {
    let TraceConfig { targets, probes, .. } = config;
    let is_plain = targets.launch.is_none()
        && targets.cgroups.is_empty()
        && targets.containers.is_empty()
        && probes.wrappers.is_empty();
    if probes.growth || !is_plain || targets.pids.is_empty() {
        return Cow::Borrowed(config);
    }
    let reasons: Option<Vec<_>> = targets.pids.iter().map(|&pid| heap_is_unknown(Pid(pid))).collect();
    let Some([why, ..]) = reasons.as_deref() else { return Cow::Borrowed(config) };
    notice::growth_chosen(why);
    let mut config = config.clone();
    config.probes.growth = true;
    Cow::Owned(config)
}

/// Why nothing is known of the heap of a Go program without C; `None` if something is, or it is another program.
fn heap_is_unknown(pid: Pid) -> Option<&'static str> {
    let mappings = maps::read(pid).ok()?;
    let (go::Finding::Found(program) | go::Finding::Partly(Some(program))) = go::find(pid, &mappings) else {
        return None;
    };
    let planned = allocator::plan(&mapped::objects(pid, &mappings), &[], Ends::default());
    program.heap_is_unknown().filter(|_| planned.is_err())
}

/// Measures what calls cost here; takes some three seconds.
fn calibrate() -> Result<Costs, SessionError> {
    notice::calibrating();
    let pair = pair_ns(|config| config.probes.no_prediction = true)?;
    let costs = Costs {
        pair,
        undrawn_pair: pair_ns(|config| (config.sampling.distance, config.probes.no_prediction) = (Some(FAR), true))?,
        undrawn_release: pair_ns(|config| {
            (config.sampling.distance, config.internal.releases_only) = (Some(FAR), true)
        })?,
        // Where nothing can be predicted the two differ by noise.
        predicted: (pair - pair_ns(|_| {})?).max(0.0),
    };
    notice::calibrated(&costs);
    Ok(costs)
}
