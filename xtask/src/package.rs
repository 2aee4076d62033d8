//! `package`: memtrace as an archive and as a Debian package, for machines on which nothing is built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::{process, tree};

/// What the files of the tree become in the package, by the ends of their names.
const FILES: [(&str, &str, &str); 5] = [
    ("docs/man", ".1", "usr/share/man/man1"),
    ("docs/completions", ".bash", "usr/share/bash-completion/completions"),
    ("docs/completions", "_memtrace", "usr/share/zsh/vendor-completions"),
    ("docs/completions", ".fish", "usr/share/fish/vendor_completions.d"),
    ("", ".md", "usr/share/doc/memtrace"),
];

/// Builds both, and says where they are.
pub fn run() -> Result<ExitCode> {
    let binary = process::build_memtrace()?;
    let folder = tree::target().join("package");
    let stage = folder.join("stage");
    if stage.exists() {
        fs::remove_dir_all(&stage).with_context(|| format!("cannot remove {}", stage.display()))?;
    }
    let program = put(&binary, &stage.join("usr/bin"), "memtrace")?;
    process::run_quietly(Command::new("strip").arg("--strip-debug").arg(&program))?;
    for (from, end, to) in FILES {
        copy_all(&tree::root().join(from), end, &stage.join(to))?;
    }
    let version = version(&program)?;
    let archive = folder.join(format!("memtrace-{version}-linux-x86_64.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "-czf"]).arg(&archive).arg("-C").arg(&stage).arg("usr");
    process::run_quietly(&mut tar)?;
    println!("{}", archive.display());
    if process::find("dpkg-deb").is_some() {
        println!("{}", debian(&stage, &folder, &version)?.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Copies a file into a folder under this name.
fn put(file: &Path, folder: &Path, name: &str) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let copy = folder.join(name);
    fs::copy(file, &copy).with_context(|| format!("cannot copy {}", file.display()))?;
    Ok(copy)
}

/// Copies the files of a folder whose names end so.
fn copy_all(from: &Path, end: &str, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(end) && entry.path().is_file() {
            // bash looks for the completion of a command in a file of its name.
            let name = name.strip_suffix(".bash").unwrap_or(&name);
            put(&entry.path(), to, name)?;
        }
    }
    Ok(())
}

/// `0.1.0`, as the program says.
fn version(program: &Path) -> Result<String> {
    let said = process::output(Command::new(program).arg("--version"))?;
    Ok(said.split_whitespace().nth(1).context("memtrace --version says no version")?.to_owned())
}

/// Builds the package for Debian and what descends from it.
fn debian(stage: &Path, folder: &Path, version: &str) -> Result<PathBuf> {
    // What it is linked to is that of this machine; older ones may lack some of it.
    let libc = process::output(Command::new("getconf").arg("GNU_LIBC_VERSION"))?;
    let libc = libc.split_whitespace().nth(1).context("getconf says no version of glibc")?.to_owned();
    let control = stage.join("DEBIAN");
    fs::create_dir_all(&control).with_context(|| format!("cannot make {}", control.display()))?;
    let text = format!(
        "Package: memtrace\nVersion: {version}\nArchitecture: amd64\nMaintainer: the memtrace team <memtrace@localhost>\n\
         Depends: libc6 (>= {libc})\nSection: devel\nPriority: optional\nDescription: finds memory leaks in running processes\n \
         memtrace attaches to a process by eBPF, without a restart, and tells which stacks\n hold memory that keeps growing.\n"
    );
    fs::write(control.join("control"), text).context("cannot write the control file")?;
    let package = folder.join(format!("memtrace_{version}_amd64.deb"));
    process::run_quietly(Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(stage).arg(&package))?;
    Ok(package)
}
