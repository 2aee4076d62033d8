//! Where the loop is that runs PHP's code: `execute_ex`, and the part of it that compilers put elsewhere, for what happens seldom. That has no
//! name in a stripped file. It is what the loop jumps to outside of itself, as far as the rules for unwinding say that one piece reaches.

use std::{collections::BTreeMap, fs::File, ops::Range};

use gimli::{EhFrame, NativeEndian, UnwindSection as _};
use iced_x86::{Decoder, DecoderOptions, FlowControl};

use crate::object::{
    frames::FrameFile,
    mapped::MappedObject,
    symbols::{ElfFile, Symbol},
};

/// The longest loop that is looked through, in bytes.
const MAX_BYTES: usize = 4 << 20;

/// From how many places the loop jumps to its other part at least. Its last calls are jumps too, to functions of their own.
const LEAST_JUMPS: usize = 3;

/// The parts of the loop, as linked: what its symbol names, and the other part where there is one.
pub fn parts(object: &MappedObject, elf: &ElfFile<File>, symbol: Symbol) -> Vec<Range<u64>> {
    let named = symbol.address..symbol.address.saturating_add(symbol.size.unwrap_or(0));
    let other = elf.code(&symbol).ok().and_then(|code| other(object, code, &named));
    std::iter::once(named).chain(other).collect()
}

/// The piece of code that the loop with this code jumps to from most places.
fn other(object: &MappedObject, code: &[u8], named: &Range<u64>) -> Option<Range<u64>> {
    let (_, mut file) = object.open().ok()?;
    let frames = FrameFile::read(&mut file).ok()?;
    let rules = EhFrame::new(&frames.eh_frame, NativeEndian);
    let mut pieces: BTreeMap<(u64, u64), usize> = BTreeMap::new();
    for target in jumps_out(code, named) {
        let piece =
            rules.fde_for_address(&frames.bases, target, |rules, bases, offset| rules.cie_from_offset(bases, offset));
        if let Ok(piece) = piece {
            // A jump to the beginning of a function may be a call.
            let begin = piece.initial_address();
            *pieces.entry((begin, begin.saturating_add(piece.len()))).or_default() += usize::from(target != begin);
        }
    }
    let ((begin, end), jumps) = pieces.into_iter().max_by_key(|&(_, jumps)| jumps)?;
    (jumps >= LEAST_JUMPS).then_some(begin..end)
}

/// Where direct jumps of this code lead that leave it.
fn jumps_out(code: &[u8], named: &Range<u64>) -> impl Iterator<Item = u64> {
    let code = &code[..code.len().min(MAX_BYTES)];
    let mut decoder = Decoder::with_ip(64, code, named.start, DecoderOptions::NONE);
    let instructions = std::iter::from_fn(move || decoder.can_decode().then(|| decoder.decode()));
    instructions
        .filter(|instruction| {
            matches!(instruction.flow_control(), FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch)
        })
        .map(|instruction| instruction.near_branch_target())
        .filter(|target| !named.contains(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_that_leave_are_found_and_others_are_not() {
        // je +2; jmp -0x1000; call -0x1000; ret
        let code = [0x74, 0x02, 0xe9, 0, 0xf0, 0xff, 0xff, 0xe8, 0, 0xf0, 0xff, 0xff, 0xc3];
        let out: Vec<u64> = jumps_out(&code, &(0x5000..0x500d)).collect();
        assert_eq!(out, [0x5007 - 0x1000]);
    }

    proptest::proptest! {
        #[test]
        fn any_code_is_looked_through(code in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = jumps_out(&code, &(0x1000..0x1000 + code.len() as u64)).count();
        }
    }
}
