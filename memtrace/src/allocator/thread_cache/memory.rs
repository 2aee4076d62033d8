//! What is known of memory: all of it is as it was at the entry, but for what was written since.

use super::{
    place::{Place, ThreadPlace},
    value::Value,
};

/// Something that was written, not to the stack.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Write {
    /// Where, unless that is unknown.
    pub(super) place: Option<Place>,
    pub(super) bytes: u64,
    pub(super) value: Value,
}

/// What was read and written so far, each in the order of the last time.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Memory {
    /// What the first byte that is read at a known address is taken to be.
    byte: Option<u64>,
    /// The address of that byte.
    byte_at: Option<u64>,
    reads: Vec<(Place, u64)>,
    writes: Vec<Write>,
}

impl Memory {
    pub(super) fn at_entry(byte: Option<u64>) -> Memory {
        Memory { byte, byte_at: None, reads: Vec::new(), writes: Vec::new() }
    }

    /// The address, as linked, of the first byte that was read at a known address.
    pub(super) fn byte_at(&self) -> Option<u64> {
        self.byte_at
    }

    /// What was read by the thread's storage: places and bytes.
    pub(super) fn reads(&self) -> &[(Place, u64)] {
        &self.reads
    }

    pub(super) fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// What is found in so many bytes at an address.
    pub(super) fn load(&self, address: Value, bytes: u64) -> Value {
        match (address, bytes) {
            // Tables and what the linker fills do not change in the meantime.
            (Value::Number(address), 8) => Value::Word { slot: address, plus: 0 },
            (Value::Number(address), 1) if self.byte_at.is_none_or(|first| first == address) => {
                self.byte.map_or(Value::Unknown, Value::Number)
            }
            // The thread pointer points to itself, so that programs can load it.
            (Value::Address(Place::Thread(ThreadPlace::Offset(0))), 8) => address,
            (Value::Address(place), _) if !self.is_as_at_entry(place, bytes) => Value::Unknown,
            (Value::Address(Place::Thread(place)), 8) => Value::held_at(place),
            (Value::Address(at @ Place::Behind { .. }), 8) => Value::Content { at, bytes },
            (Value::Address(at), 1 | 2) => Value::Content { at, bytes },
            _ => Value::Unknown,
        }
    }

    fn is_as_at_entry(&self, place: Place, bytes: u64) -> bool {
        let is_apart = |write: &Write| write.place.is_some_and(|other| other.is_apart(write.bytes, place, bytes));
        self.writes.iter().all(is_apart)
    }

    /// Remembers that something was read.
    pub(super) fn note_read(&mut self, address: Value, bytes: u64) {
        match address {
            Value::Number(address) if bytes == 1 => {
                self.byte_at.get_or_insert(address);
            }
            Value::Address(place) => put_last(&mut self.reads, (place, bytes)),
            _ => {}
        }
    }

    /// Remembers that something was written.
    pub(super) fn note_write(&mut self, address: Value, bytes: u64, value: Value) {
        let place = match address {
            Value::Stack => return,
            // It is not known of all instructions how much they write.
            Value::Address(place) if bytes != 0 => Some(place),
            _ => None,
        };
        put_last(&mut self.writes, Write { place, bytes, value });
    }
}

/// Adds an item, or moves it to the end: so a loop that does the same again comes back to what was known before.
fn put_last<T: PartialEq>(items: &mut Vec<T>, item: T) {
    items.retain(|other| *other != item);
    items.push(item);
}
