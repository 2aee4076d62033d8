//! An object's unwind table: its call frame information as sorted 8-byte rows (`memtrace_common::unwind::row`).
//!
//! `.eh_frame` comes first, and `.debug_frame` fills what it leaves out. Each function's rules hold from its start to
//! its end or to the start of the next, whichever is first; of two functions with one start the first in the section
//! wins. Go's own table fills what is left out of Go's code, and comes first where Go changes stacks. Rows that repeat their predecessor's rule are dropped.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    hash::{BuildHasher as _, RandomState},
    io::{Cursor, Read, Seek},
    ops::Range,
};

use gimli::{
    BaseAddresses, CieOrFde, CommonInformationEntry, DebugFrame, EhFrame, FrameDescriptionEntry, NativeEndian,
    PartialFrameDescriptionEntry, UnwindContext, UnwindOffset, UnwindSection, X86_64,
};
use memtrace_common::unwind::{Rows, Rule, Unsupported, row, search};
use thiserror::Error;

use super::{
    decode::{self, Decoded, End},
    go,
    rules::{self, Bytes},
    without_rules::WithoutRules,
};
use crate::object::{Load, ObjectError, frames::FrameFile};

/// The most rows of one table.
pub const MAX_ROWS: usize = 8 << 20;

/// The most functions of one object.
const MAX_FUNCTIONS: usize = 4 << 20;

/// The most bytes of a common entry (CIE); compilers' have 20 to 40. Each is evaluated for each of its functions.
const MAX_COMMON_BYTES: u32 = 1 << 10;

/// The most common entries that are kept; a linker merges equal ones, and there are a few hundred.
const MAX_COMMON_ENTRIES: usize = 1 << 16;

/// The most bytes of entries that are evaluated for one object, the common ones counted each time: four times what
/// the largest browsers have. What may be evaluated takes seconds at worst.
const MAX_WORK_BYTES: u64 = 128 << 20;

/// The most rows that are evaluated, of which many repeat their predecessors.
const MAX_ROWS_EVALUATED: u64 = 32 << 20;

/// A stretch without rules is taken for code, not padding, from this size on. Functions begin at multiples of 64 at
/// most, and hand-written code that has no rules is seldom one small function.
const MIN_CODE_BYTES: u64 = 64;

/// How much of the code at a program's entry is its own start, where the file has no rules for it: the C library's
/// start code is less than 100 bytes.
const START_CODE_BYTES: u64 = 256;

/// Why an object has no table.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum TableError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ObjectError),
    /// No segment of it is mapped with permission to execute.
    #[error("it has no code")]
    NoCode,
    /// It has neither `.eh_frame` nor `.debug_frame`, or nothing in them is for its code, and its code does not tell its rules.
    #[error("it has no call frame information for its code")]
    NoRules,
    /// More functions than memtrace reads.
    #[error("it has more than {MAX_FUNCTIONS} functions")]
    TooManyFunctions,
    /// More rows than a table holds.
    #[error("its table would have more than {MAX_ROWS} rows")]
    TooManyRows,
    /// More instructions than memtrace evaluates.
    #[error("its call frame information takes too long to evaluate")]
    TooMuchWork,
    /// The tables of all objects together are too large.
    #[error("the unwind tables of all objects together have more rows than memtrace keeps")]
    CacheFull,
}

/// What became of an object's call frame information.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// Functions (FDEs) in the table.
    pub functions: u64,
    /// Functions left out because they are not in the object's code, or empty, or already covered.
    pub functions_ignored: u64,
    /// Functions and other entries that do not parse.
    pub functions_malformed: u64,
    /// Functions that no entry covers and whose rules come from their code.
    pub functions_decoded: u64,
    /// Functions that no entry covers and whose code does not tell their rules.
    pub functions_given_up: u64,
    /// Rows before those that repeat their predecessor were dropped.
    pub rows_evaluated: u64,
    /// Of these, the rows whose rule the format cannot express, by reason ([`Unsupported::ALL`]).
    pub unsupported: [u64; Unsupported::ALL.len()],
}

