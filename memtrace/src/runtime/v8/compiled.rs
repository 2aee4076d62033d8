//! The functions of a frame and their places: by the offset in bytecode where V8's interpreter runs it, and by the address in what one of its
//! compilers made.
//!
//! Code that the optimising compilers made may stand for several functions, one inlined into the other. All of it is read from the
//! code's own tables, for the address to which the frame's callee returns.

use std::{collections::HashMap, ops::Range};

use memtrace_common::interpreter::COMPILED;

use super::{
    bytecodes,
    heap::{Heap, is_object, small},
    layout,
    positions::{self, MAX_TABLE_BYTES, Position},
};
use crate::{event::StackFrame, object::maps::Mapping};

/// The most frames whose places are kept.
const MAX_PLACES: usize = 1 << 16;
/// How far before an address its code may begin, in bytes.
const MAX_CODE_BYTES: u64 = 1 << 20;
/// Bytes that are read at once on the way there.
const PIECE: u64 = 16 << 10;
/// How far from a mapping with code other code of the process is looked for, in bytes.
const NEAR: u64 = 256 << 20;
/// The most functions that one frame stands for.
const MAX_INLINED: usize = 32;
/// Words at the beginning of instructions among which is the pointer to what describes them.
const STREAM_WORDS: u64 = 4;
/// The most addresses that are looked at which a frame may mean.
const MAX_CANDIDATES: usize = 4;
/// The most bytes of bytecode of one function.
const MAX_BYTECODE_BYTES: u64 = 1 << 20;

/// Finds the places of one process's frames.
#[derive(Debug)]
pub struct Places {
    heap: Heap,
    /// The type of instructions.
    stream_map: u64,
    /// Where memory is mapped that holds code and is no file.
    code: Vec<Range<u64>>,
    known: HashMap<(u64, u32), Box<[StackFrame]>>,
}

impl Places {
    /// Finds places in this heap, in which instructions have this type.
    pub fn new(heap: Heap, stream_map: u64, mappings: &[Mapping]) -> Places {
        let mut places = Places { heap, stream_map, code: Vec::new(), known: HashMap::new() };
        places.confine(mappings);
        places
    }

    /// What the process maps from now on.
    pub fn confine(&mut self, mappings: &[Mapping]) {
        self.heap.memory.confine(mappings);
        let is_code = |mapping: &&Mapping| mapping.executable && mapping.inode == 0;
        self.code = mappings.iter().filter(is_code).map(|mapping| mapping.start..mapping.end).collect();
    }

    /// Puts into `frames` for each frame of the interpreter's the functions that it stands for, the innermost first, each with a place in its
    /// script: a character and 1, or 0 where only the function is known. Other frames stay.
    pub fn place(&mut self, frames: &mut Vec<StackFrame>) {
        if !frames.iter().any(|frame| matches!(frame, StackFrame::Interpreter { .. })) {
            return;
        }
        let observed = std::mem::take(frames);
        for frame in observed {
            match frame {
                StackFrame::Native(_) => frames.push(frame),
                StackFrame::Interpreter { code, offset } => frames.extend_from_slice(self.of(code, offset)),
            }
        }
    }

    fn of(&mut self, shared: u64, instruction: u32) -> &[StackFrame] {
        if self.known.len() >= MAX_PLACES && !self.known.contains_key(&(shared, instruction)) {
            self.known.clear();
        }
        let (heap, stream_map, code) = (&self.heap, self.stream_map, &self.code);
        self.known.entry((shared, instruction)).or_insert_with(|| {
            let found = Frame { heap, stream_map, code, shared, instruction }.functions();
            let function = |(code, place)| StackFrame::Interpreter { code, offset: place };
            found.into_iter().map(function).collect()
        })
    }
}

/// A frame of which the functions are looked for.
struct Frame<'a> {
    heap: &'a Heap,
    stream_map: u64,
    code: &'a [Range<u64>],
    shared: u64,
    instruction: u32,
}

/// A function, and a place in its script.
type Function = (u64, u32);

/// What stands for a position.
fn place(position: Option<Position>) -> u32 {
    position.map_or(0, |position| position.character + 1)
}

