//! Unwind rules from the code itself, where an object has no call frame information: a C library that was built without
//! (musl's, in most distributions), assembly.
//!
//! In: stretches of code, and where functions are known to begin. Out: rules as they would be in a table, for the functions
//! that were followed to all their ends (`function`, `state`). Functions begin where symbols say, where calls lead, and where
//! nothing of a function before them leads. Of a function that is given up nothing is said.

mod function;
mod state;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, Register};
use memtrace_common::unwind::Rule;

use function::{Callees, Followed, GivenUp, Region, follow, is_near, is_padding};
pub use state::{State, Value};

/// The most bytes of code that are decoded for one object: twenty times what musl's C library has.
pub(super) const MAX_CODE_BYTES: u64 = 8 << 20;

/// The most functions that are looked for.
const MAX_FUNCTIONS: usize = 1 << 20;

/// The most rows: three times what as much compiled code has.
const MAX_ROWS: usize = 1 << 20;

/// How many instructions are decoded or evaluated for each byte of code before the rest is given up. Compiled code takes one.
const MAX_WORK_PER_BYTE: usize = 4;

/// How often functions are tried again that met others that never return.
const ROUNDS: usize = 4;

/// Code keeps no frame pointers if it has this many returns or more, and for so many returns less than one that makes a frame.
const MIN_RETURNS: usize = 64;
const FRAMELESS: usize = 8;

/// The alignment at which compilers begin functions.
const FUNCTION_ALIGNMENT: u64 = 16;

/// Code that no call frame information covers.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Stretch {
    /// Its first address, as linked.
    pub start: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Stretch {
    /// The address behind the last one of the stretch.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.bytes.len() as u64)
    }

    /// The bytes at these addresses; empty if they are not all inside.
    pub fn bytes(&self, range: Range<u64>) -> &[u8] {
        let offset = |address: u64| address.checked_sub(self.start).and_then(|offset| usize::try_from(offset).ok());
        let (start, end) = (offset(range.start), offset(range.end));
        start.zip(end).and_then(|(start, end)| self.bytes.get(start..end)).unwrap_or_default()
    }
}

/// The instructions of a function, in the order of their addresses.
pub type States<'a> = dyn Iterator<Item = (u64, Option<State>)> + 'a;

/// What decoding found out of a stretch of code.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Decoded {
    /// From each address on this rule, or none. Sorted.
    pub rows: BTreeMap<u64, Option<Rule>>,
    /// Where functions begin: what is known, and where calls lead.
    pub starts: BTreeSet<u64>,
    /// The stretches whose code keeps no frame pointers: first addresses, and the addresses behind the last. What has no rule
    /// there cannot be walked.
    pub frameless: BTreeMap<u64, u64>,
    /// Functions that were followed to all their ends.
    pub functions: u64,
    /// Functions that were given up.
    pub given_up: u64,
    /// Bytes of the functions that were given up.
    pub given_up_bytes: u64,
}

/// Decodes stretches of code, in the order of their addresses. `known` are addresses where functions begin.
pub fn decode(stretches: &[Stretch], known: &[u64]) -> Decoded {
    decode_with(stretches, known, |_| {})
}