/// The unwind table of one object, sorted by address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Table {
    /// The address, as linked, that the rows' offsets count from: the lowest of the object's code.
    pub base: u64,
    /// Sorted; at least one.
    pub rows: Vec<u64>,
    /// The object's segments, of which the executable ones place the table in memory.
    pub loads: Vec<Load>,
    /// The object's build id, for display: anyone can write one into a file.
    pub build_id: Option<Vec<u8>>,
    /// What became of its call frame information.
    pub stats: Stats,
}

impl Rows for Table {
    fn row(&self, index: u32) -> Option<u64> {
        self.rows.get(index as usize).copied()
    }
}

impl Table {
    /// The table of an ELF file.
    ///
    /// # Errors
    ///
    /// When the file is none for this machine, is damaged, has no rules, or passes a limit.
    pub fn read<R: Read + Seek>(reader: &mut R) -> Result<Table, TableError> {
        Source::read(reader, None)?.table()
    }

    /// The table of an object that is in memory and has no file, such as the vDSO.
    ///
    /// # Errors
    ///
    /// As for [`Table::read`].
    pub fn of_image(image: &[u8]) -> Result<Table, TableError> {
        Table::read(&mut Cursor::new(image))
    }

    /// The rule for an address, as linked. `None` before the first row and behind the object's end.
    pub fn rule(&self, address: u64) -> Option<Rule> {
        let offset = search::offset(address, self.base)?;
        let count = u32::try_from(self.rows.len()).ok()?;
        search::search(self, 0, count, offset).map(Rule::unpack)
    }
}

/// What a table is made from, as read from a file.
pub(super) struct Source {
    elf: FrameFile,
    /// Settled, sorted.
    functions: Vec<Function>,
    without_rules: WithoutRules,
    go: go::Rules,
    stats: Stats,
}

impl Source {
    /// Reads a file, or the image of one in memory, of which there is no file.
    pub fn read<R: Read + Seek>(reader: &mut R, file: Option<&File>) -> Result<Source, TableError> {
        let elf = FrameFile::read(reader)?;
        let mut stats = Stats::default();
        let (mut eh_frame, mut debug_frame) = sections(&elf);
        let mut functions = functions_of(&mut eh_frame, &elf.loads, Origin::EhFrame, &mut stats)?;
        settle(&mut functions, &mut stats);
        let others = functions_of(&mut debug_frame, &elf.loads, Origin::DebugFrame, &mut stats)?;
        add_uncovered(&mut functions, others, &mut stats);
        settle(&mut functions, &mut stats);
        drop((eh_frame, debug_frame));
        let ranges = |functions: &[Function]| functions.iter().map(|function| function.start..function.end).collect();
        let covered: Vec<_> = ranges(&functions);
        let without_rules = WithoutRules::read(reader, &elf, &covered);
        let go = file.filter(|_| elf.is_go()).map(|file| go::Rules::read(file, &covered)).unwrap_or_default();
        let of_go = go.functions.iter().enumerate().map(|(entry, function)| Function {
            start: function.begin,
            origin: Origin::Go,
            entry,
            end: function.end,
        });
        let of_go = of_go.filter(|function| elf.is_code(function.start..function.end)).collect();
        add_uncovered(&mut functions, of_go, &mut stats);
        settle(&mut functions, &mut stats);
        Ok(Source { elf, functions, without_rules, go, stats })
    }

    /// A number that stands for everything from which the table is made.
    pub fn fingerprint(&self, state: &RandomState) -> u64 {
        let FrameFile { loads, entry, bases, eh_frame, debug_frame, build_id, .. } = &self.elf;
        let bases = [bases.eh_frame.section, bases.eh_frame.text, bases.eh_frame.data];
        state.hash_one((loads, entry, bases, eh_frame, debug_frame, build_id, &self.without_rules, &self.go))
    }

