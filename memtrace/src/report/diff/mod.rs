//! What changed from one saved run to another.
//!
//! Stacks of two runs are the same when their frames are: the same functions of the same modules, or where a function has
//! no name the same position in its module. Addresses, process ids and lines do not matter: they differ from run to run
//! and from build to build. [`key`] says what is the same, [`text`] is the form for people; the JSON form is [`Diff`].

mod key;
#[cfg(test)]
mod tests;
mod text;

use std::{
    collections::HashMap,
    io::{self, Write},
};

use key::{Key, Keys};
use serde::Serialize;

use super::{
    name::holds,
    snapshot::{Frame, Snapshot, Stack, StackKind},
};
use crate::trend::Verdict;

/// What two runs are compared by.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum By {
    /// Call stacks.
    #[default]
    Stack,
    /// The function that asked for the memory.
    Function,
    /// The program or library of that function.
    Module,
}

impl By {
    /// All of them, in the order of the help.
    pub const ALL: [Self; 3] = [Self::Stack, Self::Function, Self::Module];

    /// The name on the command line and in the JSON form.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stack => "stack",
            Self::Function => "function",
            Self::Module => "module",
        }
    }

    /// What runs are compared by, in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Stack => "Call stacks",
            Self::Function => "The function that asked for the memory",
            Self::Module => "The program or library of that function",
        }
    }
}

/// The form of a comparison, as `--format` names it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum DiffFormat {
    /// For people, 80 columns.
    #[default]
    Text,
    /// One object, for scripts.
    Json,
}

impl DiffFormat {
    /// All of them, in the order of the help.
    pub const ALL: [Self; 2] = [Self::Text, Self::Json];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }

    /// What it is for, in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Text => "For people, 80 columns",
            Self::Json => "One object, for scripts",
        }
    }
}

/// The name and version of the JSON form.
pub const SCHEMA: &str = "memtrace-diff/1";

/// The differences between two saved runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Diff {
    /// The name and version of this form.
    pub schema: &'static str,
    /// `stack`, `function` or `module`.
    pub by: &'static str,
    /// The earlier run.
    pub before: Run,
    /// The later run.
    pub after: Run,
    /// How many there are of each kind of change.
    pub counts: Counts,
    /// What changed the most, `--top` of them: first what rose, the most first, then what fell, the most first.
    pub changes: Vec<Change>,
}

/// One of the two runs that are compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Run {
    /// When its report was made, RFC 3339.
    pub at: String,
    /// How long it had traced by then.
    pub elapsed_ms: u64,
    /// Heap bytes that lived, of all processes.
    pub outstanding_bytes: u64,
    /// Heap blocks that lived, of all processes.
    pub outstanding_blocks: u64,
    /// Bytes of page ranges that were mapped since the attach and were mapped still, of all processes.
    pub mapped_bytes: u64,
    /// Heap bytes of the stacks that the run was saved with: less, when it was saved with a small `--top`.
    pub listed_bytes: u64,
}

/// How many there are of each kind of change.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Counts {
    /// Held more in the later run.
    pub grew: u64,
    /// Held something in the later run only.
    pub appeared: u64,
    /// Held less in the later run.
    pub shrank: u64,
    /// Held something in the earlier run only.
    pub went: u64,
    /// Held the same.
    pub level: u64,
}

/// What became of a stack, a function or a module.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// Holds more.
    Grew,
    /// Holds something only now.
    Appeared,
    /// Holds less.
    Shrank,
    /// Holds nothing any more.
    Went,
}

/// A stack, a function or a module, in both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Change {
    /// What became of it.
    pub change: Fate,
    /// What it holds.
    pub kind: StackKind,
    /// Bytes that live in the later run, less those of the earlier one.
    pub bytes: i64,
    /// Blocks that live in the later run, less those of the earlier one.
    pub blocks: i64,
    /// The earlier run.
    pub before: Side,
    /// The later run.
    pub after: Side,
    /// The module; `None` when unknown.
    pub module: Option<String>,
    /// The function, by stack or function; `None` when it has no name.
    pub function: Option<String>,
    /// Stacks that are summed, in the run that has more of them.
    pub stacks: u64,
    /// By stack: the caller of the allocator first, as in the later run if it is there.
    pub frames: Vec<Frame>,
}

/// What was held in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Side {
    /// Bytes that lived.
    pub bytes: u64,
    /// Blocks that lived.
    pub blocks: u64,
    /// Blocks that ever appeared.
    pub allocations: u64,
    /// The sum of the slopes.
    pub growth_bytes_per_hour: f64,
    /// The verdict that a report would show first; `None` when nothing was held.
    pub verdict: Option<Verdict>,
    #[serde(skip)]
    stacks: u64,
}

impl Side {
    fn add(&mut self, stack: &Stack) {
        self.bytes = self.bytes.saturating_add(stack.outstanding_bytes);
        self.blocks = self.blocks.saturating_add(stack.outstanding_blocks);
        self.allocations = self.allocations.saturating_add(stack.allocations);
        self.stacks += 1;
        if holds(stack) {
            let growth = self.growth_bytes_per_hour + stack.growth_bytes_per_hour;
            // Saved numbers are finite, their sums need not be.
            self.growth_bytes_per_hour = growth.clamp(f64::MIN, f64::MAX);
            self.verdict = Some(self.verdict.map_or(stack.verdict, |verdict| verdict.min(stack.verdict)));
        }
    }

