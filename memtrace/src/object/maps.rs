//! `/proc/PID/maps`: the memory mappings of a process, as the kernel prints them.
//!
//! The kernel writes every byte of a path as it is, but a newline as `\012`, and appends ` (deleted)` to the path of
//! a file that is gone (fs/seq_file.c, `mangle_path`; fs/d_path.c). A file whose name really holds one of these cannot
//! be told apart, so a path is for display and for looking files up with a check, never an identity.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    ops::Range,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{Pid, printable::printable};

/// More than this much text is refused: over two million mappings of ordinary length.
const MAX_MAPS_BYTES: u64 = 256 << 20;

/// One line of the file: a range of addresses with one backing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mapping {
    /// The first address.
    pub start: u64,
    /// The address behind the last.
    pub end: u64,
    /// Whether it can be read.
    pub readable: bool,
    /// Whether it can be written.
    pub writable: bool,
    /// Whether it can be executed.
    pub executable: bool,
    /// The file offset of `start`, in bytes.
    pub offset: u64,
    /// The major and minor number of the file's device.
    pub device: (u32, u32),
    /// The file's inode number; 0 when there is no file.
    pub inode: u64,
    /// A path, or the kernel's name in brackets such as `[heap]`; `None` for anonymous memory.
    pub path: Option<PathBuf>,
    /// Whether the file has been removed or replaced since it was mapped.
    pub deleted: bool,
}

impl Mapping {
    /// Whether it is the memory from the program's end on, which `malloc` makes longer.
    pub fn is_heap(&self) -> bool {
        self.path.as_ref().is_some_and(|path| path.as_os_str() == "[heap]")
    }

    /// Whether it is memory without a file that the program or a library asked the system for: neither the memory from the program's end on
    /// nor a stack, which have names in brackets, but under a name that it gave itself (`[anon:...]`).
    pub fn is_anonymous(&self) -> bool {
        self.inode == 0 && self.path.as_ref().is_none_or(|path| path.to_string_lossy().starts_with("[anon:"))
    }

    /// The address at which code at an offset of a file is mapped here; `None` if this is another file's mapping, another part of the
    /// file's, or not executable.
    pub fn code_address(&self, path: &Path, offset: u64) -> Option<u64> {
        let into = offset.checked_sub(self.offset).filter(|&into| into < self.end.saturating_sub(self.start))?;
        (self.executable && self.path.as_deref() == Some(path)).then_some(self.start + into)
    }
}

/// From the first address to the last at which the file with this device and inode is mapped; empty where it is not.
pub fn whole(mappings: &[Mapping], (device, inode): ((u32, u32), u64)) -> Range<u64> {
    let of_file = || mappings.iter().filter(|mapping| (mapping.device, mapping.inode) == (device, inode));
    let begin = of_file().map(|mapping| mapping.start).min().unwrap_or(0);
    begin..of_file().map(|mapping| mapping.end).max().unwrap_or(0)
}

/// Why a process's mappings are not known.
#[derive(Debug, Error)]
pub enum MapsError {
    /// The file could not be read.
    #[error("cannot read /proc/{pid}/maps: {source}")]
    Read {
        /// Whose.
        pid: Pid,
        /// Why.
        source: io::Error,
    },
    /// Too much text.
    #[error("the memory maps of the process are longer than {MAX_MAPS_BYTES} bytes, which memtrace does not read")]
    TooLong,
    /// A line that is not in the kernel's format.
    #[error("line {line} of the memory maps is not in the kernel's format: {text}")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// Its beginning, escaped.
        text: String,
    },
}

