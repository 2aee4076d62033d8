//! Programs that take orders on standard input, and answer when each is done.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::{Size, Work, Workload};
use crate::{process, tree};

/// Frames of the deep loop's stack.
const DEEP_FRAMES: usize = 20;

/// What is said to the program.
#[derive(Clone)]
pub struct Orders {
    /// Its arguments.
    pub arguments: Vec<String>,
    /// The order before anything is attached: when it is answered, the program has started, and has allocated what it
    /// does at first.
    first: String,
    /// The order that is timed.
    order: String,
    /// The line that ends each answer; any line if `None`.
    last: Option<&'static str>,
}

impl Orders {
    /// Numbers, each answered by a line.
    fn numbers(first: u32, number: u32) -> Self {
        Self { arguments: Vec::new(), first: first.to_string(), order: number.to_string(), last: None }
    }
}

/// The allocation loop.
pub fn malloc_loop(size: Size) -> Result<Workload> {
    let pairs = size.of(200_000);
    let title = format!("{pairs} pairs of malloc and free, one thread");
    Ok(a_loop("loop", title, pairs, c_program("malloc_loop", &["-fno-omit-frame-pointer"])?))
}

/// The same loop at the bottom of a deep stack that has no frame pointers.
pub fn deep_loop(size: Size) -> Result<Workload> {
    let pairs = size.of(200_000);
    let title = format!("{pairs} pairs, {DEEP_FRAMES} frames deep, without frame pointers");
    let workload = a_loop("deep", title, pairs, c_program("deep_loop", &["-fomit-frame-pointer"])?);
    Ok(Workload { frames: Some(DEEP_FRAMES), ..workload })
}

/// The loop in several threads.
pub fn threads_loop(size: Size) -> Result<Workload> {
    let pairs = size.of(200_000);
    let title = format!("{pairs} pairs, shared by four threads");
    Ok(a_loop("threads", title, pairs, c_program("threads_loop", &["-fno-omit-frame-pointer", "-pthread"])?))
}

/// The loop with small and large blocks.
pub fn mixed_loop(size: Size) -> Result<Workload> {
    let pairs = size.of(100_000);
    let title = format!("{pairs} pairs, of 16 B to 1 MiB; from 128 KiB on glibc maps each block");
    Ok(a_loop("mixed", title, pairs, c_program("mixed_loop", &["-fno-omit-frame-pointer"])?))
}

/// The loop with mappings in place of blocks.
pub fn maps_loop(size: Size) -> Result<Workload> {
    let pairs = size.of(50_000);
    let title = format!("{pairs} pairs of mmap and munmap, of four pages of which one is touched");
    let workload = a_loop("maps", title, pairs, c_program("maps_loop", &["-fno-omit-frame-pointer"])?);
    Ok(Workload { maps: true, ..workload })
}

fn a_loop(name: &'static str, title: String, pairs: u32, program: PathBuf) -> Workload {
    let work = Work::Orders(Orders::numbers(1000, pairs));
    Workload { name, title, pairs: Some(pairs), frames: None, maps: false, program, work }
}

/// sqlite3 with a script from a file.
pub fn sqlite(size: Size) -> Result<Workload> {
    // So many that sqlite3 allocates about 450,000 times.
    let rows = size.of(22_500);
    let path = folder()?.join("script.sql");
    fs::write(&path, inserts(rows)?).with_context(|| format!("cannot write {}", path.display()))?;
    let orders = Orders {
        arguments: ["-batch", ":memory:"].map(str::to_owned).to_vec(),
        first: ".print done".to_owned(),
        order: format!(".read {}\n.print done", path.display()),
        last: Some("done"),
    };
    Ok(Workload {
        name: "sqlite3",
        title: format!("a script of {rows} inserts from a file"),
        pairs: None,
        frames: None,
        maps: false,
        program: process::find("sqlite3").context("sqlite3 is not on the path")?,
        work: Work::Orders(orders),
    })
}

fn inserts(rows: u32) -> Result<String> {
    let mut script = String::from("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, score REAL);\nBEGIN;\n");
    for row in 0..rows {
        let name = row.wrapping_mul(2_654_435_761) % 9973;
        writeln!(script, "INSERT INTO t VALUES({row}, 'name {name}', {}.5);", row % 97)?;
    }
    script.push_str("COMMIT;\nSELECT count(*), sum(score) FROM t GROUP BY name LIKE '%7%';\n");
    Ok(script)
}

/// An interpreter with objects that are too large for its own pools.
pub fn python(size: Size) -> Result<Workload> {
    // So many that Python calls malloc about 270,000 times.
    let steps = size.of(50_000);
    let script = tree::root().join("xtask/bench/python_objects.py");
    let arguments = vec![process::utf8(&script)?.to_owned()];
    Ok(Workload {
        name: "python3",
        title: format!("{steps} times a list, a string and a dict of more than 512 bytes"),
        pairs: None,
        frames: None,
        maps: false,
        // The distribution's: what comes first on the path may be a script that runs another one.
        program: PathBuf::from("/usr/bin/python3"),
        work: Work::Orders(Orders { arguments, ..Orders::numbers(100, steps) }),
    })
}

/// Containers of C++.
pub fn cpp(size: Size) -> Result<Workload> {
    // So many that it allocates about 340,000 times.
    let strings = size.of(100_000);
    let program = compiled("c++", "cpp_containers", "cpp", &["-std=c++17"])?;
    Ok(Workload {
        name: "c++",
        title: format!("{strings} strings into a map of vectors"),
        pairs: None,
        frames: None,
        maps: false,
        program,
        work: Work::Orders(Orders::numbers(100, strings)),
    })
}

/// A C program of the benchmark's own, compiled.
pub fn c_program(name: &str, flags: &[&str]) -> Result<PathBuf> {
    compiled("cc", name, "c", flags)
}

fn compiled(compiler: &str, name: &str, ending: &str, flags: &[&str]) -> Result<PathBuf> {
    let program = folder()?.join(name);
    let source = tree::root().join(Path::new("xtask/bench").join(name).with_extension(ending));
    process::run(Command::new(compiler).arg("-O2").args(flags).arg("-o").arg(&program).arg(source))?;
    Ok(program)
}

fn folder() -> Result<PathBuf> {
    let folder = tree::target().join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// A started program and what it is told.
pub struct Ordered {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    orders: Orders,
}

impl Ordered {
    /// Gives the first order, and returns when it is done.
    pub fn begin(orders: Orders, input: ChildStdin, output: BufReader<ChildStdout>) -> Result<Self> {
        let mut ordered = Self { input, output, orders };
        let first = ordered.orders.first.clone();
        ordered.ask(&first)?;
        Ok(ordered)
    }

    /// Seconds from the order to the end of the answer.
    pub fn work(&mut self) -> Result<f64> {
        let order = self.orders.order.clone();
        let begun = Instant::now();
        self.ask(&order)?;
        Ok(begun.elapsed().as_secs_f64())
    }

    fn ask(&mut self, order: &str) -> Result<()> {
        writeln!(self.input, "{order}").context("the workload takes no orders")?;
        loop {
            let mut line = String::new();
            ensure!(self.output.read_line(&mut line)? > 0, "the workload ended early");
            if self.orders.last.is_none_or(|last| line.trim_end() == last) {
                return Ok(());
            }
        }
    }
}
