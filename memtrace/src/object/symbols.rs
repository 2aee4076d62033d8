//! Reads from an ELF file what probing takes: where named functions are, in memory and in the file, and their code.
//!
//! Only little-endian 64-bit x86-64 programs and shared objects. The dynamic symbol table comes first, because it is
//! what other files are linked against; then the full one, which a stripped file lacks. (ELF: System V ABI, chapters 4
//! and 5; symbol versions: Linux Standard Base, Core, chapter 10.7.)

use std::{
    cell::Cell,
    collections::HashMap,
    io::{Read, Seek},
    ops::Range,
};

use object::{
    LittleEndian as LE, ReadCache, ReadRef, SymbolIndex, elf,
    read::{
        StringTable,
        elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _, Sym as _},
    },
};

use super::{
    Load, ObjectError,
    bounds::{MAX_CODE_BYTES, MAX_FILE_BYTES, MAX_TABLE_BYTES},
};

type Header = elf::FileHeader64<LE>;
type Sections<'a, R> = object::read::elf::SectionTable<'a, Header, &'a Source<R>>;

/// A function that a file defines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Symbol {
    /// Its virtual address, as linked.
    pub address: u64,
    /// The size of its code in bytes; `None` when the file does not say.
    pub size: Option<u64>,
    /// Whether the symbol is an indirect function: the code at its address chooses another function.
    pub indirect: bool,
}

/// Where a section is in the file, and where it was linked to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Section {
    /// Where in the file it begins.
    pub file_offset: u64,
    /// How long it is in the file.
    pub bytes: u64,
    /// Its address, as linked.
    pub address: u64,
}

/// What a place that the dynamic linker fills will hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Slot {
    /// The address of whichever file's function of this name comes first.
    Name(String),
    /// This address of the file itself, as linked.
    Address(u64),
    /// What the function at this address of the file chooses when the program starts.
    Chosen(u64),
}

/// Bytes of an ELF file: a reader behind a cache, with a bound on what is read.
#[derive(Debug)]
struct Source<R: Read + Seek> {
    cache: ReadCache<R>,
    remaining: Cell<u64>,
}

impl<'a, R: Read + Seek> ReadRef<'a> for &'a Source<R> {
    fn len(self) -> Result<u64, ()> {
        (&self.cache).len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        if size > MAX_TABLE_BYTES {
            return Err(());
        }
        self.remaining.set(self.remaining.get().checked_sub(size).ok_or(())?);
        (&self.cache).read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        // The cache reads at most 4 KiB for a string.
        self.remaining.set(self.remaining.get().checked_sub(4096).ok_or(())?);
        (&self.cache).read_bytes_at_until(range, delimiter)
    }
}

/// An ELF file, opened to look up functions.
#[derive(Debug)]
pub struct ElfFile<R: Read + Seek> {
    source: Source<R>,
    code: Vec<Load>,
}

impl<R: Read + Seek> ElfFile<R> {
    /// Reads the file's header and segments.
    ///
    /// # Errors
    ///
    /// When it is not a program or shared object for x86-64, or is malformed.
    pub fn parse(reader: R) -> Result<ElfFile<R>, ObjectError> {
        let source = Source { cache: ReadCache::new(reader), remaining: Cell::new(MAX_FILE_BYTES) };
        let code = code_segments(&source)?;
        Ok(ElfFile { source, code })
    }

