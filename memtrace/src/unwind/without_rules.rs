//! What of an object's code is decoded: what its call frame information leaves out, and small functions that may be the
//! beginnings of coroutines.

use std::{
    io::{Read, Seek},
    ops::Range,
};

use super::decode::{self, End, MAX_CODE_BYTES, Stretch};
use crate::object::frames::FrameFile;

/// Less is padding: functions begin at multiples of 16.
const MIN_STRETCH_BYTES: u64 = 16;

/// The most bytes of a function that is looked at as the beginning of coroutines: glibc's has 26.
const MAX_END_BYTES: u64 = 64;

/// The most functions that are looked at so, so that of a program of a hundred megabytes most is not read: C libraries have a
/// thousand.
const MAX_CANDIDATES: usize = 1 << 14;

/// How much code is read at once for them.
const PIECE_BYTES: u64 = 64 << 10;

/// Code that has no rules, and what was seen of other code.
#[derive(Debug, Default, Hash)]
pub(super) struct WithoutRules {
    /// In the order of their addresses.
    pub stretches: Vec<Stretch>,
    /// Where functions begin by the symbols and the file's header, sorted. Empty if there is nothing to decode.
    pub starts: Vec<u64>,
    /// Functions with rules at which stacks end, sorted.
    pub ends: Vec<(u64, End)>,
}

impl WithoutRules {
    /// Reads the code. `covered` are the functions that have rules, sorted, without overlaps. Code that cannot be read is
    /// left out: the table says of it what it says of all code without rules.
    pub fn read<R: Read + Seek>(reader: &mut R, elf: &FrameFile, covered: &[Range<u64>]) -> WithoutRules {
        let ends = ends(reader, elf, covered);
        // Go's code has its rules in a table of its own.
        if elf.is_go() {
            return WithoutRules { ends, ..WithoutRules::default() };
        }
        let mut left = MAX_CODE_BYTES;
        let mut stretches = Vec::new();
        for range in uncovered(elf, covered) {
            let end = range.end.min(range.start.saturating_add(left));
            let stretch = Stretch { start: range.start, bytes: elf.code(reader, range.start..end) };
            left = left.saturating_sub(stretch.bytes.len() as u64);
            if !stretch.bytes.is_empty() {
                stretches.push(stretch);
            }
        }
        let mut starts = if stretches.is_empty() { Vec::new() } else { elf.function_symbols(reader) };
        starts.push(elf.entry);
        starts.sort_unstable();
        let is_inside = |start: &u64| {
            let behind = stretches.partition_point(|stretch: &Stretch| stretch.start <= *start);
            behind.checked_sub(1).and_then(|index| stretches.get(index)).is_some_and(|stretch| *start < stretch.end())
        };
        starts.retain(is_inside);
        WithoutRules { stretches, starts, ends }
    }
}

/// The parts of the executable segments that are in the file and in no function, in order.
fn uncovered(elf: &FrameFile, covered: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut loads: Vec<_> = elf.loads.iter().filter(|load| load.executable).collect();
    loads.sort_by_key(|load| load.address);
    let mut found = Vec::new();
    let mut from = 0;
    for load in loads {
        let end = load.address.saturating_add(load.file_bytes);
        from = load.address.max(from);
        let first = covered.partition_point(|function| function.end <= from);
        for function in covered.get(first..).unwrap_or_default().iter().take_while(|function| function.start < end) {
            found.push(from..function.start);
            from = from.max(function.end);
        }
        found.push(from..end);
        from = from.max(end);
    }
    found.retain(|range| range.start < range.end && range.end - range.start >= MIN_STRETCH_BYTES);
    found
}

/// Functions behind padding at which stacks end.
fn ends<R: Read + Seek>(reader: &mut R, elf: &FrameFile, covered: &[Range<u64>]) -> Vec<(u64, End)> {
    let is_candidate = |pair: &[Range<u64>]| match pair {
        [before, function] => before.end < function.start && function.end - function.start <= MAX_END_BYTES,
        _ => false,
    };
    let candidates = covered.windows(2).filter(|pair| is_candidate(pair)).filter_map(|pair| pair.get(1));
    let mut found = Vec::new();
    let mut piece = Stretch { start: 0, bytes: Vec::new() };
    for function in candidates.take(MAX_CANDIDATES) {
        if function.start < piece.start || function.end > piece.end() {
            piece = Stretch {
                start: function.start,
                bytes: elf.code(reader, function.start..function.start.saturating_add(PIECE_BYTES)),
            };
        }
        if let Some(end) = decode::end(piece.bytes(function.clone()), function.start) {
            found.push((function.start, end));
        }
    }
    found
}