    /// Makes the table of what was read from the file.
    pub fn table(self) -> Result<Table, TableError> {
        let Source { elf, functions, without_rules, go, stats } = self;
        let base = elf.loads.iter().filter(|load| load.executable).map(|load| load.address).min();
        let base = base.ok_or(TableError::NoCode)?;
        let decoded = decode::decode(&without_rules.stretches, &without_rules.starts);
        if functions.is_empty() && decoded.functions == 0 {
            return Err(TableError::NoRules);
        }
        let mut builder = Builder { base, rows: Vec::new(), stats, decoded, work_bytes: 0, context: Box::default() };
        builder.stats.functions = functions.len() as u64;
        builder.stats.functions_decoded = builder.decoded.functions;
        builder.stats.functions_given_up = builder.decoded.given_up;
        let (mut eh_frame, mut debug_frame) = sections(&elf);

        let end = elf.loads.iter().filter(|load| load.executable).map(Load::end).max().unwrap_or(0);
        let mut covered_to = builder.base;
        for function in functions {
            builder.uncovered(covered_to..function.start, elf.entry)?;
            covered_to = function.end;
            let ends = without_rules.ends.binary_search_by_key(&function.start, |&(start, _)| start).ok();
            if let Some((start, end)) = ends.and_then(|index| without_rules.ends.get(index)) {
                builder.push(start - 1, Rule::EndOfStack)?;
                if *end == End::Within {
                    builder.push(*start, Rule::EndOfStack)?;
                    continue;
                }
            }
            let first = go.first_at(function.start);
            match function.origin {
                _ if first.is_some() => builder.go(&go, first)?,
                Origin::Go => builder.go(&go, go.functions.get(function.entry))?,
                Origin::EhFrame => builder.function(&mut eh_frame, &function)?,
                Origin::DebugFrame => builder.function(&mut debug_frame, &function)?,
            }
        }
        builder.uncovered(covered_to..end.max(covered_to), elf.entry)?;
        // Behind the code there is nothing.
        builder.push(end.max(covered_to), Rule::Gap)?;
        builder.rows.shrink_to_fit();
        Ok(Table {
            base: builder.base,
            rows: builder.rows,
            loads: elf.loads,
            build_id: elf.build_id,
            stats: builder.stats,
        })
    }
}

/// `.eh_frame` and `.debug_frame`.
fn sections(elf: &FrameFile) -> (Section<'_, EhFrame<Bytes<'_>>>, Section<'_, DebugFrame<Bytes<'_>>>) {
    let mut debug_frame = DebugFrame::new(&elf.debug_frame, NativeEndian);
    debug_frame.set_address_size(8);
    let eh_frame = EhFrame::new(&elf.eh_frame, NativeEndian);
    (Section::new(eh_frame, &elf.eh_frame, &elf.bases), Section::new(debug_frame, &elf.debug_frame, &elf.bases))
}

impl fmt::Debug for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Source").field("loads", &self.elf.loads).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Origin {
    EhFrame,
    DebugFrame,
    Go,
}

/// A function that has rules: addresses as linked, and where its entry is in its section, or which one it is of [`go::Rules`].
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Function {
    start: u64,
    origin: Origin,
    entry: usize,
    end: u64,
}

/// Sorts by start, drops all but the first with each start, and ends each where the next begins.
fn settle(functions: &mut Vec<Function>, stats: &mut Stats) {
    let before = functions.len();
    functions.sort_unstable();
    functions.dedup_by_key(|function| function.start);
    stats.functions_ignored += (before - functions.len()) as u64;
    let mut next = u64::MAX;
    for function in functions.iter_mut().rev() {
        function.end = function.end.min(next);
        next = function.start;
    }
}

/// Adds those of the others that overlap no function: of settled, sorted functions the last that starts before the
/// other's end also ends last.
fn add_uncovered(functions: &mut Vec<Function>, others: Vec<Function>, stats: &mut Stats) {
    let settled = functions.len();
    for other in others {
        let before_end = functions[..settled].partition_point(|function| function.start < other.end);
        match before_end.checked_sub(1).and_then(|index| functions.get(index)) {
            Some(last) if last.end > other.start => stats.functions_ignored += 1,
            _ => functions.push(other),
        }
    }
}

/// A section with call frame information, and the common entries of it that have been parsed.
struct Section<'a, S> {
    section: S,
    bytes: &'a [u8],
    bases: &'a BaseAddresses,
    common: HashMap<usize, Option<CommonInformationEntry<Bytes<'a>>>>,
}

