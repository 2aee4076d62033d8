//! memtrace: finds the call stacks of a running process whose memory keeps growing.
//!
//! The rooms, in the order in which data flows through them: [`cli`] (what was asked) -> [`target`] (which processes) ->
//! [`allocator`] (which functions, which probe sites) -> [`unwind`] (how its stacks are undone) -> [`kernel`] (load,
//! attach, drain) -> [`ledger`] (every live block) -> [`trend`] (the verdict) -> [`symbol`] (names) -> [`report`] (text,
//! JSON, flame graphs, pprof, HTML). [`session`] wires them together. A room depends on rooms to its left only. [`statistics`] has what all rooms
//! that estimate share.

pub mod allocator;
pub mod cli;
pub mod kernel;
pub mod ledger;
pub mod report;
pub mod session;
pub mod statistics;
pub mod symbol;
pub mod target;
pub mod trend;
pub mod unwind;
