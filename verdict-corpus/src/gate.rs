//! The gate's answer on whole programs of many stacks, leaking and sound, after every interval: does the run fail?
//!
//! A program's blocks go through the real ledger; its stacks and their groups are judged as in a session. A stack's id says
//! where it is: the allocating function in the upper half, its three callers in the lower one.

use std::collections::{BTreeMap, HashMap};

use memtrace::parts::{
    event::{Block as Allocated, Event, What},
    ledger::{Kind, Ledger},
    trend::{GroupId, GroupIndex, Groups, Judgement, Leaf, Node, Observation, Trend, explain},
};
use memtrace_common::{Address, Slot, StackId};

use crate::{
    noise::Noise,
    whole_programs::{LEAKING, SOUND, Whole},
};

/// How many intervals each program is watched for.
pub const INTERVALS: usize = 40;

/// The gate is asked from this interval on.
const ASKED_FROM: usize = 6;

const INTERVAL_NS: u64 = 5_000_000_000;
const SLOT: Slot = Slot(0);

/// The level of groups of one allocating function; wider ones come before.
const FUNCTION: usize = 3;

/// A simulated process of many stacks.
pub struct Process {
    ledger: Ledger,
    trend: Trend<StackId>,
    groups: Groups<StackId, Slot>,
    now_ns: u64,
    next_address: u64,
    intervals: u64,
}

/// A live block of it.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    address: u64,
    size: u64,
}

impl Held {
    /// How many bytes it has.
    pub const fn bytes(self) -> u64 {
        self.size
    }
}

impl Process {
    fn new() -> Self {
        let mut ledger = Ledger::new();
        ledger.add_process(SLOT);
        let (trend, groups) = (Trend::new(), Groups::default());
        Self { ledger, trend, groups, now_ns: 1, next_address: 4096, intervals: 0 }
    }

    fn apply(&mut self, what: What<'_>) {
        self.now_ns += 1000;
        self.ledger.apply(&Event { slot: SLOT, thread: 1, time_ns: self.now_ns, what });
    }

    fn placed(&mut self, size: u64, stack: StackId) -> Allocated {
        self.next_address += 16;
        Allocated { address: Address(self.next_address), size, level: 0, stack }
    }

    /// Allocates from a stack.
    pub fn alloc(&mut self, stack: StackId, size: u64) -> Held {
        let block = self.placed(size, stack);
        self.apply(What::Allocate(block));
        Held { address: block.address.0, size }
    }

    /// Enlarges or shrinks a block, which moves.
    pub fn realloc(&mut self, block: Held, stack: StackId, size: u64) -> Held {
        self.apply(What::ReallocBegin(Address(block.address)));
        let moved = self.placed(size, stack);
        self.apply(What::Reallocate(moved));
        Held { address: moved.address.0, size }
    }

    /// Frees a block.
    pub fn free(&mut self, block: Held) {
        self.apply(What::Release(Address(block.address)));
    }

    /// Lets a share of an interval pass.
    pub fn wait(&mut self, share: f64) {
        let end_ns = (self.intervals + 1) * INTERVAL_NS;
        self.now_ns = (self.now_ns + (share * INTERVAL_NS as f64) as u64).min(end_ns);
    }

