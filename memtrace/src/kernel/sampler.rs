//! What tells the programs how to sample, and the set of live blocks that they have drawn.

use aya::maps::{Array, HashMap, Map, MapData};
use memtrace_common::{Address, Slot, deferred::DeferredKey, limits::MAX_SAMPLED, sampling::Sampling};

use super::{
    error::{KernelError, access},
    shared::Shared,
};

/// The user's end of sampling in the kernel: how blocks are drawn, and which are known.
pub struct Sampler {
    control: Array<MapData, Shared<Sampling>>,
    drawn: HashMap<MapData, Shared<DeferredKey>, u64>,
}

impl Sampler {
    pub(super) fn new(control: Map, drawn: Map) -> Result<Self, KernelError> {
        let control = Array::try_from(control).map_err(access("SAMPLING"))?;
        let drawn = HashMap::try_from(drawn).map_err(access("SAMPLED"))?;
        Ok(Self { control, drawn })
    }

    /// From now on blocks are drawn so.
    ///
    /// # Errors
    ///
    /// When the map cannot be written.
    pub fn set(&mut self, sampling: Sampling) -> Result<(), KernelError> {
        self.control.set(0, Shared(sampling), 0).map_err(access("SAMPLING"))
    }

    /// Puts live blocks into the set; false if there are more than it holds.
    ///
    /// # Errors
    ///
    /// When the map cannot be written.
    pub fn note(&mut self, slot: Slot, blocks: impl Iterator<Item = Address>) -> Result<bool, KernelError> {
        for (count, address) in blocks.enumerate() {
            if count >= MAX_SAMPLED / 2 {
                return Ok(false);
            }
            self.drawn.insert(key(slot, address), 0, 0).map_err(access("SAMPLED"))?;
        }
        Ok(true)
    }

    /// Takes blocks out of the set whose releases will not come: their process has ended, or runs another program.
    pub fn forget(&mut self, slot: Slot, blocks: impl Iterator<Item = Address>) {
        // One that is not there is none the less gone.
        blocks.for_each(|address| drop(self.drawn.remove(&key(slot, address))));
    }
}

fn key(slot: Slot, address: Address) -> Shared<DeferredKey> {
    Shared(DeferredKey { address: address.0, slot: u64::from(slot.0) })
}