impl<'a, S: UnwindSection<Bytes<'a>>> Section<'a, S> {
    fn new(section: S, bytes: &'a [u8], bases: &'a BaseAddresses) -> Section<'a, S> {
        Section { section, bytes, bases, common: HashMap::new() }
    }

    /// Parses an entry with its common entry, if both are sound.
    fn parse(&mut self, entry: &PartialFrameDescriptionEntry<'_, S, Bytes<'a>>) -> Option<Entry<'a>> {
        let offset: usize = UnwindOffset::into(entry.cie_offset());
        let common = match self.common.get(&offset) {
            Some(common) => common.clone(),
            None => {
                let common = self.common_entry(offset);
                if self.common.len() < MAX_COMMON_ENTRIES {
                    self.common.insert(offset, common.clone());
                }
                common
            }
        }?;
        entry.parse(|_: &S, _, _| Ok(common.clone())).ok()
    }

    /// Parses a common entry unless it is too long, in which case even to look for its parts would take long.
    fn common_entry(&self, offset: usize) -> Option<CommonInformationEntry<Bytes<'a>>> {
        let length = u32::from_le_bytes(*self.bytes.get(offset..)?.first_chunk()?);
        // All ones announce a length of 64 bits, for sections larger than memtrace reads.
        if length > MAX_COMMON_BYTES {
            return None;
        }
        self.section.cie_from_offset(self.bases, S::Offset::from(offset)).ok()
    }
}

type Entry<'a> = FrameDescriptionEntry<Bytes<'a>>;

/// The functions of a section that lie in the object's code.
fn functions_of<'a, S: UnwindSection<Bytes<'a>>>(
    section: &mut Section<'a, S>,
    loads: &[Load],
    origin: Origin,
    stats: &mut Stats,
) -> Result<Vec<Function>, TableError> {
    let mut functions = Vec::new();
    let mut entries = section.section.clone().entries(section.bases);
    loop {
        let entry = match entries.next() {
            Ok(Some(CieOrFde::Fde(entry))) => entry,
            Ok(Some(CieOrFde::Cie(_))) => continue,
            Ok(None) => return Ok(functions),
            Err(_) => {
                // Where the next entry would begin is not known.
                stats.functions_malformed += 1;
                return Ok(functions);
            }
        };
        let Some(function) = section.parse(&entry) else {
            stats.functions_malformed += 1;
            continue;
        };
        let start = function.initial_address();
        let end = start.saturating_add(function.len());
        let in_code = |load: &Load| load.executable && load.address <= start && end <= load.end();
        // A linker that drops a function leaves its entry in .debug_frame behind, at address 0.
        if start >= end || !loads.iter().any(in_code) {
            stats.functions_ignored += 1;
            continue;
        }
        if functions.len() == MAX_FUNCTIONS {
            return Err(TableError::TooManyFunctions);
        }
        functions.push(Function { start, origin, entry: entry.offset(), end });
    }
}

struct Builder {
    base: u64,
    rows: Vec<u64>,
    stats: Stats,
    decoded: Decoded,
    work_bytes: u64,
    context: Box<UnwindContext<usize>>,
}

impl Builder {
    /// Pushes a function's rows.
    fn function<'a, S: UnwindSection<Bytes<'a>>>(
        &mut self,
        section: &mut Section<'a, S>,
        function: &Function,
    ) -> Result<(), TableError> {
        let entry = section.section.partial_fde_from_offset(section.bases, S::Offset::from(function.entry)).ok();
        let Some(entry) = entry.and_then(|entry| section.parse(&entry)) else {
            return self.push(function.start, Rule::Unsupported(Unsupported::Malformed));
        };
        self.work_bytes += entry.cie().entry_len() as u64 + entry.entry_len() as u64;
        if self.work_bytes > MAX_WORK_BYTES {
            return Err(TableError::TooMuchWork);
        }
        if entry.cie().return_address_register() != X86_64::RA {
            return self.push(function.start, Rule::Unsupported(Unsupported::ReturnAddress));
        }
        // Taken out for the time: the rows borrow it.
        let mut context = std::mem::take(&mut self.context);
        let pushed = self.rows_of(&entry, section, function, &mut context);
        self.context = context;
        pushed
    }

