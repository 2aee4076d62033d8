//! memtrace: finds the call stacks of a running process whose memory keeps growing.
//!
//! The rooms, from left to right: `statistics` (what all that estimate share), `turns` (when work that is repeated may go on), `event` (what happens in a target, decoded),
//! `object` (the files that a process has mapped, and what is read of them), `debuginfod` (debug files from servers), `target` (which processes), `allocator` (which functions, which probe sites), `unwind` (how stacks are undone),
//! `kernel` (load, attach, drain), `ledger` (every live block), `trend` (the verdict), `symbol` (names), `report` (text,
//! JSON, flame graphs, pprof, HTML), `session`, which wires them together, and `cli` (what was asked). A room depends on rooms to its
//! left only, which a test checks (`rooms`).
//!
//! Rooms are private, so that the compiler sees what nobody uses. [`program`] is what the `memtrace` program calls, and [`parts`]
//! what is measured, tested and fuzzed from outside.

mod allocator;
mod cli;
mod debuginfod;
mod event;
mod kernel;
mod ledger;
mod object;
pub mod parts;
pub mod program;
mod report;
#[cfg(test)]
mod rooms;
mod runtime;
mod session;
mod statistics;
mod symbol;
mod target;
mod trend;
mod turns;
mod unwind;
