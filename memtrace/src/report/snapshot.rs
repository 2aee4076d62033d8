//! What a report shows: the one type that every format renders. Its JSON is the contract of the program.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize, Serializer};

use super::{
    asked::Asked,
    budget::Budget,
    enlarged::Enlarger,
    focus::{Focus, Mark, SinceMark},
    gate::Gate,
    group::Group,
    headline::Headline,
    memory::ProcessMemory,
    runtime::{Goroutines, Heap, Type},
    sampling::{Estimate, Sampling},
};
use crate::{runtime::Language, symbol::FrameKind, trend::Verdict};

/// The name and version of the JSON form; raised when the meaning of a field changes.
pub const SCHEMA: &str = "memtrace/1";

/// The state of a run at one moment.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// The name and version of this form.
    pub schema: Cow<'static, str>,
    /// Whether this is the last one of the run.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Wall-clock time, RFC 3339.
    pub at: String,
    /// Milliseconds since the probes were attached.
    pub elapsed_ms: u64,
    /// The answer in a sentence, with its parts.
    #[serde(default)]
    pub headline: Headline,
    /// The targets.
    pub processes: Vec<Process>,
    /// Targets that ended so long ago that only their sums are kept.
    #[serde(default)]
    pub retired: Retired,
    /// Every way to lose an event, with its count; names as in `memtrace_common::counter`.
    pub loss: BTreeMap<Cow<'static, str>, u64>,
    /// What the tracer itself did and holds.
    pub tracer: Tracer,
    /// How blocks were drawn; `None` where every block is seen.
    #[serde(default)]
    pub sampling: Option<Sampling>,
    /// How it kept to `--max-overhead`; `None` without.
    #[serde(default)]
    pub budget: Option<Budget>,
    /// What it leaves out on request.
    #[serde(default)]
    pub focus: Focus,
    /// Where measuring windows began, oldest first; verdicts and series begin at the last one.
    #[serde(default)]
    pub marks: Vec<Mark>,
    /// What of it makes a build fail, over every growing stack.
    #[serde(default)]
    pub gate: Gate,
    /// Groups of stacks that keep growing where no few stacks explain it, the fastest first.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// The first `--top` stacks: those that could matter before those that hold next to nothing of what grows, then by
    /// verdict, growth and size.
    pub stacks: Vec<Stack>,
    /// Modules of the frames that have a build id.
    #[serde(default)]
    pub modules: Vec<Module>,
    /// Heaps that runtimes manage, whole; what they hold is in the stacks as well, where it is known by stack.
    #[serde(default)]
    pub heaps: Vec<Heap>,
    /// Goroutines of the stacks that are shown.
    #[serde(default)]
    pub goroutines: Vec<Goroutines>,
    /// Live objects of interpreters by type: those types that grow, the fastest first, then those that hold the most; 50 at most.
    /// They lie in memory that is that of stacks as well, where it was mapped since the attach.
    #[serde(default)]
    pub types: Vec<Type>,
}

/// What the tracer itself did and holds.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Tracer {
    /// Processor time of memtrace itself, in milliseconds.
    #[serde(default)]
    pub cpu_ms: u64,
    /// Resident memory of memtrace itself, the ring and the tables that it shares with the kernel included.
    #[serde(default)]
    pub rss_bytes: u64,
    /// The part of it that is neither files nor shared with the kernel.
    #[serde(default)]
    pub anon_bytes: u64,
    /// Stacks that equalled one that their thread remembered, and were not walked.
    pub stacks_remembered: u64,
    /// Stacks that were walked.
    pub stacks_walked: u64,
    /// Remembered stacks that a walk contradicted; looked for with `--verify-stacks` only, and never seen.
    pub stacks_wrong: u64,
    /// Calls whose result was known at their entry, so that their return did not have to be seen.
    #[serde(default)]
    pub results_predicted: u64,
    /// Rows of unwind tables in the kernel, 8 bytes each.
    pub unwind_rows: u64,
    /// Bytes of kernel memory for them, the spare room included.
    pub unwind_bytes: u64,
    /// Mapped objects for whose tables there was no room.
    pub unwind_left_out: u64,
    /// Tables that made room for others although a target mapped them.
    #[serde(default)]
    pub unwind_evicted: u64,
    /// Allocations and mappings whose stack is whole.
    #[serde(default)]
    pub stacks_complete: u64,
    /// Allocations and mappings whose stack ends short, by the reason; names as in [`crate::unwind::end`]. Reasons without any are
    /// not there.
    #[serde(default)]
    pub stacks_short: BTreeMap<Cow<'static, str>, u64>,
}

