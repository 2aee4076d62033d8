//! Places that the code of `malloc` reads and writes, as far as they are known.

/// A place in a thread's storage, by the models of access that "ELF Handling For Thread-Local Storage" (U. Drepper)
/// describes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ThreadPlace {
    /// An offset that is read at run time (initial-exec).
    Slot {
        /// The address, as linked, of the word that holds the offset from the thread pointer.
        slot: u64,
        /// Bytes that are added to it.
        plus: i64,
    },
    /// Its offset from the thread pointer (local-exec, in static programs).
    Offset(i64),
}

impl ThreadPlace {
    /// The place so many bytes behind this one.
    pub(super) fn plus(self, bytes: u64) -> ThreadPlace {
        match self {
            ThreadPlace::Slot { slot, plus } => ThreadPlace::Slot { slot, plus: plus.wrapping_add_unsigned(bytes) },
            ThreadPlace::Offset(offset) => ThreadPlace::Offset(offset.wrapping_add_unsigned(bytes)),
        }
    }

    /// Bytes from another place to this one, modulo 2^64, if that is known.
    pub(super) fn bytes_from(self, other: ThreadPlace) -> Option<u64> {
        match (self, other) {
            (ThreadPlace::Slot { slot, plus }, ThreadPlace::Slot { slot: other_slot, plus: other }) => {
                (slot == other_slot).then_some(plus.wrapping_sub(other).cast_unsigned())
            }
            (ThreadPlace::Offset(offset), ThreadPlace::Offset(other)) => {
                Some(offset.wrapping_sub(other).cast_unsigned())
            }
            _ => None,
        }
    }
}

/// A place that is found by a thread's storage.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Place {
    /// In the storage itself.
    Thread(ThreadPlace),
    /// So many bytes behind what the word there, as it was at the entry, points to.
    Behind { pointer: ThreadPlace, offset: u64 },
}

impl Place {
    pub(super) fn plus(self, bytes: u64) -> Place {
        match self {
            Place::Thread(place) => Place::Thread(place.plus(bytes)),
            Place::Behind { pointer, offset } => Place::Behind { pointer, offset: offset.wrapping_add(bytes) },
        }
    }

    /// Whether so many bytes here and so many there are known to have none in common.
    pub(super) fn is_apart(self, bytes: u64, other: Place, other_bytes: u64) -> bool {
        let distance = match (self, other) {
            (Place::Thread(here), Place::Thread(there)) => there.bytes_from(here),
            (Place::Behind { pointer, offset }, Place::Behind { pointer: other_pointer, offset: other_offset })
                if pointer == other_pointer =>
            {
                Some(other_offset.wrapping_sub(offset))
            }
            _ => None,
        };
        distance.is_some_and(|distance| distance >= bytes && distance.wrapping_neg() >= other_bytes)
    }
}
