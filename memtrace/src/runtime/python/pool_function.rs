//! Which function of CPython makes a pool of small blocks ready: `allocate_from_new_pool` in Objects/obmalloc.c.
//!
//! Of the blocks that pymalloc hands out most come from copies of its shortest way that the compiler has put into their callers. What is
//! never copied is the function that is called when no pool of the size is left: it is called from hundreds of places. Where the file has
//! its symbol, that tells. Elsewhere it is the function that calls the allocator of arenas through its place in a table, and of the few
//! that do, the one with by far the most callers.

use std::fs::File;

use gimli::{EhFrame, NativeEndian, UnwindSection as _};
use iced_x86::{Decoder, DecoderOptions, OpKind};

use super::{
    RUNTIME, SINCE, VERSION,
    layout::{Arenas, Layout},
    minor_since,
};
use crate::{
    object::{
        frames::FrameFile,
        symbols::{ElfFile, Symbol},
    },
    runtime::memory::half_word_at,
};

/// Its name, which a stripped file does not have.
pub const POOL_FUNCTION: &str = "allocate_from_new_pool";

/// The function that copies the table of the allocator of arenas.
const ARENA_ALLOCATOR: &str = "PyObject_GetArenaAllocator";

/// In that table: the function that allocates, behind a word that it is given.
const ALLOCATE: u64 = 8;

/// The longest code that is looked through, in bytes.
const MAX_TEXT: u64 = 256 << 20;

/// The most places that may call through the table.
const MAX_CALLS: usize = 64;

/// From how many places the function is called at least, and how many times as often as the next one that calls the allocator.
const LEAST_CALLERS: usize = 16;
const MORE_CALLERS: usize = 2;

/// The longest function that copies a table, in instructions.
const MAX_INSTRUCTIONS: usize = 24;

/// Finds the function in a file that defines CPython; `None` where it has none of its own, as in 3.8, or is not known.
pub fn find(file: &mut File, elf: &ElfFile<File>) -> Option<Symbol> {
    let since = SINCE.map(|(name, _)| name);
    let wanted = [&since[..], &[RUNTIME, VERSION, POOL_FUNCTION, ARENA_ALLOCATOR]].concat();
    let symbols = elf.symbols(&wanted, |name| name).ok()?;
    let minor = match symbols.get(VERSION) {
        Some(version) => elf.data(version.address).map(u32::from_ne_bytes)? >> 16 & 0xff,
        None => minor_since(|name| symbols.contains_key(name))?,
    };
    let layout = Layout::of(minor)?;
    if let Some(&symbol) = symbols.get(POOL_FUNCTION) {
        return Some(symbol);
    }
    let table = match layout.arenas()? {
        Arenas::InRuntime(offset) => symbols.get(RUNTIME)?.address.checked_add(offset)?,
        Arenas::Copied => copied_table(elf, symbols.get(ARENA_ALLOCATOR)?)?,
    };
    let (address, size) = by_calls(file, elf, table.checked_add(ALLOCATE)?)?;
    Some(Symbol { address, size: Some(size), indirect: false })
}

/// The table that a function copies: the lowest place that its code names.
fn copied_table(elf: &ElfFile<File>, function: &Symbol) -> Option<u64> {
    let code = elf.code(function).ok()?;
    let mut decoder = Decoder::with_ip(64, code, function.address, DecoderOptions::NONE);
    let instructions = std::iter::from_fn(|| decoder.can_decode().then(|| decoder.decode()));
    let named = instructions.take(MAX_INSTRUCTIONS).take_while(|instruction| !instruction.is_invalid());
    let places = named.filter(|instruction| {
        (0..instruction.op_count()).any(|index| instruction.op_kind(index) == OpKind::Memory)
            && instruction.is_ip_rel_memory_operand()
    });
    places.map(|instruction| instruction.ip_rel_memory_address()).min()
}

/// The function that calls through this place, and has the most callers of those that do: where it begins, and its bytes.
fn by_calls(file: &mut File, elf: &ElfFile<File>, place: u64) -> Option<(u64, u64)> {
    let text = elf.section_place(b".text").ok()??;
    let code = elf.section(b".text", MAX_TEXT).ok()??;
    let frames = FrameFile::read(file).ok()?;
    let mut functions: Vec<(u64, u64)> = calls_through(code, text.address, place)
        .take(MAX_CALLS)
        .filter_map(|call| function_around(&frames, call))
        .collect();
    functions.sort_unstable();
    functions.dedup();
    let starts: Vec<u64> = functions.iter().map(|&(start, _)| start).collect();
    let callers = callers(code, text.address, &starts);
    let mut ranked: Vec<(usize, (u64, u64))> = callers.into_iter().zip(functions).collect();
    ranked.sort_unstable_by_key(|&(callers, _)| std::cmp::Reverse(callers));
    let &(most, function) = ranked.first()?;
    let next = ranked.get(1).map_or(0, |&(callers, _)| callers);
    (most >= LEAST_CALLERS && most >= MORE_CALLERS * next).then_some(function)
}

/// Where code calls through a place in memory: `call *PLACE(%rip)`.
fn calls_through(code: &[u8], address: u64, place: u64) -> impl Iterator<Item = u64> {
    targets(code, address, &[0xff, 0x15]).filter(move |&(_, target)| target == place).map(|(call, _)| call)
}

/// How many direct calls go to each of these addresses.
fn callers(code: &[u8], address: u64, to: &[u64]) -> Vec<usize> {
    let mut callers = vec![0; to.len()];
    for (_, target) in targets(code, address, &[0xe8]) {
        if let Some(index) = to.iter().position(|&start| start == target) {
            callers[index] += 1;
        }
    }
    callers
}

/// What may be instructions that begin so and end with a distance: where they are, and where they lead. Some are parts of others.
fn targets(code: &[u8], address: u64, begin: &'static [u8]) -> impl Iterator<Item = (u64, u64)> {
    let length = begin.len() + 4;
    code.windows(length).enumerate().filter(move |(_, bytes)| bytes.starts_with(begin)).map(move |(at, bytes)| {
        let distance = half_word_at(bytes, begin.len()).unwrap_or(0);
        let here = address.wrapping_add(at as u64);
        (here, here.wrapping_add(length as u64).wrapping_add_signed(i64::from(distance.cast_signed())))
    })
}

/// Where the function around an address begins, and its bytes, by the rules for unwinding.
fn function_around(frames: &FrameFile, address: u64) -> Option<(u64, u64)> {
    let rules = EhFrame::new(&frames.eh_frame, NativeEndian);
    let entry = rules
        .fde_for_address(&frames.bases, address, |rules, bases, offset| rules.cie_from_offset(bases, offset))
        .ok()?;
    Some((entry.initial_address(), entry.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn calls_are_found_where_they_are() {
        // nop; call *0x10(%rip); call -11
        let code = [0x90, 0xff, 0x15, 0x10, 0, 0, 0, 0xe8, 0xf5, 0xff, 0xff, 0xff];
        assert_eq!(calls_through(&code, 0x1000, 0x1017).collect::<Vec<_>>(), [0x1001]);
        assert_eq!(calls_through(&code, 0x1000, 0x1018).count(), 0);
        assert_eq!(callers(&code, 0x1000, &[0x1001, 0x1002]), [1, 0]);
    }

    proptest! {
        #[test]
        fn any_code_is_looked_through(code in prop::collection::vec(any::<u8>(), 0..200), address in any::<u64>(), place in any::<u64>()) {
            let _ = calls_through(&code, address, place).count();
            prop_assert_eq!(callers(&code, address, &[place]).len(), 1);
        }
    }
}
