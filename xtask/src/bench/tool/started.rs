//! Tools that a program is started under.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Tool;
use crate::{process, tree};

/// The dynamic linker finds it.
const JEMALLOC: &str = "libjemalloc.so.2";

/// The command that starts the program, with the tool where the tool has to be there from the start.
pub fn command(tool: Tool, program: &Path) -> Result<Command> {
    let mut command = Command::new(program);
    match tool {
        Tool::Nothing | Tool::Empty | Tool::Memtrace | Tool::MemtraceSampled | Tool::Bpftrace => {}
        Tool::Heaptrack => {
            let record = heaptrack_record()?;
            // heaptrack writes over what is there, and leaves the rest of it.
            if record.exists() {
                fs::remove_file(&record).context("cannot remove heaptrack's last record")?;
            }
            command.env("LD_PRELOAD", heaptrack_library()?).env("DUMP_HEAPTRACK_OUTPUT", record);
        }
        Tool::Valgrind => {
            command = Command::new("valgrind");
            command.args(["--quiet", "--tool=memcheck", "--leak-check=no", "--log-file=/dev/null"]).arg(program);
        }
        Tool::Jemalloc => preload_jemalloc(&mut command, "prof:false"),
        Tool::JemallocSampled => preload_jemalloc(&mut command, "prof:true"),
        Tool::JemallocEvery => preload_jemalloc(&mut command, "prof:true,lg_prof_sample:0"),
    }
    Ok(command)
}

fn preload_jemalloc(command: &mut Command, options: &str) {
    command.env("LD_PRELOAD", JEMALLOC).env("MALLOC_CONF", options);
}

/// Whether jemalloc was built with profiling. One that was not takes the option for a mistake, and says so.
pub fn jemalloc_profiles() -> Result<bool> {
    let mut command = Command::new("true");
    preload_jemalloc(&mut command, "prof:true");
    let output = command.output().context("cannot run `true` with jemalloc")?;
    Ok(output.status.success() && output.stderr.is_empty())
}

/// Where heaptrack writes: what it sees as it comes, to be made sense of later (`heaptrack --raw`, not compressed). Made
/// sense of at once, as `heaptrack` does by itself, it would take a second processor.
pub fn heaptrack_record() -> Result<PathBuf> {
    let folder = tree::target().join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder.join("heaptrack.raw"))
}

/// Beside the program, as its script looks for it.
fn heaptrack_library() -> Result<PathBuf> {
    let program = process::find("heaptrack").context("heaptrack is not on the path")?;
    let program = program.canonicalize().context("cannot find heaptrack's folder")?;
    let prefix = program.parent().and_then(Path::parent).context("heaptrack has no folder")?;
    let library = prefix.join("lib/heaptrack/libheaptrack_preload.so");
    library.is_file().then_some(library).context("heaptrack has no libheaptrack_preload.so beside it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &Command) -> Vec<String> {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn tools_that_attach_leave_the_start_alone() {
        for tool in [Tool::Nothing, Tool::Empty, Tool::Memtrace, Tool::Bpftrace] {
            let command = command(tool, Path::new("/bin/target")).unwrap();
            assert_eq!((words(&command), command.get_envs().count()), (vec!["/bin/target".to_owned()], 0));
        }
    }

    #[test]
    fn the_two_ways_to_run_jemalloc_differ_in_profiling_only() {
        let [plain, profiling] =
            [Tool::Jemalloc, Tool::JemallocSampled].map(|tool| command(tool, Path::new("/bin/target")).unwrap());
        assert_eq!(words(&plain), words(&profiling));
        let differing: Vec<_> =
            plain.get_envs().zip(profiling.get_envs()).filter(|(one, other)| one != other).collect();
        assert_eq!(differing.len(), 1);
        assert_eq!(differing[0].0.0, "MALLOC_CONF");
    }

    #[test]
    fn valgrind_gets_the_program_behind_its_options() {
        let words = words(&command(Tool::Valgrind, Path::new("/bin/target")).unwrap());
        assert_eq!((words[0].as_str(), words.last().unwrap().as_str()), ("valgrind", "/bin/target"));
    }
}