/// As [`decode`], and hands over each function that is followed: the addresses of its instructions with what is known before
/// them, `None` where no way leads.
pub fn decode_with(stretches: &[Stretch], known: &[u64], mut found: impl FnMut(&mut States<'_>)) -> Decoded {
    let mut starts: BTreeSet<u64> = known.iter().copied().take(MAX_FUNCTIONS).collect();
    let Named { called, taken, frameless } = Named::find(stretches, &starts);
    starts.extend(&called);
    let bytes: usize = stretches.iter().map(|stretch| stretch.bytes.len()).sum();
    let mut search = Search {
        starts: &starts,
        called: &called,
        taken: &taken,
        never_return: BTreeSet::new(),
        work: bytes.saturating_mul(MAX_WORK_PER_BYTE).saturating_add(1 << 10),
        rows: BTreeMap::new(),
        functions: 0,
        given_up: Vec::new(),
        found: &mut found,
    };
    for (stretch, range) in pieces(stretches, &starts) {
        search.range(stretch, range);
    }
    for _ in 1..ROUNDS {
        let known = search.never_return.len();
        for (stretch, range) in std::mem::take(&mut search.given_up) {
            search.range(stretch, range);
        }
        if search.never_return.len() == known {
            break;
        }
    }
    Decoded {
        functions: search.functions,
        given_up: search.given_up.len() as u64,
        given_up_bytes: search.given_up.iter().map(|(_, range)| range.end - range.start).sum(),
        rows: search.rows,
        frameless,
        starts,
    }
}

/// The code from each start to the next, and what is before the first of a stretch.
fn pieces<'a>(
    stretches: &'a [Stretch],
    starts: &'a BTreeSet<u64>,
) -> impl Iterator<Item = (&'a Stretch, Range<u64>)> + 'a {
    stretches.iter().flat_map(|stretch| {
        let within = starts.range(stretch.start.saturating_add(1)..stretch.end().max(stretch.start.saturating_add(1)));
        let ends = within.copied().chain([stretch.end()]);
        ends.scan(stretch.start, move |start, end| Some((stretch, std::mem::replace(start, end)..end)))
    })
}

/// The code's addresses that the code itself names.
struct Named {
    /// Where calls lead.
    called: BTreeSet<u64>,
    /// Where pointers lead that the code computes.
    taken: BTreeSet<u64>,
    /// The stretches whose code keeps no frame pointers: first addresses, and the addresses behind the last.
    frameless: BTreeMap<u64, u64>,
}

impl Named {
    /// Looks at all instructions: anew from each known start, for data between functions may hide the next one's beginning.
    fn find(stretches: &[Stretch], known: &BTreeSet<u64>) -> Named {
        let mut named = Named { called: BTreeSet::new(), taken: BTreeSet::new(), frameless: BTreeMap::new() };
        let mut instruction = Instruction::default();
        let mut counts: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
        for (stretch, range) in pieces(stretches, known) {
            let (frames, returns) = counts.entry(stretch.start).or_default();
            let mut decoder = Decoder::with_ip(64, stretch.bytes(range.clone()), range.start, DecoderOptions::NONE);
            while decoder.can_decode() {
                decoder.decode_out(&mut instruction);
                *frames += usize::from(makes_frame(&instruction));
                *returns += usize::from(instruction.flow_control() == FlowControl::Return);
                let is_call = instruction.flow_control() == FlowControl::Call && is_near(&instruction);
                let (kind, target) = if is_call {
                    (&mut named.called, instruction.near_branch_target())
                } else if instruction.mnemonic() == Mnemonic::Lea && instruction.is_ip_rel_memory_operand() {
                    (&mut named.taken, instruction.ip_rel_memory_address())
                } else {
                    continue;
                };
                if target != instruction.next_ip() && kind.len() < MAX_FUNCTIONS && holds(stretches, target) {
                    kind.insert(target);
                }
            }
        }
        let is_frameless = |(frames, returns): (usize, usize)| returns >= MIN_RETURNS && frames * FRAMELESS < returns;
        let of = |stretch: &&Stretch| counts.get(&stretch.start).is_some_and(|&counts| is_frameless(counts));
        named.frameless = stretches.iter().filter(of).map(|stretch| (stretch.start, stretch.end())).collect();
        named
    }
}

/// `mov %rsp, %rbp`.
fn makes_frame(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Mov
        && instruction.op0_register() == Register::RBP
        && instruction.op1_register() == Register::RSP
}

fn holds(stretches: &[Stretch], address: u64) -> bool {
    let behind = stretches.partition_point(|stretch| stretch.start <= address);
    behind.checked_sub(1).and_then(|index| stretches.get(index)).is_some_and(|stretch| address < stretch.end())
}

struct Search<'a, F> {
    /// Where functions are known to begin.
    starts: &'a BTreeSet<u64>,
    called: &'a BTreeSet<u64>,
    taken: &'a BTreeSet<u64>,
    /// Functions that are known never to return.
    never_return: BTreeSet<u64>,
    /// How many instructions may still be decoded or evaluated.
    work: usize,
    rows: BTreeMap<u64, Option<Rule>>,
    functions: u64,
    given_up: Vec<(&'a Stretch, Range<u64>)>,
    found: F,
}

impl Callees for BTreeSet<u64> {
    fn never_returns(&self, address: u64) -> bool {
        self.contains(&address)
    }
}

impl<'a, F: FnMut(&mut States<'_>)> Search<'a, F> {
    /// Looks for functions in a range of a stretch: one that begins with it, and what it leaves.
    fn range(&mut self, stretch: &'a Stretch, range: Range<u64>) {
        let mut open = vec![range];
        while let Some(range) = open.pop() {
            let region = Region::decode(stretch.bytes(range.clone()), range.start);
            let Some(work) = self.work.checked_sub(region.instructions().len()) else {
                self.given_up.push((stretch, range));
                continue;
            };
            self.work = work;
            // Padding is no function's.
            let Some(first) = region.instructions().iter().find(|instruction| !is_padding(instruction)) else {
                continue;
            };
            if first.ip() != range.start {
                open.push(first.ip()..range.end);
                continue;
            }
            let is_taken = self.taken.contains(&range.start);
            let is_known = self.starts.contains(&range.start);
            let followed = match is_known || is_taken || range.start % FUNCTION_ALIGNMENT == 0 {
                true => follow(&region, &self.never_return, &mut self.work),
                false => Err(GivenUp::Elsewhere),
            };
            // Where nobody says that a function begins, a way out proves it: a part of another would find the frame of that
            // one there.
            let is_proven = |followed: &Followed| {
                is_known
                    || is_taken
                    || followed.returns
                    || followed.leads_to.iter().any(|target| self.starts.contains(target))
            };
            match followed {
                Ok(followed) if is_proven(&followed) => {
                    for (start, end) in followed.unreached(&region) {
                        let cuts = self.taken.range(start + 1..end.max(start + 1)).copied().chain([end]);
                        open.extend(cuts.scan(start, |from, to| Some(std::mem::replace(from, to)..to)));
                    }
                    self.keep(stretch, &region, &followed, range);
                }
                Err(GivenUp::Trampoline) => {
                    // The walk knows it by its instructions. A return address is looked up at the byte before it.
                    self.rows.insert(range.start.saturating_sub(1), Some(Rule::WithoutRules));
                    self.rows.insert(range.start, Some(Rule::WithoutRules));
                    self.rows.entry(range.end).or_insert(None);
                    self.given_up.push((stretch, range));
                }
                _ => match splits(&region) {
                    splits if splits.is_empty() => self.given_up.push((stretch, range)),
                    splits => {
                        let ends = splits.into_iter().chain([range.end]);
                        open.extend(ends.scan(range.start, |from, to| Some(std::mem::replace(from, to)..to)));
                    }
                },
            }
        }
    }

    fn keep(&mut self, code: &'a Stretch, region: &Region, followed: &Followed, range: Range<u64>) {
        let rows = followed.rows(region);
        if self.rows.len() + rows.len() > MAX_ROWS {
            self.given_up.push((code, range));
            return;
        }
        self.functions += 1;
        let start = range.start;
        self.rows.extend(rows);
        self.rows.entry(range.end).or_insert(None);
        if followed.never_returns {
            self.never_return.insert(start);
            let before = code.bytes(start.saturating_sub(LONGEST_CALL).max(code.start)..start);
            if !self.called.contains(&start) && start > code.start && !ends_with_call(before) {
                self.rows.insert(start - 1, Some(Rule::EndOfStack));
            }
        }
        (self.found)(&mut followed.states(region).map(|(address, state)| (address, state.copied())));
    }
}

