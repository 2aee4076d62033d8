//! What tells a stack from all others of a run.

use memtrace_common::{Slot, StackId};

use crate::ledger::Kind;

/// A stack of one target.
pub(super) type Key = (Slot, StackId, Kind);