/// Sums over targets that have ended and are not listed any more.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Retired {
    /// How many they are.
    pub processes: u64,
    /// Processes that belonged to the run, and ended before they were attached; the other numbers know nothing of them.
    pub too_short: u64,
    /// Heap blocks that appeared in them.
    pub allocations: u64,
    /// Heap blocks of those that were released.
    pub frees: u64,
    /// Blocks that lived when they ended.
    pub outstanding_blocks: u64,
    /// Bytes of the blocks that lived when they ended.
    pub outstanding_bytes: u64,
}

/// One traced process and what its calls add up to.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// Its command line, control characters escaped.
    pub command: String,
    /// Its cgroup's path; empty when unknown.
    pub cgroup: String,
    /// Whether it has ended.
    pub exited: bool,
    /// How long it has been traced, or was until it ended; `None` in files of versions that did not say.
    #[serde(default)]
    pub traced_ms: Option<u64>,
    /// The number of the signal that ended it, 0 where it ended by itself; `None` while it runs, and where the kernel did not
    /// tell.
    #[serde(default)]
    pub ended_by_signal: Option<u32>,
    /// Whether that is a signal by which probes end processes, and it was probed.
    #[serde(default)]
    pub probably_ended_by_probes: bool,
    /// Resident bytes when last seen.
    pub rss_bytes: u64,
    /// Milliseconds from the attach to when probed code of the process's own executable was found to run from elsewhere;
    /// allocations after that are not seen. `None` if it was not.
    #[serde(default)]
    pub code_moved_ms: Option<u64>,
    /// Milliseconds from the attach to when its probes were found to be gone, where they could not be put back: nothing
    /// after that is seen. `None` where it is probed.
    #[serde(default)]
    pub unprobed_ms: Option<u64>,
    /// Whether it has an allocator whose releases are seen and whose allocations are not, so that what it holds is not
    /// known.
    #[serde(default)]
    pub allocates_unseen: bool,
    /// Its memory as a whole; `None` when it was not looked at.
    #[serde(default)]
    pub memory: Option<ProcessMemory>,
    /// What its runtime was asked and what became of that; `None` without `--ask`, and where there is nothing to ask.
    #[serde(default)]
    pub asked: Option<Asked>,
    /// What its allocator calls add up to since the attach.
    pub totals: Totals,
}

