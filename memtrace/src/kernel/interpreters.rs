//! What the kernel side knows of the targets' interpreters.

use aya::maps::{Array, Map, MapData};
use memtrace_common::{Slot, interpreter::Interpreter};

use super::{
    error::{KernelError, access},
    shared::Shared,
};

const NAME: &str = "INTERPRETERS";

/// The kernel's table of interpreters, by slot.
pub struct Interpreters(Array<MapData, Shared<Interpreter>>);

impl Interpreters {
    pub(super) fn new(map: Map) -> Result<Self, KernelError> {
        Ok(Self(Array::try_from(map).map_err(access(NAME))?))
    }

    /// From now on the target's interpreter frames are walked so, or not at all.
    ///
    /// # Errors
    ///
    /// When the map cannot be written.
    pub fn set(&mut self, slot: Slot, interpreter: Option<Interpreter>) -> Result<(), KernelError> {
        let interpreter = Shared(interpreter.unwrap_or_default());
        self.0.set(u32::from(slot.0), interpreter, 0).map_err(access(NAME))
    }
}
