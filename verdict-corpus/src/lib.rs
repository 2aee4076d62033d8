//! The labelled corpus: the measure of the verdict is precision and recall, not taste.
//!
//! Three kinds of cases: [`shapes`] are generated series, [`programs`] generated programs, block by block, through the
//! real ledger, and [`recorded`] what memtrace saw of real programs. [`run`] judges them, [`measure`] counts and compares
//! with the bars. [`leaks`] and [`gate`] judge after every interval: leaks for whether a verdict changes back, whole programs
//! of many stacks ([`whole_programs`]) for whether the run fails. `cargo xtask verdict` runs it with a fresh seed, the crate's test with a fixed one.

pub mod gate;
pub mod heap;
pub mod leaks;
pub mod measure;
pub mod noise;
pub mod programs;
pub mod recorded;
pub mod run;
pub mod shapes;
pub mod whole_programs;
