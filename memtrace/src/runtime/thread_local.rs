//! Where a thread-local variable of a target is, and how it is reached from a thread pointer.

use memtrace_common::interpreter::Path;

use super::Memory;

/// Where a thread-local variable is, seen from the thread pointer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Variable {
    /// At this offset from the thread pointer, in bytes: in the program itself.
    Offset(i64),
    /// At the offset from the thread pointer that stands at this address, as linked.
    OffsetAt(u64),
    /// In the block of a module, whose number and the offset in whose block stand at this address, as linked; so many bytes further
    /// on.
    Module {
        /// Where the two words stand, as linked.
        index: u64,
        /// What is added to the offset.
        plus: i64,
    },
}

impl Variable {
    /// The paths by which a variable may be reached, one for each C library; none where the loader has not yet written what they need.
    pub fn paths(self, moved: u64, memory: &Memory) -> Vec<Path> {
        /// In the memory at the thread pointer: the table of the blocks of modules.
        const BLOCKS: i64 = 8;
        /// Bytes of an entry of it: of glibc (`dtv_t`), and of musl.
        const ENTRY_BYTES: [i64; 2] = [16, 8];
        let word = |address: u64| Some(memory.word(address.wrapping_add(moved))?.cast_signed());
        let found = match self {
            Variable::Offset(offset) => vec![Path::over(&[offset])],
            Variable::OffsetAt(address) => {
                vec![word(address).filter(|&offset| offset != 0).and_then(|offset| Path::over(&[offset]))]
            }
            Variable::Module { index, plus } => {
                let module = word(index).filter(|module| (1..1 << 16).contains(module));
                let offset = word(index.wrapping_add(8));
                let path = |bytes| Path::over(&[BLOCKS, bytes * module?, offset?.wrapping_add(plus)]);
                ENTRY_BYTES.map(path).to_vec()
            }
        };
        found.into_iter().flatten().collect()
    }
}
