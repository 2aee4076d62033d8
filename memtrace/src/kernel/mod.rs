//! The `kernel` room: the only one that speaks bpf(2).

pub mod event;
