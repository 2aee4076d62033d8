//! Where a function gets the thread's state from: CPython's short functions that return a thread-local variable, decoded. Their names
//! are exported; the variables are not.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use crate::runtime::thread_local::Variable;

/// The most instructions that are looked at: such a function has about ten.
const MAX_INSTRUCTIONS: usize = 24;

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Unknown,
    /// The thread pointer and so much.
    Thread(i64),
    /// This address, as linked.
    Address(u64),
    /// The word at this address.
    WordAt(u64),
    /// The address of a variable, and so much.
    Place(Variable),
    /// What stands at a variable.
    Loaded(Variable),
}

/// The variable that the function with this code, at `address` as linked, returns; `None` if it does something else.
pub fn variable(code: &[u8], address: u64) -> Option<Variable> {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    // The results of a call and its first argument are all that matters.
    let (mut rax, mut rdi) = (Value::Unknown, Value::Unknown);
    for _ in 0..MAX_INSTRUCTIONS {
        if !decoder.can_decode() {
            return None;
        }
        let instruction = decoder.decode();
        match instruction.mnemonic() {
            Mnemonic::Endbr64 | Mnemonic::Nop | Mnemonic::Push | Mnemonic::Pop | Mnemonic::Leave => {}
            Mnemonic::Sub | Mnemonic::Add if instruction.op0_register() == Register::RSP => {}
            Mnemonic::Add if instruction.op0_register() == Register::RAX => {
                rax = added(rax, &instruction);
            }
            Mnemonic::Lea => {
                let value = if instruction.is_ip_rel_memory_operand() {
                    Value::Address(instruction.ip_rel_memory_address())
                } else {
                    moved(register(instruction.memory_base(), rax, rdi), &instruction)
                };
                set(instruction.op0_register(), value, &mut rax, &mut rdi);
            }
            Mnemonic::Mov if instruction.op0_kind() == OpKind::Register => {
                let value = match instruction.op1_kind() {
                    OpKind::Register => register(instruction.op1_register(), rax, rdi),
                    OpKind::Memory => loaded(&instruction, rax, rdi),
                    _ => Value::Unknown,
                };
                set(instruction.op0_register(), value, &mut rax, &mut rdi);
            }
            // `__tls_get_addr` takes the address of the two words, and returns that of the variable.
            Mnemonic::Call => {
                let Value::Address(index) = rdi else { return None };
                (rax, rdi) = (Value::Place(Variable::Module { index, plus: 0 }), Value::Unknown);
            }
            Mnemonic::Ret => {
                let Value::Loaded(variable) = rax else { return None };
                return Some(variable);
            }
            _ => return None,
        }
    }
    None
}

fn register(register: Register, rax: Value, rdi: Value) -> Value {
    match register {
        Register::RAX => rax,
        Register::RDI => rdi,
        _ => Value::Unknown,
    }
}

fn set(register: Register, value: Value, rax: &mut Value, rdi: &mut Value) {
    match register {
        Register::RAX => *rax = value,
        Register::RDI => *rdi = value,
        _ => {}
    }
}

/// An address and the displacement of an operand.
fn moved(value: Value, instruction: &Instruction) -> Value {
    if instruction.memory_index() != Register::None {
        return Value::Unknown;
    }
    let by = instruction.memory_displacement64().cast_signed();
    match value {
        Value::Thread(offset) => Value::Thread(offset.wrapping_add(by)),
        Value::Place(Variable::Module { index, plus }) => {
            Value::Place(Variable::Module { index, plus: plus.wrapping_add(by) })
        }
        _ => Value::Unknown,
    }
}

/// `add` to the register of results: the thread pointer to an offset, or the other way around.
fn added(rax: Value, instruction: &Instruction) -> Value {
    let is_thread_pointer = instruction.op1_kind() == OpKind::Memory
        && instruction.memory_segment() == Register::FS
        && instruction.memory_base() == Register::None
        && instruction.memory_displacement64() == 0;
    match rax {
        Value::WordAt(address) if is_thread_pointer => Value::Place(Variable::OffsetAt(address)),
        Value::Thread(0) if instruction.op1_kind() == OpKind::Memory && instruction.is_ip_rel_memory_operand() => {
            Value::Place(Variable::OffsetAt(instruction.ip_rel_memory_address()))
        }
        _ => Value::Unknown,
    }
}

