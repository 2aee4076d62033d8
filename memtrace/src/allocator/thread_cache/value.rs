//! What is known of a word while the code of `malloc` is run on an argument alone.

use super::place::{Place, ThreadPlace};

/// What is known of a word.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Value {
    /// Nothing.
    Unknown,
    /// It is this number.
    Number(u64),
    /// It is the word that is found at address `slot`, as linked, and `plus`.
    Word { slot: u64, plus: i64 },
    /// It is the address of this place. That behind a pointer is, without an offset, also what is found at the pointer.
    Address(Place),
    /// It is what is found at this place: a word of 8 bytes that is behind a pointer, or one of 1 or 2 bytes, extended.
    Content { at: Place, bytes: u64 },
    /// It is the lowest 16 bits of the address of this place.
    LowBits(Place),
    /// It is the sum of the word at a place in the thread's storage and the word at address `slot`, as linked.
    Sum { place: ThreadPlace, slot: u64 },
    /// It is the address of something in the caller's or our own frame.
    Stack,
}

impl Value {
    /// What is found at a place of the thread's storage.
    pub(super) fn held_at(pointer: ThreadPlace) -> Value {
        Value::Address(Place::Behind { pointer, offset: 0 })
    }

    pub(super) fn number(self) -> Option<u64> {
        match self {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    pub(super) fn plus(self, other: Value) -> Value {
        match (self, other) {
            (Value::Number(one), Value::Number(other)) => Value::Number(one.wrapping_add(other)),
            (value, Value::Number(0)) | (Value::Number(0), value) => value,
            (Value::Word { slot, plus }, Value::Number(number))
            | (Value::Number(number), Value::Word { slot, plus }) => {
                Value::Word { slot, plus: plus.wrapping_add_unsigned(number) }
            }
            (Value::Address(place), Value::Number(number)) | (Value::Number(number), Value::Address(place)) => {
                Value::Address(place.plus(number))
            }
            (Value::Address(Place::Thread(ThreadPlace::Offset(offset))), Value::Word { slot, plus })
            | (Value::Word { slot, plus }, Value::Address(Place::Thread(ThreadPlace::Offset(offset)))) => {
                Value::Address(Place::Thread(ThreadPlace::Slot { slot, plus: plus.wrapping_add(offset) }))
            }
            (Value::Address(Place::Behind { pointer, offset: 0 }), Value::Word { slot, plus: 0 })
            | (Value::Word { slot, plus: 0 }, Value::Address(Place::Behind { pointer, offset: 0 })) => {
                Value::Sum { place: pointer, slot }
            }
            (Value::Stack, Value::Number(_)) | (Value::Number(_), Value::Stack) => Value::Stack,
            _ => Value::Unknown,
        }
    }

    pub(super) fn minus(self, other: Value) -> Value {
        other.number().map_or(Value::Unknown, |number| self.plus(Value::Number(number.wrapping_neg())))
    }

    pub(super) fn times(self, factor: u64) -> Value {
        match self {
            Value::Number(number) => Value::Number(number.wrapping_mul(factor)),
            value if factor == 1 => value,
            _ => Value::Unknown,
        }
    }

    pub(super) fn and(self, other: Value) -> Value {
        match (self, other) {
            (Value::Number(one), Value::Number(other)) => Value::Number(one & other),
            // How a frame is aligned.
            (Value::Stack, Value::Number(_)) => Value::Stack,
            (one, other) if one == other => one,
            _ => Value::Unknown,
        }
    }

    /// Its lowest bits, of which there are 8, 16, 32 or 64, with zeros above.
    pub(super) fn low(self, bits: u32) -> Value {
        match self {
            Value::Number(number) => Value::Number(number & mask(bits)),
            Value::Content { bytes, .. } if u64::from(bits) >= 8 * bytes => self,
            Value::Address(place) if bits == 16 => Value::LowBits(place),
            Value::LowBits(_) if bits >= 16 => self,
            value if bits == 64 => value,
            _ => Value::Unknown,
        }
    }

    /// Its lowest bits with the highest of them repeated above.
    pub(super) fn sign_extended(self, bits: u32) -> Value {
        match self.low(bits) {
            Value::Number(number) => Value::Number(sign_extended(number, bits)),
            // The bits above make no difference to whether it is zero, and it is compared with nothing else.
            value @ Value::Content { at: Place::Behind { .. }, .. } => value,
            value if bits == 64 => value,
            _ => Value::Unknown,
        }
    }
}

/// So many lowest bits, 1 to 64.
pub(super) fn mask(bits: u32) -> u64 {
    u64::MAX >> 64_u32.saturating_sub(bits).min(63)
}

/// A number of so many bits, 1 to 64, as one of 64.
pub(super) fn sign_extended(number: u64, bits: u32) -> u64 {
    let unused = 64_u32.saturating_sub(bits).min(63);
    ((number << unused).cast_signed() >> unused).cast_unsigned()
}

/// The width of so many bytes in bits, 8 to 64.
pub(super) fn bits_of(bytes: usize) -> u32 {
    u32::try_from(bytes).map_or(64, |bytes| bytes.saturating_mul(8)).clamp(8, 64)
}
