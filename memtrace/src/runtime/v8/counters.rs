//! Where V8 keeps what it counts of its collections, decoded from its code.
//!
//! `Heap::MarkCompact` collects the whole heap. It stores what the collector does now, loads the isolate, counts the collection, and when it
//! is done notes how many bytes lived: in the heap itself, or (V8 14) in an object of its own, by another function. `Isolate::GetHeapStatistics`
//! is exported in all builds and tells how far the heap lies from the beginning of its isolate. Offsets differ by version and build, so
//! none is written here.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

/// The most instructions that are looked at of a function: V8's have some 150.
const MAX_INSTRUCTIONS: usize = 600;

/// The most instructions from one of the marks of a collection to the next one.
const APART: usize = 120;

/// The most bytes of a heap: its parts lie nearer to its beginning.
const MAX_HEAP: u64 = 16 << 10;

/// The most bytes from the beginning of an isolate to its heap.
const MAX_ISOLATE: u64 = 1 << 20;

/// What the state of a collector is called that collects the whole heap (`Heap::MARK_COMPACT`).
const WHOLE: u64 = 2;

/// The first bytes of `mov dword [rdi+...], ...`, which says what the collector does now.
pub const BEGIN: [u8; 2] = [0xc7, 0x87];

/// Where a heap has what is read of it, in bytes from its beginning.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Layout {
    /// The address of its isolate.
    pub isolate: u64,
    /// What its collector does now, a number of 4 bytes: 0 for nothing.
    pub state: u64,
    /// How many collections of the whole heap have been begun, a number of 4 bytes.
    pub collections: u64,
    /// The bytes that lived at the end of the last one.
    pub live: Live,
}

/// Where the bytes are that lived at the end of the last collection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Live {
    /// This far into the heap.
    Heap(u64),
    /// In an object whose first word is the heap's address.
    Object {
        /// How far into the heap the address of the object is.
        at: u64,
        /// How far into the object the bytes are.
        live: u64,
    },
}

/// How far a heap lies from the beginning of its isolate, by the code of `Isolate::GetHeapStatistics`.
pub fn heap_in_isolate(code: &[u8], address: u64) -> Option<u64> {
    let found = instructions(code, address).find(|instruction| {
        instruction.mnemonic() == Mnemonic::Lea
            && instruction.memory_base() == Register::RDI
            && !is_indexed(instruction)
    })?;
    Some(found.memory_displacement64()).filter(|&bytes| bytes > 0 && bytes < MAX_ISOLATE && bytes.is_multiple_of(8))
}

/// Where a heap has what is read, by the code of `Heap::MarkCompact` or the part of it from [`BEGIN`] on. `code_at` has the code at an
/// address. `None` if this is another function.
pub fn layout<'c>(code: &[u8], address: u64, code_at: impl Fn(u64) -> Option<&'c [u8]>) -> Option<Layout> {
    let mut all = instructions(code, address).take(MAX_INSTRUCTIONS);
    let state = all.by_ref().take(APART).find_map(|instruction| {
        let (base, at) = stored(&instruction, WHOLE)?;
        (base == Register::RDI).then_some(at)
    })?;
    let isolate = all.by_ref().take(4).find_map(|instruction| {
        loaded(&instruction).filter(|&(_, base, _)| base == Register::RDI).map(|(_, _, at)| at)
    })?;
    let (heap, collections) = all.by_ref().take(APART).find_map(|instruction| counted(&instruction))?;
    // Which collection it is since something else happened begins anew.
    let is_begun = |instruction: Instruction| stored(&instruction, 0).is_some_and(|(base, _)| base == heap);
    if !all.by_ref().take(3).any(is_begun) || state.abs_diff(collections) > 0x100 {
        return None;
    }
    let live = live(all, heap, code_at)?;
    Some(Layout { isolate, state, collections, live })
}

/// Where the bytes are noted that lived: what the heap gets as a result of a call, or the object to which the last call before the end
/// belongs.
fn live<'c>(
    rest: impl Iterator<Item = Instruction>,
    heap: Register,
    code_at: impl Fn(u64) -> Option<&'c [u8]>,
) -> Option<Live> {
    let (mut object, mut last) = (None, None);
    for instruction in rest {
        if let Some((base, at)) = result_stored(&instruction)
            && base == heap
        {
            return Some(Live::Heap(at));
        }
        match instruction.mnemonic() {
            Mnemonic::Call => {
                last = object.take().map(|at| (at, instruction.near_branch_target()));
            }
            Mnemonic::Ret => break,
            _ => match loaded(&instruction) {
                Some((Register::RDI, base, at)) if base == heap => object = Some(at),
                _ if instruction.op_count() > 0 && instruction.op0_register() == Register::RDI => object = None,
                _ => {}
            },
        }
    }
    let (at, function) = last?;
    let found = instructions(code_at(function)?, function)
        .take(MAX_INSTRUCTIONS)
        .take_while(|instruction| instruction.mnemonic() != Mnemonic::Ret)
        .find_map(|instruction| result_stored(&instruction));
    found.map(|(_, live)| Live::Object { at, live })
}

fn instructions(code: &[u8], address: u64) -> impl Iterator<Item = Instruction> {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    std::iter::from_fn(move || decoder.can_decode().then(|| decoder.decode()))
}

