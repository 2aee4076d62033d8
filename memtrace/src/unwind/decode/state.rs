//! Where the stack and frame pointers stand, relative to the frame's canonical address (CFA), while code is followed.

use iced_x86::{
    Code, Instruction, InstructionInfoFactory, InstructionInfoOptions, Mnemonic, OpAccess, OpKind, Register,
};
use memtrace_common::unwind::{Cfa, FramePointer, Rule, Unsupported};

/// What a register is known to hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Value {
    /// Nothing that matters here.
    Other,
    /// 0, written by the code itself.
    Zero,
    /// The caller's frame pointer.
    CallersFp,
    /// The address this many bytes below the CFA.
    Below(i32),
}

const RSP: usize = 4;
const RBP: usize = 5;

/// Registers that a called function may change: rax, rcx, rdx, rsi, rdi and r8 to r11 (System V ABI for x86-64, figure 3.4).
const CALL_CLOBBERED: [usize; 9] = [0, 1, 2, 6, 7, 8, 9, 10, 11];

/// The return address, which the call has pushed.
const RETURN_ADDRESS_BYTES: i32 = 8;

/// The most bytes that a frame may have: what [`Cfa::Sp`] can say.
const MAX_FRAME_BYTES: i32 = 2 << 20;

/// What is known before an instruction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct State {
    registers: [Value; 16],
    /// How many bytes below the CFA the caller's frame pointer is saved; `None` if it is on no place that is known.
    saved_fp: Option<i32>,
}

impl State {
    /// What registers hold at a function's first instruction.
    pub const fn entry() -> State {
        let mut registers = [Value::Other; 16];
        registers[RSP] = Value::Below(RETURN_ADDRESS_BYTES);
        registers[RBP] = Value::CallersFp;
        State { registers, saved_fp: None }
    }

    /// What the stack pointer holds at this instruction.
    pub const fn sp(&self) -> Value {
        self.registers[RSP]
    }

    /// What the frame pointer holds at this instruction.
    pub const fn fp(&self) -> Value {
        self.registers[RBP]
    }

    /// How many bytes below the CFA the caller's frame pointer is saved.
    pub const fn saved_fp(&self) -> Option<i32> {
        self.saved_fp
    }

    /// Whether the function may return or jump to another one from here: nothing of its frame is left.
    pub fn is_at_entry(&self) -> bool {
        self.sp() == Value::Below(RETURN_ADDRESS_BYTES) && self.fp() == Value::CallersFp
    }

    /// Keeps what both know; returns whether this state knows less than before.
    pub fn meet(&mut self, other: &State) -> bool {
        let before = *self;
        for (mine, theirs) in self.registers.iter_mut().zip(other.registers) {
            if *mine != theirs {
                *mine = Value::Other;
            }
        }
        if self.saved_fp != other.saved_fp {
            self.saved_fp = None;
        }
        *self != before
    }

    /// How a frame that stands here is undone.
    pub fn rule(&self) -> Rule {
        let cfa = match (self.sp(), self.fp()) {
            // A frame as the ABI has it: whatever a called function may do with the stack pointer does not matter.
            (_, Value::Below(16)) if self.saved_fp == Some(16) => Cfa::Fp(16),
            (Value::Below(bytes), _) if bytes >= RETURN_ADDRESS_BYTES => Cfa::Sp(bytes),
            (_, Value::Below(bytes)) if bytes >= RETURN_ADDRESS_BYTES => Cfa::Fp(bytes),
            // The ABI's mark of the outermost frame (section 3.4.1), where the return address is gone as well.
            (_, Value::Zero) => return Rule::EndOfStack,
            _ => return Rule::Unsupported(Unsupported::CfaRegister),
        };
        let fp = match (self.fp(), self.saved_fp) {
            (Value::CallersFp, _) => FramePointer::Unchanged,
            (_, Some(bytes)) => FramePointer::AtCfa(-bytes),
            _ => return Rule::Unsupported(Unsupported::FramePointer),
        };
        Rule::Frame { cfa, fp }
    }

    fn value(&self, register: Register) -> Value {
        index(register).and_then(|index| self.registers.get(index)).copied().unwrap_or(Value::Other)
    }

    /// Sets a register of 64 bits.
    fn set(&mut self, register: Register, value: Value) {
        if let Some(held) = index(register).and_then(|index| self.registers.get_mut(index)) {
            *held = value;
        }
        if register == Register::RSP {
            // What lies below the stack pointer may be overwritten at any time.
            if let (Value::Below(sp), Some(saved)) = (value, self.saved_fp)
                && saved > sp
            {
                self.saved_fp = None;
            }
        }
    }

    /// How many bytes below the CFA a memory operand lies, if it is on the frame.
    fn slot(&self, instruction: &Instruction) -> Option<i32> {
        if instruction.memory_index() != Register::None || instruction.segment_prefix() != Register::None {
            return None;
        }
        let Value::Below(bytes) = self.value(instruction.memory_base()) else { return None };
        let displacement = i32::try_from(instruction.memory_displacement64() as i64).ok()?;
        bytes.checked_sub(displacement).filter(|bytes| bytes.abs() <= MAX_FRAME_BYTES)
    }

    fn loaded(&self, slot: Option<i32>) -> Value {
        if slot.is_some() && slot == self.saved_fp { Value::CallersFp } else { Value::Other }
    }

    fn moved(value: Value, bytes: i64) -> Value {
        let Value::Below(below) = value else { return Value::Other };
        let below = i64::from(below).checked_sub(bytes).and_then(|below| i32::try_from(below).ok());
        below.filter(|below| below.abs() <= MAX_FRAME_BYTES).map_or(Value::Other, Value::Below)
    }