    /// The end of an interval: what a session does then.
    fn end_interval(&mut self) {
        self.intervals += 1;
        self.now_ns = self.intervals * INTERVAL_NS;
        let elapsed_ms = self.now_ns / 1_000_000;
        self.trend.begin_interval(elapsed_ms, self.now_ns);
        self.groups.begin_interval(elapsed_ms, self.now_ns, 0);
        let Some(process) = self.ledger.process(SLOT) else { return };
        let mut all = Vec::new();
        for stack in process.stacks() {
            if stack.outstanding_bytes > 0 || !self.trend.series(stack.id).is_empty() {
                let seen = Observation {
                    bytes: stack.outstanding_bytes,
                    blocks: stack.outstanding_blocks,
                    allocations: stack.allocations.saturating_sub(stack.moves),
                    allocated_bytes: stack.allocated_bytes.wrapping_sub(stack.moved_bytes),
                    precision: None,
                };
                self.trend.observe(stack.id, seen);
                self.groups.join(stack.id, SLOT, &path(stack.id), &self.trend);
                all.push((stack.id, seen));
            }
        }
        self.groups.observe(all);
        let (stacks, groups) = (self.trend.followed(), self.groups.followed());
        let places: HashMap<StackId, u32> = (0..).zip(&stacks).map(|(place, &id)| (id, place)).collect();
        let group_places: HashMap<GroupIndex, u32> =
            (stacks.len() as u32..).zip(&groups).map(|(place, &index)| (index, place)).collect();
        let ends_ns = self.trend.cohort_ends_ns().to_vec();
        let found = process.cohorts_of_sets(stacks.len() + groups.len(), &ends_ns, |id, _, sets| {
            sets.extend(places.get(&id));
            sets.extend(self.groups.of(id).iter().filter_map(|index| group_places.get(index)));
        });
        let (of_stacks, of_groups) = found.split_at(stacks.len());
        stacks.iter().zip(of_stacks).for_each(|(&id, alive)| self.trend.look(id, alive));
        groups.iter().zip(of_groups).for_each(|(&index, alive)| self.groups.look(index, alive));
    }

    /// Why the gate fails: a stack grows, or a group does that no few stacks explain. `None` when it passes.
    fn fails(&self, is_recursive: bool) -> Option<String> {
        let process = self.ledger.process(SLOT)?;
        let ids: Vec<StackId> = process
            .stacks()
            .filter(|stack| stack.kind == Kind::Heap && stack.outstanding_bytes > 0)
            .map(|stack| stack.id)
            .collect();
        let mut groups = self.groups.judge();
        groups.sort_by_key(|&(index, _)| self.groups.get(index).map_or(0, |group| group.level));
        let places: HashMap<GroupIndex, usize> =
            (0..).zip(&groups).map(|(place, (index, _))| (*index, place)).collect();
        let mut growing: Vec<(StackId, Judgement)> = ids.iter().copied().zip(self.trend.judge_all(&ids)).collect();
        growing.retain(|(_, judged)| judged.verdict.is_leak());
        let leaf = |(id, judged): &(StackId, Judgement)| Leaf {
            parent: self.groups.of(*id).iter().rev().find_map(|index| places.get(index).copied()),
            rate: judged.growth_bytes_per_hour,
            fails: Some(true),
        };
        let leaves: Vec<Leaf> = growing.iter().map(leaf).collect();
        let nodes: Vec<Node> = groups
            .iter()
            .filter_map(|(index, judged)| {
                let group = self.groups.get(*index)?;
                let mut parent = group.parent;
                while let Some(above) = parent.filter(|above| !places.contains_key(above)) {
                    parent = self.groups.get(above).and_then(|group| group.parent);
                }
                Some(Node {
                    parent: parent.and_then(|index| places.get(&index).copied()),
                    growing: judged.verdict.is_leak(),
                    rate: judged.growth_bytes_per_hour,
                    stacks: group.stacks.into(),
                    is_function: group.level >= FUNCTION,
                    is_caller: group.level > FUNCTION,
                })
            })
            .collect();
        let stack = growing.first().map(|(id, judged)| {
            let series: Vec<u64> = self.trend.series(*id).iter().map(|sample| sample.bytes).collect();
            format!("stack {:x}: {}; {series:?}", id.0, judged.evidence)
        });
        stack.or_else(|| {
            let place = *explain(&nodes, &leaves, None, |_| is_recursive).first()?;
            let (index, judged) = groups.get(place)?;
            let series: Vec<u64> = self.groups.series(*index).iter().map(|sample| sample.bytes).collect();
            Some(format!("group: {}; {series:?}", judged.evidence))
        })
    }
}

