//! The `report` room: one [`snapshot::Snapshot`] in, text or JSON out. It keeps no truth of its own.

pub mod snapshot;
