//! What a report shows: the one type that every format renders. Its JSON is the contract of the program.

use std::collections::BTreeMap;

use serde::Serialize;

/// The name and version of the JSON form; raised when the meaning of a field changes.
pub const SCHEMA: &str = "memtrace/1";

/// The state of a run at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Whether this is the last one of the run.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Wall-clock time, RFC 3339.
    pub at: String,
    /// Milliseconds since the probes were attached.
    pub elapsed_ms: u64,
    /// The targets.
    pub processes: Vec<Process>,
    /// Every way to lose an event, with its count; names as in `memtrace_common::counter`.
    pub loss: BTreeMap<&'static str, u64>,
    /// What the tracer itself did and holds.
    pub tracer: Tracer,
    /// The first `--top` stacks: by verdict, then growth, then size.
    pub stacks: Vec<Stack>,
}

/// What the tracer itself did and holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Tracer {
    /// Stacks that equalled one that their thread remembered, and were not walked.
    pub stacks_remembered: u64,
    /// Stacks that were walked.
    pub stacks_walked: u64,
    /// Remembered stacks that a walk contradicted; looked for with `--verify-stacks` only, and never seen.
    pub stacks_wrong: u64,
    /// Rows of unwind tables in the kernel, 8 bytes each.
    pub unwind_rows: u64,
    /// Bytes of kernel memory for them, the spare room included.
    pub unwind_bytes: u64,
    /// Mapped objects for whose tables there was no room.
    pub unwind_left_out: u64,
}

/// One target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// Its command line, control characters escaped.
    pub command: String,
    /// Its cgroup's path; empty when unknown.
    pub cgroup: String,
    /// Whether it has ended.
    pub exited: bool,
    /// Resident bytes when last seen.
    pub rss_bytes: u64,
    /// What its allocator calls add up to since the attach.
    pub totals: Totals,
}

/// Sums over one process since the attach.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
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
    /// Releases of blocks that were not seen to appear: from before the attach, filtered, or lost.
    pub frees_unmatched: u64,
    /// Releases that were lost, as a second allocation at the same address proves; part of `frees`.
    pub frees_implied: u64,
    /// Blocks that went with an old image at exec; neither freed nor outstanding.
    pub blocks_dropped_by_exec: u64,
    /// Bytes of those.
    pub bytes_dropped_by_exec: u64,
    /// Allocator calls that returned failure.
    pub failed_allocations: u64,
    /// Allocations that `--min-size` or `--max-size` left out.
    pub allocations_filtered: u64,
    /// Bytes of page ranges mapped since the attach and still mapped.
    pub mapped_bytes: u64,
}

/// Whether a stack holds heap blocks or mapped ranges.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StackKind {
    /// Blocks of an allocator.
    Heap,
    /// Ranges of pages.
    Map,
}

/// One call stack and what it holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stack {
    /// The stack's id in hexadecimal.
    pub id: String,
    /// Whose it is.
    pub pid: u32,
    /// What it holds.
    pub kind: StackKind,
    /// `growing`, `plateau` or `undecided`.
    pub verdict: &'static str,
    /// How sure the verdict is, 0 to 1.
    pub confidence: f64,
    /// One sentence that says why.
    pub evidence: String,
    /// Bytes that live.
    pub outstanding_bytes: u64,
    /// Blocks (or mapped ranges) that live.
    pub outstanding_blocks: u64,
    /// Blocks that ever appeared.
    pub allocations: u64,
    /// The robust slope of the outstanding bytes.
    pub growth_bytes_per_hour: f64,
    /// How long the living blocks have lived; `None` when there are none.
    pub age_ms: Option<Quantiles>,
    /// How large the living blocks are; `None` when there are none.
    pub size_bytes: Option<Quantiles>,
    /// The caller of the allocator first, inlined frames as their own entries.
    pub frames: Vec<Frame>,
    /// Why the stack ends before the outermost frame; `None` when it is whole.
    pub truncated: Option<String>,
    /// `[elapsed_ms, outstanding_bytes]`, oldest first.
    pub series: Vec<(u64, u64)>,
}

/// A distribution in three numbers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Quantiles {
    /// The median.
    pub p50: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

/// One function of a stack.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
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
}
