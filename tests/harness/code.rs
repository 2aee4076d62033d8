//! Whether a target's libc is as its file says, or carries probes.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
};

use anyhow::{Context, Result, bail};

/// The file offsets in the target's mapped libc code at which its memory differs from the file: where probes sit.
///
/// # Errors
/// When the target is gone or maps no libc.
pub fn changed_libc_bytes(pid: u32) -> Result<Vec<u64>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).context("reading the target's maps")?;
    let memory = File::open(format!("/proc/{pid}/mem")).context("opening the target's memory")?;
    let mut changed = Vec::new();
    let mut mapped = false;
    for line in maps.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [range, permissions, offset, _, _, path] = fields[..] else { continue };
        let name = path.rsplit('/').next().unwrap_or(path);
        if !permissions.contains('x') || !(name.starts_with("libc.") || name.starts_with("ld-musl")) {
            continue;
        }
        mapped = true;
        let (start, end) = range.split_once('-').context("a range of addresses")?;
        let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        let offset = u64::from_str_radix(offset, 16)?;
        let file = fs::read(format!("/proc/{pid}/root{path}")).with_context(|| format!("reading {path}"))?;
        let mut code = vec![0; usize::try_from(end - start)?];
        memory.read_exact_at(&mut code, start).context("reading the target's code")?;
        let from_file = file.get(usize::try_from(offset)?..).context("the mapping lies in the file")?;
        let differ = code.iter().zip(from_file).zip(offset..).filter(|((memory, file), _)| memory != file);
        changed.extend(differ.map(|(_, at)| at));
    }
    if !mapped {
        bail!("process {pid} maps no libc: {maps}");
    }
    Ok(changed)
}