/// Sums over one process since the attach.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Totals {
    /// Heap blocks that appeared.
    pub allocations: u64,
    /// Heap blocks of those that were released.
    pub frees: u64,
    /// Bytes of the blocks that appeared.
    pub allocated_bytes: u64,
    /// Bytes of the blocks that were released.
    pub freed_bytes: u64,
    /// Bytes of the blocks that live.
    pub outstanding_bytes: u64,
    /// Blocks that live.
    pub outstanding_blocks: u64,
    /// How well these two are known; `None` where every block is seen.
    #[serde(default)]
    pub estimate: Option<Estimate>,
    /// Releases of blocks that were not seen to appear: from before the attach, filtered, or lost.
    pub frees_unmatched: u64,
    /// Blocks that the process has from its parent by fork and was not seen to release; in no other number.
    #[serde(default)]
    pub inherited_blocks: u64,
    /// Bytes of the blocks that the process has from its parent by fork.
    #[serde(default)]
    pub inherited_bytes: u64,
    /// Releases of such blocks; not in `frees`.
    #[serde(default)]
    pub inherited_frees: u64,
    /// Releases that were lost, as a second allocation at the same address proves; part of `frees`.
    pub frees_implied: u64,
    /// Blocks that went with an old image at exec; neither freed nor outstanding.
    pub blocks_dropped_by_exec: u64,
    /// Bytes of the blocks that went with an old image at exec.
    pub bytes_dropped_by_exec: u64,
    /// Allocator calls that returned failure.
    pub failed_allocations: u64,
    /// Allocations that `--min-size` or `--max-size` left out.
    pub allocations_filtered: u64,
    /// Bytes of page ranges mapped since the attach and still mapped, less those in `touched_bytes`.
    pub mapped_bytes: u64,
    /// Bytes of pages that were written to since the attach, with `--mode growth`.
    #[serde(default)]
    pub touched_bytes: u64,
    /// Bytes of address space that was reserved since the attach and may not be accessed: no memory, and in no other number.
    #[serde(default)]
    pub reserved_bytes: u64,
    /// Bytes of small objects of Python in pools that were made ready since the attach.
    #[serde(default)]
    pub small_bytes: u64,
    /// How many small objects these are.
    #[serde(default)]
    pub small_objects: u64,
}

/// What kind of memory a stack holds.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum StackKind {
    /// Blocks of an allocator.
    Heap,
    /// Ranges of pages.
    Map,
    /// Pages that were written to, with `--mode growth`.
    Page,
    /// Objects of a heap that a runtime manages, by the runtime's own books: from before the attach as well.
    Managed,
    /// Goroutines, by the runtime's own books; their bytes are those of their stacks.
    Goroutine,
    /// Small objects of Python, in pools that this stack was the first to take an object from.
    Small,
    /// Objects of JavaScript, with `--ask`: of those that were allocated since the attach V8 draws a sample, and says which live. Blocks are
    /// objects that were drawn.
    Profiled,
}

/// One call stack and what it holds.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Stack {
    /// The stack's id in hexadecimal.
    pub id: String,
    /// Whose it is; the first one when it is that of several.
    pub pid: u32,
    /// All processes that have this stack: the same frames in the same files.
    #[serde(default)]
    pub pids: Vec<u32>,
    /// What it holds.
    pub kind: StackKind,
    /// The heap of a runtime that it stands for, whole, as in `JavaScript heap`; who allocated in it is not known. `None` for other
    /// stacks.
    #[serde(default)]
    pub heap: Option<String>,
    /// What is said of it.
    pub verdict: Verdict,
    /// How sure the verdict is, 0 to 1.
    #[serde(serialize_with = "finite")]
    pub confidence: f64,
    /// One sentence that says why.
    pub evidence: String,
    /// The suppression that lets it pass, as written; only growing stacks are asked.
    #[serde(default)]
    pub suppressed: Option<String>,
    /// The id of the reported group that it is part of; `None` when there is none.
    #[serde(default)]
    pub group: Option<String>,
    /// Bytes that live.
    pub outstanding_bytes: u64,
    /// Blocks (or mapped ranges) that live.
    pub outstanding_blocks: u64,
    /// How well these two are known; `None` where every block is seen.
    #[serde(default)]
    pub estimate: Option<Estimate>,
    /// Of the bytes that live, those in pages that are in memory or in swap; blocks of less than 128 KiB count whole. `None`
    /// where there are only such, or it is not known.
    #[serde(default)]
    pub resident_bytes: Option<u64>,
    /// Address space that it has reserved and that may not be accessed; in no other number.
    #[serde(default)]
    pub reserved_bytes: u64,
    /// What it holds since the last mark; `None` before there is one.
    #[serde(default)]
    pub since_mark: Option<SinceMark>,
    /// Blocks that ever appeared.
    pub allocations: u64,
    /// Bytes of the blocks that ever appeared.
    #[serde(default)]
    pub allocated_bytes: u64,
    /// The robust slope of the outstanding bytes.
    #[serde(serialize_with = "finite")]
    pub growth_bytes_per_hour: f64,
    /// Its 95 % interval; `None` before there is one.
    #[serde(default, serialize_with = "finite_interval")]
    pub growth_interval_bytes_per_hour: Option<(f64, f64)>,
    /// What became of its older allocations; `None` when it is not known.
    #[serde(default)]
    pub survival: Option<Survival>,
    /// How long the living blocks have lived; `None` when there are none.
    pub age_ms: Option<Quantiles>,
    /// How large the living blocks are; `None` when there are none.
    pub size_bytes: Option<Quantiles>,
    /// Who made its blocks larger, where `realloc` moves them between callers: those that added the most first. Empty
    /// elsewhere.
    #[serde(default)]
    pub enlarged_by: Vec<Enlarger>,
    /// The caller of the allocator first, inlined frames as their own entries.
    pub frames: Vec<Frame>,
    /// Why the stack ends before the outermost frame; `None` when it is whole.
    pub truncated: Option<String>,
    /// `[elapsed_ms, outstanding_bytes]`, oldest first.
    pub series: Vec<(u64, u64)>,
}

