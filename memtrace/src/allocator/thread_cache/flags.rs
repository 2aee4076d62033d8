//! What is known of the flags, which conditions hold by it, and what is known of values where a condition holds.

use iced_x86::ConditionCode;

use super::{
    place::Place,
    value::{Value, mask},
};

/// What is known of the flags.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Flags {
    Unknown,
    /// All that conditions ask for but parity.
    Known {
        zero: bool,
        carry: bool,
        sign: bool,
        overflow: bool,
    },
    /// The flags are those of a comparison of these two values.
    Compared(Value, Value),
}

/// What is known where a branch went one way.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Fact {
    Equal(Value, Value),
    Different(Value, Value),
    /// As numbers without a sign.
    Below(Value, Value),
    NotBelow(Value, Value),
    /// Something that is not modelled.
    Other,
}

impl Fact {
    fn below(left: Value, right: Value, holds: bool) -> Fact {
        match (left, holds) {
            (Value::Number(0), _) => Fact::equal(right, left, !holds),
            (_, true) => Fact::Below(left, right),
            (_, false) => Fact::NotBelow(left, right),
        }
    }

    fn equal(left: Value, right: Value, holds: bool) -> Fact {
        if holds { Fact::Equal(left, right) } else { Fact::Different(left, right) }
    }

    /// The fact with its two values exchanged.
    pub(super) fn swapped(self) -> Fact {
        match self {
            Fact::Equal(left, right) => Fact::Equal(right, left),
            Fact::Different(left, right) => Fact::Different(right, left),
            fact => fact,
        }
    }
}

impl Flags {
    /// After a logical operation.
    pub(super) fn of_logic(result: u64, bits: u32) -> Flags {
        Flags::Known { zero: result & mask(bits) == 0, carry: false, sign: is_negative(result, bits), overflow: false }
    }

    pub(super) fn of_sum(left: u64, right: u64, bits: u32) -> Flags {
        let result = left.wrapping_add(right) & mask(bits);
        Flags::Known {
            zero: result == 0,
            carry: result < left & mask(bits),
            sign: is_negative(result, bits),
            overflow: is_negative(!(left ^ right) & (left ^ result), bits),
        }
    }

    pub(super) fn of_difference(left: u64, right: u64, bits: u32) -> Flags {
        let result = left.wrapping_sub(right) & mask(bits);
        Flags::Known {
            zero: result == 0,
            carry: left & mask(bits) < right & mask(bits),
            sign: is_negative(result, bits),
            overflow: is_negative((left ^ right) & (left ^ result), bits),
        }
    }

    /// After values were compared that are not both numbers.
    pub(super) fn compared(left: Value, right: Value) -> Flags {
        match (left, right) {
            (Value::Content { .. }, Value::Number(0)) => Flags::Compared(left, right),
            (left, right) if is_found(left) && is_found(right) => Flags::Compared(left, right),
            _ => Flags::Unknown,
        }
    }

    /// Whether the condition holds, if that is known.
    pub(super) fn holds(self, condition: ConditionCode) -> Option<bool> {
        let Flags::Known { zero, carry, sign, overflow } = self else { return None };
        Some(match condition {
            ConditionCode::o => overflow,
            ConditionCode::no => !overflow,
            ConditionCode::b => carry,
            ConditionCode::ae => !carry,
            ConditionCode::e => zero,
            ConditionCode::ne => !zero,
            ConditionCode::be => carry || zero,
            ConditionCode::a => !carry && !zero,
            ConditionCode::s => sign,
            ConditionCode::ns => !sign,
            ConditionCode::l => sign != overflow,
            ConditionCode::ge => sign == overflow,
            ConditionCode::le => zero || sign != overflow,
            ConditionCode::g => !zero && sign == overflow,
            _ => return None,
        })
    }

    /// What is known where the condition holds, or where it does not.
    pub(super) fn tell(self, condition: ConditionCode, holds: bool) -> Fact {
        let Flags::Compared(left, right) = self else { return Fact::Other };
        match condition {
            ConditionCode::b => Fact::below(left, right, holds),
            ConditionCode::ae => Fact::below(left, right, !holds),
            ConditionCode::a => Fact::below(right, left, holds),
            ConditionCode::be => Fact::below(right, left, !holds),
            ConditionCode::e => Fact::equal(left, right, holds),
            ConditionCode::ne => Fact::equal(left, right, !holds),
            _ => Fact::Other,
        }
    }
}

/// Whether it is, or comes of, something that is found by the thread's storage.
fn is_found(value: Value) -> bool {
    matches!(
        value,
        Value::Content { .. } | Value::LowBits(_) | Value::Sum { .. } | Value::Address(Place::Behind { .. })
    )
}

fn is_negative(number: u64, bits: u32) -> bool {
    number >> bits.saturating_sub(1).min(63) & 1 != 0
}
