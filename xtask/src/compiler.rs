//! Tells compilers apart: the note beside the committed object, and the versions that compilers print.
//!
//! Equal sources give equal bytes only from equal tools, so the note names each tool that leaves a trace in the object.

use std::fmt;

/// What built an object.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Identity {
    /// The first line of `rustc --verbose --version`; the compiler writes it into the debug info.
    pub rustc: String,
    /// The compiler's LLVM.
    pub rustc_llvm: String,
    /// The version of bpf-linker.
    pub linker: String,
    /// bpf-linker's LLVM, which generates the code.
    pub linker_llvm: String,
}

const HEAD: &str =
    "What memtrace.o was built with. Written by `cargo xtask build-ebpf`; `cargo xtask check-ebpf` reads it.";

impl Identity {
    const NAMES: [&'static str; 4] = ["rustc", "rustc's LLVM", "bpf-linker", "bpf-linker's LLVM"];

    fn values(&self) -> [&str; 4] {
        [&self.rustc, &self.rustc_llvm, &self.linker, &self.linker_llvm]
    }

    /// Reads the note; lines that it does not know are passed over.
    pub fn parse(text: &str) -> Self {
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().trim().to_owned()
        };
        let [rustc, rustc_llvm, linker, linker_llvm] = Self::NAMES.map(value);
        Self { rustc, rustc_llvm, linker, linker_llvm }
    }

    /// A line for each tool in which `self` (recorded) and `local` differ.
    pub fn differences(&self, local: &Self) -> Vec<String> {
        let pairs = self.values().into_iter().zip(local.values());
        let differing = Self::NAMES.into_iter().zip(pairs).filter(|(_, (recorded, here))| recorded != here);
        differing.map(|(name, (recorded, here))| format!("{name}: recorded {recorded:?}, here {here:?}")).collect()
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{HEAD}\n")?;
        Self::NAMES.into_iter().zip(self.values()).try_for_each(|(name, value)| writeln!(out, "{name}: {value}"))
    }
}

/// What `rustc --verbose --version` says.
#[derive(Debug, Eq, PartialEq)]
pub struct RustcVersion {
    /// The first line.
    pub line: String,
    /// Major and minor version.
    pub release: (u32, u32),
    /// LLVM's whole version.
    pub llvm: String,
}

impl RustcVersion {
    /// Reads the output; `None` when a part that we need is not there.
    pub fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let mut numbers = value("release")?.split(['.', '-']).map(str::parse);
        let release = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(Self { line: text.lines().next()?.trim().to_owned(), release, llvm: value("LLVM version")?.to_owned() })
    }

    /// LLVM's major version.
    pub fn llvm_major(&self) -> Option<u32> {
        self.llvm.split('.').next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIGHTLY: &str = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nbinary: rustc\n\
        commit-hash: e50aa6fba4e63ab34c72bf9acfd2c307c1155d1a\ncommit-date: 2026-05-19\n\
        host: x86_64-unknown-linux-gnu\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4\n";

    #[test]
    fn a_nightly_is_read_in_full() {
        let version = RustcVersion::parse(NIGHTLY).unwrap();
        assert_eq!(version.line, "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)");
        assert_eq!(version.release, (1, 97));
        assert_eq!(version.llvm_major(), Some(22));
    }

    #[test]
    fn output_of_something_else_is_refused() {
        assert_eq!(RustcVersion::parse(""), None);
        assert_eq!(RustcVersion::parse("gcc (Debian) 12.2.0\n"), None);
        assert_eq!(RustcVersion::parse("rustc x\nrelease: one.two\nLLVM version: 1\n"), None);
    }

    #[test]
    fn a_record_survives_writing_and_reading() {
        let identity = Identity {
            rustc: "rustc 1.96.0 (ac68faa20 2026-05-25): odd".into(),
            rustc_llvm: "22.1.8".into(),
            linker: "0.13.0".into(),
            linker_llvm: "22.1.8".into(),
        };
        assert_eq!(Identity::parse(&identity.to_string()), identity);
    }

    #[test]
    fn differences_name_the_tool_and_both_versions() {
        let recorded = Identity { linker: "0.13.0".into(), ..Identity::default() };
        let local = Identity { linker: "0.14.0".into(), ..Identity::default() };
        assert_eq!(recorded.differences(&local), [r#"bpf-linker: recorded "0.13.0", here "0.14.0""#]);
        assert!(recorded.differences(&recorded).is_empty());
    }
}
