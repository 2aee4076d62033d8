//! Where a member of one of the kernel's structures is, by the kernel's own type information (BTF).
//!
//! The loader crate reads all of it but shows none of its structures, and other readers copy every name. Two structures are
//! looked for here, in one pass. Layouts and numbers: include/uapi/linux/btf.h.

use bytes::Buf as _;

const MAGIC: u16 = 0xeb9f;

const INT: u8 = 1;
const ARRAY: u8 = 3;
const STRUCT: u8 = 4;
const UNION: u8 = 5;
const ENUM: u8 = 6;
const FUNCTION_PROTOTYPE: u8 = 13;
const VARIABLE: u8 = 14;
const SECTION: u8 = 15;
const DECLARATION_TAG: u8 = 17;
const ENUM64: u8 = 19;

/// The last kind that is known here.
const LAST: u8 = ENUM64;

/// Where in the kernel's `task_struct` the thread pointer is, in bytes: `thread.fsbase` on x86-64.
pub(super) fn thread_pointer(btf: &[u8]) -> Option<u64> {
    let thread = member(btf, "task_struct", "thread")?;
    thread.checked_add(member(btf, "thread_struct", "fsbase")?)
}

/// The offset in bytes of a member of a structure.
fn member(btf: &[u8], structure: &str, member: &str) -> Option<u64> {
    let mut header = btf;
    if header.try_get_u16_le().ok()? != MAGIC {
        return None;
    }
    // The version and flags.
    header.try_get_u16_le().ok()?;
    let header_bytes = header.try_get_u32_le().ok()?;
    let mut section = || {
        let (offset, bytes) = (header.try_get_u32_le().ok()?, header.try_get_u32_le().ok()?);
        btf.get(header_bytes as usize..)?.get(offset as usize..)?.get(..bytes as usize)
    };
    let (mut types, names) = (section()?, section()?);
    let is_named = |offset: u32, name: &str| {
        let rest = names.get(offset as usize..).and_then(|rest| rest.strip_prefix(name.as_bytes()));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    };
    while types.has_remaining() {
        let (name, info, _size) =
            (types.try_get_u32_le().ok()?, types.try_get_u32_le().ok()?, types.try_get_u32_le().ok()?);
        let (kind, count) = ((info >> 24) as u8 & 0x1f, info as usize & 0xffff);
        let (mut elements, rest) = types.split_at_checked(bytes_behind(kind, count)?)?;
        types = rest;
        if kind != STRUCT || !is_named(name, structure) {
            continue;
        }
        while elements.has_remaining() {
            let (name, _type, bits) =
                (elements.try_get_u32_le().ok()?, elements.try_get_u32_le().ok()?, elements.try_get_u32_le().ok()?);
            if is_named(name, member) {
                // With the flag the upper byte is the size of a bit field, which 0 is none of.
                return (bits % 8 == 0 && (info >> 31 == 0 || bits >> 24 == 0)).then_some(u64::from(bits / 8));
            }
        }
    }
    None
}

/// How many bytes follow a type's common part.
fn bytes_behind(kind: u8, count: usize) -> Option<usize> {
    let (each, times) = match kind {
        INT | VARIABLE | DECLARATION_TAG => (4, 1),
        ARRAY => (12, 1),
        STRUCT | UNION | SECTION | ENUM64 => (12, count),
        ENUM | FUNCTION_PROTOTYPE => (8, count),
        0..=LAST => (0, 0),
        // Of a newer kernel: where the next type begins is not known.
        _ => return None,
    };
    Some(each * times)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_kernels() -> Vec<u8> {
        std::fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with BTF")
    }

    #[test]
    fn this_kernels_thread_pointer_is_where_its_type_information_says() {
        let btf = own_kernels();
        let (thread, all) = (member(&btf, "task_struct", "thread").unwrap(), thread_pointer(&btf).unwrap());
        assert!(thread > 0 && all > thread && all % 8 == 0, "{thread} {all}");
        // The user registers stand in the order of the system call ABI, whatever the kernel's version.
        assert_eq!((member(&btf, "pt_regs", "r15"), member(&btf, "pt_regs", "ip")), (Some(0), Some(128)));
        assert_eq!((member(&btf, "no_such_structure", "ip"), member(&btf, "pt_regs", "no_such_member")), (None, None));
    }

    #[test]
    fn what_is_cut_off_or_is_no_type_information_gives_nothing() {
        let btf = own_kernels();
        for length in [0, 1, 3, 8, 20, 24, 30, btf.len() / 2] {
            assert_eq!(thread_pointer(&btf[..length]), None, "{length}");
        }
        assert_eq!(thread_pointer(&vec![0xff; 4096]), None);
    }
}
