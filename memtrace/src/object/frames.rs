//! What unwinding takes from an ELF file: its executable segments, `.eh_frame`, `.debug_frame` and build id.
//!
//! Every read is bounded, and no number in the file decides by itself how much memory is taken. Damaged section headers
//! only lose what they alone lead to: `.eh_frame` is found by the program headers too.

use std::{
    io::{Read, Seek, SeekFrom},
    ops::Range,
};

use gimli::{BaseAddresses, EhFrameHdr, NativeEndian};
use object::{
    LittleEndian as LE,
    elf::{self, CompressionHeader64, FileHeader64, ProgramHeader64, SectionHeader64, Sym64},
    pod::{self, Pod},
    read::{CompressedData, CompressionFormat},
};

use super::{
    Load, ObjectError,
    bounds::{MAX_FRAME_BYTES, MAX_NAME_BYTES, MAX_NOTE_BYTES, MAX_SECTION_NAME_BYTES, MAX_SEGMENTS},
    build_id,
    go_table::MARKS,
};

const COLD: &[u8] = b".cold";

/// What unwinding takes from a file.
#[derive(Debug)]
pub struct FrameFile {
    /// Its parts that the loader maps, in the file's order.
    pub loads: Vec<Load>,
    /// The address of its first instruction, as linked.
    pub entry: u64,
    /// What addresses in the rules count from.
    pub bases: BaseAddresses,
    /// The bytes of `.eh_frame`, unpacked; empty where it has none.
    pub eh_frame: Vec<u8>,
    /// The bytes of `.debug_frame`, unpacked; empty where it has none.
    pub debug_frame: Vec<u8>,
    /// The linker's identity of the file.
    pub build_id: Option<Vec<u8>>,
    sections: Sections,
}

struct File<'a, R>(&'a mut R);

impl<R: Read + Seek> File<'_, R> {
    /// `bytes` bytes from `offset` on. The buffer grows with what is there, not with what is asked for.
    fn read(&mut self, part: &'static str, offset: u64, bytes: u64, limit: u64) -> Result<Vec<u8>, ObjectError> {
        if bytes > limit {
            return Err(ObjectError::TooLarge { part: part.into(), bytes });
        }
        let found = self.read_up_to(offset, bytes)?;
        if found.len() as u64 != bytes {
            return Err(ObjectError::Truncated(part));
        }
        Ok(found)
    }

    fn read_up_to(&mut self, offset: u64, bytes: u64) -> Result<Vec<u8>, ObjectError> {
        let mut found = Vec::new();
        self.0.seek(SeekFrom::Start(offset))?;
        self.0.take(bytes).read_to_end(&mut found)?;
        Ok(found)
    }
}

/// The first `count` values of this type.
fn values<'a, T: Pod>(bytes: &'a [u8], count: usize, part: &'static str) -> Result<&'a [T], ObjectError> {
    pod::slice_from_bytes(bytes, count).map(|(values, _)| values).map_err(|()| ObjectError::Malformed(part.into()))
}

impl FrameFile {
    /// Reads the parts of a file or of an image of one in memory.
    pub fn read<R: Read + Seek>(reader: &mut R) -> Result<FrameFile, ObjectError> {
        let mut file = File(reader);
        let bytes = file.read_up_to(0, size_of::<FileHeader64<LE>>() as u64)?;
        if !bytes.starts_with(&elf::ELFMAG) {
            return Err(ObjectError::NotElf);
        }
        let header =
            values::<FileHeader64<LE>>(&bytes, 1, "header")?.first().ok_or(ObjectError::Truncated("header"))?;
        let machine = header.e_machine.get(LE);
        if (header.e_ident.class, header.e_ident.data, machine) != (elf::ELFCLASS64, elf::ELFDATA2LSB, elf::EM_X86_64) {
            return Err(ObjectError::NotX86_64);
        }
        let segments = program_headers(&mut file, header)?;
        // Not an error: nothing but debuggers reads section headers, and some programs are shipped without.
        let sections = Sections::read(&mut file, header).unwrap_or_default();

        let loads = segments.iter().filter(|segment| segment.p_type.get(LE) == elf::PT_LOAD).map(load).collect();
        let mut elf = FrameFile {
            loads,
            entry: header.e_entry.get(LE),
            bases: BaseAddresses::default(),
            eh_frame: Vec::new(),
            debug_frame: Vec::new(),
            build_id: build_id(&mut file, &segments, &sections),
            sections: Sections::default(),
        };
        if let Some(text) = sections.named(b".text") {
            elf.bases = elf.bases.set_text(text.sh_addr.get(LE));
        }
        if let Some(got) = sections.named(b".got") {
            elf.bases = elf.bases.set_got(got.sh_addr.get(LE));
        }
        elf.read_eh_frame(&mut file, &segments, &sections)?;
        if let Some(section) = sections.named(b".debug_frame") {
            elf.debug_frame = contents(&mut file, section, ".debug_frame")?;
        }
        elf.sections = sections;
        Ok(elf)
    }

