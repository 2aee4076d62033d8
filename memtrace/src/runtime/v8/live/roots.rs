//! Where the search for what can be reached begins: words of a process's memory outside of V8's heaps, and which of them are none that hold an
//! object.

use std::{fs, io, ops::Range};

use crate::{
    object::{Pid, maps::Mapping},
    runtime::Memory,
};

/// Bytes below the end of a stack that a function may use.
const RED_ZONE: u64 = 128;

/// The most threads whose stacks are looked for.
const MAX_THREADS: usize = 4096;

/// Memory in which the search begins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Root {
    /// Where it is.
    pub range: Range<u64>,
    /// Whether it is what `malloc` gets by moving the program's end.
    pub is_heap: bool,
}

/// Where the words are from which the search begins: all memory that the process may write, but for what lies below the stack of a thread that
/// waits, which is left over from functions that have returned. `stacks` is where those stacks end.
pub fn ranges<'m>(
    mappings: &'m [Mapping],
    readable: ((u32, u32), u64),
    stacks: &'m [u64],
) -> impl Iterator<Item = Root> + 'm {
    let is_root = move |mapping: &&Mapping| {
        let is_own = mapping.inode == 0 || (mapping.device, mapping.inode) == readable;
        let is_special = mapping.path.as_ref().is_some_and(|path| path.to_string_lossy().starts_with("[v"));
        mapping.readable && mapping.writable && is_own && !is_special
    };
    mappings.iter().filter(is_root).map(move |mapping| {
        let mut inside = stacks.iter().filter(|stack| (mapping.start..mapping.end).contains(*stack));
        let range = match (inside.next(), inside.next()) {
            (Some(stack), None) => stack.saturating_sub(RED_ZONE).max(mapping.start) & !7..mapping.end,
            _ => mapping.start..mapping.end,
        };
        Root { range, is_heap: mapping.is_heap() }
    })
}

/// Where the stacks of those threads of a process end that wait (`/proc/PID/task/TID/syscall`).
pub fn stacks(pid: Pid) -> Vec<u64> {
    let Ok(threads) = fs::read_dir(pid.proc_path("task")) else { return Vec::new() };
    let stack = |thread: io::Result<fs::DirEntry>| {
        let waits = fs::read_to_string(thread.ok()?.path().join("syscall")).ok()?;
        let mut fields = waits.split_ascii_whitespace().rev();
        u64::from_str_radix(fields.nth(1)?.strip_prefix("0x")?, 16).ok()
    };
    threads.take(MAX_THREADS).filter_map(stack).collect()
}

/// Whether a mapping that begins here is memory that glibc's `malloc` sets aside for a thread other than the first: at multiples of 64 MiB
/// (`HEAP_MAX_SIZE` in malloc/arena.c), with the address of its arena, which is behind the head of the first of its kind.
pub fn is_arena(memory: &Memory, start: u64) -> bool {
    const ALIGNED: u64 = 64 << 20;
    const HEADS: [u64; 2] = [0x20, 0x30];
    start.is_multiple_of(ALIGNED) && memory.word(start).is_some_and(|arena| HEADS.contains(&(arena % ALIGNED)))
}

/// Whether the word at this place of memory outside of the heaps is a handle that waits for the end of its object: handles lie side by
/// side (`GlobalHandles::Node` in src/handles/global-handles.cc), each with its number among them and what it is.
pub fn is_weak_handle(bytes: &[u8], at: usize) -> bool {
    /// Bytes of a handle, and where its number and its state are.
    const HANDLE: usize = 32;
    const NUMBER: usize = 10;
    const STATE: usize = 11;
    /// The lowest state of those that do not hold their object.
    const WEAK: u8 = 2;
    let number = |at: usize| bytes.get(at + NUMBER).copied();
    let (Some(own), Some(state)) = (number(at), bytes.get(at + STATE)) else { return false };
    if state & 3 < WEAK {
        return false;
    }
    let next = number(at + HANDLE).is_some_and(|next| own.checked_add(1) == Some(next));
    let before = at.checked_sub(HANDLE).and_then(number).is_some_and(|before| before.checked_add(1) == Some(own));
    next || before
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::maps;

    #[test]
    fn a_stack_is_looked_at_from_its_end_on() {
        let text = b"1000-2000 rw-p 0 0:0 0\n3000-9000 rw-p 0 0:0 0\n9000-a000 r--p 0 0:0 0\n";
        let mappings = maps::parse(text).expect("three mappings");
        let found = |stacks: &[u64]| ranges(&mappings, ((0, 0), 1), stacks).map(|root| root.range).collect::<Vec<_>>();
        assert_eq!(found(&[0x4123, 0x9100]), [0x1000..0x2000, 0x40a0..0x9000]);
        assert_eq!(found(&[0x4000, 0x5000]), [0x1000..0x2000, 0x3000..0x9000], "whose the rest is is not known");
        assert_eq!(found(&[0x3010]), [0x1000..0x2000, 0x3000..0x9000]);
        // This thread reads, and another waits.
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let waiting = std::thread::spawn(move || wait.recv());
        let pid = Pid(std::process::id());
        let mappings = maps::read(pid).expect("one's own mappings");
        assert!(
            stacks(pid).iter().all(|stack| mappings.iter().any(|mapping| (mapping.start..mapping.end).contains(stack)))
        );
        drop(go);
        let _ = waiting.join();
    }

    #[test]
    fn handles_that_wait_for_the_end_of_their_object_are_told_by_their_numbers() {
        let mut bytes = [0; 96];
        for (handle, number_and_state) in bytes.chunks_exact_mut(32).zip([[4, 2], [5, 1], [6, 3]]) {
            handle[10..12].copy_from_slice(&number_and_state);
        }
        assert!(is_weak_handle(&bytes, 0) && !is_weak_handle(&bytes, 32) && is_weak_handle(&bytes, 64));
        bytes[42] = 9;
        assert!(!is_weak_handle(&bytes, 0) && !is_weak_handle(&bytes, 64), "others have no such neighbours");
        assert!(!is_weak_handle(&bytes, 90), "what is cut off is none");
    }
}
