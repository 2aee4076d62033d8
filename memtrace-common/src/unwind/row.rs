//! A row of an unwind table: from this address on, up to the next row's, a frame is undone by this rule.
//!
//! A row is 8 bytes: the upper 32 bits are the address as an offset from the table's base, the lower 32 the packed
//! [`Rule`]. Rows are sorted as plain integers. The packed rule, from its lowest bit:
//!
//! ```text
//! bits 0..3    kind: special, sp, fp, *sp, *fp, plt, switch; 7 is free
//! bits 3..5    where the caller's frame pointer is: unchanged, [cfa + 8 slot], [fp + 8 slot]; 3 is free
//! bits 5..13   slot, signed
//! bits 13..32  sp, fp:   the offset in words, signed: 2 MiB either way
//!              *sp, *fp: bits 13..18 what is added to the word that is read, bits 18..32 where it is, in words, signed
//!              plt:      the threshold
//!              special:  which
//! bits 3..32   switch:   see [`Switch`]
//! ```
//!
//! All offsets are multiples of 8, as x86-64 code has them; one that is not, or does not fit, makes the rule
//! [`Unsupported::Offset`]. The return address is always at `cfa - 8`.
//!
//! What arm64 would need: the return address may still be in `x30` (a leaf's frame: a free kind, `cfa = sp + offset`
//! with `ip = x30`, allowed in the first frame and after a signal only), else it is saved next to the frame pointer at
//! `[cfa + 8 slot + 8]`, which the same slot gives. Saved return addresses may carry a pointer authentication code,
//! which the step strips with a mask. `plt` has no meaning there, and the offsets of the signal frame are others.

use super::Switch;

/// How a frame is undone. `cfa` is the frame's canonical address: the stack pointer before the call, and so the
/// caller's. `[a]` is the word in memory at `a`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Rule {
    /// `sp' = cfa`, `ip' = [cfa - 8]`, `fp'` as its rule says.
    Frame {
        /// The frame's address.
        cfa: Cfa,
        /// The caller's frame pointer.
        fp: FramePointer,
    },
    /// The kernel's signal frame, at whose `ucontext` the stack pointer points when the handler has returned
    /// (`rt_sigreturn`): `ip' = [sp + 168]`, `sp' = [sp + 160]`, `fp' = [sp + 120]`. The interrupted instruction is
    /// not a call, and the interrupted stack may be another (`sigaltstack`).
    SignalFrame,
    /// The return address is undefined: the outermost frame of a thread.
    EndOfStack,
    /// Between the end of one function's rules and the start of the next: padding.
    Gap,
    /// A stretch of code that has no rules, such as a language runtime's built-in functions: by frame pointer, if the
    /// register holds one. `cfa = fp + 16`, `ip' = [fp + 8]`, `fp' = [fp]`.
    WithoutRules,
    /// Code of Go that goes on to another stack.
    Switch(Switch),
    /// There is a rule, and this format has no place for it.
    Unsupported(Unsupported),
}

/// How a frame's canonical address is computed from its registers.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Cfa {
    /// `cfa = sp + offset`
    Sp(i32),
    /// `cfa = fp + offset`
    Fp(i32),
    /// `cfa = [sp + offset] + add`: hand-written code that has aligned the stack and kept the old pointer on it.
    DerefSp {
        /// From the stack pointer to the word.
        offset: i32,
        /// Added to the word.
        add: i32,
    },
    /// `cfa = [fp + offset] + add`: compiled code that has aligned the stack.
    DerefFp {
        /// From the frame pointer to the word.
        offset: i32,
        /// Added to the word.
        add: i32,
    },
    /// `cfa = sp + 8 + ((ip & 15) >= threshold ? 8 : 0)`: an entry of the procedure linkage table, in which the
    /// instruction before this offset pushes. Linkers write 11, and 10 or 9 with branch tracking (IBT).
    Plt {
        /// The offset in the entry, 0 to 15, from which on the word is pushed.
        threshold: u8,
    },
}