    /// Whether the file has code of Go, by its sections.
    pub fn is_go(&self) -> bool {
        MARKS.iter().any(|name| self.sections.named(name).is_some())
    }

    /// Whether these addresses are in one executable segment.
    pub fn is_code(&self, range: Range<u64>) -> bool {
        let mut code = self.loads.iter().filter(|load| load.executable);
        code.any(|load| load.address <= range.start && range.end <= load.end())
    }

    /// Code that is in the file, from one address to another. Empty if it is not in one executable segment of the file.
    pub fn code<R: Read + Seek>(&self, reader: &mut R, range: Range<u64>) -> Vec<u8> {
        let place = self.loads.iter().filter(|load| load.executable).find_map(|load| {
            let (offset, available) = load.place_of(range.start)?;
            Some((offset, range.end.checked_sub(range.start)?.min(available)))
        });
        let Some((offset, bytes)) = place else { return Vec::new() };
        File(reader).read_up_to(offset, bytes).unwrap_or_default()
    }

    /// Where functions begin by the symbol tables, sorted. A part of a function that a compiler has put elsewhere
    /// (`.cold`) is none. Symbol tables that cannot be read have none.
    pub fn function_symbols<R: Read + Seek>(&self, reader: &mut R) -> Vec<u64> {
        let mut file = File(reader);
        let mut starts = Vec::new();
        for (table, names) in [(&b".dynsym"[..], &b".dynstr"[..]), (b".symtab", b".strtab")] {
            let (Some(table), Some(names)) = (self.sections.named(table), self.sections.named(names)) else { continue };
            let (Ok(bytes), Ok(names)) = (contents(&mut file, table, "symbols"), contents(&mut file, names, "names"))
            else {
                continue;
            };
            let Ok(symbols) = values::<Sym64<LE>>(&bytes, bytes.len() / size_of::<Sym64<LE>>(), "symbols") else {
                continue;
            };
            let is_function = |symbol: &&Sym64<LE>| {
                matches!(symbol.st_info & 15, elf::STT_FUNC | elf::STT_GNU_IFUNC)
                    && symbol.st_shndx.get(LE) != elf::SHN_UNDEF
                    && !is_cold(names.get(symbol.st_name.get(LE) as usize..).unwrap_or_default())
            };
            starts.extend(symbols.iter().filter(is_function).map(|symbol| symbol.st_value.get(LE)));
        }
        starts.sort_unstable();
        starts.dedup();
        starts
    }

    fn read_eh_frame<R: Read + Seek>(
        &mut self,
        file: &mut File<'_, R>,
        segments: &[ProgramHeader64<LE>],
        sections: &Sections,
    ) -> Result<(), ObjectError> {
        if let Some(section) = sections.named(b".eh_frame") {
            self.bases = self.bases.clone().set_eh_frame(section.sh_addr.get(LE));
            self.eh_frame = contents(file, section, ".eh_frame")?;
            return Ok(());
        }
        let Some(header) = segments.iter().find(|segment| segment.p_type.get(LE) == elf::PT_GNU_EH_FRAME) else {
            return Ok(());
        };
        const PART: &str = ".eh_frame_hdr";
        // Its fixed part and the pointer are 12 bytes at most.
        let bytes = file.read_up_to(header.p_offset.get(LE), header.p_filesz.get(LE).min(64))?;
        let bases = self.bases.clone().set_eh_frame_hdr(header.p_vaddr.get(LE));
        let parsed =
            EhFrameHdr::new(&bytes, NativeEndian).parse(&bases, 8).map_err(|_| ObjectError::Malformed(PART.into()))?;
        let address = parsed.eh_frame_ptr().direct().map_err(|_| ObjectError::Malformed(PART.into()))?;
        let within = self.loads.iter().find_map(|load| load.place_of(address));
        let (offset, bytes) = within.ok_or(ObjectError::Truncated(".eh_frame"))?;
        // Its size is not known: it ends with an entry of length 0, or with its segment.
        self.eh_frame = file.read_up_to(offset, bytes.min(MAX_FRAME_BYTES))?;
        self.bases = bases.set_eh_frame(address);
        Ok(())
    }
}

/// Whether a name that begins here is that of a part which GCC or LLVM has split off: `NAME.cold`, perhaps with a number.
fn is_cold(names: &[u8]) -> bool {
    let name = names.get(..names.len().min(MAX_NAME_BYTES)).unwrap_or_default();
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    name.windows(COLD.len()).any(|part| part == COLD)
}

fn load(segment: &ProgramHeader64<LE>) -> Load {
    Load {
        address: segment.p_vaddr.get(LE),
        bytes: segment.p_memsz.get(LE),
        file_offset: segment.p_offset.get(LE),
        file_bytes: segment.p_filesz.get(LE),
        executable: segment.p_flags.get(LE) & elf::PF_X != 0,
    }
}

