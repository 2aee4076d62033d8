//! The rings against simulated programs, which are preempted anywhere, and go on while the reader reads: all that is said of
//! one block must come out in its order, and nothing twice or never.

use std::{cell::RefCell, collections::VecDeque, ptr::NonNull, rc::Rc};

use memtrace_common::{
    arch::PAGE_BYTES,
    event::Kind,
    ring::{RingPositions, record_begin},
};
use proptest::{prelude::*, sample::Index};

use super::{
    merge::{Merge, Outcome, Source},
    reader::{Next, Reader},
};

const RINGS: usize = 3;
const RING_BYTES: u64 = 2 * PAGE_BYTES;
const BLOCKS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    /// A program begins that has something to say of a block, on a processor. The last one stands for a stack.
    Begin { block: Index, processor: usize, long: bool },
    /// A program reserves room.
    Reserve(Index),
    /// A program fills its room, and ends.
    Finish(Index),
    /// The reader reads, while so many of the next steps are taken: so many for each record.
    Drain { meanwhile: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<Index>(), 0..=RINGS, any::<bool>())
            .prop_map(|(block, processor, long)| Step::Begin { block, processor, long }),
        4 => any::<Index>().prop_map(Step::Reserve),
        5 => any::<Index>().prop_map(Step::Finish),
        1 => (0usize..20).prop_map(|meanwhile| Step::Drain { meanwhile }),
    ]
}

/// A program that runs, or is preempted.
#[derive(Clone, Copy)]
struct Program {
    block: usize,
    processor: usize,
    kind: Kind,
    time: u64,
    /// Where its room is, once it has some.
    place: Option<u64>,
}

/// Records in the order of their reservation; `None` for one that is not finished.
type Queue = VecDeque<Option<Vec<u8>>>;

struct Machine {
    pages: Vec<u64>,
    positions: Vec<RingPositions>,
    stacks: Queue,
    /// How many stacks have been taken out of the queue.
    taken: u64,
    clock: u64,
    programs: Vec<Program>,
    /// How many records there are of each block.
    sent: [u64; BLOCKS],
    /// What is still to be done.
    steps: VecDeque<Step>,
    /// How many steps are taken while the reader does something.
    meanwhile: usize,
}

impl Machine {
    fn new(steps: Vec<Step>) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            pages: vec![0; RINGS * RING_BYTES as usize / 8],
            positions: vec![RingPositions::default(); RINGS],
            stacks: Queue::new(),
            taken: 0,
            clock: 1,
            programs: Vec::new(),
            sent: [0; BLOCKS],
            steps: steps.into(),
            meanwhile: 0,
        }))
    }

    /// Programs go on while the reader reads.
    fn go_on(&mut self) {
        for _ in 0..self.meanwhile {
            if let Some(step) = self.steps.pop_front() {
                self.take(&step);
            }
        }
    }

    fn readers(&mut self) -> Vec<Reader> {
        let (pages, positions) = (self.pages.as_mut_ptr(), self.positions.as_mut_ptr());
        let reader = |ring: usize| {
            // SAFETY: each ring's own part of two vectors that keep their length and outlive the readers.
            unsafe {
                let start = pages.byte_add(ring * RING_BYTES as usize);
                Reader::new(NonNull::new_unchecked(positions.add(ring)), NonNull::new_unchecked(start), RING_BYTES)
            }
        };
        (0..RINGS).map(reader).collect()
    }

    fn take(&mut self, step: &Step) {
        self.clock += 1;
        match step {
            Step::Begin { block, processor, long } => {
                let block = block.index(BLOCKS);
                // What comes next of a block comes after the program that said what came before.
                if self.programs.iter().all(|program| program.block != block) {
                    let kind = if *long { Kind::Allocate } else { Kind::Release };
                    let program = Program { block, processor: *processor, kind, time: self.clock, place: None };
                    self.programs.push(program);
                }
            }
            Step::Reserve(which) if !self.programs.is_empty() => {
                let which = which.index(self.programs.len());
                self.reserve(which);
            }
            Step::Finish(which) if !self.programs.is_empty() => {
                let which = which.index(self.programs.len());
                if self.programs[which].place.is_some() {
                    let program = self.programs.swap_remove(which);
                    self.finish(program);
                }
            }
            Step::Reserve(_) | Step::Finish(_) | Step::Drain { .. } => {}
        }
    }

    fn reserve(&mut self, which: usize) {
        let program = self.programs[which];
        if program.place.is_some() {
            return;
        }
        let place = if program.processor == RINGS {
            self.stacks.push_back(None);
            self.taken + self.stacks.len() as u64 - 1
        } else {
            let positions = &raw mut self.positions[program.processor];
            // SAFETY: an element of the vector; volatile as in the programs, since a reader has a pointer to it as well.
            let (written, read) = unsafe { ((&raw const (*positions).written).read_volatile(), (*positions).read) };
            let begin = record_begin(written);
            let end = begin + program.kind.record_bytes() as u64;
            if end - read > RING_BYTES {
                // No room: what it has to say is counted elsewhere.
                self.programs.swap_remove(which);
                return;
            }
            // SAFETY: as above.
            unsafe { (&raw mut (*positions).written).write_volatile(end) };
            begin
        };
        self.programs[which].place = Some(place);
        // Only now is it sure to be sent.
        self.sent[program.block] += 1;
    }

    fn finish_all(&mut self) {
        while let Some(program) = self.programs.pop() {
            if program.place.is_some() {
                self.finish(program);
            }
        }
        self.clock += 1;
    }

    fn finish(&mut self, program: Program) {
        let place = program.place.expect("it has room");
        let mut words = vec![0u64; program.kind.record_bytes() / 8];
        words[0] = program.kind as u64;
        words[1] = program.time;
        words[2] = (program.block as u64) << 32 | (self.sent[program.block] - 1);
        if program.processor == RINGS {
            let bytes = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            self.stacks[(place - self.taken) as usize] = Some(bytes);
        } else {
            let ring = program.processor * RING_BYTES as usize / 8;
            let word = ring + (place & (RING_BYTES - 1)) as usize / 8;
            for (index, &value) in words.iter().enumerate().rev() {
                assert_eq!(self.pages[word + index], 0, "the reader has cleared it");
                self.pages[word + index] = value;
            }
        }
    }
}

