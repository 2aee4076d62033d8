//! A machine that runs the code of `malloc` on an argument alone.
//!
//! In: one instruction after the other. Out: where control goes, and in the end what was taken from a cache. What is known
//! of a word is a [`Value`]; a branch that depends on what is not known goes both ways. What an instruction that is not
//! modelled writes is unknown from there on, and a call is the end of what is seen: then nothing is found, which is safe.

use iced_x86::{
    ConditionCode, FlowControl, Instruction, InstructionInfoFactory, MemorySize, Mnemonic, OpAccess, OpKind, Register,
    UsedMemory,
};

use super::{
    CachePointer,
    flags::Flags,
    registers::Registers,
    value::{Value, bits_of, sign_extended},
};

/// A size that `malloc` is asked for, and the bin of its blocks.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Request {
    pub(super) size: u64,
    pub(super) bin: u64,
}

/// What `malloc` took from a cache.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Taken {
    pub(super) pointer: CachePointer,
    /// Where in the cache the block was the first of its bin.
    pub(super) offset: u64,
    /// The size of the bin's count.
    pub(super) count_bytes: u64,
}

/// What follows an instruction.
pub(super) enum Next {
    /// The instruction that the path is at now.
    Onward,
    /// That one, or the one that this other path is at.
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
    bin: u64,
    registers: Registers,
    flags: Flags,
    /// Something was written that may be the cache or the pointer to it: what is read from now on may be new.
    written: bool,
    /// The cache of which this bin's count was read, and of how many bytes it is.
    counted: Option<(CachePointer, u64)>,
    /// What was last found not to be zero.
    not_zero: Option<Value>,
    /// The word of the cache that was last replaced.
    replaced: Option<(CachePointer, u64)>,
}

impl Path {
    pub(super) fn at_entry(address: u64, request: Request) -> Path {
        let mut path = Path {
            address,
            bin: request.bin,
            registers: Registers::unknown(),
            flags: Flags::Unknown,
            written: false,
            counted: None,
            not_zero: None,
            replaced: None,
        };
        path.registers.write(Register::RDI, Value::Number(request.size));
        path.registers.write(Register::RSP, Value::Stack);
        path
    }

    /// The address of the next instruction.
    pub(super) fn address(&self) -> u64 {
        self.address
    }

    /// Whether the result is a word that was read from a cache.
    pub(super) fn returns_from_cache(&self) -> bool {
        matches!(self.registers.read(Register::RAX), Value::First { .. })
    }