fn program_headers<R: Read + Seek>(
    file: &mut File<'_, R>,
    header: &FileHeader64<LE>,
) -> Result<Vec<ProgramHeader64<LE>>, ObjectError> {
    const PART: &str = "program header table";
    let count = header.e_phnum.get(LE);
    if count > 0 && usize::from(header.e_phentsize.get(LE)) != size_of::<ProgramHeader64<LE>>() {
        return Err(ObjectError::Malformed(PART.into()));
    }
    let bytes = u64::from(count) * size_of::<ProgramHeader64<LE>>() as u64;
    let table =
        file.read(PART, header.e_phoff.get(LE), bytes, MAX_SEGMENTS * size_of::<ProgramHeader64<LE>>() as u64)?;
    Ok(values(&table, usize::from(count), PART)?.to_vec())
}

#[derive(Debug, Default)]
struct Sections {
    headers: Vec<SectionHeader64<LE>>,
    names: Vec<u8>,
}

impl Sections {
    fn read<R: Read + Seek>(file: &mut File<'_, R>, header: &FileHeader64<LE>) -> Result<Sections, ObjectError> {
        const PART: &str = "section header table";
        // Files with more sections than 16 bits count say 0 here; they are object files, not what is mapped.
        let count = header.e_shnum.get(LE);
        if usize::from(header.e_shentsize.get(LE)) != size_of::<SectionHeader64<LE>>() {
            return Err(ObjectError::Malformed(PART.into()));
        }
        let bytes = u64::from(count) * size_of::<SectionHeader64<LE>>() as u64;
        let table = file.read(PART, header.e_shoff.get(LE), bytes, bytes)?;
        let headers = values::<SectionHeader64<LE>>(&table, usize::from(count), PART)?.to_vec();
        let names = headers.get(usize::from(header.e_shstrndx.get(LE))).ok_or(ObjectError::Malformed(PART.into()))?;
        let names = file.read(PART, names.sh_offset.get(LE), names.sh_size.get(LE), MAX_SECTION_NAME_BYTES)?;
        Ok(Sections { headers, names })
    }

    fn named(&self, wanted: &[u8]) -> Option<&SectionHeader64<LE>> {
        self.headers.iter().find(|section| {
            let name = self.names.get(section.sh_name.get(LE) as usize..).unwrap_or_default();
            // The debug information of a stripped file has its other sections without contents.
            section.sh_type.get(LE) != elf::SHT_NOBITS
                && name.strip_prefix(wanted).is_some_and(|rest| rest.first() == Some(&0))
        })
    }
}

fn contents<R: Read + Seek>(
    file: &mut File<'_, R>,
    section: &SectionHeader64<LE>,
    part: &'static str,
) -> Result<Vec<u8>, ObjectError> {
    let bytes = file.read(part, section.sh_offset.get(LE), section.sh_size.get(LE), MAX_FRAME_BYTES)?;
    if section.sh_flags.get(LE) & u64::from(elf::SHF_COMPRESSED) == 0 {
        return Ok(bytes);
    }
    let malformed = || ObjectError::Malformed(part.into());
    let (header, data) = pod::from_bytes::<CompressionHeader64<LE>>(&bytes).map_err(|()| malformed())?;
    let uncompressed_size = header.ch_size.get(LE);
    if uncompressed_size > MAX_FRAME_BYTES {
        return Err(ObjectError::TooLarge { part: part.into(), bytes: uncompressed_size });
    }
    let format = match header.ch_type.get(LE) {
        elf::ELFCOMPRESS_ZLIB => CompressionFormat::Zlib,
        elf::ELFCOMPRESS_ZSTD => CompressionFormat::Zstandard,
        _ => return Err(malformed()),
    };
    let compressed = CompressedData { format, data, uncompressed_size };
    Ok(compressed.decompress().map_err(|_| malformed())?.into_owned())
}

/// The GNU build id: from the notes that are loaded, or else from those that are sections.
fn build_id<R: Read + Seek>(
    file: &mut File<'_, R>,
    segments: &[ProgramHeader64<LE>],
    sections: &Sections,
) -> Option<Vec<u8>> {
    let loaded = segments
        .iter()
        .filter(|segment| segment.p_type.get(LE) == elf::PT_NOTE)
        .map(|segment| (segment.p_offset.get(LE), segment.p_filesz.get(LE), segment.p_align.get(LE)));
    let others = sections
        .headers
        .iter()
        .filter(|section| section.sh_type.get(LE) == elf::SHT_NOTE)
        .map(|section| (section.sh_offset.get(LE), section.sh_size.get(LE), section.sh_addralign.get(LE)));
    // A program has three or four.
    loaded.chain(others).take(32).find_map(|(offset, bytes, align)| {
        let notes = file.read("notes", offset, bytes, MAX_NOTE_BYTES).ok()?;
        build_id::of_notes(&notes, if align == 8 { 8 } else { 4 })
    })
}
