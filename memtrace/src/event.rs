//! Records, decoded: bytes in, [`Event`] out, without allocating.
//!
//! The layout is `memtrace_common::event`. Records come from our own programs, yet a record that is too short or of
//! an unknown kind is an error, never a panic.

use bytes::Buf;
use memtrace_common::{
    Address, Slot, StackId,
    event::{DEPTHS, Kind, UNKNOWN_DEPTH},
    interpreter::MAX_CHAIN_WORDS,
    sampling,
    unwind::StackEnd,
};
use thiserror::Error;

/// One thing that happened in a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event<'a> {
    /// Which target.
    pub slot: Slot,
    /// Which thread of it.
    pub thread: u32,
    /// When, in nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// What.
    pub what: What<'a>,
}

/// A heap block or mapped range that appeared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Block {
    /// Where it begins.
    pub address: Address,
    /// Requested bytes, or whole pages for a mapping.
    pub size: u64,
    /// The level of sampling at which a heap block was seen; 0 where every block is.
    pub level: u8,
    /// Who asked for it.
    pub stack: StackId,
}

/// A range of pages in a target's address space.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Range {
    /// Where it begins.
    pub address: Address,
    /// Bytes.
    pub length: u64,
}

/// What happened; see [`Kind`] for the meaning of each.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is the Kind of the same name, where it is described")]
pub enum What<'a> {
    Allocate(Block),
    Release(Address),
    ReallocBegin(Address),
    Reallocate(Block),
    ReallocFailed,
    Map(Block),
    UnmapBegin(Range),
    UnmapFailed,
    RemapBegin(Range),
    Remap(Block),
    RemapFailed,
    Stack { id: StackId, end: StackEnd, frames: Frames<'a> },
    Exec { by_other_thread: bool },
    Touch(Block),
    Discard(Range),
    Reserve(Block),
    Commit(Range),
    Chain { id: StackId, chain: ChainWords<'a> },
    Pool(Block),
}

/// One frame of a stack, of compiled or of interpreted code.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum StackFrame {
    /// Of compiled code: the return address.
    Native(Address),
    /// Of interpreted code.
    Interpreter {
        /// The address of the object that holds the code.
        code: u64,
        /// The offset of the instruction from the first one, in bytes.
        offset: u32,
    },
}

/// The interpreter frames of a stack.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Chain {
    /// The stack pointers of the native frames, the innermost first; `None` for one on another stack.
    pub stack_pointers: Vec<Option<u64>>,
    /// The words of the interpreter frames (see [`memtrace_common::interpreter`]).
    pub words: Vec<u64>,
}

/// The interpreter frames of a stack, as they stand in a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChainWords<'a> {
    sp: u64,
    depths: &'a [u8],
    words: &'a [u8],
}

impl ChainWords<'_> {
    /// The chain by itself. Of the stack pointers as many mean something as the stack has native frames.
    pub fn to_chain(self) -> Chain {
        let depths = self.depths.chunks_exact(4).map(|mut depth| depth.get_u32_ne());
        let place = |depth| (depth != UNKNOWN_DEPTH).then(|| self.sp.wrapping_add(8 * u64::from(depth)));
        Chain {
            stack_pointers: depths.map(place).collect(),
            words: self.words.chunks_exact(8).map(|mut word| word.get_u64_ne()).collect(),
        }
    }
}

/// The frame addresses of a stack record, the caller of the allocator first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frames<'a>(&'a [u8]);

impl<'a> Frames<'a> {
    /// Frames as they stand in a record: 8 bytes each.
    #[cfg(test)]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The addresses in order, the caller of the allocator first.
    pub fn iter(self) -> impl ExactSizeIterator<Item = Address> + 'a {
        self.0.chunks_exact(8).map(|mut word| Address(word.get_u64_ne()))
    }
}

