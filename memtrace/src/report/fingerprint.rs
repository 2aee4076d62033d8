//! What a stack is known by from run to run, in the files that CI systems keep.

use std::collections::HashMap;

use super::{
    place,
    snapshot::{Stack, StackKind},
};

/// The same for the same code from run to run, whatever the addresses: of the kind and of every frame's function and module,
/// or where a function has no name of its position in the module's file, by FNV-1a with 64 bits (Fowler, Noll and Vo).
/// Lines are left out, so that an edit above a leak does not make it a new one.
pub(super) fn fingerprint(stack: &Stack) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |text: &str| {
        for byte in text.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    add(match stack.kind {
        StackKind::Heap => "heap",
        StackKind::Map => "map",
        StackKind::Page => "page",
        StackKind::Managed => "managed",
        StackKind::Goroutine => "goroutine",
        StackKind::Small => "small",
        StackKind::Profiled => "profiled",
    });
    for frame in &stack.frames {
        add(&place::at(frame));
        add(frame.module.as_deref().unwrap_or(""));
    }
    format!("{hash:016x}")
}

/// A key for each of several stacks, in their order, no two alike: the fingerprint, and for stacks that differ only in the
/// positions of their calls a number behind it, which these positions and not the stacks' order decide.
pub(super) fn unique(stacks: &[&Stack]) -> Vec<String> {
    let mut alike: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, stack) in stacks.iter().enumerate() {
        alike.entry(fingerprint(stack)).or_default().push(index);
    }
    let mut keys = vec![String::new(); stacks.len()];
    for (fingerprint, mut indices) in alike {
        indices.sort_by_key(|&index| positions(stacks[index]));
        for (number, index) in (1..).zip(indices) {
            keys[index] = format!("{fingerprint}:{number}");
        }
    }
    keys
}

/// Where the calls of a stack are: line, and position in the module's file.
fn positions(stack: &Stack) -> Vec<(Option<u32>, Option<u64>)> {
    let position = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    stack.frames.iter().map(|frame| (frame.line, frame.offset.as_deref().and_then(position))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{sample, snapshot::Frame};

    #[test]
    fn fingerprints_know_names_and_not_addresses_or_lines() {
        let mut moved = sample::stack();
        for frame in &mut moved.frames {
            frame.address = "0x1".to_owned();
            frame.line = Some(7);
        }
        assert_eq!(fingerprint(&moved), fingerprint(&sample::stack()));
        moved.frames[0].function = Some("other".to_owned());
        assert_ne!(fingerprint(&moved), fingerprint(&sample::stack()));
        // FNV-1a of "heap\0", by hand of another implementation: it must never change.
        assert_eq!(fingerprint(&Stack { frames: Vec::new(), ..sample::stack() }), "8b002c46729fc32d");
    }

    #[test]
    fn functions_without_names_are_told_apart_by_their_positions() {
        let stripped = |offset: &str| {
            let frame = Frame { function: None, offset: Some(offset.to_owned()), ..sample::frame("", "lk", None) };
            Stack { frames: vec![frame], ..sample::stack() }
        };
        assert_ne!(fingerprint(&stripped("0x10")), fingerprint(&stripped("0x20")));
        assert_eq!(fingerprint(&stripped("0x10")), fingerprint(&stripped("0x10")));
    }

    #[test]
    fn no_two_stacks_have_one_key_whatever_their_order() {
        let at = |line| {
            let mut stack = sample::stack();
            stack.frames[0].line = Some(line);
            stack
        };
        let (first, second) = (at(7), at(9));
        let other = Stack { frames: Vec::new(), ..sample::stack() };
        let keys = unique(&[&second, &other, &first]);
        assert_eq!(keys[0], format!("{}:2", fingerprint(&first)));
        assert_eq!(keys[2], format!("{}:1", fingerprint(&first)));
        assert_eq!(unique(&[&first, &second]), [keys[2].clone(), keys[0].clone()]);
        assert_eq!(unique(&[]), Vec::<String>::new());
    }
}