    /// What the path took from a cache and returns, if it is seen to have done all that this takes.
    pub(super) fn taken(&self) -> Option<Taken> {
        let Value::First { pointer, offset } = self.registers.read(Register::RAX) else { return None };
        let (_, bytes) = self.counted.filter(|(counted, _)| *counted == pointer)?;
        let not_empty = [Value::Count { pointer, bytes }, Value::First { pointer, offset }];
        let is_taken =
            self.not_zero.is_some_and(|value| not_empty.contains(&value)) && self.replaced == Some((pointer, offset));
        is_taken.then_some(Taken { pointer, offset, count_bytes: bytes })
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
        let next = match instruction.flow_control() {
            FlowControl::Next => {
                if !self.run(instruction) {
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
        for (place, bytes, access) in places {
            self.touch(place, bytes, access);
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

    /// Remembers whether a value is zero.
    fn learn(&mut self, told: Option<(Value, bool)>) {
        match told {
            Some((value, true)) => self.registers.replace(value, Value::Number(0)),
            Some((value, false)) => self.not_zero = Some(value),
            None => {}
        }
    }

    /// Runs an instruction that is modelled, or says that it is not.
    fn run(&mut self, instruction: &Instruction) -> bool {
        let (to, from) = (instruction.op0_register(), || self.operand(instruction, 1));
        match instruction.mnemonic() {
            Mnemonic::Mov | Mnemonic::Movzx => self.registers.write(to, from()),
            Mnemonic::Movsx | Mnemonic::Movsxd => self.registers.write(to, from().sign_extended(width(instruction, 1))),
            Mnemonic::Lea => self.registers.write(to, self.address_of_operand(instruction)),
            Mnemonic::Push => {}
            Mnemonic::Pop => self.registers.write(to, Value::Unknown),
            Mnemonic::Add
            | Mnemonic::Sub
            | Mnemonic::Cmp
            | Mnemonic::And
            | Mnemonic::Or
            | Mnemonic::Xor
            | Mnemonic::Test
            | Mnemonic::Shl
            | Mnemonic::Shr
            | Mnemonic::Sar => self.calculate(instruction),
            _ if is_conditional_move(instruction) => match self.flags.holds(instruction.condition_code()) {
                Some(true) => self.registers.write(to, from()),
                // Which makes the upper half zero.
                Some(false) => self.registers.write(to, self.registers.read(to)),
                None => self.registers.write(to, Value::Unknown),
            },
            _ => return false,
        }
        true
    }

    /// Runs an instruction that calculates something of its first two operands and leaves it in the first one.
    fn calculate(&mut self, instruction: &Instruction) {
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
            Mnemonic::Sub | Mnemonic::Cmp if right == Value::Number(0) && numbers.is_none() => {
                (left, Some(Flags::against_0(left)))
            }
            Mnemonic::Sub | Mnemonic::Cmp => (left.minus(right), known(Flags::of_difference)),
            Mnemonic::And | Mnemonic::Test if left == right && numbers.is_none() => {
                (left, Some(Flags::against_0(left)))
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
    }

    /// What an operand, the first (0) or the second one, holds.
    fn operand(&self, instruction: &Instruction, operand: u32) -> Value {
        match instruction.try_op_kind(operand) {
            Ok(OpKind::Register) => self.registers.read(instruction.try_op_register(operand).unwrap_or_default()),
            Ok(OpKind::Memory) => {
                let place = place(instruction.memory_segment(), self.address_of_operand(instruction));
                self.load(place, instruction.memory_size())
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

    /// What is found at an address.
    fn load(&self, place: Value, size: MemorySize) -> Value {
        let bytes = size.size() as u64;
        match (place, bytes) {
            (Value::Number(address), 8) => Value::Word(address),
            _ if self.written => Value::Unknown,
            // The thread pointer points to itself, so that programs can load it.
            (Value::Thread(CachePointer::Offset(0)), 8) => place,
            (Value::Thread(pointer), 8) => Value::Cache { pointer, offset: 0 },
            (Value::Cache { pointer, offset }, 8) => Value::First { pointer, offset },
            (Value::Cache { pointer, .. }, _) if self.is_count(place, bytes) => Value::Count { pointer, bytes },
            _ => Value::Unknown,
        }
    }

    /// Whether counts of so many bytes would have that of this bin there.
    fn is_count(&self, place: Value, bytes: u64) -> bool {
        let offset = self.bin.wrapping_mul(bytes);
        matches!(bytes, 1 | 2) && matches!(place, Value::Cache { offset: at, .. } if at == offset)
    }

    /// Remembers what was read or written.
    fn touch(&mut self, place: Value, bytes: u64, access: OpAccess) {
        let is_count = self.is_count(place, bytes);
        if let Value::Cache { pointer, .. } = place
            && matches!(access, OpAccess::Read | OpAccess::ReadWrite)
            && is_count
        {
            self.counted = Some((pointer, bytes));
        }
        if is_write(access) && place != Value::Stack && !is_count {
            self.written = true;
            if let Value::Cache { pointer, offset } = place
                && bytes == 8
            {
                self.replaced = Some((pointer, offset));
            }
        }
    }
}

/// The place at an address in a segment.
fn place(segment: Register, address: Value) -> Value {
    match (segment, address) {
        (Register::FS, Value::Number(offset)) => Value::Thread(CachePointer::Offset(offset.cast_signed())),
        (Register::FS, Value::Word(slot)) => Value::Thread(CachePointer::Slot(slot)),
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
