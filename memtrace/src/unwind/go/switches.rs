//! The functions by which Go's runtime changes stacks, decoded: where each keeps the way back.
//!
//! They are written in assembly and change from version to version in where they keep what, not in what they keep. A function in which
//! that is not found is given a rule that ends stacks, so that none goes on where it should not.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use memtrace_common::unwind::{Cfa, FramePointer, Rule, Switch, Unsupported, switch::goroutine};

use super::by_depth;

const CALL: &str = "runtime.asmcgocall";
const SYSTEM: &str = "runtime.systemstack";
const CALLBACK: &str = "runtime.cgocallback";
const FROM_C: &str = "crosscall2";

/// Where stacks begin: a goroutine's, a thread's, the program's, and the scheduler's, to which a goroutine goes without coming back.
const FIRST: [&str; 4] = ["runtime.goexit", "runtime.mstart", "runtime.rt0_go", "runtime.mcall"];

/// A function that needs more stack has one made on the thread's. Who it is stands in the goroutine, as a place and not as a call.
const GROWS: &str = "runtime.morestack";

/// Calls of libc that the runtime makes on the stack it is on, which it aligns.
const ALIGNS: [&str; 3] = ["runtime.callCgoMmap", "runtime.callCgoMunmap", "runtime.callCgoSigaction"];

/// The functions whose code is looked at. Some share their name with a small one that calls them, which nothing is found in.
pub const NAMES: &[&str] =
    &[CALL, SYSTEM, CALLBACK, FROM_C, GROWS, FIRST[0], FIRST[1], FIRST[2], FIRST[3], ALIGNS[0], ALIGNS[1], ALIGNS[2]];

/// The most instructions of one function.
const MAX_INSTRUCTIONS: usize = 512;

/// The stack's alignment at calls of C, in bytes.
const ALIGNMENT: i64 = 16;

/// A function of Go's table, whose name is one of those that are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Function<'a> {
    /// One of [`NAMES`].
    pub name: &'a str,
    /// Where its code begins, as linked.
    pub begin: u64,
    /// The address behind its code.
    pub end: u64,
    /// Its code.
    pub code: &'a [u8],
    /// How deep its stack is by Go's table, see [`crate::object::go_table::GoTable::depths`].
    pub depths: &'a [(u64, Option<i64>)],
}

/// What was found of the functions of one file.
#[derive(Debug, Default)]
pub struct Changes {
    /// Each function, and how it changes stacks.
    found: Vec<(Range<u64>, Change)>,
    /// How deep the stacks of `crosscall2` and `cgocallback` are at their calls, in bytes.
    from_c: i64,
    callback: i64,
}

#[derive(Debug)]
enum Change {
    /// `runtime.asmcgocall`: where the depth is and how much room is made, in bytes.
    Call { depth: i64, room: i64, saves_fp: bool },
    /// All others.
    Known(Vec<(u64, Rule)>),
}

impl Changes {
    /// Looks at a function, and keeps what its code tells.
    pub fn add(&mut self, function: Function<'_>) {
        let deepest = function.depths.iter().filter_map(|&(_, depth)| depth).max().unwrap_or(0);
        let code = function.instructions();
        let unknown = || Rule::Unsupported(Unsupported::CfaRegister);
        let whole = |rule: Rule| Change::Known(vec![(function.begin, rule)]);
        let change = match function.name {
            CALL => call(&code).or_else(|| sets_stack(&code).then(|| whole(unknown()))),
            SYSTEM => system(&code).map(whole).or_else(|| sets_stack(&code).then(|| whole(unknown()))),
            CALLBACK => sets_stack(&code).then(|| {
                self.callback = deepest;
                Change::Known(callback(&function, deepest).unwrap_or_else(|| vec![(function.begin, unknown())]))
            }),
            FROM_C => {
                self.from_c = deepest;
                // Its caller is C, whose frame pointer it keeps.
                let fp = FramePointer::AtCfa(-16);
                saves_frame_pointer(&code).then(|| {
                    let rows = function.rows(|depth| match by_depth(depth) {
                        Rule::Frame { cfa, .. } if depth > 0 => Rule::Frame { cfa, fp },
                        other => other,
                    });
                    Change::Known(rows)
                })
            }
            GROWS => sets_stack(&code).then(|| whole(unknown())),
            name if FIRST.contains(&name) => Some(whole(Rule::EndOfStack)),
            _ => aligned(&code, &function).map(Change::Known).or_else(|| sets_stack(&code).then(|| whole(unknown()))),
        };
        if let Some(change) = change {
            self.found.push((function.begin..function.end, change));
        }
    }

