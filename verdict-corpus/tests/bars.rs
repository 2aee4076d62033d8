//! The corpus with a fixed seed, at the bars. `cargo xtask verdict` runs more of it, made afresh.

use verdict_corpus::{
    gate::ask,
    leaks::watch,
    measure::measure,
    recorded::replay_all,
    run::{Effort, generated},
};

#[test]
fn the_verdicts_reach_the_bars() -> anyhow::Result<()> {
    let outcomes = generated(Effort { seed: 1, series: 6, programs: 8, watched: 2 });
    let mut measured = measure(&outcomes, false);
    measured.recorded(&replay_all()?);
    measured.stability(&watch(1, 40));
    measured.gate(&ask(1, 5), false);
    assert!(measured.failures.is_empty(), "{:#?}\n{}", measured.failures, measured.text);
    Ok(())
}