/// Where further functions may begin: aligned, behind padding that nothing runs into, and no branch leads across.
fn splits(region: &Region) -> Vec<u64> {
    let mut splits = Vec::new();
    let mut reaches = 0;
    let mut ended = false;
    let mut padded = false;
    for instruction in region.instructions() {
        let address = instruction.ip();
        if is_padding(instruction) {
            padded = true;
            continue;
        }
        if ended && padded && address % FUNCTION_ALIGNMENT == 0 && reaches < address {
            splits.push(address);
        }
        padded = false;
        let flow = instruction.flow_control();
        if is_near(instruction) && flow != FlowControl::Call {
            reaches = reaches.max(instruction.near_branch_target());
        }
        ended = !matches!(flow, FlowControl::Next | FlowControl::ConditionalBranch);
    }
    splits
}

/// The longest call that [`ends_with_call`] knows, in bytes.
const LONGEST_CALL: u64 = 7;

/// Whether these bytes may end with a call: then what follows may be a return address like any other.
fn ends_with_call(bytes: &[u8]) -> bool {
    let at = |back: usize| bytes.len().checked_sub(back).and_then(|at| bytes.get(at..)).unwrap_or_default();
    let is_indirect = |bytes: &[u8]| matches!(bytes, [0xff, operand, ..] if operand >> 3 & 7 == 2);
    at(5).first() == Some(&0xe8) || [2, 3, 4, 6, 7].iter().any(|&back| is_indirect(at(back)))
}

/// What a function is to the stacks that lead to it, if nothing calls it and it never returns: someone has put its address
/// where a return address would be, so that whatever returns to it ends there. So the ways in which coroutines begin are made.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum End {
    /// Its frames are as its own rules say.
    Before,
    /// It takes another stack as its first step, so that it has no caller.
    Within,
}

/// Whether a small function that has rules is such an end.
pub(super) fn end(bytes: &[u8], start: u64) -> Option<End> {
    let region = Region::decode(bytes, start);
    let mut work = bytes.len() * MAX_WORK_PER_BYTE;
    let followed = follow(&region, &BTreeSet::new(), &mut work).ok().filter(|followed| followed.never_returns)?;
    let mut states = followed.states(&region).map(|(_, state)| state);
    // Perhaps behind `endbr64`.
    let takes_another = states.by_ref().skip(1).take(2).flatten().any(|state| state.sp() == Value::Other);
    Some(if takes_another { End::Within } else { End::Before })
}

#[cfg(test)]
mod tests;
