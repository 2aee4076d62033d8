//! Compiles the small programs of `tests/fixtures/`, once for each content and set of flags.

use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

const C_FLAGS: &[&str] = &[
    "-O2",
    "-g",
    "-Wall",
    "-Wextra",
    // Some fixtures ask for absurd sizes on purpose.
    "-Wno-alloc-size-larger-than",
    // The compiler knows malloc, and would leave calls out.
    "-fno-builtin",
    "-pthread",
    // Names for the shim that counts.
    "-rdynamic",
];

/// Where the fixtures' sources are.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// Where what the tests build goes: beside the test's own binary, so that `cargo clean` takes it away.
///
/// # Errors
/// When the folder cannot be made.
pub fn built() -> Result<PathBuf> {
    let this = std::env::current_exe().context("asking for the test's own path")?;
    let target = this.ancestors().nth(3).map_or_else(std::env::temp_dir, Path::to_path_buf);
    let folder = target.join("tmp/memtrace-fixtures");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

/// How one fixture is built.
#[derive(Clone, Debug, Hash)]
pub struct Build {
    source: &'static str,
    compiler: &'static str,
    flags: Vec<&'static str>,
}

impl Build {
    /// A C program for glibc, with frame pointers.
    pub fn c(source: &'static str) -> Self {
        Self { source, compiler: "gcc", flags: C_FLAGS.to_vec() }.flag("-fno-omit-frame-pointer")
    }

    /// A C program for musl, linked dynamically, with frame pointers.
    pub fn musl(source: &'static str) -> Self {
        Self { compiler: "musl-gcc", ..Self::c(source) }
    }

    /// A C++ program, with frame pointers.
    pub fn cpp(source: &'static str) -> Self {
        Self { compiler: "g++", ..Self::c(source) }
    }

    /// A Rust program, with frame pointers.
    pub fn rust(source: &'static str) -> Self {
        Self { source, compiler: "rustc", flags: vec!["-O", "-g", "-C", "force-frame-pointers=yes"] }
    }

    /// A C library to preload, for the libc of `program`.
    pub fn preloaded(source: &'static str, program: &Build) -> Self {
        Self { compiler: program.compiler, ..Self::library(source) }
    }

    /// A C library to load at run time, with frame pointers.
    pub fn library(source: &'static str) -> Self {
        Self::c(source).flag("-shared").flag("-fPIC")
    }

    /// A static C program with no libc at all.
    pub fn freestanding(source: &'static str) -> Self {
        let flags = ["-O2", "-ffreestanding", "-nostdlib", "-nostartfiles", "-static", "-no-pie", "-fno-pic"];
        Self { source, compiler: "gcc", flags: flags.to_vec() }.flag("-fno-stack-protector")
    }

    /// The same, for 32-bit x86.
    pub fn for_i386(self) -> Self {
        self.flag("-m32")
    }

    /// The same without frame pointers, as distributions build.
    pub fn without_frame_pointers(mut self) -> Self {
        self.flags.retain(|&flag| flag != "-fno-omit-frame-pointer");
        if self.compiler == "rustc" {
            // The last one counts.
            return self.flag("-C").flag("force-frame-pointers=no");
        }
        self.flag("-fomit-frame-pointer")
    }

    /// One more flag.
    pub fn flag(mut self, flag: &'static str) -> Self {
        self.flags.push(flag);
        self
    }

    /// The compiled file.
    ///
    /// # Errors
    /// When the source cannot be read, or the compiler is missing or refuses it.
    pub fn compile(&self) -> Result<PathBuf> {
        let source = sources().join(self.source);
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        for file in [&source, &sources().join("fixture.h")] {
            fs::read(file).with_context(|| format!("reading {}", file.display()))?.hash(&mut hasher);
        }
        let name = source.file_stem().context("a fixture has a name")?.to_string_lossy().into_owned();
        let output = built()?.join(format!("{name}-{:016x}", hasher.finish()));
        if output.exists() {
            return Ok(output);
        }
        // Compiled aside and renamed: tests that run side by side may build the same fixture.
        let aside = tempfile::tempdir_in(built()?).context("making a folder to compile in")?;
        let compiled = aside.path().join(&name);
        let result = Command::new(self.compiler)
            .args(&self.flags)
            .arg(&source)
            .arg("-o")
            .arg(&compiled)
            .output()
            .with_context(|| format!("running {} (is it installed?)", self.compiler))?;
        if !result.status.success() {
            bail!("{} refused {}: {}", self.compiler, self.source, String::from_utf8_lossy(&result.stderr));
        }
        fs::rename(&compiled, &output).with_context(|| format!("keeping {}", output.display()))?;
        Ok(output)
    }
}
