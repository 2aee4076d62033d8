//! The guest's only file system: busybox, memtrace, the service, a program that throws, Python,
//! bpftool, their shared libraries, and two scripts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::{process, tree};

/// Packs it and gives its path.
pub fn pack(folder: &Path, memtrace: &Path, service: &Path, thrower: &Path) -> Result<PathBuf> {
    let root = tempfile::tempdir_in(folder).context("cannot make a temporary folder")?;
    let root = root.path();
    for place in ["proc", "sys", "dev", "tmp"] {
        fs::create_dir(root.join(place)).with_context(|| format!("cannot create {place} for the guest"))?;
    }
    copy(&process::find("busybox").context("no busybox on the path")?, root, "bin/busybox")?;
    for (program, place) in [
        (memtrace, "bin/memtrace"),
        (service, "bin/service"),
        (Path::new("/usr/sbin/bpftool"), "bin/bpftool"),
        (Path::new("/usr/bin/python3"), "usr/bin/python3"),
    ] {
        copy(program, root, place)?;
        for library in libraries(program)? {
            copy(Path::new(&library), root, library.trim_start_matches('/'))?;
        }
    }
    // It is static.
    copy(thrower, root, "bin/thrower")?;
    python_library(root)?;
    let scripts = tree::root().join("xtask/vm");
    copy(&scripts.join("leak.py"), root, "leak.py")?;
    copy(&scripts.join("init.sh"), root, "init")?;
    copy(&scripts.join("test.sh"), root, "test.sh")?;
    fs::set_permissions(root.join("init"), PermissionsExt::from_mode(0o755)).context("cannot make init a program")?;
    let archive = folder.join("initramfs");
    write_archive(root, &archive)?;
    Ok(archive)
}

/// The part of Python's library without which it does not start.
fn python_library(root: &Path) -> Result<()> {
    let script = "import os; print(os.path.dirname(os.__file__))";
    let library = process::output(Command::new("/usr/bin/python3").args(["-c", script]))?;
    let library = Path::new(library.trim());
    let inside = library.strip_prefix("/").context("Python's library has no absolute path")?;
    let place = |name: &str| inside.join(name).display().to_string();
    copy(&library.join("os.py"), root, &place("os.py"))?;
    for name in ["__init__", "aliases", "utf_8", "latin_1", "ascii"] {
        let name = format!("encodings/{name}.py");
        copy(&library.join(&name), root, &place(&name))?;
    }
    Ok(())
}

fn copy(file: &Path, root: &Path, place: &str) -> Result<()> {
    let to = root.join(place);
    let copied = fs::create_dir_all(to.parent().unwrap_or(root)).and_then(|()| fs::copy(file, &to));
    copied.with_context(|| format!("cannot copy {} to {}", file.display(), to.display()))?;
    Ok(())
}

/// The libraries and the loader of a program, as absolute paths.
fn libraries(program: &Path) -> Result<Vec<String>> {
    let lines = process::output(Command::new("ldd").arg(program))?;
    ensure!(!lines.contains("not found"), "{} lacks a library: {lines}", program.display());
    Ok(library_paths(&lines))
}

/// Lines look like `libz.so.1 => /lib/libz.so.1 (0x7f...)`, `/lib64/ld.so (0x7f...)` or `linux-vdso.so.1 (0x7f...)`.
fn library_paths(lines: &str) -> Vec<String> {
    lines.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}

/// The kernel reads the `newc` form of cpio.
fn write_archive(root: &Path, archive: &Path) -> Result<()> {
    let file = fs::File::create(archive).with_context(|| format!("cannot create {}", archive.display()))?;
    let mut names =
        Command::new("find").arg(".").current_dir(root).stdout(Stdio::piped()).spawn().context("no find")?;
    let mut cpio = Command::new("busybox");
    cpio.args(["cpio", "-o", "-H", "newc"]).current_dir(root);
    let packed = cpio.stdin(names.stdout.take().context("find has no output")?).stdout(file).stderr(Stdio::null());
    let packed = packed.status().context("cannot run busybox")?;
    let found = names.wait().context("cannot wait for find")?;
    ensure!(packed.success() && found.success(), "cannot pack the guest's files into {}", archive.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_taken_and_the_vdso_is_not() {
        let lines =
            "\tlinux-vdso.so.1 (0x00007f)\n\tlibc.so.6 => /lib/libc.so.6 (0x00007f)\n\t/lib64/ld.so.2 (0x00007f)";
        assert_eq!(library_paths(lines), ["/lib/libc.so.6", "/lib64/ld.so.2"]);
    }
}