    fn holds(&self) -> bool {
        self.verdict.is_some()
    }
}

struct Both<'a> {
    before: Side,
    after: Side,
    kind: StackKind,
    /// The frame that it is about, and all frames.
    frame: Option<&'a Frame>,
    frames: &'a [Frame],
}

impl Diff {
    /// Compares two runs, and keeps the `top` largest changes.
    pub fn of(before: &Snapshot, after: &Snapshot, by: By, top: usize) -> Self {
        let mut keys = Keys::new(by);
        let mut found: HashMap<Key, Both<'_>> = HashMap::new();
        // The later run first: its lines are those of the present sources.
        for (stacks, is_after) in [(&after.stacks, true), (&before.stacks, false)] {
            for stack in stacks {
                let (key, frame) = keys.of(stack);
                let both = found.entry(key).or_insert_with(|| Both::new(stack, frame));
                let side = if is_after { &mut both.after } else { &mut both.before };
                side.add(stack);
            }
        }
        let mut counts = Counts::default();
        let mut changes: Vec<(Key, Change)> = Vec::new();
        for (key, both) in found {
            let Some(change) = both.fate(&mut counts) else { continue };
            changes.push((key, both.change(change, by)));
        }
        // The key makes the order the same each time.
        changes.sort_by(|(a_key, a), (b_key, b)| {
            let size = |change: &Change| (change.bytes.unsigned_abs(), change.blocks.unsigned_abs());
            size(b).cmp(&size(a)).then_with(|| a_key.cmp(b_key))
        });
        changes.truncate(top);
        // Stable: the most first among each.
        changes.sort_by_key(|(_, change)| matches!(change.change, Fate::Shrank | Fate::Went));
        Self {
            schema: SCHEMA,
            by: match by {
                By::Stack => "stack",
                By::Function => "function",
                By::Module => "module",
            },
            before: Run::of(before),
            after: Run::of(after),
            counts,
            changes: changes.into_iter().map(|(_, change)| change).collect(),
        }
    }

    /// Bytes that all processes held in the later run, in heap blocks and mapped ranges, less those of the earlier one.
    pub fn bytes(&self) -> i64 {
        let held = |run: &Run| run.outstanding_bytes.saturating_add(run.mapped_bytes);
        difference(held(&self.before), held(&self.after))
    }
}

impl<'a> Both<'a> {
    fn new(stack: &'a Stack, frame: Option<&'a Frame>) -> Self {
        let (before, after) = (Side::default(), Side::default());
        Self { before, after, kind: stack.kind, frame, frames: &stack.frames }
    }

    /// Counts what became of it; `None` when nothing is to be told.
    fn fate(&self, counts: &mut Counts) -> Option<Fate> {
        let (before, after) = (&self.before, &self.after);
        let (count, fate) = match (before.holds(), after.holds()) {
            (false, false) => return None,
            (false, true) => (&mut counts.appeared, Some(Fate::Appeared)),
            (true, false) => (&mut counts.went, Some(Fate::Went)),
            (true, true) => match (after.bytes, after.blocks).cmp(&(before.bytes, before.blocks)) {
                std::cmp::Ordering::Greater => (&mut counts.grew, Some(Fate::Grew)),
                std::cmp::Ordering::Less => (&mut counts.shrank, Some(Fate::Shrank)),
                std::cmp::Ordering::Equal => (&mut counts.level, None),
            },
        };
        *count += 1;
        fate
    }

    fn change(self, change: Fate, by: By) -> Change {
        let Both { before, after, kind, frame, frames } = self;
        Change {
            change,
            kind,
            bytes: difference(before.bytes, after.bytes),
            blocks: difference(before.blocks, after.blocks),
            before,
            after,
            module: frame.and_then(|frame| frame.module.clone()),
            function: frame.filter(|_| by != By::Module).and_then(|frame| frame.function.clone()),
            stacks: before.stacks.max(after.stacks),
            frames: if by == By::Stack { frames.to_vec() } else { Vec::new() },
        }
    }
}

impl Run {
    fn of(snapshot: &Snapshot) -> Self {
        let sum = |numbers: &mut dyn Iterator<Item = u64>| numbers.fold(0, u64::saturating_add);
        let heap = snapshot.stacks.iter().filter(|stack| stack.kind == StackKind::Heap);
        Self {
            at: snapshot.at.clone(),
            elapsed_ms: snapshot.elapsed_ms,
            outstanding_bytes: sum(&mut snapshot.processes.iter().map(|process| process.totals.outstanding_bytes)),
            outstanding_blocks: sum(&mut snapshot.processes.iter().map(|process| process.totals.outstanding_blocks)),
            mapped_bytes: sum(&mut snapshot.processes.iter().map(|process| process.totals.mapped_bytes)),
            listed_bytes: sum(&mut heap.map(|stack| stack.outstanding_bytes)),
        }
    }
}

fn difference(before: u64, after: u64) -> i64 {
    let difference = i128::from(after) - i128::from(before);
    i64::try_from(difference).unwrap_or(if difference < 0 { i64::MIN } else { i64::MAX })
}

/// Writes the comparison.
///
/// # Errors
/// The errors of writing to `out`.
pub fn render(diff: &Diff, format: DiffFormat, out: &mut dyn Write) -> io::Result<()> {
    match format {
        DiffFormat::Text => text::render(diff, out),
        DiffFormat::Json => {
            serde_json::to_writer(&mut *out, diff)?;
            out.write_all(b"\n")
        }
    }
}
