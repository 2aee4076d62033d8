//! `build-ebpf`: compiles the BPF programs to the object that memtrace embeds.
//!
//! The object must come out the same on every machine. Debug info and BTF carry source paths, so each folder that
//! differs between machines gets a fixed name. Crates also carry a hash of where they lie relative to their workspace's
//! root: that is why `memtrace-ebpf/common` links to `memtrace-common`, so that all of the sources lie under one root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::compiler::Identity;
use crate::toolchain::{self, Compiler, Toolchain};
use crate::{process, tree};

const TARGET: &str = "bpfel-unknown-none";
/// Variables that change what cargo builds, or with what.
const MEDDLING: [&str; 8] = [
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_INCREMENTAL",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

/// Builds the object to `out`, or to its committed place together with the note of what built it.
pub fn run(out: Option<PathBuf>) -> Result<ExitCode> {
    let toolchain = toolchain::ready(recorded().as_ref())?;
    let object = build(&toolchain, &tree::target().join("ebpf"))?;
    let place = out.clone().unwrap_or_else(tree::ebpf_object);
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let length = fs::copy(&object, &place).with_context(|| format!("cannot write {}", place.display()))?;
    if out.is_none() {
        let record = tree::ebpf_record();
        fs::write(&record, toolchain.identity.to_string())
            .with_context(|| format!("cannot write {}", record.display()))?;
    }
    println!("{}: {length} bytes", place.display());
    Ok(ExitCode::SUCCESS)
}

/// What the note beside the committed object says.
pub fn recorded() -> Option<Identity> {
    fs::read_to_string(tree::ebpf_record()).ok().map(|text| Identity::parse(&text))
}

/// Builds the object under `target` and gives its path.
pub fn build(toolchain: &Toolchain, target: &Path) -> Result<PathBuf> {
    // The registry's folder is known once the sources are in it.
    process::run(cargo(toolchain, target)?.args(["fetch", "--locked"]))?;
    let mut build = cargo(toolchain, target)?;
    build.args(["build", "--release", "--locked", "--target", TARGET, "-Zbuild-std=core"]);
    build.env("CARGO_ENCODED_RUSTFLAGS", rustflags(&toolchain.compiler)?.join("\u{1f}"));
    process::run_timed("BPF object", &mut build)?;
    Ok(target.join(TARGET).join("release/memtrace"))
}

fn cargo(toolchain: &Toolchain, target: &Path) -> Result<Command> {
    let linker_folder = toolchain.linker.parent().context("bpf-linker's path has no folder")?;
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let path =
        std::env::join_paths(std::iter::once(linker_folder.to_path_buf()).chain(std::env::split_paths(&inherited)))?;
    let mut command = Command::new(&toolchain.compiler.cargo);
    MEDDLING.iter().for_each(|name| {
        command.env_remove(name);
    });
    command
        .current_dir(tree::ebpf_crate())
        .env("RUSTC", &toolchain.compiler.rustc)
        // A released compiler refuses -Z without it.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", target)
        .env("PATH", path);
    Ok(command)
}

fn rustflags(compiler: &Compiler) -> Result<Vec<String>> {
    // v3 has 32-bit jumps and arithmetic and is known to every kernel that has bpf_loop.
    let fixed = ["-Cdebuginfo=2", "-Clink-arg=--btf", "-Ctarget-cpu=v3"].map(str::to_owned);
    let remaps = remaps(compiler)?
        .into_iter()
        .map(|(from, to)| Ok(format!("--remap-path-prefix={}={to}", process::utf8(&from)?)));
    fixed.into_iter().map(Ok).chain(remaps).collect()
}

/// Folders that differ between machines, with the names that they get. The compiler prefers the last that fits.
fn remaps(compiler: &Compiler) -> Result<Vec<(PathBuf, String)>> {
    let registry = tree::cargo_home().join("registry/src");
    let mut folders = both_names(&tree::root(), "/memtrace");
    folders.extend(both_names(&registry, "/registry"));
    // One folder a registry, named after its address: a mirror's differs from crates.io's.
    if let Ok(entries) = fs::read_dir(&registry) {
        let sources = entries.filter_map(|entry| Some(entry.ok()?.path()));
        folders.extend(sources.flat_map(|folder| both_names(&folder, "/registry")));
    }
    folders.extend(both_names(&compiler.sources, "/rust"));
    Ok(folders)
}

/// The folder by the name given, and by the one that it has when links are resolved.
fn both_names(folder: &Path, to: &str) -> Vec<(PathBuf, String)> {
    let resolved = fs::canonicalize(folder).ok().filter(|resolved| resolved != folder);
    std::iter::once(folder.to_path_buf()).chain(resolved).map(|name| (name, to.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linked_folder_is_remapped_by_both_of_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(folder.path()).unwrap().join("real");
        let link = folder.path().join("link");
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(both_names(&link, "/x"), [(link, "/x".to_owned()), (real, "/x".to_owned())]);
    }

    #[test]
    fn a_folder_that_is_not_there_keeps_its_one_name() {
        assert_eq!(both_names(Path::new("/no/such"), "/x"), [("/no/such".into(), "/x".to_owned())]);
    }
}
