//! The kernels, as Debian builds them for virtual machines: everything that memtrace needs is compiled in. Their
//! packages are unpacked, not installed, since installing one makes it the machine's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::debian;

/// A kernel to test.
pub struct Kernel {
    /// Its version's first two numbers.
    pub series: &'static str,
    /// What memtrace's uprobe links are there, as the kernel names them.
    pub link: &'static str,
    /// Programs that it is too old for.
    pub without: &'static [&'static str],
}

/// Sessions came with 6.13.
const BEFORE_SESSIONS: &[&str] = &["heap_session", "heap_release_session"];

/// The oldest kernel that a current distribution keeps, and the first long-term one with usable multi-uprobe links.
pub const KERNELS: &[Kernel] = &[
    Kernel { series: "6.1", link: "perf", without: BEFORE_SESSIONS },
    Kernel { series: "6.12", link: "uprobe_multi", without: BEFORE_SESSIONS },
];

impl Kernel {
    /// The newest image of the series; fetched into `folder` unless it is there.
    pub fn image(&self, folder: &Path) -> Result<PathBuf> {
        // Lists that are absent or old name nothing, or what is no longer there.
        self.newest().and_then(|package| fetch(&package, folder)).or_else(|error| {
            eprintln!("{error:#}; trying with new package lists");
            debian::update()?;
            fetch(&self.newest()?, folder)
        })
    }

    fn newest(&self) -> Result<String> {
        let series = self.series.replace('.', r"\.");
        let names = debian::search(&format!(r"^linux-image-{series}\.[0-9][0-9a-z.+-]*-cloud-amd64$"))?;
        let newest = names.into_iter().filter(|name| !name.contains("unsigned")).max_by_key(|name| numbers(name));
        let series = self.series;
        newest.with_context(|| format!("apt knows no package of Linux {series}, linux-image-{series}...-cloud-amd64"))
    }
}

/// The numbers in a name, by which versions are ordered.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|letter: char| !letter.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

fn fetch(package: &str, folder: &Path) -> Result<PathBuf> {
    let place = folder.join(package);
    if !place.is_dir() {
        let draft = tempfile::tempdir_in(folder).context("cannot make a temporary folder")?;
        debian::download(package, draft.path())?;
        unpack(&only_file(draft.path())?, draft.path())?;
        fs::rename(draft.path().join("boot"), &place).with_context(|| format!("cannot create {}", place.display()))?;
    }
    only_file(&place)
}

/// Takes the kernel's image out of a package, and leaves its hundred megabytes of modules there.
fn unpack(package: &Path, folder: &Path) -> Result<()> {
    let mut archive = Command::new("dpkg-deb");
    let mut archive =
        archive.arg("--fsys-tarfile").arg(package).stdout(Stdio::piped()).spawn().context("no dpkg-deb")?;
    let mut tar = Command::new("tar");
    tar.arg("--directory").arg(folder).args(["--extract", "--wildcards", "./boot/vmlinuz-*"]);
    let unpacked = tar.stdin(archive.stdout.take().context("dpkg-deb has no output")?).status().context("no tar")?;
    let read = archive.wait().context("cannot wait for dpkg-deb")?;
    ensure!(unpacked.success() && read.success(), "cannot unpack {}", package.display());
    Ok(())
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<_> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file()).collect();
    ensure!(files.len() == 1, "{} should hold one file, and holds {}", folder.display(), files.len());
    Ok(files.remove(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_numbers() {
        assert!(numbers("linux-image-6.1.0-9-cloud-amd64") < numbers("linux-image-6.1.0-56-cloud-amd64"));
        assert!(numbers("linux-image-6.12.9+deb12-cloud-amd64") < numbers("linux-image-6.12.117+deb12-cloud-amd64"));
    }
}
