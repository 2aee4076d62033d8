//! What is traced: a loop that does nothing but allocate, and a database that runs a script.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::{process, tree};

/// Pairs of malloc and free in one measurement.
const PAIRS: u32 = 200_000;
/// Frames of the deep loop's stack.
const DEEP_FRAMES: usize = 20;
/// Rows that the script inserts: so many that sqlite3 allocates about 450,000 times.
const ROWS: u32 = 22_500;

/// Something to run and time.
pub struct Workload {
    program: PathBuf,
    title: String,
    /// How many frames its stack has, where that is part of what is measured.
    frames: Option<usize>,
    /// Read by sqlite3; the loop has none.
    script: Option<PathBuf>,
}

/// The allocation loop.
pub fn malloc_loop() -> Result<Workload> {
    let program = compiled("malloc_loop", "-fno-omit-frame-pointer")?;
    let title = format!("malloc/free loop, one thread, {PAIRS} pairs");
    Ok(Workload { program, title, frames: None, script: None })
}

/// The same loop at the bottom of a deep stack that has no frame pointers.
pub fn deep_loop() -> Result<Workload> {
    let program = compiled("deep_loop", "-fomit-frame-pointer")?;
    let title = format!("the same loop, {DEEP_FRAMES} frames deep, without frame pointers");
    Ok(Workload { program, title, frames: Some(DEEP_FRAMES), script: None })
}

fn compiled(name: &str, flag: &str) -> Result<PathBuf> {
    let program = folder()?.join(name);
    let source = tree::root().join(format!("xtask/bench/{name}.c"));
    process::run(Command::new("cc").args(["-O2", flag, "-o"]).arg(&program).arg(source))?;
    Ok(program)
}

/// sqlite3 with a script from a file.
pub fn sqlite() -> Result<Workload> {
    let path = folder()?.join("script.sql");
    let mut script = String::from("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, score REAL);\nBEGIN;\n");
    for row in 0..ROWS {
        writeln!(
            script,
            "INSERT INTO t VALUES({row}, 'name {}', {}.5);",
            row.wrapping_mul(2_654_435_761) % 9973,
            row % 97
        )?;
    }
    script.push_str("COMMIT;\nSELECT count(*), sum(score) FROM t GROUP BY name LIKE '%7%';\n");
    fs::write(&path, script).with_context(|| format!("cannot write {}", path.display()))?;
    let program = process::find("sqlite3").context("sqlite3 is not on the path")?;
    let title = format!("sqlite3, a script of {ROWS} inserts from a file");
    Ok(Workload { program, title, frames: None, script: Some(path) })
}

fn folder() -> Result<PathBuf> {
    let folder = tree::target().join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

impl Workload {
    /// What it is, for people.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// How many frames the stack of its allocations has, if that is known and matters.
    pub fn frames(&self) -> Option<usize> {
        self.frames
    }

    /// Pairs of which a time can be given; `None` where only the whole counts.
    pub fn operations(&self) -> Option<u32> {
        self.script.is_none().then_some(PAIRS)
    }

    /// Starts the program, which then waits for [`Running::work`].
    pub fn start(&self) -> Result<Running> {
        let mut command = Command::new(&self.program);
        if self.script.is_some() {
            command.args(["-batch", ":memory:"]);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let input = child.stdin.take().context("no standard input")?;
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        let (order, last) = match &self.script {
            Some(script) => (format!(".read {}\n.print done", script.display()), Some("done")),
            None => (PAIRS.to_string(), None),
        };
        let mut running = Running { child, input, output, order, last };
        // One answer before anything is attached: the program has started, and has allocated what it does at first.
        match self.script {
            Some(_) => running.ask(".print ready", Some("ready"))?,
            None => running.ask("1000", None)?,
        }
        Ok(running)
    }
}

/// A started program. Dropping it ends it.
pub struct Running {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    order: String,
    /// The line that ends its answer; any line if `None`.
    last: Option<&'static str>,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it do its work, and gives the seconds from the order to the end of the answer.
    pub fn work(&mut self) -> Result<f64> {
        let order = self.order.clone();
        let begun = Instant::now();
        self.ask(&order, self.last)?;
        Ok(begun.elapsed().as_secs_f64())
    }

    fn ask(&mut self, order: &str, last: Option<&str>) -> Result<()> {
        writeln!(self.input, "{order}").context("the workload takes no orders")?;
        loop {
            let mut line = String::new();
            ensure!(self.output.read_line(&mut line)? > 0, "the workload ended early");
            if last.is_none_or(|last| line.trim_end() == last) {
                return Ok(());
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