impl Stack {
    /// Takes back what was said of it, since that is not known; `why` ends its evidence, as the end of a sentence.
    pub fn doubt(&mut self, why: &str) {
        self.verdict = Verdict::Undecided;
        self.confidence *= 0.5;
        self.evidence += why;
    }
}

/// What became of the blocks of a stack that were allocated longer ago than `older_than_ms`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Survival {
    /// The least age of the blocks that are meant, in milliseconds.
    pub older_than_ms: u64,
    /// How many were allocated that long ago.
    pub allocated_blocks: u64,
    /// How many of them live, from 0 to 1.
    #[serde(serialize_with = "finite")]
    pub living_share: f64,
}

/// A distribution of sizes or ages, in three numbers.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Quantiles {
    /// The median.
    pub p50: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

/// One function of a stack: several where functions were inlined at one address.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Frame {
    /// The demangled name; `None` when there is no symbol.
    pub function: Option<String>,
    /// The file name of the object that holds the code.
    pub module: Option<String>,
    /// The return address (or instruction address) in the target, in hexadecimal.
    pub address: String,
    /// The source file.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
    /// Whether the function was inlined into the next frame.
    pub inlined: bool,
    /// The position of the call in the module's file, in hexadecimal: the same in every run of the same build. `None` for
    /// code that is in no file.
    #[serde(default)]
    pub offset: Option<String>,
    /// What runs the code.
    #[serde(default)]
    pub kind: FrameKind,
    /// The language of the code, as its runtime states it: `native` where none does. Other values may follow.
    #[serde(default)]
    pub language: Language,
    /// Whether the code is the user's own, by its names and where its source lies: neither a runtime's, nor of the C library or a wrapper around
    /// the allocator, nor of an installed package.
    #[serde(default)]
    pub user: bool,
}

/// A program or library that frames lie in.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Module {
    /// Its file name, as in [`Frame::module`].
    pub name: String,
    /// Its build id in hexadecimal: the same for the same build.
    pub build_id: String,
}

/// JSON has no infinity, and a reader expects a number where one is promised.
pub(super) fn finite<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(if value.is_finite() { *value } else { 0.0 })
}

/// An interval without a finite end says nothing.
fn finite_interval<S: Serializer>(value: &Option<(f64, f64)>, serializer: S) -> Result<S::Ok, S::Error> {
    value.filter(|(low, high)| low.is_finite() && high.is_finite()).serialize(serializer)
}
