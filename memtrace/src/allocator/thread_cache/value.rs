//! What is known of a word while the code of `malloc` is run on an argument alone.

use super::CachePointer;

/// What is known of a word.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Value {
    /// Nothing.
    Unknown,
    /// It is this number.
    Number(u64),
    /// It is the word that is found at this address, as linked.
    Word(u64),
    /// It is the address of a place in the thread's storage, which may be where the pointer to the cache is.
    Thread(CachePointer),
    /// It is the address of a byte of what the pointer there points to, which may be the cache.
    Cache { pointer: CachePointer, offset: u64 },
    /// It is the number of blocks in the bin of the size asked for, if this is the cache; read from so many bytes.
    Count { pointer: CachePointer, bytes: u64 },
    /// It is the word at this offset of the cache, as it was at the entry: a bin's first block.
    First { pointer: CachePointer, offset: u64 },
    /// It is the address of something in the caller's or our own frame.
    Stack,
}

impl Value {
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
            (Value::Cache { pointer, offset }, Value::Number(number))
            | (Value::Number(number), Value::Cache { pointer, offset }) => {
                Value::Cache { pointer, offset: offset.wrapping_add(number) }
            }
            (Value::Thread(CachePointer::Offset(offset)), Value::Number(number))
            | (Value::Number(number), Value::Thread(CachePointer::Offset(offset))) => {
                Value::Thread(CachePointer::Offset(offset.wrapping_add_unsigned(number)))
            }
            (Value::Thread(CachePointer::Offset(0)), Value::Word(slot))
            | (Value::Word(slot), Value::Thread(CachePointer::Offset(0))) => Value::Thread(CachePointer::Slot(slot)),
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
            // Counts are extended when they are read: the bits above make no difference to whether it is zero.
            Value::Count { bytes, .. } if u64::from(bits) >= 8 * bytes => self,
            value if bits == 64 => value,
            _ => Value::Unknown,
        }
    }

    /// Its lowest bits with the highest of them repeated above.
    pub(super) fn sign_extended(self, bits: u32) -> Value {
        match self.low(bits) {
            Value::Number(number) => Value::Number(sign_extended(number, bits)),
            value => value,
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
