//! Map values that both sides compile from one definition, as aya reads and writes them.

use aya::Pod;
use memtrace_common::{
    deferred::DeferredKey, interpreter::Interpreter, prediction::Prediction, sampling::Sampling, target::TargetState,
};

/// A map's key or value of a type that `memtrace-common` defines.
///
/// The trait that aya asks for can only be implemented here for a type of this crate, hence the wrapper.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Shared<T>(pub T);

// SAFETY: all are `repr(C)`, consist of `u64` fields only, whose sizes add up to the type's, so that there is no padding and
// any bits are a value.
unsafe impl Pod for Shared<TargetState> {}
// SAFETY: as above.
unsafe impl Pod for Shared<Prediction> {}
// SAFETY: as above.
unsafe impl Pod for Shared<Sampling> {}
// SAFETY: as above.
unsafe impl Pod for Shared<DeferredKey> {}
// SAFETY: as above.
unsafe impl Pod for Shared<Interpreter> {}
