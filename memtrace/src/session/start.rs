//! How a run is started for a user: what has to be measured before it is measured first.

use super::{
    Outcome, SessionError,
    budget::{Budget, Costs},
    config::TraceConfig,
    doctor::pair_ns,
    notice,
    run::{event_loop, trace},
    tui,
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
    // In loops of their own, before the command is started, which would have to wait.
    let budget = config.sampling.max_overhead.map(|share| Ok::<_, SessionError>(Budget::new(share, calibrate()?)));
    event_loop()?.block_on(trace(config, None, budget.transpose()?))
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
