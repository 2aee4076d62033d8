//! What an ELF file says of itself, read with bounds before blazesym may see it: the loaded segments, the build id, the links to
//! separate debug files, and whether there is anything to look names up in.
//!
//! Files come from the target and are untrusted. They are read, not mapped, so that a file that shrinks meanwhile is an
//! error; and what blazesym would allocate by a number in the file is refused here when that number is absurd.

use std::{fs::File, io::BufReader};

use object::{
    Endianness, FileKind, ReadCache, ReadRef,
    elf::{self, FileHeader32, FileHeader64},
    read::elf::{CompressionHeader, FileHeader, ProgramHeader, SectionHeader},
};

use super::{
    Load, ObjectError,
    bounds::{MAX_DEBUGDATA_BYTES, MAX_NOTE_BYTES, MAX_SECTIONS, MAX_SYMBOL_BYTES, MAX_UNPACKED_BYTES},
    build_id,
};

/// What a file says of itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Layout {
    loads: Vec<Load>,
    /// The linker's identity of the file; empty when it has none.
    pub build_id: Vec<u8>,
    /// The file name and the CRC-32 of a separate debug file.
    pub debug_link: Option<(Vec<u8>, u32)>,
    /// Whether it has DWARF: lines and inlined functions.
    pub has_dwarf: bool,
    /// Whether it has a symbol table besides the one that the dynamic linker needs, which stripping leaves.
    pub has_symbols: bool,
    /// Whether its DWARF refers to that of a third file (`dwz -m`).
    pub has_supplement: bool,
}

impl Layout {
    /// Reads `file` from its beginning.
    ///
    /// # Errors
    ///
    /// When it is not ELF, is cut short, or holds a number beyond reason.
    pub fn read(file: &File) -> Result<Layout, ObjectError> {
        let cache = ReadCache::new(BufReader::new(file));
        let data = &cache;
        match FileKind::parse(data) {
            Ok(FileKind::Elf64) => read::<FileHeader64<Endianness>, _>(data),
            Ok(FileKind::Elf32) => read::<FileHeader32<Endianness>, _>(data),
            _ => Err(ObjectError::NotElf),
        }
    }

    /// The address, as linked, of the code at this file offset; `None` outside of every loaded segment.
    pub fn address_of(&self, file_offset: u64) -> Option<u64> {
        // A page that two segments share is mapped twice: the executable mapping is that of the executable segment.
        let find = |executable| {
            self.loads.iter().filter(|load| load.executable == executable).find_map(|load| load.address_of(file_offset))
        };
        find(true).or_else(|| find(false))
    }

    /// The address, as linked, of the beginning of a mapped page at this file offset. Of two segments that share the page it is the
    /// one that is `executable`, or not.
    pub fn page_address(&self, file_offset: u64, executable: bool) -> Option<u64> {
        let mut loads = self.loads.iter().filter(|load| load.executable == executable);
        loads.find_map(|load| load.page_address(file_offset))
    }

    /// The file offset of the executable segment's page at this address as linked, and how many bytes of the segment follow
    /// from there on.
    pub fn code_at(&self, address: u64) -> Option<(u64, u64)> {
        self.loads.iter().filter(|load| load.executable).find_map(|load| load.page_place_of(address))
    }
}

fn at_most(part: impl FnOnce() -> String, bytes: u64, limit: u64) -> Result<(), ObjectError> {
    if bytes > limit { Err(ObjectError::TooLarge { part: part().into(), bytes }) } else { Ok(()) }
}

fn no_more(parts: &'static str, count: usize) -> Result<(), ObjectError> {
    let count = count as u64;
    if count > MAX_SECTIONS { Err(ObjectError::TooMany { parts, count }) } else { Ok(()) }
}

fn read<'data, E, R>(data: R) -> Result<Layout, ObjectError>
where
    E: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let header = E::parse(data)?;
    let endian = header.endian()?;
    no_more("sections", header.shnum(endian, data)?)?;
    no_more("segments", header.phnum(endian, data)?)?;
    let mut layout = Layout::default();
    for segment in header.program_headers(endian, data)? {
        if segment.p_type(endian) == elf::PT_LOAD {
            layout.loads.push(Load {
                address: segment.p_vaddr(endian).into(),
                bytes: segment.p_memsz(endian).into(),
                file_offset: segment.p_offset(endian).into(),
                file_bytes: segment.p_filesz(endian).into(),
                executable: segment.p_flags(endian) & elf::PF_X != 0,
            });
        }
    }
    let sections = header.section_headers(endian, data)?;
    let names = header.section_strings(endian, data, sections)?;
    for section in sections {
        if section.sh_type(endian) == elf::SHT_NOBITS {
            continue;
        }
        layout.has_symbols |= section.sh_type(endian) == elf::SHT_SYMTAB;
        // A section whose name cannot be read is not one of those that are looked for.
        let name = section.name(endian, names).unwrap_or_default();
        let shown = || String::from_utf8_lossy(name).into_owned();
        let size: u64 = section.sh_size(endian).into();
        match name {
            b".gnu_debuglink" => {
                at_most(shown, size, MAX_NOTE_BYTES)?;
                layout.debug_link = debug_link(section.data(endian, data)?, endian);
            }
            b".gnu_debugaltlink" | b".debug_sup" => layout.has_supplement = true,
            b".gnu_debugdata" => at_most(shown, size, MAX_DEBUGDATA_BYTES)?,
            b".symtab" | b".dynsym" | b".strtab" | b".dynstr" => at_most(shown, size, MAX_SYMBOL_BYTES)?,
            b".debug_info" => layout.has_dwarf = size > 0,
            // Core-like notes can be large; the build id is in a small section of its own.
            _ if section.sh_type(endian) == elf::SHT_NOTE && layout.build_id.is_empty() && size <= MAX_NOTE_BYTES => {
                let align: u64 = section.sh_addralign(endian).into();
                // A note that lies outside the file is none.
                let notes = section.data(endian, data).unwrap_or_default();
                layout.build_id = build_id::of_notes(notes, if align == 8 { 8 } else { 4 }).unwrap_or_default();
            }
            _ => {}
        }
        let flags: u64 = section.sh_flags(endian).into();
        if flags & u64::from(elf::SHF_COMPRESSED) != 0 {
            let compression = data.read_at::<E::CompressionHeader>(section.sh_offset(endian).into());
            if let Ok(compression) = compression {
                at_most(|| format!("unpacked {}", shown()), compression.ch_size(endian).into(), MAX_UNPACKED_BYTES)?;
            }
        }
    }
    Ok(layout)
}