/// A record that cannot be decoded: the BPF object and this program disagree.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum DecodeError {
    /// The record ends early.
    #[error("a record of kind {kind} has only {length} bytes")]
    TooShort {
        /// The kind's number, 0 when not even that was there.
        kind: u8,
        /// The record's length in bytes.
        length: usize,
    },
    /// No such kind.
    #[error("a record has the unknown kind {0}")]
    UnknownKind(u8),
    /// No such end of a stack.
    #[error("a stack record has the unknown end {0}")]
    UnknownStackEnd(u64),
}

/// Decodes one record.
///
/// # Errors
///
/// When the record is shorter than its kind demands, or its kind is unknown.
pub fn decode(record: &[u8]) -> Result<Event<'_>, DecodeError> {
    let mut rest = record;
    let short = |kind| DecodeError::TooShort { kind, length: record.len() };
    if rest.remaining() < 16 {
        return Err(short(rest.first().copied().unwrap_or(0)));
    }
    let number = rest.get_u8();
    let count = rest.get_u8();
    let slot = Slot(rest.get_u16_ne());
    let thread = rest.get_u32_ne();
    let kind = Kind::from_number(number).ok_or(DecodeError::UnknownKind(number))?;
    let time_ns = rest.get_u64_ne();
    let body = |bytes: usize| rest.get(..bytes).ok_or(short(number));
    let what = match kind {
        Kind::Allocate => What::Allocate(heap_block(body(24)?)),
        Kind::Reallocate => What::Reallocate(heap_block(body(24)?)),
        Kind::Map => What::Map(block(body(24)?)),
        Kind::Remap => What::Remap(block(body(24)?)),
        Kind::Touch => What::Touch(block(body(24)?)),
        Kind::Discard => What::Discard(range(body(16)?)),
        Kind::Reserve => What::Reserve(block(body(24)?)),
        Kind::Pool => What::Pool(block(body(24)?)),
        Kind::Commit => What::Commit(range(body(16)?)),
        Kind::Release => What::Release(Address(body(8)?.get_u64_ne())),
        Kind::ReallocBegin => What::ReallocBegin(Address(body(8)?.get_u64_ne())),
        Kind::UnmapBegin => What::UnmapBegin(range(body(16)?)),
        Kind::RemapBegin => What::RemapBegin(range(body(16)?)),
        Kind::ReallocFailed => What::ReallocFailed,
        Kind::UnmapFailed => What::UnmapFailed,
        Kind::RemapFailed => What::RemapFailed,
        Kind::Exec => What::Exec { by_other_thread: count != 0 },
        Kind::Stack => {
            let frame_bytes = 8 * usize::from(count);
            let mut body = body(16 + frame_bytes)?;
            let (id, end) = (StackId(body.get_u64_ne()), body.get_u64_ne());
            let end = StackEnd::from_number(end).ok_or(DecodeError::UnknownStackEnd(end))?;
            What::Stack { id, end, frames: Frames(&body[..frame_bytes]) }
        }
        Kind::Chain => {
            let mut head = body(24)?;
            let (id, sp, words) = (StackId(head.get_u64_ne()), head.get_u64_ne(), head.get_u64_ne());
            let words = usize::try_from(words).unwrap_or(usize::MAX).min(MAX_CHAIN_WORDS);
            let body = body(24 + 4 * DEPTHS + 8 * words)?;
            let (depths, words) = body[24..].split_at(4 * DEPTHS);
            What::Chain { id, chain: ChainWords { sp, depths, words } }
        }
    };
    Ok(Event { slot, thread, time_ns, what })
}

fn block(mut bytes: &[u8]) -> Block {
    let (address, size) = (Address(bytes.get_u64_ne()), bytes.get_u64_ne());
    Block { address, size, level: 0, stack: StackId(bytes.get_u64_ne()) }
}

fn heap_block(bytes: &[u8]) -> Block {
    let block = block(bytes);
    Block { size: sampling::bytes(block.size), level: sampling::level(block.size), ..block }
}

