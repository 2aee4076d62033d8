//! Programs on file systems that name their files in two ways: what `/proc/PID/maps` says and what stat(2) says differ.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use memtrace_tests::{Build, Memtrace, Report, Target, memtrace::program};
use tempfile::TempDir;

/// Mounts in a folder; unmounted when dropped, the last one first.
struct Mounts {
    folder: TempDir,
    mounted: Vec<PathBuf>,
}

impl Mounts {
    fn new() -> Result<Self> {
        Ok(Self { folder: tempfile::tempdir()?, mounted: Vec::new() })
    }

    fn mount(&mut self, kind: &str, name: &str, options: &str) -> Result<PathBuf> {
        let place = self.folder.path().join(name);
        fs::create_dir(&place)?;
        let mut command = Command::new("mount");
        let status = command.args(["-t", kind, "-o", options, "none"]).arg(&place).status()?;
        ensure!(status.success(), "{command:?}");
        self.mounted.push(place.clone());
        Ok(place)
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for place in self.mounted.iter().rev() {
            let _ = Command::new("umount").arg("--lazy").arg(place).status();
        }
    }
}

/// The device of a file by stat(2), and that of its mapping in a process.
fn devices(file: &Path, pid: u32) -> Result<(String, String)> {
    let stat = Command::new("stat").args(["--format", "%Hd:%Ld"]).arg(file).output()?;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let name = file.to_str().context("a path in UTF-8")?;
    let line = maps.lines().find(|line| line.ends_with(name)).context("it is mapped")?;
    let device = line.split_whitespace().nth(3).context("a device")?;
    let (major, minor) = device.split_once(':').context("two numbers")?;
    let number = |digits| u32::from_str_radix(digits, 16);
    Ok((String::from_utf8(stat.stdout)?.trim().to_owned(), format!("{}:{}", number(major)?, number(minor)?)))
}

/// Without the capabilities that open mapped files by the kernel's own links, they are opened by their paths, and only when
/// they are the very files.
#[test]
fn files_of_an_overlay_are_known_for_those_that_are_mapped() -> Result<()> {
    let mut mounts = Mounts::new()?;
    let (lower, upper) = (mounts.mount("tmpfs", "lower", "mode=755")?, mounts.mount("tmpfs", "upper", "mode=755")?);
    fs::create_dir(upper.join("files"))?;
    fs::create_dir(upper.join("work"))?;
    fs::copy(Build::c("leaky_service.c").flag("-static").compile()?, lower.join("service"))?;
    let options = format!("lowerdir={0},upperdir={1}/files,workdir={1}/work", lower.display(), upper.display());
    let merged = mounts.mount("overlay", "merged", &options)?;
    let file = merged.join("service");
    let mut service = Target::start_file(&file, &["100", "1000", "700", "2000"])?;
    let (by_stat, by_maps) = devices(&file, service.pid())?;
    ensure!(by_stat != by_maps, "{by_stat}: this overlay names its files in one way, so that nothing is tested");
    service.tell("go")?;
    let mut command = Command::new("setpriv");
    command.arg("--bounding-set=-sys_admin,-checkpoint_restore").arg(program()?);
    let pid = service.pid().to_string();
    command.args(["--pid", &pid, "--interval", "1s", "--format", "json", "--top", "100000"]);
    let mut memtrace = Memtrace::spawn(&mut command)?;
    let leaks = |report: &Report| report.stacks_of("leak_here").any(|stack| stack.outstanding_blocks > 0);
    memtrace.report_where("the leak by its name", leaks)?;
    memtrace.interrupt()?;
    service.exit()
}
