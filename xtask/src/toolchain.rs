//! Finds or installs what the BPF object is built with: a compiler with its library's sources, and bpf-linker.
//!
//! In: the note of what built the committed object. Out: a [`Toolchain`]. A compiler equal to the recorded one comes
//! first, then a distribution's, then rustup's. When there is none and this is Debian, its packages are installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::compiler::{Identity, RustcVersion};
use crate::{debian, packages, process, tree};

/// The bpf-linker that we build with, and install when it is not there.
const LINKER_VERSION: &str = "0.13.0";
/// The LLVM of that linker. The compiler's must have the same major version: the linker reads its bitcode.
const LLVM_MAJOR: u32 = 22;
/// The oldest compiler that the shared crate accepts.
const OLDEST_RUSTC: (u32, u32) = (1, 95);

/// A compiler that can build core.
#[derive(Debug)]
pub struct Compiler {
    /// The compiler itself, not rustup's stand-in.
    pub rustc: PathBuf,
    /// The cargo that belongs to it.
    pub cargo: PathBuf,
    /// The library's sources as the compiler names them: `SYSROOT/lib/rustlib/src/rust`.
    pub sources: PathBuf,
    /// What it says of itself.
    pub version: RustcVersion,
}

/// Everything that the object is built with.
#[derive(Debug)]
pub struct Toolchain {
    /// The compiler.
    pub compiler: Compiler,
    /// bpf-linker.
    pub linker: PathBuf,
    /// The versions that decide the object's bytes.
    pub identity: Identity,
}

/// Finds the toolchain, installing what is missing.
pub fn ready(recorded: Option<&Identity>) -> Result<Toolchain> {
    let compiler = find_or_install_compiler(recorded)?;
    let linker = find_or_install_linker()?;
    let identity = Identity {
        rustc: compiler.version.line.clone(),
        rustc_llvm: compiler.version.llvm.clone(),
        linker: LINKER_VERSION.to_owned(),
        linker_llvm: linker_llvm(&linker),
    };
    eprintln!("BPF toolchain: {}, LLVM {}, bpf-linker {LINKER_VERSION}", identity.rustc, identity.rustc_llvm);
    Ok(Toolchain { compiler, linker, identity })
}

fn find_or_install_compiler(recorded: Option<&Identity>) -> Result<Compiler> {
    let found = compilers();
    let wanted = |compiler: &Compiler| recorded.is_some_and(|identity| is_recorded(&compiler.version, identity));
    // A compiler that is not the recorded one builds an object that works; only the comparison then fails.
    if let Some(best) = found.iter().position(wanted).or(if found.is_empty() { None } else { Some(0) }) {
        return found.into_iter().nth(best).context("a compiler that was just found is gone");
    }
    if process::find("apt-get").is_some() {
        debian::install_newest("Building the BPF object", packages::COMPILER)?;
        if let Some(compiler) = compilers().into_iter().next() {
            return Ok(compiler);
        }
    }
    bail!(
        "no Rust compiler with library sources and LLVM {LLVM_MAJOR} here: install Debian's rustc-web, cargo-web and \
         rust-web-src, or `rustup toolchain install nightly --component rust-src` of a nightly with LLVM {LLVM_MAJOR}"
    )
}

fn is_recorded(version: &RustcVersion, recorded: &Identity) -> bool {
    version.line == recorded.rustc && version.llvm == recorded.rustc_llvm
}

/// Every compiler here that can build the object, the distribution's first.
fn compilers() -> Vec<Compiler> {
    let distribution = ("/usr/bin/rustc".into(), "/usr/bin/cargo".into());
    std::iter::once(distribution).chain(rustup_compilers()).filter_map(|(rustc, cargo)| usable(rustc, cargo)).collect()
}

