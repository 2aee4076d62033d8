//! `vm-test`: memtrace on kernels other than this machine's. Each kernel of [`kernel::KERNELS`] boots in an emulated
//! machine that takes neither root nor hardware support, with memtrace and the demonstration's leaking service as its
//! only contents. There every BPF program must pass the kernel's verifier, and the leak must be found without losses.
//!
//! `kernel` fetches, `initramfs` packs what the guest runs (`xtask/vm/`), `guest` boots it, `outcome` judges what it said.

mod guest;
mod initramfs;
mod kernel;
mod outcome;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::process::ExitCode;
use std::thread;

use anyhow::{Context as _, Result};

use self::kernel::{KERNELS, Kernel};
use crate::{debian, demo, packages, process, tree};

/// Tests every kernel; a line for each tells how it went.
pub fn run() -> Result<ExitCode> {
    debian::install("Booting other kernels", packages::VM_TEST)?;
    let folder = tree::target().join("vm");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let programs = outcome::programs_of(&tree::ebpf_object())?;
    let images = KERNELS.iter().map(|kernel| kernel.image(&folder)).collect::<Result<Vec<_>>>()?;
    let thrower = folder.join("thrower");
    let source = tree::root().join("xtask/vm/thrower.cpp");
    process::run(Command::new("g++").args(["-g", "-O1", "-static", "-o"]).arg(&thrower).arg(source))?;
    let initramfs = initramfs::pack(&folder, &process::build_memtrace()?, &demo::compile_service()?, &thrower)?;
    // Side by side: a guest sleeps for most of its time.
    let failures = thread::scope(|scope| {
        let test = |kernel, image| test(kernel, image, &initramfs, &folder, &programs);
        let start = |(kernel, image)| scope.spawn(move || test(kernel, image));
        let runs: Vec<_> = KERNELS.iter().zip(images.iter().map(PathBuf::as_path)).map(start).collect();
        runs.into_iter().map(|run| run.join().unwrap_or(false)).filter(|passed| !passed).count()
    });
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tests one kernel and prints how it went.
fn test(kernel: &Kernel, image: &Path, initramfs: &Path, folder: &Path, programs: &[String]) -> bool {
    let console = folder.join(format!("{}.log", kernel.series));
    let judged = guest::boot(image, initramfs, &console, &folder.join(format!("{}.report", kernel.series)))
        .and_then(|run| outcome::judge(&run.said, kernel, programs).map(|line| (run, line)));
    match judged {
        Ok((run, line)) => {
            let (boot, whole) = (run.boot.as_secs_f64(), run.whole.as_secs_f64());
            println!("ok   Linux {}: {line}; booted in {boot:.0} s, {whole:.0} s in all", kernel.series);
            true
        }
        Err(error) => {
            // In one piece, since another kernel's may come at the same time.
            let (console, end) = (console.display(), guest::end_of(&console));
            println!("FAIL Linux {}: {error:#}\n     the end of {console}:\n{end}", kernel.series);
            false
        }
    }
}