fn is_indexed(instruction: &Instruction) -> bool {
    instruction.memory_index() != Register::None
}

/// The base of a memory operand and how far behind it what is meant lies, within a heap.
fn place(instruction: &Instruction) -> Option<(Register, u64)> {
    let at = instruction.memory_displacement64();
    let is_place = !is_indexed(instruction) && instruction.memory_segment() == Register::DS && at < MAX_HEAP;
    is_place.then_some((instruction.memory_base(), at))
}

/// Where 4 bytes are set to a number.
fn stored(instruction: &Instruction, number: u64) -> Option<(Register, u64)> {
    let is_store = instruction.code() == Code::Mov_rm32_imm32 && instruction.op0_kind() == OpKind::Memory;
    (is_store && instruction.immediate(1) == number).then(|| place(instruction)).flatten()
}

/// Where a number of 4 bytes becomes one more.
fn counted(instruction: &Instruction) -> Option<(Register, u64)> {
    let is_counted = match instruction.code() {
        Code::Add_rm32_imm8 => instruction.immediate(1) == 1,
        Code::Inc_rm32 => true,
        _ => false,
    };
    (is_counted && instruction.op0_kind() == OpKind::Memory).then(|| place(instruction)).flatten()
}

/// The register that a word is loaded into, and from where.
fn loaded(instruction: &Instruction) -> Option<(Register, Register, u64)> {
    let is_load = instruction.code() == Code::Mov_r64_rm64 && instruction.op1_kind() == OpKind::Memory;
    let (base, at) = is_load.then(|| place(instruction)).flatten()?;
    Some((instruction.op0_register(), base, at))
}

/// Where the result of a call goes, a word.
fn result_stored(instruction: &Instruction) -> Option<(Register, u64)> {
    let is_store = instruction.code() == Code::Mov_rm64_r64
        && instruction.op0_kind() == OpKind::Memory
        && instruction.op1_register() == Register::RAX;
    is_store.then(|| place(instruction)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `push rbx; mov rbx, rdi; mov dword [rdi+0x228], 2; mov rax, [rdi+8]; inc dword [rbx+0x240]; mov dword [rbx+0x88], 0`.
    const BEGUN: &[u8] = &[
        0x53, 0x48, 0x89, 0xfb, 0xc7, 0x87, 0x28, 2, 0, 0, 2, 0, 0, 0, 0x48, 0x8b, 0x47, 8, 0xff, 0x83, 0x40, 2, 0, 0,
        0xc7, 0x83, 0x88, 0, 0, 0, 0, 0, 0, 0,
    ];
    /// `call +0; mov [rbx+0x9f0], rax; ret`.
    const NOTED: &[u8] = &[0xe8, 0, 0, 0, 0, 0x48, 0x89, 0x83, 0xf0, 9, 0, 0, 0xc3];
    /// `mov rdi, [rbx+0x7b8]; call +0x10; ret`.
    const NOTED_ELSEWHERE: &[u8] = &[0x48, 0x8b, 0xbb, 0xb8, 7, 0, 0, 0xe8, 0x10, 0, 0, 0, 0xc3];
    /// `call +0; mov [rbx+0x48], rax; ret`.
    const NOTES: &[u8] = &[0xe8, 0, 0, 0, 0, 0x48, 0x89, 0x43, 0x48, 0xc3];

    #[test]
    fn both_ways_to_note_what_lives_are_read() {
        let expected = |live| Layout { isolate: 8, state: 0x228, collections: 0x240, live };
        let code = [BEGUN, NOTED].concat();
        assert_eq!(layout(&code, 0x1000, |_| None), Some(expected(Live::Heap(0x9f0))));
        // From the first mark on, as where there is no symbol.
        assert_eq!(layout(&code[4..], 0x1004, |_| None), Some(expected(Live::Heap(0x9f0))));
        let code = [BEGUN, NOTED_ELSEWHERE].concat();
        let called = 0x1000 + code.len() as u64 - 1 + 0x10;
        let found = layout(&code, 0x1000, |address| (address == called).then_some(NOTES));
        assert_eq!(found, Some(expected(Live::Object { at: 0x7b8, live: 0x48 })));
        assert_eq!(layout(&code, 0x1000, |_| None), None);
    }

    #[test]
    fn what_is_cut_is_no_layout() {
        let code = [BEGUN, NOTED].concat();
        for cut in 0..code.len() - 1 {
            assert_eq!(layout(&code[..cut], 0x1000, |_| None), None, "{cut}");
        }
    }

    #[test]
    fn the_way_from_an_isolate_to_its_heap_is_read() {
        // push rbp; lea r12, [rdi+0xd2c0]
        let code = [0x55, 0x4c, 0x8d, 0xa7, 0xc0, 0xd2, 0, 0];
        assert_eq!(heap_in_isolate(&code, 0x1000), Some(0xd2c0));
        assert_eq!(heap_in_isolate(&code[..7], 0x1000), None);
        // lea r12, [rdi-8]
        assert_eq!(heap_in_isolate(&[0x4c, 0x8d, 0x67, 0xf8], 0x1000), None);
    }

    proptest::proptest! {
        #[test]
        fn any_code_ends(code in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            let _ = layout(&code, u64::MAX - 100, |_| Some(NOTES));
            let _ = heap_in_isolate(&code, u64::MAX - 100);
        }
    }
}
