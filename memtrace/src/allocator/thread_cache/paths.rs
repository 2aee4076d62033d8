//! All paths through the code of `malloc` that end in a return.

use std::collections::HashSet;

use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction, InstructionInfoFactory};

use super::machine::{Next, Path};

/// The most instructions that are looked at for one size, on all paths. glibc's take some hundred.
const MAX_STEPS: usize = 4096;

/// The code of a function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code<'a> {
    pub(super) bytes: &'a [u8],
    /// The address of its entry, as linked.
    pub(super) address: u64,
}

/// The smallest and the largest size of each class of sizes up to `max`, with the class; `class` tells it, in rising order.
pub(super) fn ends_of_classes(max: u64, class: impl Fn(u64) -> Option<u64>) -> impl Iterator<Item = (u64, u64)> {
    (0..=max).filter_map(move |size| {
        let of = class(size)?;
        let is_end = size == 0 || class(size - 1) != Some(of) || class(size + 1) != Some(of);
        is_end.then_some((size, of))
    })
}

/// What is known at the end of each way that returns, if there are not too many to follow. `byte` is what the first byte
/// is taken to be that is read at a known address.
pub(super) fn returning(code: Code<'_>, size: u64, byte: Option<u64>) -> Option<Vec<Path>> {
    let mut decoder = Decoder::with_ip(64, code.bytes, code.address, DecoderOptions::NONE);
    let mut information = InstructionInfoFactory::new();
    let mut steps = MAX_STEPS;
    let mut seen = HashSet::new();
    let mut open = vec![Path::at_entry(code.address, size, byte)];
    let mut returned = Vec::new();
    while let Some(mut path) = open.pop() {
        while let Some(instruction) = instruction_at(&mut decoder, code.address, path.address()) {
            // When it takes longer, not all of it has been seen.
            steps = steps.checked_sub(1)?;
            match path.step(&instruction, &mut information) {
                Next::Onward => {}
                Next::Either(taken) => {
                    if seen.insert(Path::clone(&taken)) {
                        open.push(*taken);
                    }
                    if !seen.insert(path.clone()) {
                        break;
                    }
                }
                Next::Returns => {
                    returned.push(path);
                    break;
                }
                Next::OutOfSight => break,
            }
        }
    }
    Some(returned)
}

/// The instruction at an address within the code.
fn instruction_at(decoder: &mut Decoder<'_>, start: u64, address: u64) -> Option<Instruction> {
    decoder.set_position(usize::try_from(address.wrapping_sub(start)).ok()?).ok()?;
    decoder.set_ip(address);
    let instruction = decoder.can_decode().then(|| decoder.decode())?;
    (decoder.last_error() == DecoderError::None).then_some(instruction)
}
