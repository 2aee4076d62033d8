//! One function, followed from its first instruction over all its branches until the stack pointer is known everywhere.
//!
//! What is not certain is not said: a function in which a `ret` or a jump to another function does not find the registers as
//! they were at the entry, or that runs into something else, is given up.

use std::collections::BTreeSet;

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register,
};
use memtrace_common::unwind::Rule;

use super::state::State;

/// The most instructions of one function.
const MAX_INSTRUCTIONS: usize = 1 << 16;

/// The most times that code which only a jump through a table reaches is looked for.
const MAX_TABLE_ROUNDS: usize = 256;

/// The number of `rt_sigreturn` (Linux, arch/x86/entry/syscalls/syscall_64.tbl): its frame has rules of its own.
const RT_SIGRETURN: u64 = 15;

/// Instructions one behind the other, decoded once.
pub(super) struct Region {
    instructions: Vec<Instruction>,
    end: u64,
}

impl Region {
    /// Decodes code that begins at `start`. It ends early at the first bytes that are no instruction.
    pub fn decode(bytes: &[u8], start: u64) -> Region {
        let decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
        let sound = decoder.into_iter().take(MAX_INSTRUCTIONS).take_while(|instruction| !instruction.is_invalid());
        let instructions: Vec<_> = sound.collect();
        let end = instructions.last().map_or(start, Instruction::next_ip);
        Region { instructions, end }
    }

    /// The instructions of the function, in order of their addresses.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    fn position(&self, address: u64) -> Option<usize> {
        self.instructions.binary_search_by_key(&address, Instruction::ip).ok()
    }

    fn contains(&self, address: u64) -> bool {
        self.instructions.first().is_some_and(|first| (first.ip()..self.end).contains(&address))
    }
}

/// What stands before each instruction of a function that was followed to all its ends.
pub(super) struct Followed {
    /// By the instructions' order; `None` where no way leads.
    states: Vec<Option<State>>,
    /// Whether it has no way out.
    pub never_returns: bool,
    /// Whether it has a `ret`.
    pub returns: bool,
    /// The functions to which it jumps as its last act, by direct jumps.
    pub leads_to: Vec<u64>,
}

/// Why a function is given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum GivenUp {
    /// A way out at which the registers are not as they were at the entry.
    Unbalanced,
    /// It runs or jumps into something that is not its own code.
    Elsewhere,
    /// Jumps through tables that start from different frames.
    Tables,
    /// More work than a function takes.
    TooMuch,
    /// A signal's trampoline.
    Trampoline,
}

/// What is known of other functions.
pub(super) trait Callees {
    /// Whether the function at this address never returns.
    fn never_returns(&self, address: u64) -> bool;
}

struct Walk<'a, C> {
    region: &'a Region,
    callees: &'a C,
    factory: InstructionInfoFactory,
    /// Whether a branch of the region leads to the instruction.
    is_target: Vec<bool>,
    /// The state before each instruction that a branch leads to or a way begins with.
    known: Vec<Option<State>>,
    reached: Vec<bool>,
    open: BTreeSet<usize>,
    /// How many instructions may still be evaluated.
    work: &'a mut usize,
    /// Before this one all instructions are reached or padding.
    reached_to: usize,
    has_exit: bool,
    returns: bool,
    leads_to: Vec<u64>,
    /// What is known where a jump leads through a table.
    at_table: Option<State>,
}

/// How a way goes on behind an instruction.
enum Next {
    On,
    Stop,
}

/// Follows the function that begins with the region; `work` is how many instructions may be evaluated for it.
pub(super) fn follow<C: Callees>(region: &Region, callees: &C, work: &mut usize) -> Result<Followed, GivenUp> {
    let count = region.instructions.len();
    let mut is_target = vec![false; count];
    for instruction in &region.instructions {
        if is_near_branch(instruction)
            && let Some(target) = region.position(instruction.near_branch_target())
            && let Some(marked) = is_target.get_mut(target)
        {
            *marked = true;
        }
    }
    let mut walk = Walk {
        region,
        callees,
        factory: InstructionInfoFactory::new(),
        is_target,
        known: vec![None; count],
        reached: vec![false; count],
        open: BTreeSet::new(),
        work,
        reached_to: 0,
        has_exit: false,
        returns: false,
        leads_to: Vec::new(),
        at_table: None,
    };
    walk.enter(0, &State::entry());
    walk.run()?;
    for _ in 0..MAX_TABLE_ROUNDS {
        let Some(state) = walk.at_table else { break };
        let Some(unreached) = walk.unreached() else { break };
        walk.enter(unreached, &state);
        walk.run()?;
    }
    Ok(walk.finish())
}

