//! Reads from an ELF file what unwinding takes: its executable segments, `.eh_frame`, `.debug_frame` and build id, and
//! where a Go program changes stacks.
//!
//! Every read is bounded, and no number in the file decides by itself how much memory is taken. Damaged section headers
//! only lose what they alone lead to: `.eh_frame` is found by the program headers too.

use std::{
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
};

use gimli::{BaseAddresses, EhFrameHdr, NativeEndian};
use object::{
    LittleEndian as LE,
    elf::{self, CompressionHeader64, FileHeader64, NoteHeader64, ProgramHeader64, SectionHeader64, Sym64},
    pod::{self, Pod},
    read::{CompressedData, CompressionFormat},
};
use thiserror::Error;

/// The most bytes of one section, compressed or not; the largest browsers have half of it.
pub(super) const MAX_SECTION_BYTES: u64 = 64 << 20;

/// Programs have a dozen, and each function is looked up in them.
const MAX_SEGMENTS: u64 = 256;

/// Go's way into C code, under the names of either calling convention. It changes from a goroutine's stack to the
/// thread's, which its rules do not say: what they lead to is no frame.
const STACK_SWITCHES: [&[u8]; 2] = [b"runtime.asmcgocall", b"runtime.asmcgocall.abi0"];

/// Go's table of functions, which only its programs have.
const GO_FUNCTIONS: &[u8] = b".gopclntab";

const COLD: &[u8] = b".cold";

/// How much of a symbol's name is looked at.
const MAX_NAME_BYTES: usize = 4 << 10;

const MAX_NAMES_BYTES: u64 = 1 << 20;
const MAX_NOTES_BYTES: u64 = 64 << 10;
const MAX_BUILD_ID_BYTES: usize = 64;

/// Why a file cannot be read.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ReadError {
    /// The system would not read it.
    #[error("it cannot be read: {0}")]
    Io(String),
    /// It does not begin as an ELF file does.
    #[error("it is not an ELF file")]
    NotElf,
    /// It is for other machines.
    #[error("it is not for x86-64 with 64-bit pointers")]
    NotX86_64,
    /// A part of it lies outside the file.
    #[error("its {0} lies outside the file")]
    Truncated(&'static str),
    /// A part of it is larger than memtrace reads.
    #[error("its {part} has {bytes} bytes, which is more than memtrace reads")]
    TooLarge {
        /// Which.
        part: &'static str,
        /// How large it says it is.
        bytes: u64,
    },
    /// A part of it does not parse.
    #[error("its {0} cannot be parsed")]
    Malformed(&'static str),
}

/// A part of the file that the loader maps.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Load {
    /// Its virtual address, as linked.
    pub address: u64,
    /// Its size in memory.
    pub bytes: u64,
    /// Where in the file it begins.
    pub file_offset: u64,
    /// How much of it is in the file.
    pub file_bytes: u64,
    /// Whether it is mapped with permission to execute.
    pub executable: bool,
}

impl Load {
    /// The address behind its last.
    pub fn end(&self) -> u64 {
        self.address.saturating_add(self.bytes)
    }
}

/// What unwinding takes from a file.
#[derive(Debug)]
pub(super) struct Elf {
    pub loads: Vec<Load>,
    pub entry: u64,
    pub bases: BaseAddresses,
    pub eh_frame: Vec<u8>,
    pub debug_frame: Vec<u8>,
    pub build_id: Option<Vec<u8>>,
    /// Where functions begin that change stacks unknown to the rules.
    pub stack_switches: Vec<u64>,
    sections: Sections,
}

struct File<'a, R>(&'a mut R);

impl<R: Read + Seek> File<'_, R> {
    /// `bytes` bytes from `offset` on. The buffer grows with what is there, not with what is asked for.
    fn read(&mut self, part: &'static str, offset: u64, bytes: u64, limit: u64) -> Result<Vec<u8>, ReadError> {
        if bytes > limit {
            return Err(ReadError::TooLarge { part, bytes });
        }
        let found = self.read_up_to(offset, bytes)?;
        if found.len() as u64 != bytes {
            return Err(ReadError::Truncated(part));
        }
        Ok(found)
    }

    fn read_up_to(&mut self, offset: u64, bytes: u64) -> Result<Vec<u8>, ReadError> {
        let mut found = Vec::new();
        self.0.seek(SeekFrom::Start(offset)).map_err(io_error)?;
        self.0.take(bytes).read_to_end(&mut found).map_err(io_error)?;
        Ok(found)
    }
}

