//! A machine that runs the code of `malloc` on an argument alone.
//!
//! In: one instruction after the other. Out: where control goes, and in the end what is returned, what was read and written,
//! and what decided the way. What is known of a word is a [`Value`]; a branch that depends on what is not known goes both
//! ways. What an instruction that is not modelled writes is unknown from there on, and a call is the end of what is seen:
//! then nothing is found, which is safe.

use iced_x86::{
    ConditionCode, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register, UsedMemory,
};

use super::{
    flags::{Fact, Flags},
    memory::Memory,
    place::{Place, ThreadPlace},
    registers::Registers,
    value::{Value, bits_of, sign_extended},
};

/// What follows an instruction.
pub(super) enum Next {
    /// The instruction that the path is at now.
    Onward,
    /// The instruction that the path is at now, or, by the other way of a branch, the one that this other path is at.
    Either(Box<Path>),
    /// The function ends.
    Returns,
    /// What is not known: something is called, or stands outside of the code.
    OutOfSight,
}

/// How far a call has come on one of its ways, and what is known there.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Path {
    address: u64,
    registers: Registers,
    flags: Flags,
    memory: Memory,
    /// What decided which way it is, each once.
    facts: Vec<Fact>,
}

impl Path {
    /// `byte` is what the first byte is taken to be that is read at a known address.
    pub(super) fn at_entry(address: u64, size: u64, byte: Option<u64>) -> Path {
        let mut registers = Registers::unknown();
        registers.write(Register::RDI, Value::Number(size));
        registers.write(Register::RSP, Value::Stack);
        Path { address, registers, flags: Flags::Unknown, memory: Memory::at_entry(byte), facts: Vec::new() }
    }

    /// The address of the next instruction.
    pub(super) fn address(&self) -> u64 {
        self.address
    }

    /// What the function returns, if the path is at its end.
    pub(super) fn result(&self) -> Value {
        self.registers.read(Register::RAX)
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(super) fn facts(&self) -> &[Fact] {
        &self.facts
    }

    /// Runs the instruction that the path is at.
    pub(super) fn step(&mut self, instruction: &Instruction, information: &mut InstructionInfoFactory) -> Next {
        let information = information.info(instruction);
        let places: Vec<_> = information
            .used_memory()
            .iter()
            .map(|memory| (self.used_place(memory), memory.memory_size().size() as u64, memory.access()))
            .collect();
        self.address = instruction.next_ip();
        let mut stored = Value::Unknown;
        let next = match instruction.flow_control() {
            FlowControl::Next => {
                if let Some(result) = self.run(instruction) {
                    stored = result;
                } else {
                    let written = information.used_registers().iter().filter(|used| is_write(used.access()));
                    written.for_each(|used| self.registers.write(used.register().full_register(), Value::Unknown));
                    if instruction.rflags_modified() != 0 {
                        self.flags = Flags::Unknown;
                    }
                }
                Next::Onward
            }
            FlowControl::UnconditionalBranch if instruction.op0_kind() == OpKind::NearBranch64 => {
                self.address = instruction.near_branch_target();
                Next::Onward
            }
            FlowControl::ConditionalBranch if instruction.is_jcc_short_or_near() => self.branch(instruction),
            FlowControl::Return => Next::Returns,
            _ => Next::OutOfSight,
        };
        let is_repeated = instruction.has_rep_prefix() || instruction.has_repne_prefix();
        for (place, bytes, access) in places {
            if matches!(access, OpAccess::Read | OpAccess::ReadWrite) {
                self.memory.note_read(place, bytes);
            }
            if is_write(access) {
                self.memory.note_write(place, if is_repeated { 0 } else { bytes }, stored);
            }
        }
        next
    }

    /// Goes on behind a conditional branch, at its target, or both.
    fn branch(&mut self, instruction: &Instruction) -> Next {
        let (condition, target) = (instruction.condition_code(), instruction.near_branch_target());
        match self.flags.holds(condition) {
            Some(true) => self.address = target,
            Some(false) => {}
            None => {
                let mut taken = self.clone();
                taken.address = target;
                taken.learn(self.flags.tell(condition, true));
                self.learn(self.flags.tell(condition, false));
                return Next::Either(Box::new(taken));
            }
        }
        Next::Onward
    }

    /// Remembers what decided the way.
    fn learn(&mut self, fact: Fact) {
        if let Fact::Equal(value, number @ Value::Number(_)) = fact {
            self.registers.replace(value, number);
        }
        if !self.facts.contains(&fact) {
            self.facts.push(fact);
        }
    }

    /// Runs an instruction that is modelled, and says what it leaves in its first operand.
    fn run(&mut self, instruction: &Instruction) -> Option<Value> {
        let (to, from) = (instruction.op0_register(), self.operand(instruction, 1));
        let result = match instruction.mnemonic() {
            Mnemonic::Mov | Mnemonic::Movzx => from,
            Mnemonic::Movsx | Mnemonic::Movsxd => from.sign_extended(width(instruction, 1)),
            Mnemonic::Lea => self.address_of_operand(instruction),
            // What is left on the stack is not remembered.
            Mnemonic::Push => return Some(Value::Unknown),
            Mnemonic::Pop => Value::Unknown,
            Mnemonic::Add
            | Mnemonic::Sub
            | Mnemonic::Cmp
            | Mnemonic::And
            | Mnemonic::Or
            | Mnemonic::Xor
            | Mnemonic::Test
            | Mnemonic::Shl
            | Mnemonic::Shr
            | Mnemonic::Sar => return Some(self.calculate(instruction)),
            _ if is_conditional_move(instruction) => match self.flags.holds(instruction.condition_code()) {
                Some(true) => from,
                // Which makes the upper half zero.
                Some(false) => self.registers.read(to),
                None => Value::Unknown,
            },
            _ => return None,
        };
        self.registers.write(to, result);
        Some(result)
    }

    /// Runs an instruction that calculates something of its first two operands and leaves it in the first one.
    fn calculate(&mut self, instruction: &Instruction) -> Value {
        let bits = width(instruction, 0);
        let (left, right) = (self.operand(instruction, 0), self.operand(instruction, 1).low(bits));
        let is_itself = instruction.op1_kind() == OpKind::Register
            && instruction.op0_kind() == OpKind::Register
            && instruction.op0_register() == instruction.op1_register();
        let numbers = left.number().zip(right.number());
        let known = |flags: fn(u64, u64, u32) -> Flags| numbers.map(|(left, right)| flags(left, right, bits));
        let logic = |result: Value| result.number().map(|result| Flags::of_logic(result, bits));
        let (result, flags) = match instruction.mnemonic() {
            Mnemonic::Xor | Mnemonic::Sub if is_itself => (Value::Number(0), Some(Flags::of_logic(0, bits))),
            Mnemonic::Add => (left.plus(right), known(Flags::of_sum)),
            Mnemonic::Sub | Mnemonic::Cmp if numbers.is_none() => {
                (left.minus(right), Some(Flags::compared(left, right)))
            }
            Mnemonic::Sub | Mnemonic::Cmp => (left.minus(right), known(Flags::of_difference)),
            Mnemonic::And | Mnemonic::Test if left == right && numbers.is_none() => {
                (left, Some(Flags::compared(left, Value::Number(0))))
            }
            Mnemonic::And | Mnemonic::Test => (left.and(right), logic(left.and(right))),
            mnemonic => {
                let result = numbers.and_then(|(left, right)| combine(mnemonic, left, right, bits));
                let result = result.map_or(Value::Unknown, Value::Number);
                let is_shift = matches!(mnemonic, Mnemonic::Shl | Mnemonic::Shr | Mnemonic::Sar);
                (result, if is_shift { None } else { logic(result) })
            }
        };
        self.flags = flags.unwrap_or(Flags::Unknown);
        if !matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test) {
            self.registers.write(instruction.op0_register(), result);
        }
        result
    }