fn is_near_branch(instruction: &Instruction) -> bool {
    is_near(instruction) && !matches!(instruction.flow_control(), FlowControl::Call)
}

pub(super) fn is_near(instruction: &Instruction) -> bool {
    matches!(instruction.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64)
}

/// Whether an instruction only fills the space between functions or before loops.
pub(super) fn is_padding(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Nop | Mnemonic::Int3)
        || matches!(instruction.code(), Code::Add_rm8_r8 if instruction.len() == 2 && instruction.op0_kind() == OpKind::Memory)
}

impl<C: Callees> Walk<'_, C> {
    /// A way leads to this instruction with this state.
    fn enter(&mut self, at: usize, state: &State) {
        let Some(known) = self.known.get_mut(at) else { return };
        let changed = match known {
            Some(known) => known.meet(state),
            None => {
                *known = Some(*state);
                true
            }
        };
        if changed {
            self.open.insert(at);
        }
    }

    fn run(&mut self) -> Result<(), GivenUp> {
        while let Some(start) = self.open.pop_first() {
            let Some(Some(mut state)) = self.known.get(start).copied() else { continue };
            let mut at = start;
            loop {
                *self.work = self.work.checked_sub(1).ok_or(GivenUp::TooMuch)?;
                if let Some(reached) = self.reached.get_mut(at) {
                    *reached = true;
                }
                let Some(instruction) = self.region.instructions.get(at) else { break };
                match self.step(at, instruction, &mut state)? {
                    Next::Stop => break,
                    Next::On => {}
                }
                at += 1;
                let is_target = self.is_target.get(at).copied();
                if at == self.region.instructions.len() {
                    // Behind the region another function begins.
                    if !state.is_at_entry() {
                        return Err(GivenUp::Elsewhere);
                    }
                    self.has_exit = true;
                    break;
                }
                if is_target == Some(true) || self.known.get(at).is_some_and(Option::is_some) {
                    self.enter(at, &state);
                    break;
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, at: usize, instruction: &Instruction, state: &mut State) -> Result<Next, GivenUp> {
        match instruction.flow_control() {
            FlowControl::Next => {
                state.apply(instruction, &mut self.factory);
                Ok(if instruction.mnemonic() == Mnemonic::Hlt { Next::Stop } else { Next::On })
            }
            FlowControl::Call | FlowControl::IndirectCall => {
                if instruction.code() == Code::Syscall {
                    if self.is_sigreturn(at) {
                        return Err(GivenUp::Trampoline);
                    }
                    state.apply(instruction, &mut self.factory);
                    return Ok(Next::On);
                }
                let never_returns =
                    is_near(instruction) && self.callees.never_returns(instruction.near_branch_target());
                state.apply(instruction, &mut self.factory);
                Ok(if never_returns || self.is_last(at) { Next::Stop } else { Next::On })
            }
            FlowControl::Return => {
                if instruction.code() != Code::Retnq || !state.is_at_entry() {
                    return Err(GivenUp::Unbalanced);
                }
                self.has_exit = true;
                self.returns = true;
                Ok(Next::Stop)
            }
            FlowControl::UnconditionalBranch if is_near(instruction) => {
                self.branch(instruction, state)?;
                Ok(Next::Stop)
            }
            FlowControl::ConditionalBranch if is_near(instruction) => {
                self.branch(instruction, state)?;
                state.apply(instruction, &mut self.factory);
                Ok(Next::On)
            }
            FlowControl::IndirectBranch => {
                if state.is_at_entry() {
                    self.has_exit = true;
                } else {
                    match &mut self.at_table {
                        Some(known) if known.sp() != state.sp() => return Err(GivenUp::Tables),
                        Some(known) => _ = known.meet(state),
                        None => self.at_table = Some(*state),
                    }
                }
                Ok(Next::Stop)
            }
            FlowControl::XbeginXabortXend => {
                if is_near(instruction) {
                    self.branch(instruction, state)?;
                }
                state.apply(instruction, &mut self.factory);
                Ok(Next::On)
            }
            FlowControl::Exception | FlowControl::Interrupt => Ok(Next::Stop),
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => Err(GivenUp::Elsewhere),
        }
    }

    fn branch(&mut self, instruction: &Instruction, state: &State) -> Result<(), GivenUp> {
        let target = instruction.near_branch_target();
        match self.region.position(target) {
            Some(position) => self.enter(position, state),
            // Into the middle of an instruction: the code is not what it seems.
            None if self.region.contains(target) => return Err(GivenUp::Elsewhere),
            None if state.is_at_entry() => {
                self.has_exit = true;
                self.leads_to.push(target);
            }
            None => return Err(GivenUp::Elsewhere),
        }
        Ok(())
    }

    /// Whether nothing of the function can follow this call: its region ends, but for padding; or there is padding, which
    /// compilers write before targets of branches only, and no branch leads behind it.
    fn is_last(&self, at: usize) -> bool {
        let padding = |instruction: &&Instruction| is_padding(instruction);
        let rest = self.region.instructions.get(at + 1..).unwrap_or_default();
        let padded = rest.iter().take_while(padding).count();
        padded == rest.len()
            || (padded > 0 && self.is_target.get(at + 1 + padded) == Some(&false) && self.is_aligned(at + 1 + padded))
    }

    fn is_aligned(&self, at: usize) -> bool {
        self.region.instructions.get(at).is_some_and(|instruction| instruction.ip() % 16 == 0)
    }

    /// Whether this system call is `rt_sigreturn`: behind `mov $15, %eax` or `mov $15, %rax`.
    fn is_sigreturn(&self, syscall: usize) -> bool {
        let before = syscall.checked_sub(1).and_then(|at| self.region.instructions.get(at));
        before.is_some_and(|before| {
            matches!(before.code(), Code::Mov_r32_imm32 | Code::Mov_rm64_imm32)
                && before.op0_register().full_register() == Register::RAX
                && before.immediate(1) == RT_SIGRETURN
        })
    }

    /// The next instruction that no way leads to, past padding.
    fn unreached(&mut self) -> Option<usize> {
        let rest = self.region.instructions.iter().zip(&self.reached).enumerate().skip(self.reached_to);
        let found = rest.into_iter().find(|(_, (instruction, reached))| !**reached && !is_padding(instruction));
        self.reached_to = found.map_or(self.region.instructions.len(), |(at, _)| at);
        found.map(|(at, _)| at)
    }

    fn finish(mut self) -> Followed {
        let count = self.region.instructions.len();
        let mut states = vec![None; count];
        let mut running: Option<State> = None;
        for (at, instruction) in self.region.instructions.iter().enumerate() {
            if let Some(Some(known)) = self.known.get(at) {
                running = Some(*known);
            }
            if self.reached.get(at) != Some(&true) {
                running = None;
            }
            if let Some(state) = states.get_mut(at) {
                *state = running;
            }
            if let Some(state) = &mut running {
                state.apply(instruction, &mut self.factory);
            }
            if let FlowControl::Return | FlowControl::UnconditionalBranch | FlowControl::IndirectBranch =
                instruction.flow_control()
            {
                running = None;
            }
        }
        let never_returns = !self.has_exit && self.at_table.is_none();
        Followed { states, never_returns, returns: self.returns, leads_to: self.leads_to }
    }
}

impl Followed {
    /// Each instruction's address with what is known before it, in order.
    pub fn states<'a>(&'a self, region: &'a Region) -> impl Iterator<Item = (u64, Option<&'a State>)> + 'a {
        region.instructions.iter().map(Instruction::ip).zip(self.states.iter().map(Option::as_ref))
    }

    /// The stretches of the region that no way of the function leads to, past their padding: first address and the address
    /// behind the last.
    pub fn unreached(&self, region: &Region) -> Vec<(u64, u64)> {
        let mut stretches: Vec<(u64, u64)> = Vec::new();
        let mut open = false;
        for (instruction, state) in region.instructions.iter().zip(&self.states) {
            let is_free = state.is_none() && (open || !is_padding(instruction));
            match stretches.last_mut() {
                Some(last) if open && is_free => last.1 = instruction.next_ip(),
                _ if is_free => stretches.push((instruction.ip(), instruction.next_ip())),
                _ => {}
            }
            open = is_free;
        }
        stretches
    }

    /// The rows of the function: from each address on this rule, or none where no way leads.
    pub fn rows(&self, region: &Region) -> Vec<(u64, Option<Rule>)> {
        let mut rows: Vec<(u64, Option<Rule>)> = Vec::new();
        for (address, state) in self.states(region) {
            let rule = state.map(State::rule);
            if rows.last().map(|&(_, last)| last) != Some(rule) {
                rows.push((address, rule));
            }
        }
        rows
    }
}