    /// Moves the stack pointer up by this many bytes.
    fn move_sp(&mut self, bytes: i64) {
        self.set(Register::RSP, Self::moved(self.sp(), bytes));
    }

    fn store(&mut self, slot: Option<i32>, value: Value) {
        let Some(slot) = slot else { return };
        if value == Value::CallersFp {
            self.saved_fp = self.saved_fp.or(Some(slot));
        } else if self.saved_fp.is_some_and(|saved| (saved - slot).abs() < 8) {
            self.saved_fp = None;
        }
    }

    fn push(&mut self, value: Value) {
        self.move_sp(-8);
        let slot = match self.sp() {
            Value::Below(bytes) => Some(bytes),
            _ => None,
        };
        self.store(slot, value);
    }

    fn pop(&mut self) -> Value {
        let value = match self.sp() {
            Value::Below(bytes) => self.loaded(Some(bytes)),
            _ => Value::Other,
        };
        self.move_sp(8);
        value
    }

    /// What is known behind the instruction, as far as it runs on to the next.
    pub fn apply(&mut self, instruction: &Instruction, factory: &mut InstructionInfoFactory) {
        let register = instruction.op0_register();
        let immediate = || instruction.immediate(1) as i64;
        match instruction.code() {
            Code::Push_r64 => self.push(self.value(register)),
            Code::Pop_r64 => {
                let value = self.pop();
                self.set(register, value);
            }
            Code::Add_rm64_imm8 | Code::Add_rm64_imm32 if instruction.op0_kind() == OpKind::Register => {
                self.set(register, Self::moved(self.value(register), immediate()));
            }
            Code::Sub_rm64_imm8 | Code::Sub_rm64_imm32 if instruction.op0_kind() == OpKind::Register => {
                self.set(register, Self::moved(self.value(register), immediate().saturating_neg()));
            }
            Code::Lea_r64_m => {
                let value = self.slot(instruction).map_or(Value::Other, Value::Below);
                self.set(register, value);
            }
            Code::Mov_r64_rm64 | Code::Mov_rm64_r64 => match (instruction.op0_kind(), instruction.op1_kind()) {
                (OpKind::Register, OpKind::Register) => self.set(register, self.value(instruction.op1_register())),
                (OpKind::Register, _) => self.set(register, self.loaded(self.slot(instruction))),
                _ => self.store(self.slot(instruction), self.value(instruction.op1_register())),
            },
            Code::Xor_r32_rm32 | Code::Xor_rm32_r32 | Code::Xor_r64_rm64 | Code::Xor_rm64_r64
                if instruction.op0_kind() == OpKind::Register
                    && instruction.op1_kind() == OpKind::Register
                    && register == instruction.op1_register() =>
            {
                // In other registers it does not matter.
                let is_fp = register.full_register() == Register::RBP;
                self.set(register.full_register(), if is_fp { Value::Zero } else { Value::Other });
            }
            Code::Leaveq => {
                self.set(Register::RSP, self.fp());
                let value = self.pop();
                self.set(Register::RBP, value);
            }
            Code::Call_rel32_64 if instruction.near_branch_target() == instruction.next_ip() => {
                self.push(Value::Other);
            }
            Code::Call_rel32_64 | Code::Call_rm64 => {
                for clobbered in CALL_CLOBBERED {
                    self.registers[clobbered] = Value::Other;
                }
            }
            // What the processor writes, beside the result (Intel's manual, volume 2, SYSCALL).
            Code::Syscall => {
                for clobbered in [Register::RAX, Register::RCX, Register::R11] {
                    self.set(clobbered, Value::Other);
                }
            }
            _ if self.may_change(instruction) => self.apply_any(instruction, factory),
            _ => {}
        }
    }

    /// Whether an instruction of no special kind may change a register that is known: decided without looking closely.
    fn may_change(&self, instruction: &Instruction) -> bool {
        let names_one = (0..instruction.op_count()).any(|operand| {
            instruction.op_kind(operand) == OpKind::Register
                && self.value(instruction.op_register(operand).full_register()) != Value::Other
        });
        let others = self
            .registers
            .iter()
            .enumerate()
            .any(|(index, value)| index != RSP && index != RBP && *value != Value::Other);
        names_one
            || others
            || instruction.is_stack_instruction()
            || (instruction.op0_kind() == OpKind::Memory && self.slot(instruction).is_some())
            || instruction.mnemonic() == Mnemonic::Enter
    }

    fn apply_any(&mut self, instruction: &Instruction, factory: &mut InstructionInfoFactory) {
        let increment = instruction.stack_pointer_increment();
        let info = factory.info_options(instruction, InstructionInfoOptions::NONE);
        let written = |access: OpAccess| {
            matches!(access, OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
        };
        for memory in info.used_memory().iter().filter(|memory| written(memory.access())) {
            let Value::Below(bytes) = self.value(memory.base()) else { continue };
            if memory.index() == Register::None
                && let Ok(displacement) = i32::try_from(memory.displacement() as i64)
                && let Some(slot) = bytes.checked_sub(displacement)
            {
                self.store(Some(slot), Value::Other);
            }
        }
        let sp = self.sp();
        for used in info.used_registers().iter().filter(|used| written(used.access())) {
            self.set(used.register().full_register(), Value::Other);
        }
        let pops_to_sp = instruction.mnemonic() == Mnemonic::Pop && instruction.op0_register() == Register::RSP;
        if instruction.is_stack_instruction() && instruction.mnemonic() != Mnemonic::Enter && !pops_to_sp {
            self.registers[RSP] = sp;
            self.move_sp(i64::from(increment));
        }
    }
}

/// A register's number, if it is a general one of 64 bits.
fn index(register: Register) -> Option<usize> {
    register.is_gpr64().then(|| register.number())
}