fn range(mut bytes: &[u8]) -> Range {
    Range { address: Address(bytes.get_u64_ne()), length: bytes.get_u64_ne() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(kind: u8, count: u8, words: &[u64]) -> Vec<u8> {
        let mut bytes = vec![kind, count];
        bytes.extend(7u16.to_ne_bytes());
        bytes.extend(42u32.to_ne_bytes());
        bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        bytes
    }

    #[test]
    fn an_allocation_keeps_every_field() {
        let bytes = record(Kind::Allocate as u8, 0, &[9, 0x1000, 64, 0xabc]);
        let event = decode(&bytes).expect("a whole record");
        assert_eq!((event.slot, event.thread, event.time_ns), (Slot(7), 42, 9));
        let expected = Block { address: Address(0x1000), size: 64, level: 0, stack: StackId(0xabc) };
        assert_eq!(event.what, What::Allocate(expected));
    }

    #[test]
    fn a_stack_keeps_its_frames_in_order() {
        let bytes = record(Kind::Stack as u8, 3, &[9, 0xabc, 1, 10, 20, 30]);
        let What::Stack { id, end, frames } = decode(&bytes).expect("a whole record").what else {
            panic!("not a stack");
        };
        assert_eq!((id, end), (StackId(0xabc), StackEnd::TooDeep));
        assert_eq!(frames.iter().collect::<Vec<_>>(), [Address(10), Address(20), Address(30)]);
    }

    #[test]
    fn what_is_wrong_with_a_record_is_named() {
        assert_eq!(decode(&[]), Err(DecodeError::TooShort { kind: 0, length: 0 }));
        assert_eq!(decode(&record(200, 0, &[0])), Err(DecodeError::UnknownKind(200)));
        assert_eq!(decode(&record(1, 0, &[0, 1, 2])), Err(DecodeError::TooShort { kind: 1, length: 32 }));
        assert_eq!(decode(&record(12, 2, &[0, 0, 0, 1])), Err(DecodeError::TooShort { kind: 12, length: 40 }));
        assert_eq!(decode(&record(12, 0, &[0, 0, 99])), Err(DecodeError::UnknownStackEnd(99)));
    }

    #[test]
    fn a_chain_keeps_its_words_and_the_places_of_native_frames() {
        let depths = (0..DEPTHS as u64 / 2).map(|pair| (2 * pair) | ((2 * pair + 1) << 32));
        let words: Vec<u64> = [5, 0xabc, 0x7000, 2].into_iter().chain(depths).chain([1 << 48 | 0x10, 0x20]).collect();
        let bytes = record(18, 0, &words);
        let What::Chain { id, chain } = decode(&bytes).expect("a whole record").what else { panic!("a chain") };
        assert_eq!(id, StackId(0xabc));
        let Chain { stack_pointers, words } = chain.to_chain();
        assert_eq!(stack_pointers[..3], [0x7000, 0x7008, 0x7010].map(Some));
        assert_eq!(words, [1 << 48 | 0x10, 0x20]);
        // A count beyond what there is.
        let mut bytes = bytes;
        bytes[32..40].fill(0xff);
        assert!(matches!(decode(&bytes), Err(DecodeError::TooShort { kind: 18, .. })));
    }

    /// The rings' reader goes by what the kind says.
    #[test]
    fn a_record_is_as_long_as_its_kind_says() {
        for number in 1..=19 {
            let kind = Kind::from_number(number).expect("a kind");
            let words = vec![0; kind.record_bytes() / 8 - 1];
            let words = if kind == Kind::Chain { [&words[..], &[0; DEPTHS / 2]].concat() } else { words };
            let whole = record(number, 0, &words);
            assert!(!matches!(decode(&whole), Err(DecodeError::TooShort { .. })), "{kind:?}");
            let short = record(number, 0, &words[1..]);
            assert!(matches!(decode(&short), Err(DecodeError::TooShort { .. })), "{kind:?}");
        }
        assert_eq!(Kind::from_number(20), None);
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_err(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