    /// The functions that change stacks, and their rules by address.
    pub fn rules(self) -> impl Iterator<Item = (Range<u64>, Vec<(u64, Rule)>)> {
        let beside = -(self.from_c + self.callback);
        self.found.into_iter().map(move |(range, change)| {
            let rows = match change {
                Change::Known(rows) => rows,
                Change::Call { depth, room, saves_fp } => {
                    // The stack had been left where `cgocallback` was called, which C aligned; Go aligned it anew.
                    let left = room + (beside - room).rem_euclid(ALIGNMENT);
                    let words = |bytes: i64| u8::try_from(bytes / 8).unwrap_or(u8::MAX);
                    let switch = Switch::Call { depth: words(depth), left: words(left), saves_fp };
                    vec![(range.start, Rule::Switch(switch))]
                }
            };
            (range, rows)
        })
    }
}

impl Function<'_> {
    fn instructions(&self) -> Vec<Instruction> {
        let decoder = Decoder::with_ip(64, self.code, self.begin, DecoderOptions::NONE);
        decoder.into_iter().take(MAX_INSTRUCTIONS).take_while(|instruction| !instruction.is_invalid()).collect()
    }

    /// A row for each depth.
    fn rows(&self, rule: impl Fn(i64) -> Rule) -> Vec<(u64, Rule)> {
        let row = |&(address, depth): &(u64, Option<i64>)| (address, depth.map_or(Rule::Gap, &rule));
        self.depths.iter().map(row).collect()
    }
}

/// `asmcgocall`: makes room, aligns, and keeps the goroutine and how deep its stack is:
/// `sub $room, %rsp; and $~15, %rsp; mov %rdi, g(%rsp); mov 8(%rdi), %rdi; sub %rdx, %rdi; mov %rdi, depth(%rsp)`.
fn call(code: &[Instruction]) -> Option<Change> {
    let saves_fp = code.first()?.mnemonic() == Mnemonic::Push;
    code.windows(6).find_map(|window| {
        let [make_room, align, keep, end, subtract, keep_depth] = window else { return None };
        let is_room = make_room.mnemonic() == Mnemonic::Sub && make_room.op0_register() == Register::RSP;
        let room = is_room.then(|| i64::try_from(make_room.immediate(1)).ok())??;
        let (kept, at) = stored(keep)?;
        let (base, end_at) = loaded(end)?;
        let (depth_kept, depth) = stored(keep_depth)?;
        let is_depth = subtract.mnemonic() == Mnemonic::Sub
            && subtract.op0_register() == kept
            && base == kept
            && end.op0_register() == kept
            && depth_kept == kept
            && end_at == goroutine::STACK_END as i64;
        let fits = (0..32 * 8 - ALIGNMENT).contains(&room) && at == depth + 8 && (0..room).contains(&depth);
        (aligns(align) && is_depth && fits).then_some(Change::Call { depth, room, saves_fp })
    })
}

/// `systemstack`: after the call, `g` of the thread-local storage, its `m`, the goroutine of that, and its stack pointer:
/// `mov %fs:g, %rax; mov 48(%rax), %rbx; mov current(%rbx), %rax; mov %rax, %fs:g; mov 56(%rax), %rsp`.
fn system(code: &[Instruction]) -> Option<Rule> {
    let saves_fp = code.first()?.mnemonic() == Mnemonic::Push;
    code.windows(5).enumerate().find_map(|(index, window)| {
        let [running, thread, current, change, back] = window else { return None };
        let (base, at) = loaded(thread)?;
        let (thread_base, current_at) = loaded(current)?;
        let (back_base, saved_at) = loaded(back)?;
        let is_way = running.segment_prefix() == Register::FS
            && change.segment_prefix() == Register::FS
            && running.op0_register() == base
            && thread.op0_register() == thread_base
            && current.op0_register() == back_base
            && back.op0_register() == Register::RSP
            && (at, saved_at) == (goroutine::THREAD as i64, goroutine::SAVED_SP as i64);
        if !is_way {
            return None;
        }
        let mut offset = running.memory_displacement64() as i64;
        if running.memory_base() != Register::None {
            // In a file that may be loaded anywhere the offset is in a register.
            let set = code.get(index.checked_sub(1)?)?;
            let is_set = set.mnemonic() == Mnemonic::Mov && set.op0_register() == running.memory_base();
            let is_number = matches!(set.op1_kind(), OpKind::Immediate32to64 | OpKind::Immediate64);
            offset = offset.wrapping_add((is_set && is_number).then(|| set.immediate(1) as i64)?);
        }
        let goroutine = i32::try_from(offset / 8).ok()?;
        let current = u8::try_from(current_at / 8).ok()?;
        (offset % 8 == 0 && current_at % 8 == 0).then_some(Rule::Switch(Switch::System {
            goroutine,
            current,
            saves_fp,
        }))
    })
}

