//! Where a heap call has its arguments and its result, packed into 32 bits of the attach cookie.
//!
//! Bits 0-2: the argument that is the size; 4-6: the one that it is multiplied by; 8-10: the block that is released or
//! replaced; 12-14: the address where the result is stored. Each counts from 1, and 0 is none. Bits 16-20: flags. Bits
//! 21-31: the size where the function has only one, in words of 8 bytes.

/// Where a heap call has what.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(transparent)]
pub struct Signature(pub u32);

const SIZE: u32 = 0;
const COUNT: u32 = 4;
const BLOCK: u32 = 8;
const RESULT: u32 = 12;

/// The function returns the size that the block has now, not an address; the block stays where it is.
const IN_PLACE: u32 = 1 << 16;
/// The function releases the old block when it fails, too.
const FREES_ON_FAILURE: u32 = 1 << 17;
/// The function may throw an exception instead of returning: there is no return probe, but a probe on each way out.
const THROWS: u32 = 1 << 18;
/// There is no return probe, but a probe on each way out, for another reason than exceptions.
const EXITS: u32 = 1 << 19;

/// The result may be known at the entry (see [`crate::prediction`]).
const PREDICTED: u32 = 1 << 20;

/// The size that every block of the function has, in words of 8 bytes.
const FIXED_WORDS: u32 = 21;

/// Integer arguments that are passed in registers (System V ABI for x86-64, section 3.2.3).
pub const REGISTER_ARGUMENTS: u8 = 6;

impl Signature {
    /// The signature `function(size)`, with the size in this argument (1 is the first).
    pub const fn size(argument: u8) -> Self {
        Self(0).with(SIZE, argument)
    }

    /// `function(count, size)`: the size is a product, whose overflow is a failure.
    pub const fn product(count: u8, size: u8) -> Self {
        Self::size(size).with(COUNT, count)
    }

    /// The signature `function()` of a function all of whose blocks have this size in bytes: a multiple of 8 below 16 KiB.
    pub const fn fixed(bytes: u32) -> Self {
        assert!(bytes.is_multiple_of(8) && bytes / 8 < 1 << (32 - FIXED_WORDS), "the size does not fit");
        Self((bytes / 8) << FIXED_WORDS)
    }

    /// The signature `function(block)`, with the block in this argument (1 is the first).
    pub const fn block(argument: u8) -> Self {
        Self(0).with(BLOCK, argument)
    }

    /// The same, and this argument is the block that is replaced.
    pub const fn of(self, block: u8) -> Self {
        self.with(BLOCK, block)
    }

    /// The same, and the address of the new block is stored where this argument points; 0 is returned on success.
    pub const fn stored_at(self, argument: u8) -> Self {
        self.with(RESULT, argument)
    }

    /// The same, but the block grows or shrinks where it is, and its usable size is returned.
    pub const fn in_place(self) -> Self {
        Self(self.0 | IN_PLACE)
    }

    /// The same, but the old block is gone after a failure.
    pub const fn freeing_on_failure(self) -> Self {
        Self(self.0 | FREES_ON_FAILURE)
    }

    /// The same, but it may throw.
    pub const fn throwing(self) -> Self {
        Self(self.0 | THROWS)
    }

    /// The same, with probes on its ways out in place of a return probe.
    pub const fn with_exits(self) -> Self {
        Self(self.0 | EXITS)
    }

    /// The same, but its result may be known at the entry.
    pub const fn predicted(self) -> Self {
        Self(self.0 | PREDICTED)
    }

    const fn with(self, at: u32, argument: u8) -> Self {
        assert!(argument < REGISTER_ARGUMENTS, "arguments on the stack are not read");
        Self(self.0 & !(7 << at) | (argument as u32 + 1) << at)
    }

    /// Which argument is the size, from 1 on; 0 for none.
    pub const fn size_selector(self) -> u32 {
        self.0 >> SIZE & 7
    }

    /// The size in bytes that every block of the function has; 0 where an argument says it.
    pub const fn fixed_bytes(self) -> u64 {
        (self.0 >> FIXED_WORDS) as u64 * 8
    }

    /// Which argument is the count, from 1 on; 0 for none.
    pub const fn count_selector(self) -> u32 {
        self.0 >> COUNT & 7
    }

    /// Which argument is the block, from 1 on; 0 for none.
    pub const fn block_selector(self) -> u32 {
        self.0 >> BLOCK & 7
    }

    /// Which argument says where the result is stored, from 1 on; 0 for none.
    pub const fn result_selector(self) -> u32 {
        self.0 >> RESULT & 7
    }

    /// Whether the block stays where it is.
    pub const fn is_in_place(self) -> bool {
        self.0 & IN_PLACE != 0
    }

    /// Whether the old block is gone after a failure.
    pub const fn frees_on_failure(self) -> bool {
        self.0 & FREES_ON_FAILURE != 0
    }

    /// Whether the function may be left by an exception.
    pub const fn throws(self) -> bool {
        self.0 & THROWS != 0
    }

    /// Whether its result may be known at the entry.
    pub const fn is_predicted(self) -> bool {
        self.0 & PREDICTED != 0
    }

    /// Whether probes on its ways out see its end, and no return probe.
    pub const fn ends_at_exits(self) -> bool {
        self.0 & (THROWS | EXITS) != 0
    }

    /// The arguments that are read, a bit each.
    pub const fn arguments(self) -> u8 {
        let read = 1u32 << self.size_selector()
            | 1 << self.count_selector()
            | 1 << self.block_selector()
            | 1 << self.result_selector();
        (read >> 1) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_says_where_everything_is() {
        let signature = Signature::product(1, 2).of(0);
        assert_eq!((signature.size_selector(), signature.count_selector(), signature.block_selector()), (3, 2, 1));
        assert_eq!((signature.result_selector(), signature.arguments()), (0, 0b111));
        assert!(
            !signature.is_in_place()
                && !signature.frees_on_failure()
                && !signature.throws()
                && !signature.ends_at_exits()
        );
        assert!(signature.with_exits().ends_at_exits() && !signature.with_exits().throws());
        assert!(signature.predicted().is_predicted() && !signature.is_predicted());
        let signature = Signature::size(2).stored_at(0);
        assert_eq!((signature.size_selector(), signature.result_selector(), signature.arguments()), (3, 1, 0b101));
        let signature = Signature::fixed(3072).with_exits();
        assert_eq!((signature.fixed_bytes(), signature.size_selector(), signature.arguments()), (3072, 0, 0));
        assert!(signature.ends_at_exits() && !signature.is_predicted() && Signature::size(0).fixed_bytes() == 0);
        assert_eq!(Signature::fixed(16 * 1024 - 8).fixed_bytes(), 16 * 1024 - 8);
        let signature = Signature::size(5).of(0).in_place().freeing_on_failure().throwing();
        assert_eq!((signature.size_selector(), signature.block_selector(), signature.arguments()), (6, 1, 0b10_0001));
        assert!(
            signature.is_in_place() && signature.frees_on_failure() && signature.throws() && signature.ends_at_exits()
        );
    }
}