impl Frame<'_> {
    fn functions(&self) -> Vec<Function> {
        if u64::from(self.instruction) & COMPILED == 0 {
            return vec![(self.shared, place(self.at_offset(self.instruction)))];
        }
        if let Some(place) = self.in_baseline_code() {
            return vec![(self.shared, place)];
        }
        self.in_optimised_code().unwrap_or_else(|| vec![(self.shared, 0)])
    }

    /// The position of the bytecode at an offset from the pointer to it.
    fn at_offset(&self, offset: u32) -> Option<Position> {
        let bytecode = self.heap.bytecode(self.shared)?;
        let begin = self.heap.layout.bytecode - 1;
        self.position(bytecode, i64::from(offset).checked_sub(begin.cast_signed())?)
    }

    fn position(&self, bytecode: u64, offset: i64) -> Option<Position> {
        positions::at(&self.heap.positions(bytecode)?, self.heap.form, offset)
    }

    /// The lowest bits of the return address.
    fn low(&self) -> u64 {
        u64::from(self.instruction) & (COMPILED - 1)
    }

    /// How far the return address is in code that begins there and has so many bytes; `None` if it is not in it.
    fn inside(&self, code: u64) -> Option<u64> {
        let layout = &self.heap.layout;
        let start = self.heap.word(code, layout.code_start)?;
        let size = self.heap.memory.half_word((code - 1).checked_add(layout.code_size)?)?;
        let inside = self.low().wrapping_sub(start) & (COMPILED - 1);
        // A call may be the last instruction.
        (inside > 0 && inside <= size.into()).then_some(inside)
    }

    /// The place of a frame in what the baseline compiler made of its function: for each bytecode the table says how many bytes it became.
    /// `None` if the frame is in other code.
    fn in_baseline_code(&self) -> Option<u32> {
        let heap = self.heap;
        let code = heap.word(self.shared, layout::DATA).filter(|&code| is_object(code))?;
        let bytecode = heap.word(code, heap.layout.code_deoptimization)?;
        if heap.type_of(bytecode)? != heap.layout.bytecode_type {
            return None;
        }
        let inside = self.inside(code)?;
        Some(place(self.of_baseline(code, bytecode, inside)))
    }

    fn of_baseline(&self, code: u64, bytecode: u64, inside: u64) -> Option<Position> {
        let heap = self.heap;
        let table = heap.bytes(heap.word(code, heap.layout.code_positions)?, MAX_TABLE_BYTES)?;
        let size = u64::try_from(small(heap.word(bytecode, layout::SIZE)?)?).ok()?;
        let begin = (bytecode - 1).checked_add(heap.layout.bytecode)?;
        let instructions = heap.memory.at_most(begin, size, MAX_BYTECODE_BYTES)?;
        let offset =
            bytecodes::offset(&instructions, &table, inside, (heap.layout.shared_type, heap.layout.bytecode_type))?;
        self.position(bytecode, offset)
    }

    /// The functions of a frame in what an optimising compiler made.
    fn in_optimised_code(&self) -> Option<Vec<Function>> {
        let heap = self.heap;
        let code = self.candidates().into_iter().find_map(|address| self.code_at(address))?;
        let inside = self.inside(code)?;
        let table = heap.bytes(heap.word(code, heap.layout.code_positions)?, MAX_TABLE_BYTES)?;
        let mut position = positions::at(&table, heap.form, inside.cast_signed() - 1);
        let deoptimization = heap.word(code, heap.layout.code_deoptimization)?;
        let mut functions = Vec::new();
        while let Some(index) = position.and_then(|position| position.inlined) {
            if functions.len() >= MAX_INLINED {
                break;
            }
            let Some((shared, outer)) = self.inlined(deoptimization, index) else { break };
            functions.push((shared, place(position)));
            position = outer;
        }
        functions.push((self.shared, place(position.filter(|position| position.inlined.is_none()))));
        Some(functions)
    }

    /// A function that was inlined, and where it was.
    fn inlined(&self, deoptimization: u64, index: u16) -> Option<(u64, Option<Position>)> {
        /// A position, and the number of a function among the literals (`InliningPosition`).
        const ENTRY: usize = 16;
        let heap = self.heap;
        let array = heap.element(deoptimization, heap.layout.inlining)?;
        let table = heap.bytes(array, MAX_TABLE_BYTES)?;
        let entry = table.chunks_exact(ENTRY).nth(index.into())?;
        let (raw, id) = entry.split_first_chunk::<8>()?;
        let id = i32::from_le_bytes(id.get(..4)?.try_into().ok()?);
        let literals = heap.element(deoptimization, heap.layout.literals)?;
        // A reference may be a weak one.
        let shared = heap.element(literals, u64::try_from(id).ok()?)? & !2;
        (heap.type_of(shared)? == heap.layout.shared_type).then_some((shared, Position::of(i64::from_le_bytes(*raw))))
    }

    /// The addresses that the lowest bits may be of.
    fn candidates(&self) -> Vec<u64> {
        let mut found = Vec::new();
        for range in self.code {
            let high = range.start & !(COMPILED - 1);
            for high in [high, high.wrapping_add(COMPILED), high.wrapping_sub(COMPILED)] {
                let address = high | self.low();
                let is_near =
                    address.wrapping_add(NEAR).wrapping_sub(range.start) < 2 * NEAR + (range.end - range.start);
                if is_near && !found.contains(&address) && found.len() < MAX_CANDIDATES {
                    found.push(address);
                }
            }
        }
        found
    }

    /// What describes the code in which an address lies: before its instructions stands their type, and a pointer to it.
    fn code_at(&self, address: u64) -> Option<u64> {
        let mut end = address & !7;
        let lowest = end.saturating_sub(MAX_CODE_BYTES);
        while end > lowest {
            // No further than to where a piece begins, below which may be nothing.
            let begin = ((end - 1) & !(PIECE - 1)).max(lowest);
            let bytes = self.heap.memory.at_most(begin, end - begin, PIECE)?;
            for (index, word) in bytes.chunks_exact(8).enumerate().rev() {
                if word == self.stream_map.to_ne_bytes() {
                    let stream = begin + 8 * index as u64;
                    return (1..=STREAM_WORDS).find_map(|at| {
                        let code = self.heap.memory.word(stream + 8 * at)?;
                        let start = self.heap.word(code, self.heap.layout.code_start)?;
                        (start.wrapping_sub(stream) < 256 && start <= address && self.inside(code).is_some())
                            .then_some(code)
                    });
                }
            }
            end = begin;
        }
        None
    }
}
