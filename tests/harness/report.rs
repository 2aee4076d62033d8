//! What memtrace reports in JSON, as far as the tests look at it. Fields that were added since are ignored; a field
//! of the contract that is missing is an error.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// The counters that mean that something happened in the target that the report does not know.
const LOSSES: &[&str] = &[
    "allocations_dropped",
    "releases_dropped",
    "mappings_dropped",
    "thread_state_missing",
    "calls_abandoned",
    "result_read_fault",
    "restores_dropped",
    "predictions_wrong",
    "starts_unseen",
];

/// One line of `--format json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// The name and version of the form.
    pub schema: String,
    /// Whether it is the last of the run.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// RFC 3339.
    pub at: String,
    /// Milliseconds since the attach.
    pub elapsed_ms: u64,
    /// What the report says first.
    pub headline: Headline,
    /// The targets.
    pub processes: Vec<Process>,
    /// Targets that ended long ago.
    pub retired: Retired,
    /// Every way to lose an event, with its count.
    pub loss: BTreeMap<String, u64>,
    /// What memtrace itself did.
    pub tracer: Tracer,
    /// By verdict, then growth, then size.
    pub stacks: Vec<Stack>,
    /// Stacks that are told together.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Heaps that runtimes manage, whole.
    pub heaps: Vec<Heap>,
    /// How it kept to `--max-overhead`.
    #[serde(default)]
    pub budget: Value,
    /// Live objects of interpreters, by type.
    pub types: Vec<Type>,
}

/// What a report says first.
#[derive(Clone, Debug, Deserialize)]
pub struct Headline {
    /// A sentence.
    pub text: String,
}

/// Live objects of one type.
#[derive(Clone, Debug, Deserialize)]
pub struct Type {
    /// The process that has them.
    pub pid: u32,
    /// The name of the type.
    pub name: String,
    /// `native` for C++, `python`, ...
    pub language: String,
    /// How many there are.
    pub count: u64,
    /// Bytes of their blocks.
    pub bytes: u64,
    /// Null where all blocks were looked at.
    pub estimate: Value,
    /// `growing`, `plateau`, ...
    pub verdict: String,
}

/// Sums over targets that are not listed any more.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Retired {
    /// How many.
    pub processes: u64,
    /// Those that ended before they were attached.
    pub too_short: u64,
    /// Blocks that appeared in them.
    pub allocations: u64,
    /// Those that were released.
    pub frees: u64,
}

/// What memtrace itself did.
#[derive(Clone, Debug, Deserialize)]
pub struct Tracer {
    /// Stacks that equalled one that their thread remembered.
    pub stacks_remembered: u64,
    /// Calls whose result was known at their entry.
    pub results_predicted: u64,
    /// Stacks that were walked.
    pub stacks_walked: u64,
    /// Remembered stacks that a walk contradicted, as far as it was asked to look.
    pub stacks_wrong: u64,
    /// Allocations with a whole stack.
    pub stacks_complete: u64,
    /// The others, by reason.
    pub stacks_short: BTreeMap<String, u64>,
    /// Rows of unwind tables in the kernel.
    pub unwind_rows: u64,
    /// Bytes of kernel memory for them.
    pub unwind_bytes: u64,
    /// Mapped objects without room.
    pub unwind_left_out: u64,
    /// Tables that made room for others.
    pub unwind_evicted: u64,
}

/// One target.
#[derive(Clone, Debug, Deserialize)]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// Its command line.
    pub command: String,
    /// Its cgroup.
    pub cgroup: String,
    /// Whether it has ended.
    pub exited: bool,
    /// Resident bytes.
    pub rss_bytes: u64,
    /// Its memory as a whole.
    #[serde(default)]
    pub memory: Value,
    /// Sums since the attach.
    pub totals: Totals,
    /// What its runtime was asked, with `--ask`.
    #[serde(default)]
    pub asked: Option<Asked>,
}