    /// What an operand, the first (0) or the second one, holds.
    fn operand(&self, instruction: &Instruction, operand: u32) -> Value {
        match instruction.try_op_kind(operand) {
            Ok(OpKind::Register) => self.registers.read(instruction.try_op_register(operand).unwrap_or_default()),
            Ok(OpKind::Memory) => {
                let place = place(instruction.memory_segment(), self.address_of_operand(instruction));
                self.memory.load(place, instruction.memory_size().size() as u64)
            }
            _ => instruction.try_immediate(operand).map_or(Value::Unknown, Value::Number),
        }
    }

    /// The address of the operand in memory, without its segment.
    fn address_of_operand(&self, instruction: &Instruction) -> Value {
        let base = match instruction.memory_base() {
            // The displacement is the address.
            Register::RIP => Register::None,
            base => base,
        };
        let (index, scale) = (instruction.memory_index(), instruction.memory_index_scale());
        self.sum(base, index, scale, instruction.memory_displacement64())
    }

    /// The place of something that an instruction reads or writes, perhaps without an operand that says so.
    fn used_place(&self, memory: &UsedMemory) -> Value {
        let address = self.sum(memory.base(), memory.index(), memory.scale(), memory.displacement());
        place(memory.segment(), address)
    }

    fn sum(&self, base: Register, index: Register, scale: u32, displacement: u64) -> Value {
        let part = |register: Register| match register {
            Register::None => Value::Number(0),
            register if register.is_gpr64() => self.registers.read(register),
            _ => Value::Unknown,
        };
        part(base).plus(part(index).times(scale.into())).plus(Value::Number(displacement))
    }
}

/// The place at an address in a segment.
fn place(segment: Register, address: Value) -> Value {
    match (segment, address) {
        (Register::FS, Value::Number(offset)) => {
            Value::Address(Place::Thread(ThreadPlace::Offset(offset.cast_signed())))
        }
        (Register::FS, Value::Word { slot, plus }) => Value::Address(Place::Thread(ThreadPlace::Slot { slot, plus })),
        (Register::FS | Register::GS, _) => Value::Unknown,
        (_, address) => address,
    }
}

fn is_write(access: OpAccess) -> bool {
    !matches!(access, OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
}

fn is_conditional_move(instruction: &Instruction) -> bool {
    instruction.condition_code() != ConditionCode::None
        && instruction.op_count() == 2
        && instruction.op0_kind() == OpKind::Register
}

/// The width of an operand in bits.
fn width(instruction: &Instruction, operand: u32) -> u32 {
    match instruction.try_op_register(operand).unwrap_or_default() {
        Register::None => bits_of(instruction.memory_size().size()),
        register => bits_of(register.size()),
    }
}

/// The result of an operation on numbers of so many bits.
fn combine(operation: Mnemonic, left: u64, right: u64, bits: u32) -> Option<u64> {
    let places = u32::try_from(right & if bits == 64 { 63 } else { 31 }).ok()?;
    Some(match operation {
        Mnemonic::Or => left | right,
        Mnemonic::Xor => left ^ right,
        Mnemonic::Shl => left << places,
        Mnemonic::Shr => left >> places,
        Mnemonic::Sar => (sign_extended(left, bits).cast_signed() >> places).cast_unsigned(),
        _ => return None,
    })
}