/// The stack of an allocating function and its callers, each below 256.
pub fn stack(function: u64, callers: [u64; 3]) -> StackId {
    StackId(function << 32 | callers[0] | callers[1] << 8 | callers[2] << 16)
}

/// The groups of a stack: process, heap, module, allocating function, callers.
fn path(stack: StackId) -> [GroupId; 7] {
    let function = stack.0 >> 32;
    let caller = |bits: u32| GroupId(1 << 63 | u64::from(bits) << 58 | function << 32 | stack.0 & ((1 << bits) - 1));
    [GroupId(1), GroupId(2), GroupId(3), GroupId(16 + function), caller(8), caller(16), caller(24)]
}

/// What the gate said.
#[derive(Debug, Default)]
pub struct Answers {
    /// Programs that leak, and of those the ones that did not fail the run at some interval.
    pub leaking: usize,
    /// See `leaking`.
    pub passed: usize,
    /// Programs that do not, and of those the ones that failed the run at some interval.
    pub sound: usize,
    /// See `sound`.
    pub failed: usize,
    /// Questions, one for each interval of each program, and wrong answers.
    pub asked: usize,
    /// See `asked`.
    pub wrong: usize,
    /// Wrong answers of each kind of program: at which intervals, and why a sound one failed.
    pub when: BTreeMap<&'static str, Vec<(usize, String)>>,
}

/// Runs `runs` programs of each kind.
pub fn ask(seed: u64, runs: usize) -> Answers {
    let mut answers = Answers::default();
    let kinds = LEAKING.iter().map(|whole| (whole, true)).chain(SOUND.iter().map(|whole| (whole, false)));
    for (number, (whole, leaks)) in (0u64..).zip(kinds) {
        for run in 0..runs as u64 {
            let wrong = wrong(whole, leaks, &mut Noise::new(seed, 3 << 60 | number << 48 | run));
            answers.asked += INTERVALS + 1 - ASKED_FROM;
            answers.wrong += wrong.len();
            let (programs, bad) = match leaks {
                true => (&mut answers.leaking, &mut answers.passed),
                false => (&mut answers.sound, &mut answers.failed),
            };
            *programs += 1;
            if !wrong.is_empty() {
                *bad += 1;
                answers.when.entry(whole.name).or_default().extend(wrong);
            }
        }
    }
    answers
}

/// The intervals at which the gate is wrong about a program, and why it failed.
fn wrong(whole: &Whole, leaks: bool, random: &mut Noise) -> Vec<(usize, String)> {
    let mut process = Process::new();
    let mut program = (whole.start)(random);
    let mut wrong = Vec::new();
    for at in 1..=INTERVALS {
        program(&mut process, random, at);
        process.end_interval();
        if at < ASKED_FROM {
            continue;
        }
        let why = process.fails(whole.is_recursive);
        if why.is_some() != leaks {
            wrong.push((at, why.unwrap_or_default()));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_of_one_function_have_its_group_in_common_and_no_other() {
        let [a, b, c] = [stack(7, [1, 2, 3]), stack(7, [1, 4, 3]), stack(8, [1, 2, 3])].map(path);
        assert_eq!(a[..5], b[..5]);
        assert!(a[5..].iter().zip(&b[5..]).all(|(a, b)| a != b));
        assert!(a[3..].iter().zip(&c[3..]).all(|(a, c)| a != c) && a[..3] == c[..3]);
    }

    #[test]
    fn answers_are_counted_by_program_and_by_interval() {
        let answers = ask(7, 1);
        assert_eq!((answers.leaking, answers.sound), (LEAKING.len(), SOUND.len()));
        assert_eq!(answers.asked, (LEAKING.len() + SOUND.len()) * (INTERVALS + 1 - ASKED_FROM));
        assert_eq!(answers.wrong, answers.when.values().map(Vec::len).sum::<usize>());
    }
}