    /// Pushes the rows of a function of Go.
    fn go(&mut self, rules: &go::Rules, function: Option<&go::Ruled>) -> Result<(), TableError> {
        let rows = function.and_then(|function| rules.rows.get(function.rows.clone())).unwrap_or_default();
        rows.iter().try_for_each(|&(address, rule)| self.push(address, Rule::unpack(rule)))
    }

    fn rows_of<'a, S: UnwindSection<Bytes<'a>>>(
        &mut self,
        entry: &Entry<'a>,
        section: &Section<'a, S>,
        function: &Function,
        context: &mut UnwindContext<usize>,
    ) -> Result<(), TableError> {
        let signal = entry.is_signal_trampoline();
        // From here on nothing is known yet.
        let mut known_to = function.start;
        if let Ok(mut rows) = entry.rows(&section.section, section.bases, context) {
            while let Ok(Some(row)) = rows.next_row() {
                let (start, end) = (row.start_address(), row.end_address().min(function.end));
                if start >= function.end {
                    return Ok(());
                }
                // An advance by nothing, or one that wraps around.
                if start >= end || start < known_to {
                    continue;
                }
                self.push(start, rules::rule(row, &section.section, signal))?;
                known_to = end;
            }
        }
        // Instructions that end early or do not parse leave a rest.
        if known_to < function.end {
            self.push(known_to, Rule::Unsupported(Unsupported::Malformed))?;
        }
        Ok(())
    }

    /// Pushes the row of a stretch that no function covers.
    fn uncovered(&mut self, range: Range<u64>, entry: u64) -> Result<(), TableError> {
        if range.start >= range.end {
            return Ok(());
        }
        if range.contains(&entry) {
            // The C library's start code, some of which has no rules, is where the stack ends.
            let next = self.decoded.starts.range(entry.saturating_add(1)..).next().copied().unwrap_or(range.end);
            let behind = entry.saturating_add(START_CODE_BYTES).min(next).min(range.end);
            self.uncovered(range.start..entry, u64::MAX)?;
            self.push(entry, Rule::EndOfStack)?;
            return self.uncovered(behind..range.end, u64::MAX);
        }
        let padding = range.end - range.start < MIN_CODE_BYTES;
        let frameless =
            self.decoded.frameless.range(..range.end).next_back().is_some_and(|(_, &end)| end > range.start);
        let unknown = if padding || frameless { Rule::Gap } else { Rule::WithoutRules };
        self.push(range.start, unknown)?;
        let decoded: Vec<_> = self.decoded.rows.range(range).map(|(&address, &rule)| (address, rule)).collect();
        decoded.into_iter().try_for_each(|(address, rule)| self.push(address, rule.unwrap_or(unknown)))
    }

    fn push(&mut self, address: u64, rule: Rule) -> Result<(), TableError> {
        // Code more than 4 GiB behind the base has no rows.
        let Some(offset) = address.checked_sub(self.base).and_then(|offset| u32::try_from(offset).ok()) else {
            return Ok(());
        };
        let packed = rule.pack();
        self.stats.rows_evaluated += 1;
        if let Rule::Unsupported(reason) = Rule::unpack(packed)
            && let Some(count) = self.stats.unsupported.get_mut(reason as usize)
        {
            *count += 1;
        }
        if self.stats.rows_evaluated > MAX_ROWS_EVALUATED {
            return Err(TableError::TooMuchWork);
        }
        let next = row::row(offset, packed);
        let rows = self.rows.len();
        match self.rows.last_mut() {
            Some(last) if row::row_offset(*last) > offset || row::row_rule(*last) == packed => {}
            Some(last) if row::row_offset(*last) == offset => *last = next,
            _ if rows == MAX_ROWS => return Err(TableError::TooManyRows),
            _ => self.rows.push(next),
        }
        Ok(())
    }
}