/// What the runtime of a process was asked.
#[derive(Clone, Debug, Deserialize)]
pub struct Asked {
    /// Where its inspector listens.
    pub inspector: Option<String>,
    /// Whether memtrace opened it.
    pub opened: bool,
    /// `as_it_was`, `closed` or `open`.
    pub left: Option<String>,
    /// Profiles that have come.
    pub profiles: u64,
    /// Why it is asked no more.
    pub problem: Option<String>,
}

/// Sums over one process; [`Totals`] of a report and of a fixture's own count compare as they are.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct Totals {
    /// Blocks that appeared.
    pub allocations: u64,
    /// Blocks that were released.
    pub frees: u64,
    /// Bytes of the blocks that appeared.
    pub allocated_bytes: u64,
    /// Bytes of the blocks that were released.
    pub freed_bytes: u64,
    /// Bytes that live.
    pub outstanding_bytes: u64,
    /// Blocks that live.
    pub outstanding_blocks: u64,
    /// How well the last two are known; `None` where every block is seen.
    #[serde(default)]
    pub estimate: Option<Estimate>,
    /// Releases of blocks from before the attach.
    #[serde(default)]
    pub frees_unmatched: u64,
    /// Blocks from the parent, by fork.
    #[serde(default)]
    pub inherited_blocks: u64,
    /// Bytes of those.
    #[serde(default)]
    pub inherited_bytes: u64,
    /// Releases of such blocks.
    #[serde(default)]
    pub inherited_frees: u64,
    /// Calls that failed.
    #[serde(default)]
    pub failed_allocations: u64,
    /// Bytes mapped since the attach and still mapped.
    #[serde(default)]
    pub mapped_bytes: u64,
    /// Blocks that went with an old image.
    #[serde(default)]
    pub blocks_dropped_by_exec: u64,
}

/// How well a number of bytes is known that was estimated from a sample.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub struct Estimate {
    /// Live blocks that were seen.
    pub blocks_seen: u64,
    /// 95 %.
    pub outstanding_interval_bytes: (u64, u64),
}

/// One call stack.
#[derive(Clone, Debug, Deserialize)]
pub struct Stack {
    /// Hexadecimal.
    pub id: String,
    /// Whose it is.
    pub pid: u32,
    /// All whose it is.
    pub pids: Vec<u32>,
    /// `heap`, `map`, `managed`, `profiled` or `goroutine`.
    pub kind: String,
    /// `growing`, `plateau`, `undecided` ...
    pub verdict: String,
    /// 0 to 1.
    pub confidence: f64,
    /// Why, in a sentence.
    pub evidence: String,
    /// Bytes that live.
    pub outstanding_bytes: u64,
    /// Blocks that live.
    pub outstanding_blocks: u64,
    /// Blocks that ever appeared.
    pub allocations: u64,
    /// The slope.
    pub growth_bytes_per_hour: f64,
    /// How long the living blocks have lived.
    pub age_ms: Option<Quantiles>,
    /// The caller of the allocator first.
    pub frames: Vec<Frame>,
    /// Why it stops short.
    pub truncated: Option<String>,
    /// `[elapsed_ms, outstanding_bytes]`.
    pub series: Vec<(u64, u64)>,
}

/// Stacks that are told together, as far as tests ask.
#[derive(Clone, Debug, Deserialize)]
pub struct Group {
    /// What they are called.
    pub name: String,
    /// What is said of them.
    pub verdict: String,
    /// Bytes that they hold.
    pub outstanding_bytes: u64,
}

/// A heap that a runtime manages.
#[derive(Clone, Debug, Deserialize)]
pub struct Heap {
    /// Whose it is.
    pub pid: u32,
    /// What it is called.
    pub name: String,
    /// Bytes that are held.
    pub bytes: u64,
    /// Collections of the whole heap since the attach, where they are counted.
    #[serde(default)]
    pub collections: Option<u64>,
    /// Bytes that the last of them left, where that is known.
    #[serde(default)]
    pub left_bytes: Option<u64>,
    /// Bytes of objects that can be reached.
    pub reachable_bytes: Option<u64>,
    /// What is said of it.
    pub verdict: String,
    /// Why that is said.
    #[serde(default)]
    pub evidence: String,
}