struct FakeStacks {
    machine: Rc<RefCell<Machine>>,
    end: u64,
}

impl Source for FakeStacks {
    fn begin(&mut self) {
        let mut machine = self.machine.borrow_mut();
        // The rings have begun already.
        machine.go_on();
        self.end = machine.taken + machine.stacks.len() as u64;
    }

    fn peek(&mut self) -> Next {
        let machine = self.machine.borrow();
        if machine.taken >= self.end {
            return Next::Nothing;
        }
        match machine.stacks.front() {
            Some(Some(record)) => Next::At(word(record, 1)),
            Some(None) => Next::Unfinished,
            None => Next::Nothing,
        }
    }

    fn take(&mut self, on_record: impl FnOnce(&[u8])) {
        let mut machine = self.machine.borrow_mut();
        let record = machine.stacks.pop_front().flatten().expect("it was looked at");
        machine.taken += 1;
        drop(machine);
        on_record(&record);
    }
}

fn word(record: &[u8], index: usize) -> u64 {
    u64::from_ne_bytes(record[8 * index..8 * index + 8].try_into().expect("a word"))
}

fn reader_of(machine: &Rc<RefCell<Machine>>) -> Merge<FakeStacks> {
    Merge::new(machine.borrow_mut().readers(), FakeStacks { machine: machine.clone(), end: 0 })
}

/// Reads once, while steps are taken; returns the outcome.
fn drain(machine: &RefCell<Machine>, merge: &mut Merge<FakeStacks>, seen: &mut [u64; BLOCKS]) -> Outcome {
    let now = machine.borrow().clock;
    machine.borrow_mut().clock += 1;
    machine.borrow_mut().go_on();
    merge.run(now, |record| {
        let said = word(record, 2);
        let block = (said >> 32) as usize;
        assert_eq!(said & u64::from(u32::MAX), seen[block], "block {block} comes in its order");
        seen[block] += 1;
        machine.borrow_mut().go_on();
    })
}

proptest! {
    #[test]
    fn what_is_said_of_a_block_comes_in_its_order(steps in prop::collection::vec(step(), 0..600)) {
        let machine = Machine::new(steps);
        let mut merge = reader_of(&machine);
        let mut seen = [0; BLOCKS];
        loop {
            let Some(step) = machine.borrow_mut().steps.pop_front() else { break };
            machine.borrow_mut().take(&step);
            if let Step::Drain { meanwhile } = step {
                machine.borrow_mut().meanwhile = meanwhile;
                drain(&machine, &mut merge, &mut seen);
            }
        }
        machine.borrow_mut().finish_all();
        let outcome = drain(&machine, &mut merge, &mut seen);
        prop_assert_eq!(outcome, Outcome::Complete);
        let machine = machine.borrow();
        prop_assert_eq!(seen, machine.sent);
        prop_assert!(machine.pages.iter().all(|&word| word == 0), "all is cleared");
    }
}

#[test]
fn a_record_of_an_unknown_kind_lets_the_ones_behind_it_go() {
    let machine = Machine::new(Vec::new());
    let mut merge = reader_of(&machine);
    machine.borrow_mut().pages[..2].copy_from_slice(&[200, 1]);
    machine.borrow_mut().positions[0].written = 64;
    let mut records = Vec::new();
    let outcome = merge.run(5, |record| records.push(record.to_vec()));
    assert_eq!((outcome, records.len(), records[0].len()), (Outcome::Complete, 1, 8));
    assert_eq!(machine.borrow().positions[0].read, 64);
    assert_eq!(machine.borrow().pages[..8], [0; 8]);
}