/// The mappings of a process in the order of their addresses. Empty for a kernel thread, a zombie and a process that
/// is about to end.
///
/// # Errors
///
/// When the file cannot be read (no such process, no permission) or does not parse.
pub fn read(pid: Pid) -> Result<Vec<Mapping>, MapsError> {
    let failed = |source| MapsError::Read { pid, source };
    let mut text = Vec::new();
    let file = File::open(pid.proc_path("maps")).map_err(failed)?;
    file.take(MAX_MAPS_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_MAPS_BYTES {
        return Err(MapsError::TooLong);
    }
    parse(&text)
}

/// Parses the text of a maps file.
///
/// # Errors
///
/// On the first line that is not in the kernel's format.
pub fn parse(text: &[u8]) -> Result<Vec<Mapping>, MapsError> {
    text.split(|&byte| byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
        .map(|(index, line)| {
            parse_line(line).ok_or_else(|| MapsError::Malformed { line: index + 1, text: printable(line, 80) })
        })
        .collect()
}

/// `start-end rwxp offset major:minor inode   path`; all numbers but the inode are hexadecimal.
fn parse_line(line: &[u8]) -> Option<Mapping> {
    let mut fields = line.splitn(6, |&byte| byte == b' ');
    let range = fields.next()?;
    let permissions = fields.next()?;
    let offset = hexadecimal(fields.next()?)?;
    let device = fields.next()?;
    let inode = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let path = fields.next().unwrap_or_default();

    let (start, end) = split_pair(range, b'-')?;
    let (major, minor) = split_pair(device, b':')?;
    let &[r, w, x, _shared] = permissions else { return None };
    if start > end {
        return None;
    }
    // The path is padded to a column with spaces; no path begins with one, for it begins with '/' or '['.
    let padding = path.iter().take_while(|&&byte| byte == b' ').count();
    let (path, deleted) = match path[padding..].strip_suffix(b" (deleted)") {
        Some(path) => (path, true),
        None => (&path[padding..], false),
    };
    Some(Mapping {
        start,
        end,
        readable: r == b'r',
        writable: w == b'w',
        executable: x == b'x',
        offset,
        device: (u32::try_from(major).ok()?, u32::try_from(minor).ok()?),
        inode,
        path: (!path.is_empty()).then(|| PathBuf::from(OsString::from_vec(unescape(path)))),
        deleted,
    })
}

fn split_pair(field: &[u8], separator: u8) -> Option<(u64, u64)> {
    let at = field.iter().position(|&byte| byte == separator)?;
    Some((hexadecimal(&field[..at])?, hexadecimal(&field[at + 1..])?))
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    // from_str_radix would take a sign.
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn unescape(mut path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    while let Some((&byte, rest)) = path.split_first() {
        match path.strip_prefix(b"\\012") {
            Some(after) => {
                plain.push(b'\n');
                path = after;
            }
            None => {
                plain.push(byte);
                path = rest;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn one(line: &str) -> Mapping {
        let mut mappings = parse(line.as_bytes()).expect("a line of the kernel's");
        assert_eq!(mappings.len(), 1);
        mappings.remove(0)
    }

    #[test]
    fn a_file_mapping_keeps_every_field() {
        let line = "7f00-8000 r-xp 0001a000 103:02 1311 \t";
        assert_eq!(one(line).path.as_deref(), Some(Path::new("\t")));
        let line = "7f5e1c026000-7f5e1c17b000 r-xp 00026000 fe:00 1835                       /usr/lib/libc.so.6\n";
        let expected = Mapping {
            start: 0x7f5e_1c02_6000,
            end: 0x7f5e_1c17_b000,
            readable: true,
            writable: false,
            executable: true,
            offset: 0x26000,
            device: (0xfe, 0),
            inode: 1835,
            path: Some("/usr/lib/libc.so.6".into()),
            deleted: false,
        };
        assert_eq!(one(line), expected);
    }

    #[test]
    fn odd_paths_come_out_whole() {
        let path = |text: &str| {
            let mapping = one(&format!("1000-2000 rw-p 00000000 00:00 7    {text}\n"));
            (mapping.path.map(|path| path.display().to_string()), mapping.deleted)
        };
        assert_eq!(path("/a dir/two  spaces "), (Some("/a dir/two  spaces ".into()), false));
        assert_eq!(path("/a\\012b"), (Some("/a\nb".into()), false));
        assert_eq!(path("/a\\01"), (Some("/a\\01".into()), false));
        assert_eq!(path("/usr/bin/x (deleted)"), (Some("/usr/bin/x".into()), true));
        assert_eq!(path("[uprobes]"), (Some("[uprobes]".into()), false));
        assert_eq!(path(""), (None, false));
        assert_eq!(one("1000-2000 rw-p 00000000 00:00 0").path, None);
        assert_eq!(
            one("ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0   [vsyscall]").start,
            0xffff_ffff_ff60_0000
        );
    }

    #[test]
    fn what_the_kernel_never_writes_is_an_error() {
        for line in [
            "x",
            "1000 rw-p 0 00:00 0",
            "1000-2000 rw-p 0 00:00",
            "1000-2000 rw- 0 00:00 0",
            "2000-1000 rw-p 0 00:00 0",
            "+1000-2000 rw-p 0 00:00 0",
            "1000-2000 rw-p 0 0000 0",
            "-2000 rw-p 0 00:00 0",
            "1000-10000000000000000 rw-p 0 00:00 0",
            "1000-2000 rw-p 0 100000000:0 0",
        ] {
            let error = parse(format!("\n{line}\n").as_bytes()).expect_err(line);
            assert!(matches!(error, MapsError::Malformed { line: 2, .. }), "{line}");
        }
        let error = parse(b"\x1b[2J\n").expect_err("not a mapping").to_string();
        assert!(!error.contains('\x1b'), "{error:?}");
    }

    #[test]
    fn our_own_mappings_parse_and_hold_our_code() {
        let mappings = read(Pid(std::process::id())).expect("our own maps");
        let code = our_own_mappings_parse_and_hold_our_code as *const () as u64;
        let mapping = mappings.iter().find(|mapping| (mapping.start..mapping.end).contains(&code));
        assert!(mapping.is_some_and(|mapping| mapping.executable && mapping.inode != 0));
        assert!(mappings.iter().any(|mapping| mapping.path.as_deref() == Some(Path::new("[stack]"))));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_err(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn nearly_right_lines_parse_or_err(line in "[0-9a-f]{0,18}-[0-9a-f]{0,18} [rwxp-]{0,5} [0-9a-f]{0,9} [0-9a-f:]{0,9} [0-9]{0,22} ?.{0,20}") {
            if let Ok(mappings) = parse(line.as_bytes()) {
                prop_assert!(mappings.iter().all(|mapping| mapping.start <= mapping.end));
            }
        }
    }
}