/// A distribution.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Quantiles {
    /// The median.
    pub p50: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

/// One function of a stack.
#[derive(Clone, Debug, Deserialize)]
pub struct Frame {
    /// Demangled.
    pub function: Option<String>,
    /// The object's file name.
    pub module: Option<String>,
    /// Hexadecimal.
    pub address: String,
    /// The same as an offset in the file.
    #[serde(default)]
    pub offset: Option<String>,
    /// The source file.
    pub file: Option<String>,
    /// The line.
    pub line: Option<u32>,
    /// Whether it was inlined into the next.
    pub inlined: bool,
    /// `native` or `interpreter`.
    pub kind: String,
    /// `native`, `python`, `go`, `javascript`, ...
    pub language: String,
    /// Whether it is the user's own code.
    pub user: bool,
}

impl Report {
    /// Reads one line.
    ///
    /// # Errors
    /// When it is not a report.
    pub fn parse(line: &str) -> Result<Self> {
        serde_json::from_str(line).with_context(|| format!("reading the report {line}"))
    }

    /// One target's part.
    ///
    /// # Errors
    /// When the report does not mention it.
    pub fn process(&self, pid: u32) -> Result<&Process> {
        self.processes.iter().find(|process| process.pid == pid).with_context(|| format!("process {pid} in {self:?}"))
    }

    /// The stacks whose innermost function is `function`.
    pub fn stacks_of<'a>(&'a self, function: &'a str) -> impl Iterator<Item = &'a Stack> {
        self.stacks.iter().filter(move |stack| stack.caller() == function)
    }

    /// Whether any stack that calls the allocator from `function` grows.
    pub fn grows(&self, function: &str) -> bool {
        self.stacks_of(function).any(|stack| stack.verdict == "growing")
    }

    /// Blocks and bytes that live, summed over the stacks of one kind by the function that made the call.
    pub fn outstanding_by_caller(&self, kind: &str) -> BTreeMap<String, Outstanding> {
        let mut sums = BTreeMap::<_, Outstanding>::new();
        for stack in self.stacks.iter().filter(|stack| stack.kind == kind && stack.outstanding_blocks > 0) {
            let sum = sums.entry(stack.caller().to_owned()).or_default();
            sum.blocks += stack.outstanding_blocks;
            sum.bytes += stack.outstanding_bytes;
        }
        sums
    }

    /// The counters of real losses that are not 0; deferrals are none.
    pub fn losses(&self) -> BTreeMap<&str, u64> {
        LOSSES.iter().map(|&name| (name, self.lost(name))).filter(|&(_, count)| count > 0).collect()
    }

    /// A counter of losses; 0 when it is not mentioned.
    pub fn lost(&self, name: &str) -> u64 {
        self.loss.get(name).copied().unwrap_or(0)
    }
}

impl Frame {
    /// Its address as a number.
    ///
    /// # Errors
    /// When it is not hexadecimal.
    pub fn address(&self) -> Result<u64> {
        let digits = self.address.strip_prefix("0x").context("an address begins with 0x")?;
        u64::from_str_radix(digits, 16).with_context(|| format!("reading the address {}", self.address))
    }
}

impl Stack {
    /// Its frames without those that were inlined.
    pub fn real_frames(&self) -> impl DoubleEndedIterator<Item = &Frame> {
        self.frames.iter().filter(|frame| !frame.inlined)
    }

    /// The function that called the allocator; empty when it has no name.
    pub fn caller(&self) -> &str {
        self.frames.first().and_then(|frame| frame.function.as_deref()).unwrap_or("")
    }

    /// Whether a function whose name contains `part` is anywhere in it.
    pub fn mentions(&self, part: &str) -> bool {
        self.frames.iter().filter_map(|frame| frame.function.as_deref()).any(|function| function.contains(part))
    }
}

/// What lives.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct Outstanding {
    /// How many blocks.
    pub blocks: u64,
    /// How many bytes.
    pub bytes: u64,
}