/// `cgocallback`: its frame is as large on either stack.
fn callback(function: &Function<'_>, deepest: i64) -> Option<Vec<(u64, Rule)>> {
    let frame = u8::try_from((deepest + 8) / 8).ok().filter(|_| deepest % 8 == 0)?;
    let rule = |depth| if depth == deepest { Rule::Switch(Switch::Callback { frame }) } else { by_depth(depth) };
    Some(function.rows(rule))
}

/// A call on an aligned stack, whose old pointer is kept on it: `mov %rsp, %rbx; and $~15, %rsp; mov %rbx, at(%rsp); call`.
fn aligned(code: &[Instruction], function: &Function<'_>) -> Option<Vec<(u64, Rule)>> {
    let (kept, called, at) = code.windows(4).find_map(|window| {
        let [copy, align, keep, call] = window else { return None };
        let is_copy = copy.mnemonic() == Mnemonic::Mov && copy.op1_register() == Register::RSP;
        let (register, at) = stored(keep)?;
        let fits = is_copy && aligns(align) && register == copy.op0_register() && call.mnemonic() == Mnemonic::Call;
        fits.then_some((copy.ip(), call.ip()..call.next_ip(), at))
    })?;
    let before = function.depths.iter().rev().find(|&&(address, _)| address <= kept)?;
    let add = i32::try_from(before.1?.checked_add(8)?).ok()?;
    let cfa = Cfa::DerefSp { offset: i32::try_from(at).ok()?, add };
    let mut rows = function.rows(by_depth);
    rows.retain(|(address, _)| !called.contains(address));
    rows.push((called.start, Rule::Frame { cfa, fp: FramePointer::Unchanged }));
    rows.push((called.end, by_depth(before.1?)));
    rows.sort_by_key(|&(address, _)| address);
    Some(rows)
}

/// Whether the frame pointer is saved below the return address, before it is used: pushed, or stored with the frame's room.
fn saves_frame_pointer(code: &[Instruction]) -> bool {
    match code {
        [first, ..] if first.mnemonic() == Mnemonic::Push => first.op0_register() == Register::RBP,
        [room, save, ..] => {
            let bytes = (room.mnemonic() == Mnemonic::Sub && room.op0_register() == Register::RSP)
                .then(|| i64::try_from(room.immediate(1)).ok());
            bytes.flatten().is_some_and(|bytes| stored(save) == Some((Register::RBP, bytes - 8)))
        }
        _ => false,
    }
}

/// Whether the stack pointer is set to something that does not follow from what it was.
fn sets_stack(code: &[Instruction]) -> bool {
    code.iter()
        .any(|instruction| instruction.mnemonic() == Mnemonic::Mov && instruction.op0_register() == Register::RSP)
}

/// `and $~15, %rsp`.
fn aligns(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::And
        && instruction.op0_register() == Register::RSP
        && instruction.op1_kind() != OpKind::Memory
        && instruction.immediate(1) as i64 == -ALIGNMENT
}

/// `mov register, at(%rsp)`: the register, and where it is kept.
fn stored(instruction: &Instruction) -> Option<(Register, i64)> {
    let is_store = instruction.mnemonic() == Mnemonic::Mov
        && instruction.op0_kind() == OpKind::Memory
        && instruction.memory_base() == Register::RSP
        && instruction.memory_index() == Register::None
        && instruction.op1_kind() == OpKind::Register;
    is_store.then(|| (instruction.op1_register(), instruction.memory_displacement64() as i64))
}

/// `mov at(base), register`: the base, and where is read.
fn loaded(instruction: &Instruction) -> Option<(Register, i64)> {
    let is_load = instruction.mnemonic() == Mnemonic::Mov
        && instruction.op0_kind() == OpKind::Register
        && instruction.op1_kind() == OpKind::Memory
        && instruction.memory_index() == Register::None
        && instruction.memory_base() != Register::None;
    is_load.then(|| (instruction.memory_base(), instruction.memory_displacement64() as i64))
}

#[cfg(test)]
mod tests;
