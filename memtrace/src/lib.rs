//! memtrace: finds the call stacks of a running process whose memory keeps growing.
//!
//! The rooms, from left to right: [`statistics`] (what all that estimate share), [`event`] (what happens in a target, decoded),
//! [`object`] (the files that a process has mapped, and what is read of them), [`target`] (which processes), [`allocator`] (which functions, which probe sites), [`unwind`] (how stacks are undone),
//! [`kernel`] (load, attach, drain), [`ledger`] (every live block), [`trend`] (the verdict), [`symbol`] (names), [`report`] (text,
//! JSON, flame graphs, pprof, HTML), [`session`], which wires them together, and [`cli`] (what was asked). A room depends on rooms to its
//! left only, which a test checks (`rooms`).

pub mod allocator;
pub mod cli;
pub mod event;
pub mod kernel;
pub mod ledger;
pub mod object;
pub mod report;
#[cfg(test)]
mod rooms;
pub mod runtime;
pub mod session;
pub mod statistics;
pub mod symbol;
pub mod target;
pub mod trend;
pub mod unwind;