/// The word at a memory operand.
fn loaded(instruction: &Instruction, rax: Value, rdi: Value) -> Value {
    if instruction.is_ip_rel_memory_operand() {
        return Value::WordAt(instruction.ip_rel_memory_address());
    }
    let displacement = instruction.memory_displacement64().cast_signed();
    let base = instruction.memory_base();
    if instruction.memory_segment() == Register::FS {
        return match register(base, rax, rdi) {
            _ if base == Register::None && displacement == 0 => Value::Thread(0),
            _ if base == Register::None => Value::Loaded(Variable::Offset(displacement)),
            Value::WordAt(address) if displacement == 0 => Value::Loaded(Variable::OffsetAt(address)),
            _ => Value::Unknown,
        };
    }
    match moved(register(base, rax, rdi), instruction) {
        Value::Thread(offset) => Value::Loaded(Variable::Offset(offset)),
        Value::Place(variable) => Value::Loaded(variable),
        // A variable whose place does not move has none added.
        _ => match register(base, rax, rdi) {
            Value::Place(variable @ Variable::OffsetAt(_)) if displacement == 0 => Value::Loaded(variable),
            _ => Value::Unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_variable_of_the_program_is_at_an_offset() {
        // endbr64; mov %fs:-0x18,%rax; ret
        let code = [0xf3, 0x0f, 0x1e, 0xfa, 0x64, 0x48, 0x8b, 0x04, 0x25, 0xe8, 0xff, 0xff, 0xff, 0xc3];
        assert_eq!(variable(&code, 0x1000), Some(Variable::Offset(-0x18)));
        // mov %fs:0,%rax; mov -0x20(%rax),%rax; ret
        let code = [0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0, 0x48, 0x8b, 0x40, 0xe0, 0xc3];
        assert_eq!(variable(&code, 0x1000), Some(Variable::Offset(-0x20)));
    }

    #[test]
    fn a_variable_of_a_library_is_found_by_a_call_or_by_an_offset_in_memory() {
        // sub $8,%rsp; data16 lea 0x100(%rip),%rdi; data16 data16 rex.W call; mov 8(%rax),%rax; add $8,%rsp; ret
        let code = [
            0x48, 0x83, 0xec, 0x08, 0x66, 0x48, 0x8d, 0x3d, 0x00, 0x01, 0x00, 0x00, 0x66, 0x66, 0x48, 0xe8, 0, 0, 0, 0,
            0x48, 0x8b, 0x40, 0x08, 0x48, 0x83, 0xc4, 0x08, 0xc3,
        ];
        let index = 0x1000 + 12 + 0x100;
        assert_eq!(variable(&code, 0x1000), Some(Variable::Module { index, plus: 8 }));
        // mov 0x100(%rip),%rax; mov %fs:(%rax),%rax; ret
        let code = [0x48, 0x8b, 0x05, 0x00, 0x01, 0x00, 0x00, 0x64, 0x48, 0x8b, 0x00, 0xc3];
        assert_eq!(variable(&code, 0x1000), Some(Variable::OffsetAt(0x1000 + 7 + 0x100)));
    }

    #[test]
    fn other_functions_are_none() {
        // mov $7,%eax; ret
        assert_eq!(variable(&[0xb8, 7, 0, 0, 0, 0xc3], 0), None);
        // jmp
        assert_eq!(variable(&[0xe9, 0, 0, 0, 0], 0), None);
        assert_eq!(variable(&[], 0), None);
        // A call without an argument that is known.
        assert_eq!(variable(&[0xe8, 0, 0, 0, 0, 0xc3], 0), None);
    }

    proptest! {
        #[test]
        fn any_code_is_a_variable_or_none(code in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = variable(&code, 0x1000);
        }
    }
}
