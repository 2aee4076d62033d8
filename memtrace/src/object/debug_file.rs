//! Separate debug files: found by build id or by debug link, below the target's root and below ours, and taken only
//! when they are those of the very file.
//!
//! blazesym follows links by itself, but by host paths only, by build id only where there is a link too, and it fails
//! the whole file when a candidate does not match. So the search is made here and its result is handed over.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{
    layout::Layout,
    root::{Root, descriptor_path},
};

/// A debug file that belongs to the file it was searched for.
#[derive(Debug)]
pub struct DebugFile {
    /// The file.
    pub file: File,
    /// What is in it.
    pub layout: Layout,
    /// Whether it lies in a debug directory below our own root, which only the administrator writes.
    pub is_trusted: bool,
}

/// Searches the debug file of the object at `path`, whose layout is `layout`.
///
/// `roots` are searched in order; in each, by build id in every debug directory
/// (`DIR/.build-id/xx/yyyy.debug`), then by debug link beside the object, in `.debug` beside it, and in every debug
/// directory followed by the object's own. A candidate counts only when its build id is the object's; where one of the
/// two has none, when its CRC-32 is the link's.
///
/// Candidates that lie there but are not the object's go to `refused`, with the reason.
pub fn find(
    path: &Path,
    layout: &Layout,
    roots: &[Rc<Root>],
    debug_dirs: &[PathBuf],
    mut refused: impl FnMut(String),
) -> Option<DebugFile> {
    let mut attempt = |root: &Root, candidate: &Path, in_debug_dir: bool| {
        let file = root.open_file(candidate).ok()?;
        let mut refuse = |reason: String| refused(format!("debug file {}: {reason}", candidate.display()));
        let found = match Layout::read(&file) {
            Ok(found) => found,
            Err(error) => {
                refuse(error.to_string());
                return None;
            }
        };
        if !belongs(layout, &found, &file).unwrap_or(false) {
            refuse("is that of another build".to_owned());
            return None;
        }
        let is_trusted = in_debug_dir && root.is_ours();
        Some(DebugFile { file, layout: found, is_trusted })
    };
    for root in roots {
        if let [first, rest @ ..] = layout.build_id.as_slice()
            && !rest.is_empty()
        {
            let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
            let name = format!(".build-id/{first:02x}/{rest}.debug");
            let found = debug_dirs.iter().find_map(|dir| attempt(root, &dir.join(&name), true));
            if found.is_some() {
                return found;
            }
        }
        let Some((link, _)) = &layout.debug_link else { continue };
        let link = OsStr::from_bytes(link);
        let beside = path.parent().unwrap_or(Path::new("/"));
        let below = beside.strip_prefix("/").unwrap_or(beside);
        let found = [beside.join(link), beside.join(".debug").join(link)]
            .into_iter()
            // The link of a file to itself is not a second file.
            .filter(|candidate| candidate != path)
            .find_map(|candidate| attempt(root, &candidate, false))
            .or_else(|| debug_dirs.iter().find_map(|dir| attempt(root, &dir.join(below).join(link), true)));
        if found.is_some() {
            return found;
        }
    }
    None
}

fn belongs(object: &Layout, debug: &Layout, file: &File) -> io::Result<bool> {
    if !object.build_id.is_empty() && !debug.build_id.is_empty() {
        return Ok(object.build_id == debug.build_id);
    }
    match object.debug_link {
        Some((_, crc)) => Ok(crc32(File::open(descriptor_path(file.as_fd()))?)? == crc),
        None => Ok(false),
    }
}

/// The CRC of ISO 3309 (reflected polynomial 0xedb88320), which a debug link carries.
fn crc32(mut from: impl Read) -> io::Result<u32> {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut crc = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };
    let mut crc = u32::MAX;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let bytes = from.read(&mut buffer)?;
        if bytes == 0 {
            return Ok(!crc);
        }
        for &byte in &buffer[..bytes] {
            crc = (crc >> 8) ^ TABLE[usize::from(crc as u8 ^ byte)];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_published_one() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(crc32(&b"123456789"[..]).expect("memory can be read"), 0xcbf4_3926);
    }
}
