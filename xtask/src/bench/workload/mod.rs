//! What is traced: loops that do nothing but allocate, and programs that also do something.
//!
//! Each is a program that has started and waits, so that a tool can attach; then it works, and that is timed. `ordered`
//! is programs that take their orders from standard input, `redis` is a service with its clients.

pub mod ordered;
mod redis;

use std::io::BufReader;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result};

use self::{
    ordered::{Ordered, Orders},
    redis::{Load, Redis},
};
use super::tool::Tool;
use crate::process;

/// How much there is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Size {
    /// Enough for numbers that hold from run to run.
    Full,
    /// Enough to see that it works.
    Small,
}

impl Size {
    /// So much of it.
    pub fn of(self, full: u32) -> u32 {
        match self {
            Size::Full => full,
            Size::Small => full / 10,
        }
    }
}

/// Something to run and time.
pub struct Workload {
    /// For the command line and the plot.
    pub name: &'static str,
    /// What it is, for people.
    pub title: String,
    /// Pairs of malloc and free, or of mmap and munmap, of which a time can be given; `None` where only the whole counts.
    pub pairs: Option<u32>,
    /// How many frames the stack of its allocations has, where that is part of what is measured.
    pub frames: Option<usize>,
    /// Whether it maps memory and allocates no blocks, which most tools do not look at.
    pub maps: bool,
    program: PathBuf,
    work: Work,
}

/// How it is told to work.
enum Work {
    Orders(Orders),
    Redis(Load),
}

/// All workloads, in the order of their tables.
pub fn all(size: Size) -> Result<Vec<Workload>> {
    Ok(vec![
        ordered::malloc_loop(size)?,
        ordered::deep_loop(size)?,
        ordered::threads_loop(size)?,
        ordered::mixed_loop(size)?,
        ordered::maps_loop(size)?,
        ordered::sqlite(size)?,
        redis::redis(size)?,
        ordered::python(size)?,
        ordered::cpp(size)?,
    ])
}

impl Workload {
    /// Whether a tool looks at what it does.
    pub fn is_seen_by(&self, tool: Tool) -> bool {
        !self.maps || tool.sees_mappings()
    }

    /// Starts the program, under the tool if that has to be there from the start; it then waits for [`Running::work`].
    pub fn start(&self, tool: Tool) -> Result<Running> {
        let mut command = tool.start(&self.program)?;
        process::ends_with_us(&mut command);
        let spawn = |command: &mut std::process::Command| {
            command.spawn().with_context(|| format!("cannot start {}", self.program.display())).map(Target)
        };
        match &self.work {
            Work::Orders(orders) => {
                let mut target = spawn(command.args(&orders.arguments).stdin(Stdio::piped()).stdout(Stdio::piped()))?;
                let input = target.0.stdin.take().context("no standard input")?;
                let output = BufReader::new(target.0.stdout.take().context("no standard output")?);
                Ok(Running { target, job: Job::Ordered(Ordered::begin(orders.clone(), input, output)?) })
            }
            Work::Redis(load) => {
                let redis = Redis::new(*load)?;
                let mut target = spawn(redis.options(&mut command))?;
                redis.wait(&mut target.0)?;
                Ok(Running { target, job: Job::Redis(redis) })
            }
        }
    }
}

/// A started program. Dropping it ends it.
pub struct Running {
    target: Target,
    job: Job,
}

enum Job {
    Ordered(Ordered),
    Redis(Redis),
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.target.0.id()
    }

    /// Has it do its work, and gives the seconds from the order to the end of the answer.
    pub fn work(&mut self) -> Result<f64> {
        match &mut self.job {
            Job::Ordered(ordered) => ordered.work(),
            Job::Redis(redis) => redis.work(),
        }
    }
}

/// A process. Dropping it ends it.
pub struct Target(pub Child);

impl Drop for Target {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
impl Workload {
    /// One for tests of what is shown.
    pub fn unstarted(name: &'static str, title: &str, pairs: Option<u32>) -> Self {
        let work = Work::Redis(Load::none());
        Self { name, title: title.to_owned(), pairs, frames: None, maps: false, program: PathBuf::new(), work }
    }
}