fn io_error(error: io::Error) -> ReadError {
    ReadError::Io(error.to_string())
}

/// The first `count` values of this type.
fn values<'a, T: Pod>(bytes: &'a [u8], count: usize, part: &'static str) -> Result<&'a [T], ReadError> {
    pod::slice_from_bytes(bytes, count).map(|(values, _)| values).map_err(|()| ReadError::Malformed(part))
}

impl Elf {
    /// Reads the parts of a file or of an image of one in memory.
    pub fn read<R: Read + Seek>(reader: &mut R) -> Result<Elf, ReadError> {
        let mut file = File(reader);
        let bytes = file.read_up_to(0, size_of::<FileHeader64<LE>>() as u64)?;
        if !bytes.starts_with(&elf::ELFMAG) {
            return Err(ReadError::NotElf);
        }
        let header = values::<FileHeader64<LE>>(&bytes, 1, "header")?.first().ok_or(ReadError::Truncated("header"))?;
        let machine = header.e_machine.get(LE);
        if (header.e_ident.class, header.e_ident.data, machine) != (elf::ELFCLASS64, elf::ELFDATA2LSB, elf::EM_X86_64) {
            return Err(ReadError::NotX86_64);
        }
        let segments = program_headers(&mut file, header)?;
        // Not an error: nothing but debuggers reads section headers, and some programs are shipped without.
        let sections = Sections::read(&mut file, header).unwrap_or_default();

        let loads = segments.iter().filter(|segment| segment.p_type.get(LE) == elf::PT_LOAD).map(load).collect();
        let mut elf = Elf {
            loads,
            entry: header.e_entry.get(LE),
            bases: BaseAddresses::default(),
            eh_frame: Vec::new(),
            debug_frame: Vec::new(),
            build_id: build_id(&mut file, &segments, &sections),
            // Not an error: a program without symbols is unwound as well as may be.
            stack_switches: stack_switches(&mut file, &sections).unwrap_or_default(),
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

    /// Whether Go linked the program: its code keeps frame pointers everywhere.
    pub fn is_go(&self) -> bool {
        self.sections.named(GO_FUNCTIONS).is_some()
    }

    /// Code that is in the file, from one address to another. Empty if it is not in one executable segment of the file.
    pub fn code<R: Read + Seek>(&self, reader: &mut R, range: Range<u64>) -> Vec<u8> {
        let place = self.loads.iter().filter(|load| load.executable).find_map(|load| {
            let into = range.start.checked_sub(load.address)?;
            let available = load.file_bytes.checked_sub(into)?;
            Some((load.file_offset.checked_add(into)?, range.end.checked_sub(range.start)?.min(available)))
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
    ) -> Result<(), ReadError> {
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
        let parsed = EhFrameHdr::new(&bytes, NativeEndian).parse(&bases, 8).map_err(|_| ReadError::Malformed(PART))?;
        let address = parsed.eh_frame_ptr().direct().map_err(|_| ReadError::Malformed(PART))?;
        let within = self.loads.iter().find_map(|load| {
            let into = address.checked_sub(load.address)?;
            let bytes = load.file_bytes.checked_sub(into)?;
            Some((load.file_offset.checked_add(into)?, bytes))
        });
        let (offset, bytes) = within.ok_or(ReadError::Truncated(".eh_frame"))?;
        // Its size is not known: it ends with an entry of length 0, or with its segment.
        self.eh_frame = file.read_up_to(offset, bytes.min(MAX_SECTION_BYTES))?;
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
) -> Result<Vec<ProgramHeader64<LE>>, ReadError> {
    const PART: &str = "program header table";
    let count = header.e_phnum.get(LE);
    if count > 0 && usize::from(header.e_phentsize.get(LE)) != size_of::<ProgramHeader64<LE>>() {
        return Err(ReadError::Malformed(PART));
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
    fn read<R: Read + Seek>(file: &mut File<'_, R>, header: &FileHeader64<LE>) -> Result<Sections, ReadError> {
        const PART: &str = "section header table";
        // Files with more sections than 16 bits count say 0 here; they are object files, not what is mapped.
        let count = header.e_shnum.get(LE);
        if usize::from(header.e_shentsize.get(LE)) != size_of::<SectionHeader64<LE>>() {
            return Err(ReadError::Malformed(PART));
        }
        let bytes = u64::from(count) * size_of::<SectionHeader64<LE>>() as u64;
        let table = file.read(PART, header.e_shoff.get(LE), bytes, bytes)?;
        let headers = values::<SectionHeader64<LE>>(&table, usize::from(count), PART)?.to_vec();
        let names = headers.get(usize::from(header.e_shstrndx.get(LE))).ok_or(ReadError::Malformed(PART))?;
        let names = file.read(PART, names.sh_offset.get(LE), names.sh_size.get(LE), MAX_NAMES_BYTES)?;
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

fn stack_switches<R: Read + Seek>(file: &mut File<'_, R>, sections: &Sections) -> Result<Vec<u64>, ReadError> {
    // Only in Go's programs, so that no other's symbols are read.
    if sections.named(GO_FUNCTIONS).is_none() {
        return Ok(Vec::new());
    }
    let (Some(symbols), Some(names)) = (sections.named(b".symtab"), sections.named(b".strtab")) else {
        return Ok(Vec::new());
    };
    let bytes = contents(file, symbols, ".symtab")?;
    let names = contents(file, names, ".strtab")?;
    let symbols = values::<Sym64<LE>>(&bytes, bytes.len() / size_of::<Sym64<LE>>(), ".symtab")?;
    let is_switch = |symbol: &&Sym64<LE>| {
        let name = names.get(symbol.st_name.get(LE) as usize..).unwrap_or_default();
        STACK_SWITCHES.iter().any(|wanted| name.strip_prefix(*wanted).is_some_and(|rest| rest.first() == Some(&0)))
    };
    Ok(symbols.iter().filter(is_switch).map(|symbol| symbol.st_value.get(LE)).take(STACK_SWITCHES.len()).collect())
}

fn contents<R: Read + Seek>(
    file: &mut File<'_, R>,
    section: &SectionHeader64<LE>,
    part: &'static str,
) -> Result<Vec<u8>, ReadError> {
    let bytes = file.read(part, section.sh_offset.get(LE), section.sh_size.get(LE), MAX_SECTION_BYTES)?;
    if section.sh_flags.get(LE) & u64::from(elf::SHF_COMPRESSED) == 0 {
        return Ok(bytes);
    }
    let malformed = || ReadError::Malformed(part);
    let (header, data) = pod::from_bytes::<CompressionHeader64<LE>>(&bytes).map_err(|()| malformed())?;
    let uncompressed_size = header.ch_size.get(LE);
    if uncompressed_size > MAX_SECTION_BYTES {
        return Err(ReadError::TooLarge { part, bytes: uncompressed_size });
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
        let notes = file.read("notes", offset, bytes, MAX_NOTES_BYTES).ok()?;
        build_id_note(&notes, if align == 8 { 8 } else { 4 })
    })
}

fn build_id_note(mut notes: &[u8], align: usize) -> Option<Vec<u8>> {
    loop {
        let (header, rest) = pod::from_bytes::<NoteHeader64<LE>>(notes).ok()?;
        let name_bytes = header.n_namesz.get(LE) as usize;
        let desc_bytes = header.n_descsz.get(LE) as usize;
        let name = rest.get(..name_bytes)?;
        // The contents begin and end at a multiple of the alignment, counted from the note's start.
        let desc_at = (12usize.checked_add(name_bytes)?).checked_next_multiple_of(align)? - 12;
        let desc = rest.get(desc_at..desc_at.checked_add(desc_bytes)?)?;
        if header.n_type.get(LE) == elf::NT_GNU_BUILD_ID && name == b"GNU\0" {
            return (1..=MAX_BUILD_ID_BYTES).contains(&desc.len()).then(|| desc.to_vec());
        }
        let next = (12 + desc_at).checked_add(desc_bytes)?.checked_next_multiple_of(align)?;
        notes = notes.get(next..)?;
    }
}
