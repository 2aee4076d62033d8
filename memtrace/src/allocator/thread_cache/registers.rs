//! The general-purpose registers of the machine.

use iced_x86::Register;

use super::value::{Value, bits_of, mask};

/// What is known of each of the 16 registers.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Registers([Value; 16]);

impl Registers {
    pub(super) fn unknown() -> Registers {
        Registers([Value::Unknown; 16])
    }

    /// What a register, or a part of one, holds.
    pub(super) fn read(&self, register: Register) -> Value {
        let held = cell(register).and_then(|cell| self.0.get(cell)).copied().unwrap_or(Value::Unknown);
        if is_second_byte(register) {
            return held.number().map_or(Value::Unknown, |number| Value::Number(number >> 8 & 0xff));
        }
        held.low(bits_of(register.size()))
    }

    /// Puts a value into a register: into half of it with zeros above, or into less with the rest left as it is.
    pub(super) fn write(&mut self, register: Register, value: Value) {
        let Some(held) = cell(register).and_then(|cell| self.0.get_mut(cell)) else { return };
        let bits = bits_of(register.size());
        *held = match (*held, value) {
            (_, value) if bits >= 32 => value.low(bits),
            (Value::Number(old), Value::Number(new)) if !is_second_byte(register) => {
                Value::Number(old & !mask(bits) | new & mask(bits))
            }
            _ => Value::Unknown,
        };
    }

    /// Replaces a value wherever it is held.
    pub(super) fn replace(&mut self, old: Value, new: Value) {
        self.0.iter_mut().filter(|held| **held == old).for_each(|held| *held = new);
    }
}

/// Which of the 16 registers this is, or is a part of.
fn cell(register: Register) -> Option<usize> {
    register.is_gpr().then(|| register.full_register().number())
}

fn is_second_byte(register: Register) -> bool {
    matches!(register, Register::AH | Register::BH | Register::CH | Register::DH)
}
