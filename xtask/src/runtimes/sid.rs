//! Debian's newest packages, unpacked with all that they need, beside whatever release this machine runs: apt keeps lists and a
//! status of their own for them, which say that nothing is installed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::process;

/// Where the packages are from. The key is that of Debian's archive.
const SOURCE: &str =
    "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian sid main\n";

/// Fetches and unpacks the newest versions of these packages and of all that they depend on; the folder that they are unpacked in.
///
/// # Errors
/// When there is no apt-get, or it does not know or fetch them.
pub fn unpack(packages: &[&str], folder: &Path) -> Result<PathBuf> {
    ensure!(process::find("apt-get").is_some(), "Debian's newest packages are fetched by apt-get, which is missing");
    let place = folder.join("sid");
    let draft = tempfile::tempdir_in(folder).context("cannot make a temporary folder")?;
    let apt = draft.path();
    let configuration = configure(apt)?;
    let apt_get = || {
        let mut command = Command::new("apt-get");
        command.env("APT_CONFIG", &configuration).args(["--quiet", "--quiet"]);
        command
    };
    process::run_timed("package lists", apt_get().arg("update"))?;
    let mut fetch = apt_get();
    fetch.args(["install", "--yes", "--download-only", "--no-install-recommends"]).args(packages);
    process::run_timed("packages", &mut fetch)?;
    let root = apt.join("root");
    for entry in fs::read_dir(apt.join("cache/archives")).context("cannot list the packages")? {
        let path = entry.context("cannot list the packages")?.path();
        if path.extension().is_some_and(|ending| ending == "deb") {
            process::run_quietly(Command::new("dpkg-deb").arg("--extract").arg(path).arg(&root))?;
        }
    }
    if place.is_dir() {
        fs::remove_dir_all(&place).with_context(|| format!("cannot remove {}", place.display()))?;
    }
    fs::rename(&root, &place).with_context(|| format!("cannot create {}", place.display()))?;
    Ok(place)
}

/// Writes a configuration by which apt keeps all that is its own in this folder; the configuration's path.
fn configure(folder: &Path) -> Result<PathBuf> {
    for part in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(folder.join(part)).with_context(|| format!("cannot create {part}"))?;
    }
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        process::utf8(&path).map(str::to_owned)
    };
    let (status, sources) = (write("status", "")?, write("sources.list", SOURCE)?);
    let folder = process::utf8(folder)?;
    // As root, apt would hand the download to a user who may not write there.
    let configuration = format!(
        "Dir::State::Status \"{status}\";\n\
         Dir::State::Lists \"{folder}/lists\";\n\
         Dir::Cache \"{folder}/cache\";\n\
         Dir::Etc::SourceList \"{sources}\";\n\
         Dir::Etc::SourceParts \"/dev/null\";\n\
         Dir::Etc::PreferencesParts \"/dev/null\";\n\
         APT::Sandbox::User \"root\";\n"
    );
    write("apt.conf", &configuration).map(PathBuf::from)
}

/// Writes a program that becomes the unpacked Python `name`, in a view of the file system in which `/usr` is the one that it was built for, and
/// all else is this machine's.
///
/// # Errors
/// When this machine has libraries beside `/usr`, or the program cannot be written.
pub fn launcher(unpacked: &Path, name: &str, with_compiler: bool, folder: &Path) -> Result<PathBuf> {
    for part in ["/lib", "/lib64"] {
        let is_in_usr = fs::canonicalize(part).is_ok_and(|place| place.starts_with("/usr"));
        ensure!(is_in_usr, "{part} does not lie in /usr on this machine, so that another /usr cannot be used");
    }
    let path = folder.join(if with_compiler { format!("{name}-compiling") } else { name.to_owned() });
    let usr = unpacked.join("usr");
    let text = format!(
        "#!/bin/sh\n\
         export PYTHON_JIT={}\n\
         exec unshare --mount sh -c 'mount --bind \"$0\" /usr && exec \"$@\"' '{}' /usr/bin/{name} \"$@\"\n",
        u8::from(with_compiler),
        process::utf8(&usr)?
    );
    let written = fs::write(&path, text).and_then(|()| fs::set_permissions(&path, PermissionsExt::from_mode(0o755)));
    written.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
