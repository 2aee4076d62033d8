//! Finds the Python interpreters of this machine.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// The version of an interpreter, such as 311 for 3.11; `None` if it is none.
fn version(python: &Path) -> Option<u32> {
    let script = "import sys; print(100 * sys.version_info[0] + sys.version_info[1])";
    let output = Command::new(python).args(["-c", script]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Names the only interpreter that is tested.
const ONLY: &str = "MEMTRACE_TEST_ONLY_PYTHON";

/// The interpreters of this machine that memtrace knows, at least the distribution's. `MEMTRACE_TEST_PYTHONS` names more, with colons
/// between them, and `MEMTRACE_TEST_ONLY_PYTHON` one in place of them all. Each has its version, such as 311 for 3.11.
///
/// # Errors
/// When the distribution's is missing, or the only one is no interpreter.
pub fn interpreters() -> Result<BTreeMap<PathBuf, u32>> {
    if let Some(only) = env::var_os(ONLY).map(PathBuf::from) {
        let version = version(&only).with_context(|| format!("{ONLY}={} is no Python", only.display()))?;
        return Ok([(only, version)].into());
    }
    let homes = env::var_os("PYENV_ROOT").map(PathBuf::from).into_iter();
    let homes = homes.chain(env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv")));
    let versions = homes.filter_map(|home| fs::read_dir(home.join("versions")).ok()).flatten();
    let found = versions.filter_map(|version| Some(version.ok()?.path().join("bin/python3")));
    let more = env::var("MEMTRACE_TEST_PYTHONS").unwrap_or_default();
    let more: Vec<PathBuf> = more.split(':').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
    let found =
        ["/usr/bin/python3".into()].into_iter().chain(found).chain(more).filter(|python: &PathBuf| python.exists());
    let known: BTreeMap<PathBuf, u32> = found
        .filter_map(|python| Some((python.clone(), version(&python)?)))
        .filter(|(_, version)| *version >= 308)
        .collect();
    ensure!(known.contains_key(Path::new("/usr/bin/python3")), "the distribution's python3 is missing: {known:?}");
    Ok(known)
}
