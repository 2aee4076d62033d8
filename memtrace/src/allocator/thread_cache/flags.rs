//! What is known of the flags, and which conditions hold by it.

use iced_x86::ConditionCode;

use super::value::{Value, mask};

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
    /// They are those of a comparison of this value, a count or a block, with zero.
    Against0(Value),
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

    /// After a value was compared with zero.
    pub(super) fn against_0(value: Value) -> Flags {
        match value {
            Value::Count { .. } | Value::First { .. } => Flags::Against0(value),
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

    /// What a branch on the condition tells of the value that was compared with zero: whether it is zero.
    pub(super) fn tell(self, condition: ConditionCode, holds: bool) -> Option<(Value, bool)> {
        let Flags::Against0(value) = self else { return None };
        match condition {
            ConditionCode::e | ConditionCode::be => Some((value, holds)),
            ConditionCode::ne | ConditionCode::a => Some((value, !holds)),
            _ => None,
        }
    }
}

fn is_negative(number: u64, bits: u32) -> bool {
    number >> bits.saturating_sub(1).min(63) & 1 != 0
}
