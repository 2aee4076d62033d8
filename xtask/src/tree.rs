//! Where things are: the checkout's folders and those that builds write to.

use std::env;
use std::path::{Path, PathBuf};

/// The checkout that `cargo xtask` was called in.
pub fn root() -> PathBuf {
    // Cargo sets the variable for `cargo run`; the compiled-in value serves a binary that is called by itself.
    let xtask =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    xtask.parent().map_or_else(|| xtask.clone(), Path::to_path_buf)
}

/// The BPF crate.
pub fn ebpf_crate() -> PathBuf {
    root().join("memtrace-ebpf")
}

/// The committed object.
pub fn ebpf_object() -> PathBuf {
    ebpf_crate().join("object/memtrace.o")
}

/// The committed note of what the object was built with.
pub fn ebpf_record() -> PathBuf {
    ebpf_crate().join("object/BUILD.txt")
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |folder| root().join(folder))
}

/// Tools that xtask installs for itself.
pub fn tools() -> PathBuf {
    target().join("tools")
}

/// Cargo's home: the registry's sources and installed programs.
pub fn cargo_home() -> PathBuf {
    env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cargo"),
        PathBuf::from,
    )
}