/// Where the caller's frame pointer is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum FramePointer {
    /// `fp' = fp`
    Unchanged,
    /// `fp' = [cfa + offset]`
    AtCfa(i32),
    /// `fp' = [fp + offset]`: compiled code that has aligned the stack.
    AtFp(i32),
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal => $text:literal,)+) => {
        /// Why a rule has no place in a table.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[repr(u8)]
        pub enum Unsupported { $($(#[$doc])* $name = $number,)+ }

        impl Unsupported {
            /// Every reason, in the order of their numbers.
            pub const ALL: [Unsupported; [$($number,)+].len()] = [$(Unsupported::$name,)+];

            /// Why the format has no place for the rule, in words.
            pub const fn text(self) -> &'static str {
                match self { $(Unsupported::$name => $text,)+ }
            }

            #[inline(always)]
            const fn from_number(number: u32) -> Unsupported {
                match number { $($number => Unsupported::$name,)+ _ => Unsupported::Malformed }
            }
        }
    };
}

reasons! {
    /// Not a row that this version writes, or instructions that do not parse.
    Malformed = 0 => "the instructions are malformed",
    /// The frame's address is computed from a register other than the stack or frame pointer.
    CfaRegister = 1 => "the frame is found by another register",
    /// The frame's address is an expression of an unknown form.
    CfaExpression = 2 => "the frame is found by an unknown expression",
    /// The caller's frame pointer is in another register, or an expression of an unknown form.
    FramePointer = 3 => "the frame pointer is saved in an unknown way",
    /// The return address is not at `cfa - 8`.
    ReturnAddress = 4 => "the return address is saved in an unknown way",
    /// A signal frame that is not the kernel's for x86-64.
    SignalFrame = 5 => "the signal frame is of an unknown form",
    /// An offset that is not a multiple of 8 or does not fit.
    Offset = 6 => "an offset is too large or not aligned",
}

const SPECIAL: u32 = 0;
const SP: u32 = 1;
const FP: u32 = 2;
const DEREF_SP: u32 = 3;
const DEREF_FP: u32 = 4;
const PLT: u32 = 5;
const SWITCH: u32 = 6;

const FP_UNCHANGED: u32 = 0;
const FP_AT_CFA: u32 = 1;
const FP_AT_FP: u32 = 2;

const GAP: u32 = 0;
const WITHOUT_RULES: u32 = 1;
const END_OF_STACK: u32 = 2;
const SIGNAL_FRAME: u32 = 3;
const UNSUPPORTED: u32 = 8;

/// The words in `bytes` as a two's complement number of `bits` bits, if it is one.
const fn words(bytes: i32, bits: u32) -> Option<u32> {
    let words = bytes >> 3;
    let limit = 1 << (bits - 1);
    if bytes & 7 != 0 || words < -limit || words >= limit {
        return None;
    }
    Some(words as u32 & ((1 << bits) - 1))
}

/// The number of `bits` bits that begins at bit `from`, as bytes.
#[inline(always)]
const fn bytes(packed: u32, from: u32, bits: u32) -> i32 {
    ((packed << (32 - from - bits)) as i32 >> (32 - bits)) << 3
}

impl Rule {
    /// The rule in 32 bits; [`Unsupported::Offset`] in place of one whose offsets do not fit.
    pub const fn pack(self) -> u32 {
        match self.packed() {
            Some(packed) => packed,
            None => SPECIAL | (UNSUPPORTED + Unsupported::Offset as u32) << 13,
        }
    }

    const fn packed(self) -> Option<u32> {
        let special = match self {
            Rule::Frame { cfa, fp } => return packed_frame(cfa, fp),
            Rule::Switch(switch) => {
                return match switch.packed() {
                    Some(packed) => Some(SWITCH | packed << 3),
                    None => None,
                };
            }
            Rule::Gap => GAP,
            Rule::WithoutRules => WITHOUT_RULES,
            Rule::EndOfStack => END_OF_STACK,
            Rule::SignalFrame => SIGNAL_FRAME,
            Rule::Unsupported(reason) => UNSUPPORTED + reason as u32,
        };
        Some(SPECIAL | special << 13)
    }

    /// The rule of 32 bits. Bits that no version writes are [`Unsupported::Malformed`].
    #[inline(always)]
    pub const fn unpack(packed: u32) -> Rule {
        let offset = bytes(packed, 13, 19);
        let (read, add) = (bytes(packed, 18, 14), bytes(packed, 13, 5));
        let cfa = match packed & 7 {
            SP => Cfa::Sp(offset),
            FP => Cfa::Fp(offset),
            DEREF_SP => Cfa::DerefSp { offset: read, add },
            DEREF_FP => Cfa::DerefFp { offset: read, add },
            PLT => Cfa::Plt { threshold: (packed >> 13 & 15) as u8 },
            SPECIAL => return unpack_special(packed >> 13),
            SWITCH => {
                return match Switch::unpack(packed >> 3) {
                    Some(switch) => Rule::Switch(switch),
                    None => Rule::Unsupported(Unsupported::Malformed),
                };
            }
            _ => return Rule::Unsupported(Unsupported::Malformed),
        };
        let slot = bytes(packed, 5, 8);
        let fp = match packed >> 3 & 3 {
            FP_UNCHANGED => FramePointer::Unchanged,
            FP_AT_CFA => FramePointer::AtCfa(slot),
            FP_AT_FP => FramePointer::AtFp(slot),
            _ => return Rule::Unsupported(Unsupported::Malformed),
        };
        Rule::Frame { cfa, fp }
    }
}

const fn packed_frame(cfa: Cfa, fp: FramePointer) -> Option<u32> {
    let (kind, operand) = match cfa {
        Cfa::Sp(offset) => (SP, words(offset, 19)),
        Cfa::Fp(offset) => (FP, words(offset, 19)),
        Cfa::DerefSp { offset, add } => (DEREF_SP, read_and_add(offset, add)),
        Cfa::DerefFp { offset, add } => (DEREF_FP, read_and_add(offset, add)),
        Cfa::Plt { threshold } => (PLT, if threshold < 16 { Some(threshold as u32) } else { None }),
    };
    let (place, slot) = match fp {
        FramePointer::Unchanged => (FP_UNCHANGED, Some(0)),
        FramePointer::AtCfa(offset) => (FP_AT_CFA, words(offset, 8)),
        FramePointer::AtFp(offset) => (FP_AT_FP, words(offset, 8)),
    };
    match (operand, slot) {
        (Some(operand), Some(slot)) => Some(kind | place << 3 | slot << 5 | operand << 13),
        _ => None,
    }
}

const fn read_and_add(offset: i32, add: i32) -> Option<u32> {
    match (words(offset, 14), words(add, 5)) {
        (Some(offset), Some(add)) => Some(add | offset << 5),
        _ => None,
    }
}

#[inline(always)]
const fn unpack_special(special: u32) -> Rule {
    match special {
        GAP => Rule::Gap,
        WITHOUT_RULES => Rule::WithoutRules,
        END_OF_STACK => Rule::EndOfStack,
        SIGNAL_FRAME => Rule::SignalFrame,
        _ => Rule::Unsupported(Unsupported::from_number(special.wrapping_sub(UNSUPPORTED))),
    }
}

/// A row: from `offset` above the table's base on, this packed rule.
pub const fn row(offset: u32, packed: u32) -> u64 {
    (offset as u64) << 32 | packed as u64
}

/// The offset at which a row begins to hold.
#[inline(always)]
pub const fn row_offset(row: u64) -> u32 {
    (row >> 32) as u32
}

/// The packed rule in the lower half of a row.
#[inline(always)]
pub const fn row_rule(row: u64) -> u32 {
    row as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_rule(range: i32) -> impl Strategy<Value = Rule> {
        let offset = || (-range..=range).prop_map(|words| words * 8);
        let cfa = prop_oneof![
            offset().prop_map(Cfa::Sp),
            offset().prop_map(Cfa::Fp),
            (offset(), -16i32..16).prop_map(|(offset, add)| Cfa::DerefSp { offset, add: add * 8 }),
            (offset(), -16i32..16).prop_map(|(offset, add)| Cfa::DerefFp { offset, add: add * 8 }),
            (0u8..16).prop_map(|threshold| Cfa::Plt { threshold }),
        ];
        let slot = || (-128i32..128).prop_map(|words| words * 8);
        let fp = prop_oneof![
            Just(FramePointer::Unchanged),
            slot().prop_map(FramePointer::AtCfa),
            slot().prop_map(FramePointer::AtFp),
        ];
        let words = || 0..if range > 8191 { 256 } else { 32 };
        let switch =
            prop_oneof![
                (words(), words(), any::<bool>()).prop_map(|(depth, left, saves_fp)| Switch::Call {
                    depth: depth as u8,
                    left: left as u8,
                    saves_fp
                }),
                (-range..=range, any::<u8>(), any::<bool>())
                    .prop_map(|(goroutine, current, saves_fp)| Switch::System { goroutine, current, saves_fp }),
                any::<u8>().prop_map(|frame| Switch::Callback { frame }),
            ];
        prop_oneof![
            8 => (cfa, fp).prop_map(|(cfa, fp)| Rule::Frame { cfa, fp }),
            2 => switch.prop_map(Rule::Switch),
            1 => Just(Rule::SignalFrame),
            1 => Just(Rule::EndOfStack),
            1 => Just(Rule::Gap),
            1 => Just(Rule::WithoutRules),
            1 => prop::sample::select(Unsupported::ALL.to_vec()).prop_map(Rule::Unsupported),
        ]
    }

    const TOO_FAR: Rule = Rule::Unsupported(Unsupported::Offset);

    proptest! {
        #[test]
        fn a_rule_that_fits_survives_packing(rule in any_rule(8191)) {
            prop_assert_eq!(Rule::unpack(rule.pack()), rule);
        }

        #[test]
        fn a_rule_that_does_not_fit_is_named_so_and_never_becomes_another(rule in any_rule(i32::MAX / 8)) {
            let unpacked = Rule::unpack(rule.pack());
            prop_assert!(unpacked == rule || unpacked == TOO_FAR, "{:?} became {:?}", rule, unpacked);
        }

        #[test]
        fn any_bits_unpack_to_a_rule_that_packs_again(packed in any::<u32>()) {
            let rule = Rule::unpack(packed);
            prop_assert_eq!(Rule::unpack(rule.pack()), rule);
        }

        #[test]
        fn rows_sort_by_offset(one in any::<(u32, u32)>(), other in any::<(u32, u32)>()) {
            let (a, b) = (row(one.0, one.1), row(other.0, other.1));
            prop_assert_eq!((row_offset(a), row_rule(a)), one);
            if one.0 < other.0 {
                prop_assert!(a < b);
            }
        }
    }

    #[test]
    fn the_limits_are_where_the_format_says() {
        let frame = |cfa, fp| Rule::unpack(Rule::Frame { cfa, fp }.pack());
        let whole = |cfa| frame(cfa, FramePointer::Unchanged) != TOO_FAR;
        assert!(whole(Cfa::Sp((2 << 20) - 8)) && !whole(Cfa::Sp(2 << 20)));
        assert!(whole(Cfa::Fp(-(2 << 20))) && !whole(Cfa::Fp(-(2 << 20) - 8)));
        assert!(!whole(Cfa::Sp(12)), "not a multiple of 8");
        assert!(whole(Cfa::DerefSp { offset: 65528, add: 120 }));
        assert!(!whole(Cfa::DerefSp { offset: 65536, add: 0 }) && !whole(Cfa::DerefFp { offset: 0, add: 128 }));
        assert!(!whole(Cfa::Plt { threshold: 16 }));
        assert_eq!(frame(Cfa::Sp(8), FramePointer::AtCfa(-1032)), TOO_FAR);
    }
}
