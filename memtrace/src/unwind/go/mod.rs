//! Rules for Go's code: from Go's own table of functions, which stripped programs have as well, and from the code of the few functions
//! that change stacks (`switches`).
//!
//! Go keeps for every address how far the stack pointer is below the return address; the rules say nothing of frame pointers, as Go's
//! call frame information does not either: Go's frames do not need them, and C's are undone where C called Go (`crosscall2`).

mod switches;

use std::{fs::File, ops::Range, rc::Rc};

use memtrace_common::unwind::{Cfa, FramePointer, Rule};

use self::switches::{Changes, Function};
use super::table::MAX_ROWS;
use crate::object::{
    go_table::{self, GoTable},
    symbols::ElfFile,
};

/// The rules of one function of Go.
#[derive(Debug, Eq, Hash, PartialEq)]
pub struct Ruled {
    /// Where the function's code begins, as linked.
    pub begin: u64,
    /// The address behind its code.
    pub end: u64,
    /// Where its rules are among [`Rules::rows`].
    pub rows: Range<usize>,
    /// Whether the rules come before those of call frame information.
    pub is_first: bool,
}

/// The rules of a file's Go code.
#[derive(Debug, Default, Hash)]
pub struct Rules {
    /// Functions in the order of their addresses.
    pub functions: Vec<Ruled>,
    /// From each address on this packed rule, function by function.
    pub rows: Vec<(u64, u32)>,
}

impl Rules {
    /// The rules of a file of Go. `covered` are the functions that have call frame information, sorted, without overlaps. A file that is
    /// not of Go, or whose table cannot be read, has none.
    pub fn read(file: &File, covered: &[Range<u64>]) -> Rules {
        Self::try_read(file, covered).unwrap_or_default()
    }

    fn try_read(file: &File, covered: &[Range<u64>]) -> Option<Rules> {
        let elf = ElfFile::parse(file.try_clone().ok()?).ok()?;
        if !go_table::is_in(&elf) {
            return None;
        }
        let table = GoTable::open(Rc::new(file.try_clone().ok()?), &elf)?;
        let is_covered = |begin: u64| {
            let next = covered.partition_point(|range| range.start <= begin);
            next.checked_sub(1).and_then(|index| covered.get(index)).is_some_and(|range| begin < range.end)
        };
        let mut rules = Rules::default();
        let mut changes = Changes::default();
        for listed in table.functions() {
            let name = table.which(&listed, switches::NAMES);
            let uncovered = !is_covered(listed.begin);
            if listed.end <= listed.begin || (name.is_none() && !uncovered) {
                continue;
            }
            let depths = table.depths(&listed);
            if let Some(name) = name {
                let code = elf.code_at(listed.begin, listed.end - listed.begin).unwrap_or_default();
                changes.add(Function { name, begin: listed.begin, end: listed.end, code, depths: &depths });
            }
            if !uncovered {
                continue;
            }
            let first = rules.rows.len();
            if first >= MAX_ROWS {
                break;
            }
            rules.rows.extend(depths.iter().filter_map(|&(address, depth)| Some((address, by_depth(depth?).pack()))));
            let (begin, end) = (listed.begin, depths.last().map_or(listed.begin, |&(address, _)| address));
            if begin < end {
                rules.functions.push(Ruled { begin, end, rows: first..rules.rows.len(), is_first: false });
            }
        }
        for (range, rows) in changes.rules() {
            let first = rules.rows.len();
            rules.rows.extend(rows.into_iter().map(|(address, rule)| (address, rule.pack())));
            let ruled = Ruled { begin: range.start, end: range.end, rows: first..rules.rows.len(), is_first: true };
            match rules.functions.iter().position(|function| function.begin == range.start) {
                Some(index) => rules.functions[index] = ruled,
                None => rules.functions.push(ruled),
            }
        }
        rules.functions.sort_by_key(|function| function.begin);
        Some(rules)
    }

    /// The function that begins at an address, if its rules come before those of call frame information.
    pub fn first_at(&self, begin: u64) -> Option<&Ruled> {
        let index = self.functions.binary_search_by_key(&begin, |function| function.begin).ok()?;
        self.functions.get(index).filter(|function| function.is_first)
    }
}

/// The rule where the stack pointer is so many bytes below the return address.
fn by_depth(depth: i64) -> Rule {
    let bytes = depth.checked_add(8).and_then(|bytes| i32::try_from(bytes).ok()).filter(|&bytes| bytes > 0);
    Rule::Frame { cfa: Cfa::Sp(bytes.unwrap_or(i32::MAX)), fp: FramePointer::Unchanged }
}