/// rustc and cargo of each toolchain that rustup has installed.
fn rustup_compilers() -> Vec<(PathBuf, PathBuf)> {
    let list = process::output(Command::new("rustup").args(["toolchain", "list", "--quiet"])).unwrap_or_default();
    let sysroot =
        |name| process::output(Command::new("rustup").args(["run", name, "rustc", "--print", "sysroot"])).ok();
    list.lines()
        .filter_map(|line| sysroot(line.split_whitespace().next()?))
        .map(|sysroot| (Path::new(&sysroot).join("bin/rustc"), Path::new(&sysroot).join("bin/cargo")))
        .collect()
}

fn usable(rustc: PathBuf, cargo: PathBuf) -> Option<Compiler> {
    if !rustc.is_file() || !cargo.is_file() {
        return None;
    }
    let sysroot = process::output(Command::new(&rustc).args(["--print", "sysroot"])).ok()?;
    let sources = Path::new(&sysroot).join("lib/rustlib/src/rust");
    let version = RustcVersion::parse(&process::output(Command::new(&rustc).arg("-vV")).ok()?)?;
    let fits = version.release >= OLDEST_RUSTC && version.llvm_major() == Some(LLVM_MAJOR);
    (fits && sources.join("library/core/src/lib.rs").is_file()).then_some(Compiler { rustc, cargo, sources, version })
}

fn find_or_install_linker() -> Result<PathBuf> {
    let ours = tree::tools().join("bin/bpf-linker");
    let usual = tree::cargo_home().join("bin/bpf-linker");
    let places = [Some(ours.clone()), process::find("bpf-linker"), Some(usual)];
    if let Some(linker) = places.into_iter().flatten().find(|file| is_our_linker(file)) {
        return Ok(linker);
    }
    let prefix = llvm_prefix();
    if process::find("apt-get").is_some() {
        debian::install("Installing bpf-linker", packages::LINKER)?;
    } else if !prefix.join("bin/llvm-config").is_file() {
        bail!(
            "no bpf-linker {LINKER_VERSION} here, nor LLVM {LLVM_MAJOR} to build it with: install LLVM {LLVM_MAJOR} with its \
             headers and set LLVM_PREFIX, or `cargo install bpf-linker --version {LINKER_VERSION}`"
        );
    }
    eprintln!("Installing bpf-linker {LINKER_VERSION} into {}: some three minutes", tree::tools().display());
    let mut install = process::cargo();
    install.args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--no-default-features"]);
    install.arg("--features").arg(format!("llvm-{LLVM_MAJOR}")).arg("--root").arg(tree::tools());
    process::run_timed("bpf-linker", install.env("LLVM_PREFIX", prefix))?;
    Ok(ours)
}

fn is_our_linker(file: &Path) -> bool {
    file.is_file()
        && process::output(Command::new(file).arg("--version"))
            .is_ok_and(|text| linker_version(&text) == Some(LINKER_VERSION))
}

fn linker_version(text: &str) -> Option<&str> {
    text.strip_prefix("bpf-linker ")?.split_whitespace().next()
}

fn llvm_prefix() -> PathBuf {
    std::env::var_os("LLVM_PREFIX").map_or_else(|| format!("/usr/lib/llvm-{LLVM_MAJOR}").into(), PathBuf::from)
}

/// The version of the LLVM library that the linker loads; "built in" when it loads none.
fn linker_llvm(linker: &Path) -> String {
    let shared = process::output(Command::new("ldd").arg(linker)).is_ok_and(|text| text.contains("libLLVM"));
    let version = process::output(Command::new(llvm_prefix().join("bin/llvm-config")).arg("--version"));
    if shared { version.unwrap_or_else(|_| "unknown".to_owned()) } else { "built in".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linkers_version_is_its_second_word() {
        assert_eq!(linker_version("bpf-linker 0.13.0"), Some("0.13.0"));
        assert_eq!(linker_version("bpf-linker 0.13.0 (abc)"), Some("0.13.0"));
        assert_eq!(linker_version("ld 0.13.0"), None);
    }
}