    /// Which of the wanted names the file defines as functions or data, and where. A name in the file that is not wanted itself
    /// is looked for as what `plain` makes of it, too.
    ///
    /// # Errors
    ///
    /// When a symbol table is malformed.
    pub fn symbols<'n>(
        &self,
        wanted: &[&'n str],
        plain: fn(&[u8]) -> &[u8],
    ) -> Result<HashMap<&'n str, Symbol>, ObjectError> {
        let source = &self.source;
        let header = Header::parse(source)?;
        let sections = header.sections(LE, source)?;
        let wanted: HashMap<&[u8], &'n str> = wanted.iter().map(|&name| (name.as_bytes(), name)).collect();
        let mut found = HashMap::new();
        for table in [elf::SHT_DYNSYM, elf::SHT_SYMTAB] {
            for (name, (symbol, _)) in read_table(source, &sections, table, &wanted, plain)? {
                found.entry(name).or_insert(symbol);
            }
        }
        Ok(found)
    }

    /// Whether the file defines a name for other files to use.
    ///
    /// # Errors
    ///
    /// When its table of such names is malformed.
    pub fn exports(&self, name: &str) -> Result<bool, ObjectError> {
        let header = Header::parse(&self.source)?;
        let sections = header.sections(LE, &self.source)?;
        let wanted = HashMap::from([(name.as_bytes(), name)]);
        Ok(!read_table(&self.source, &sections, elf::SHT_DYNSYM, &wanted, |name| name)?.is_empty())
    }

    /// Whether the file has its full symbol table, which stripping removes.
    ///
    /// # Errors
    ///
    /// When the section table is malformed.
    pub fn has_full_table(&self) -> Result<bool, ObjectError> {
        let header = Header::parse(&self.source)?;
        let sections = header.sections(LE, &self.source)?;
        Ok(sections.iter().any(|section| section.sh_type(LE) == elf::SHT_SYMTAB))
    }

    /// The bytes of a section, as they are in the file; `None` if there is no such section.
    ///
    /// # Errors
    ///
    /// When the section table is malformed or the section is longer than `limit`.
    pub fn section(&self, name: &[u8], limit: u64) -> Result<Option<&[u8]>, ObjectError> {
        let header = Header::parse(&self.source)?;
        let sections = header.sections(LE, &self.source)?;
        let Some((_, section)) = sections.section_by_name(LE, name) else { return Ok(None) };
        if section.sh_size(LE) > limit {
            return Err(ObjectError::TooLarge {
                part: String::from_utf8_lossy(name).into_owned().into(),
                bytes: section.sh_size(LE),
            });
        }
        Ok(Some(section.data(LE, &self.source)?))
    }

    /// Where a section is; `None` if there is no such section, or it is not in the file.
    ///
    /// # Errors
    ///
    /// When the section table is malformed.
    pub fn section_place(&self, name: &[u8]) -> Result<Option<Section>, ObjectError> {
        let header = Header::parse(&self.source)?;
        let sections = header.sections(LE, &self.source)?;
        let found = sections.section_by_name(LE, name).map(|(_, section)| section);
        Ok(found.filter(|section| section.sh_type(LE) != elf::SHT_NOBITS).map(|section| Section {
            file_offset: section.sh_offset(LE),
            bytes: section.sh_size(LE),
            address: section.sh_addr(LE),
        }))
    }

    /// Where in the file the data at an address is, as linked; `None` if it is in no segment, or not in the file.
    pub fn data_offset(&self, address: u64) -> Option<u64> {
        let header = Header::parse(&self.source).ok()?;
        let segments = header.program_headers(LE, &self.source).ok()?;
        segments.iter().filter(|segment| segment.p_type(LE) == elf::PT_LOAD).map(load).find_map(|load| {
            let (offset, _) = load.place_of(address)?;
            Some(offset)
        })
    }

    /// The `N` bytes of data at an address, as linked and as they are in the file; `None` if they are not in it.
    pub fn data<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let offset = self.data_offset(address)?;
        (&self.source).read_bytes_at(offset, N as u64).ok()?.try_into().ok()
    }

    /// The places in memory, as linked, where the dynamic linker writes the addresses of these functions: those that
    /// `wanted` names, and those of this file at an address that `is_wanted`.
    ///
    /// # Errors
    ///
    /// When a table is malformed.
    pub fn slots(
        &self,
        wanted: impl Fn(&str) -> bool,
        is_wanted: impl Fn(u64) -> bool,
    ) -> Result<HashMap<u64, Slot>, ObjectError> {
        let source = &self.source;
        let header = Header::parse(source)?;
        let sections = header.sections(LE, source)?;
        let table = sections.symbols(LE, source, elf::SHT_DYNSYM)?;
        let strings = match table.is_empty() {
            true => &[][..],
            false => sections.section(table.string_section())?.data(LE, source)?,
        };
        let strings = StringTable::<&[u8]>::new(strings, 0, strings.len() as u64);
        let mut slots = HashMap::new();
        for section in sections.iter() {
            let Some((relocations, _)) = section.rela(LE, source)? else { continue };
            for relocation in relocations {
                let at = relocation.r_offset.get(LE);
                match relocation.r_type(LE, false) {
                    kind @ (elf::R_X86_64_RELATIVE | elf::R_X86_64_IRELATIVE) => {
                        let address = relocation.r_addend.get(LE) as u64;
                        if is_wanted(address) {
                            let chosen = kind == elf::R_X86_64_IRELATIVE;
                            slots.insert(at, if chosen { Slot::Chosen(address) } else { Slot::Address(address) });
                        }
                    }
                    elf::R_X86_64_GLOB_DAT | elf::R_X86_64_JUMP_SLOT | elf::R_X86_64_64 => {
                        let index = SymbolIndex(relocation.r_sym(LE, false) as usize);
                        let Ok(symbol) = table.symbol(index) else { continue };
                        let name = symbol.name(LE, strings).ok().and_then(|name| std::str::from_utf8(name).ok());
                        if let Some(name) = name.filter(|name| wanted(name)) {
                            slots.insert(at, Slot::Name(name.to_owned()));
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(slots)
    }

    /// Where, as linked, the dynamic linker writes the number of the module that has this exported thread-local variable, and behind it the
    /// variable's offset in the module's block; `None` if the file does not ask for them.
    ///
    /// # Errors
    ///
    /// When a table is malformed.
    pub fn module_index(&self, variable: &str) -> Result<Option<u64>, ObjectError> {
        let source = &self.source;
        let header = Header::parse(source)?;
        let sections = header.sections(LE, source)?;
        let table = sections.symbols(LE, source, elf::SHT_DYNSYM)?;
        let is_variable = |index: u32| {
            let symbol = table.symbol(SymbolIndex(index as usize)).ok();
            let name = symbol.and_then(|symbol| table.symbol_name(LE, symbol).ok());
            name.is_some_and(|name| name == variable.as_bytes())
        };
        for section in sections.iter() {
            let Some((relocations, _)) = section.rela(LE, source)? else { continue };
            let mut modules =
                relocations.iter().filter(|relocation| relocation.r_type(LE, false) == elf::R_X86_64_DTPMOD64);
            if let Some(found) = modules.find(|relocation| is_variable(relocation.r_sym(LE, false))) {
                return Ok(Some(found.r_offset.get(LE)));
            }
        }
        Ok(None)
    }

    /// Places whose contents the dynamic linker moves with the file: where they are, and what they hold, both as linked; those that
    /// are `wanted` by the two.
    ///
    /// # Errors
    ///
    /// When a table is malformed.
    pub fn moved_words(&self, wanted: impl Fn(u64, u64) -> bool) -> Result<Vec<(u64, u64)>, ObjectError> {
        let source = &self.source;
        let header = Header::parse(source)?;
        let sections = header.sections(LE, source)?;
        let mut found = Vec::new();
        for section in sections.iter() {
            let Some((relocations, _)) = section.rela(LE, source)? else { continue };
            let relative = relocations.iter().filter(|entry| entry.r_type(LE, false) == elf::R_X86_64_RELATIVE);
            let words = relative.map(|entry| (entry.r_offset.get(LE), entry.r_addend.get(LE) as u64));
            found.extend(words.filter(|&(at, word)| wanted(at, word)));
        }
        Ok(found)
    }

    /// The virtual address of the code at this file offset.
    ///
    /// # Errors
    ///
    /// When the offset is in no executable segment.
    pub fn address_of(&self, offset: u64) -> Result<u64, ObjectError> {
        self.code.iter().find_map(|load| load.address_of(offset)).ok_or(ObjectError::NotCode(offset))
    }

    /// The virtual address of the mapped page of code at this file offset, which may begin before its segment does.
    ///
    /// # Errors
    ///
    /// When the page is in no executable segment.
    pub fn page_address_of(&self, offset: u64) -> Result<u64, ObjectError> {
        self.code.iter().find_map(|load| load.page_address(offset)).ok_or(ObjectError::NotCode(offset))
    }

    /// Code from an address on, at most `limit` bytes of it.
    ///
    /// # Errors
    ///
    /// When the address is not in the file's code.
    pub fn code_at(&self, address: u64, limit: u64) -> Result<&[u8], ObjectError> {
        self.code(&Symbol { address, size: Some(limit), indirect: false })
    }

    /// Where in the file the byte of this virtual address is: PT_LOAD's `p_offset + (address - p_vaddr)`.
    ///
    /// # Errors
    ///
    /// When the address is not in an executable segment, or in its part that is not in the file.
    pub fn file_offset(&self, address: u64) -> Result<u64, ObjectError> {
        self.locate(address).map(|(offset, _)| offset)
    }

    /// A function's code: all of it up to [`MAX_CODE_BYTES`]; of a function of unknown size the first instruction's
    /// worth of bytes and some more.
    ///
    /// # Errors
    ///
    /// When the function does not lie in the file's code.
    pub fn code(&self, symbol: &Symbol) -> Result<&[u8], ObjectError> {
        let (offset, available) = self.locate(symbol.address)?;
        let length = symbol.size.unwrap_or(64).min(available).min(MAX_CODE_BYTES);
        let failed = |()| ObjectError::Malformed(format!("code at {:#x}", symbol.address).into());
        (&self.source).read_bytes_at(offset, length).map_err(failed)
    }

    /// The file offset of an address, and how many bytes of its segment follow.
    fn locate(&self, address: u64) -> Result<(u64, u64), ObjectError> {
        self.code.iter().find_map(|load| load.place_of(address)).ok_or(ObjectError::NotCode(address))
    }
}

fn code_segments<R: Read + Seek>(source: &Source<R>) -> Result<Vec<Load>, ObjectError> {
    let ident = source.read_bytes_at(0, 20).map_err(|()| ObjectError::NotElf)?;
    if !ident.starts_with(&elf::ELFMAG) {
        return Err(ObjectError::NotElf);
    }
    let machine = u16::from_le_bytes([ident[18], ident[19]]);
    if (ident[4], ident[5], machine) != (elf::ELFCLASS64, elf::ELFDATA2LSB, elf::EM_X86_64) {
        return Err(ObjectError::NotX86_64);
    }
    let header = Header::parse(source)?;
    match header.e_type(LE) {
        elf::ET_EXEC | elf::ET_DYN => {}
        other => return Err(ObjectError::NotLoadable(other)),
    }
    let segments = header.program_headers(LE, source)?;
    Ok(segments
        .iter()
        .filter(|segment| segment.p_type(LE) == elf::PT_LOAD && segment.p_flags(LE) & elf::PF_X != 0)
        .map(load)
        .collect())
}

fn load(segment: &elf::ProgramHeader64<LE>) -> Load {
    Load {
        address: segment.p_vaddr(LE),
        bytes: segment.p_memsz(LE),
        file_offset: segment.p_offset(LE),
        file_bytes: segment.p_filesz(LE),
        executable: segment.p_flags(LE) & elf::PF_X != 0,
    }
}

/// A symbol with its rank: of several with one name (versions, weak and strong) the highest is what others link to.
type Ranked = (Symbol, Rank);

/// The default version (`name@@VERSION`) before the hidden ones (`name@VERSION`), global before weak before local.
type Rank = (bool, u8);

fn read_table<'n, R: Read + Seek>(
    source: &Source<R>,
    sections: &Sections<'_, R>,
    kind: u32,
    wanted: &HashMap<&[u8], &'n str>,
    plain: fn(&[u8]) -> &[u8],
) -> Result<HashMap<&'n str, Ranked>, ObjectError> {
    let mut found: HashMap<&'n str, Ranked> = HashMap::new();
    let table = sections.symbols(LE, source, kind)?;
    if table.is_empty() {
        return Ok(found);
    }
    // Names are looked up in the whole section at once: a cached read for each of a million names would be slow.
    let strings = sections.section(table.string_section())?.data(LE, source)?;
    let strings = StringTable::new(strings, 0, strings.len() as u64);
    let versions = match kind {
        elf::SHT_DYNSYM => sections.gnu_versym(LE, source)?.map(|(versions, _)| versions),
        _ => None,
    };
    for (SymbolIndex(index), symbol) in table.enumerate() {
        let indirect = symbol.st_type() == elf::STT_GNU_IFUNC;
        let known_type = indirect || matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_OBJECT);
        if !known_type || symbol.st_shndx(LE) == elf::SHN_UNDEF {
            continue;
        }
        // A name that lies outside the strings is nobody's name.
        let Ok(name) = symbol.name(LE, strings) else { continue };
        let Some(&name) = wanted.get(name).or_else(|| wanted.get(plain(name))) else { continue };
        let hidden = versions
            .and_then(|versions| versions.get(index))
            .is_some_and(|version| version.0.get(LE) & elf::VERSYM_HIDDEN != 0);
        let binding = match symbol.st_bind() {
            elf::STB_GLOBAL | elf::STB_GNU_UNIQUE => 2,
            elf::STB_WEAK => 1,
            _ => 0,
        };
        let rank = (!hidden, binding);
        let size = Some(symbol.st_size(LE)).filter(|&size| size > 0);
        let symbol = Symbol { address: symbol.st_value(LE), size, indirect };
        let entry = found.entry(name).or_insert((symbol, rank));
        if rank > entry.1 {
            *entry = (symbol, rank);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{Cursor, Write},
    };

    use proptest::prelude::*;

    use super::*;

    const WANTED: [&str; 6] = ["malloc", "calloc", "realloc", "free", "mmap", "main"];

    fn own_program() -> Vec<u8> {
        fs::read("/proc/self/exe").expect("our own program")
    }

    /// The smallest parts of our own program that make an ELF file with segments.
    fn head() -> Vec<u8> {
        own_program()[..4096].to_vec()
    }

    fn everything(bytes: Vec<u8>) -> Result<(), ObjectError> {
        let file = ElfFile::parse(Cursor::new(bytes))?;
        for symbol in file.symbols(&WANTED, |name| name)?.values() {
            let _ = file.code(symbol);
            let _ = file.file_offset(symbol.address);
        }
        Ok(())
    }

    #[test]
    fn a_file_that_is_not_a_program_for_this_machine_is_refused_by_name() {
        assert_eq!(everything(vec![]), Err(ObjectError::NotElf));
        assert_eq!(
            everything(b"#!/bin/sh\necho a script of more than twenty bytes\n".to_vec()),
            Err(ObjectError::NotElf)
        );
        let mut arm = head();
        arm[18] = 183;
        assert_eq!(everything(arm), Err(ObjectError::NotX86_64));
        let mut narrow = head();
        narrow[4] = 1;
        assert_eq!(everything(narrow), Err(ObjectError::NotX86_64));
        let mut core = head();
        core[16] = 4;
        assert_eq!(everything(core), Err(ObjectError::NotLoadable(4)));
    }

    #[test]
    fn truncation_anywhere_is_an_error_or_finds_less() {
        let whole = own_program();
        for length in (0..4096).step_by(61).chain((4096..whole.len()).step_by(whole.len() / 20)) {
            let _ = everything(whole[..length].to_vec());
        }
        assert!(matches!(everything(head()), Err(ObjectError::Unparsable(_))), "the section table is cut off");
    }

    #[test]
    fn a_size_that_no_file_has_is_refused_before_it_is_allocated() {
        // e_shnum 0: the number of sections is the first section's size, here 2^32 - 1 of 64 bytes each.
        let mut bytes = vec![0; 8192];
        bytes[..64].copy_from_slice(&head()[..64]);
        bytes[40..48].copy_from_slice(&4096u64.to_le_bytes());
        bytes[60..62].copy_from_slice(&0u16.to_le_bytes());
        bytes[4096 + 32..4096 + 40].copy_from_slice(&u64::from(u32::MAX).to_le_bytes());
        // A sparse file is as long as it likes to be.
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&bytes).expect("written");
        file.set_len(1 << 40).expect("made long");
        let file = ElfFile::parse(file).expect("the header is sound");
        assert!(matches!(file.symbols(&["malloc"], |name| name), Err(ObjectError::Unparsable(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_err(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = everything(bytes);
        }

        #[test]
        fn a_damaged_file_parses_or_errs(damage in prop::collection::vec((0usize..2048, any::<u8>()), 1..20)) {
            // The section headers and the symbol tables right behind the file header, so that damage meets them.
            let mut bytes = small_file();
            let length = bytes.len();
            for (at, value) in damage {
                bytes[at % length] = value;
            }
            let _ = everything(bytes);
        }
    }

    /// A shared object of one code segment and one dynamic symbol table with versions, by hand.
    fn small_file() -> Vec<u8> {
        let strings = b"\0malloc\0free\0mmap\0";
        let symbol = |name: u32, kind: u8, bind: u8, section: u16, value: u64, size: u64| {
            let mut bytes = name.to_le_bytes().to_vec();
            bytes.extend([bind << 4 | kind, 0]);
            bytes.extend(section.to_le_bytes());
            bytes.extend(value.to_le_bytes());
            bytes.extend(size.to_le_bytes());
            bytes
        };
        let symbols = [
            symbol(0, 0, 0, 0, 0, 0),
            symbol(1, 2, 1, 1, 0x1010, 8),  // malloc, an old version
            symbol(1, 2, 1, 1, 0x1000, 8),  // malloc, the default version
            symbol(8, 10, 1, 1, 0x1020, 8), // free, an indirect function
            symbol(13, 2, 1, 0, 0x1030, 8), // mmap, undefined
        ]
        .concat();
        let versions: Vec<u8> = [0u16, 0x8002, 3, 2, 2].iter().flat_map(|version| version.to_le_bytes()).collect();
        let (code_at, strings_at, symbols_at, versions_at, sections_at) = (128, 192, 216, 336, 352);
        let section = |kind: u32, offset: usize, size: usize, link: u32, entry: u64| {
            let mut bytes = vec![0; 64];
            bytes[4..8].copy_from_slice(&kind.to_le_bytes());
            bytes[24..32].copy_from_slice(&(offset as u64).to_le_bytes());
            bytes[32..40].copy_from_slice(&(size as u64).to_le_bytes());
            bytes[40..44].copy_from_slice(&link.to_le_bytes());
            bytes[56..64].copy_from_slice(&entry.to_le_bytes());
            bytes
        };
        let mut bytes = vec![0; sections_at];
        bytes[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0");
        bytes[20] = 1;
        bytes[32..40].copy_from_slice(&64u64.to_le_bytes());
        bytes[40..48].copy_from_slice(&(sections_at as u64).to_le_bytes());
        for (at, value) in [(52, 64u16), (54, 56), (56, 1), (58, 64), (60, 4), (62, 1)] {
            bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        bytes[64..72].copy_from_slice(&[1, 0, 0, 0, 5, 0, 0, 0]);
        for (at, value) in [(72, code_at as u64), (80, 0x1000), (96, 64), (104, 64)] {
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        bytes[code_at] = 0x55;
        bytes[strings_at..strings_at + strings.len()].copy_from_slice(strings);
        bytes[symbols_at..symbols_at + symbols.len()].copy_from_slice(&symbols);
        bytes[versions_at..versions_at + versions.len()].copy_from_slice(&versions);
        bytes.extend(section(0, 0, 0, 0, 0));
        bytes.extend(section(elf::SHT_STRTAB, strings_at, strings.len(), 0, 0));
        bytes.extend(section(elf::SHT_DYNSYM, symbols_at, symbols.len(), 1, 24));
        bytes.extend(section(elf::SHT_GNU_VERSYM, versions_at, versions.len(), 2, 2));
        bytes
    }

    #[test]
    fn the_default_version_is_taken_and_an_undefined_symbol_is_not() {
        let file = ElfFile::parse(Cursor::new(small_file())).expect("a sound file");
        let symbols = file.symbols(&["malloc", "free", "mmap"], |name| name).expect("sound tables");
        assert_eq!(symbols["malloc"], Symbol { address: 0x1000, size: Some(8), indirect: false });
        assert!(symbols["free"].indirect);
        assert!(!symbols.contains_key("mmap"));
        assert_eq!(file.file_offset(0x1000), Ok(128));
        assert_eq!(file.code(&symbols["malloc"]).expect("its code")[0], 0x55);
        assert_eq!(file.file_offset(0x1040), Err(ObjectError::NotCode(0x1040)));
        assert_eq!(file.file_offset(0xfff), Err(ObjectError::NotCode(0xfff)));
    }
}