/// A file name, a zero, padding to 4 bytes, the CRC-32 of the file (GDB manual, "Debugging Information in Separate
/// Files"). A name with a slash in it would lead out of the directories that are searched, and is not taken.
fn debug_link(section: &[u8], endian: Endianness) -> Option<(Vec<u8>, u32)> {
    let length = section.iter().position(|&byte| byte == 0)?;
    let crc = section.get((length + 1).next_multiple_of(4)..)?.first_chunk::<4>()?;
    let name = &section[..length];
    let plain = !name.is_empty() && !name.contains(&b'/') && name != b"." && name != b"..";
    let crc = match endian {
        Endianness::Little => u32::from_le_bytes(*crc),
        Endianness::Big => u32::from_be_bytes(*crc),
    };
    plain.then(|| (name.to_vec(), crc))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn read_bytes(bytes: &[u8]) -> Result<Layout, ObjectError> {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(bytes).expect("room for a small file");
        Layout::read(&file)
    }

    fn own_bytes() -> Vec<u8> {
        // The first 64 KiB hold the headers; the sections that they name are cut off.
        let mut bytes = std::fs::read("/proc/self/exe").expect("our own executable");
        bytes.truncate(64 << 10);
        bytes
    }

    #[test]
    fn what_is_not_elf_is_named() {
        assert!(matches!(read_bytes(b""), Err(ObjectError::NotElf)));
        assert!(matches!(read_bytes(b"#!/bin/sh\necho this is a script"), Err(ObjectError::NotElf)));
        assert!(matches!(read_bytes(&own_bytes()), Err(ObjectError::Unparsable(_))));
    }

    #[test]
    fn a_debug_link_is_a_plain_name_and_a_checksum() {
        let link = |bytes: &[u8]| debug_link(bytes, Endianness::Little);
        assert_eq!(link(b"ab.debug\0\0\0\0\x04\x03\x02\x01"), Some((b"ab.debug".to_vec(), 0x0102_0304)));
        assert_eq!(link(b"abc\0\x01\0\0\0"), Some((b"abc".to_vec(), 1)));
        for wrong in [
            &b""[..],
            b"abc",
            b"abc\0",
            b"abc\0\x01\0\0",
            b"\0\0\0\0\x01\0\0\0",
            b"a/b\0\x01\0\0\0",
            b"..\0\0\x01\0\0\0",
        ] {
            assert_eq!(link(wrong), None, "{wrong:?}");
        }
    }

    const fn load(file_offset: u64, file_bytes: u64, address: u64, executable: bool) -> Load {
        Load { address, bytes: file_bytes, file_offset, file_bytes, executable }
    }

    #[test]
    fn an_offset_in_two_segments_belongs_to_the_executable_one() {
        let loads = vec![load(0, 0x1100, 0, false), load(0x1000, 0x500, 0x2000, true)];
        let layout = Layout { loads, ..Layout::default() };
        assert_eq!(layout.address_of(0x1080), Some(0x2080));
        assert_eq!(layout.address_of(0x80), Some(0x80));
        assert_eq!(layout.address_of(0x1500), None);
        let loads = vec![load(0, u64::MAX, u64::MAX, true)];
        assert_eq!(Layout { loads, ..Layout::default() }.address_of(1), None);
    }

    #[test]
    fn pages_and_code_are_found_by_offset_and_by_address() {
        let loads = vec![load(0, 0x1100, 0x40_0000, false), load(0x1100, 0x2000, 0x40_2100, true)];
        let layout = Layout { loads, ..Layout::default() };
        assert_eq!(layout.page_address(0, false), Some(0x40_0000));
        assert_eq!(layout.page_address(0x1000, false), Some(0x40_1000));
        assert_eq!(layout.page_address(0x1000, true), Some(0x40_2000));
        assert_eq!(layout.page_address(0, true), None);
        assert_eq!(layout.code_at(0x40_2000), Some((0x1000, 0x2100)));
        assert_eq!(layout.code_at(0x40_4000), Some((0x3000, 0x100)));
        assert_eq!((layout.code_at(0x40_1000), layout.code_at(0x40_4100)), (None, None));
        let loads = vec![load(u64::MAX, u64::MAX, u64::MAX, true)];
        let absurd = Layout { loads, ..Layout::default() };
        let _ = (absurd.code_at(u64::MAX - 1), absurd.page_address(u64::MAX, true));
    }

    proptest! {
        #[test]
        fn a_damaged_file_is_an_error_or_a_layout(damage in prop::collection::vec((0usize..0x400, any::<u8>()), 1..8)) {
            let mut bytes = own_bytes();
            for (at, byte) in damage {
                bytes[at] = byte;
            }
            let _ = read_bytes(&bytes);
        }
    }
}
