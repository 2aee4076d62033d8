//! The answer first: one sentence that no figure below it contradicts.
//!
//! It is made of all stacks and groups, shown or not, and of how the processes grow as a whole. What is small against the
//! process is no reason to say that nothing is known; that a process grows is said even when no stack explains it.

use serde::{Deserialize, Serialize};

use super::{
    ending,
    escape::escape,
    group::{Group, GroupBy},
    memory::ProcessMemory,
    name::{holds, place},
    number::{bytes, count, duration, of, rate},
    place::{blamed, called_by},
    runtime::Type,
    snapshot::{Frame, Process, Snapshot, Stack, StackKind},
};
use crate::{
    runtime::{Language, v8},
    trend::{MIN_INTERVALS, Verdict},
};

/// Undecided stacks matter when they hold this much together,
const LEAST_BYTES: u64 = 64 << 10;

/// or, of a larger process, this share of its memory.
const LEAST_SHARE: f64 = 0.01;

/// A process's growth matters from here on, or from [`LEAST_SHARE`] of what it had on.
const LEAST_GROWTH: u64 = 512 << 10;

/// Growing stacks and live blocks that account for less than this share of a process's growth do not explain it.
const EXPLAINED: f64 = 0.5;

/// What the answer of a run is, for programs.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A stack or a group of stacks keeps growing.
    Growing,
    /// A process grows, and nothing that is growing explains it.
    Unexplained,
    /// It is too early to tell.
    Undecided,
    /// No stack is known to grow, and the process does not grow by an amount that matters.
    #[default]
    Level,
    /// memtrace does not see what an allocator in use hands out.
    Blind,
}

/// The answer of a run in a sentence, and its parts.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Headline {
    /// The sentence.
    pub text: String,
    /// What it says.
    pub state: State,
    /// How fast the growing stacks and groups grow together; with `unexplained` how fast the process does. `None` when
    /// nothing grows.
    pub growth_bytes_per_hour: Option<f64>,
    /// What live blocks account for of the processes' growth since the attach, 0 to 1; `None` when they hardly grew.
    pub explained: Option<f64>,
    /// Whether some of what the processes allocate could not be seen, whatever else is said.
    pub blind: bool,
}

/// Sums over all stacks and groups of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Growing stacks that are in no reported group.
    growing_stacks: u64,
    growing_groups: u64,
    /// How fast these grow together, in bytes an hour.
    growing_rate: f64,
    /// The fastest of them.
    first: Option<First>,
    undecided: u64,
    undecided_bytes: u64,
    /// Growing stacks and groups that are suppressed.
    suppressed: u64,
    /// Stacks that hold anything.
    holding: u64,
    /// Completed intervals since the attach or the last mark; `None` where that is not known.
    pub intervals: Option<usize>,
}

/// What the sentence names.
#[derive(Clone, Debug, PartialEq)]
struct First {
    rate: f64,
    frames: Vec<Frame>,
    group: Option<(GroupBy, u64)>,
    kind: StackKind,
    heap: Option<String>,
    pid: u32,
    /// The stack by which it is named: itself, or of a group the one that holds the most.
    stack: Option<String>,
    /// Mean bytes of what it holds.
    size: f64,
}

impl Tally {
    /// Counts every stack and group; one that is suppressed is known, and no news.
    pub fn of<'a>(stacks: impl IntoIterator<Item = &'a Stack>, groups: &[Group]) -> Self {
        let mut tally = Self::default();
        for stack in stacks.into_iter().filter(|stack| holds(stack)) {
            tally.holding += 1;
            match stack.verdict {
                _ if stack.group.is_some() => {}
                verdict if stack.suppressed.is_some() => tally.suppressed += u64::from(verdict.is_leak()),
                Verdict::Growing => {
                    tally.growing_stacks += 1;
                    tally.grows(stack, None, Some(&stack.id));
                }
                Verdict::Undecided => {
                    tally.undecided += 1;
                    tally.undecided_bytes = tally.undecided_bytes.saturating_add(stack.outstanding_bytes);
                }
                Verdict::Plateau | Verdict::Sawtooth | Verdict::Shrinking => {}
            }
        }
        tally.suppressed += groups.iter().filter(|group| group.sum.suppressed.is_some()).count() as u64;
        for group in groups.iter().filter(|group| group.sum.suppressed.is_none()) {
            tally.growing_groups += 1;
            tally.grows(&group.sum, Some((group.by, group.stack_count)), group.stacks.first());
        }
        tally
    }

    /// `2 stacks are undecided and hold`, before the bytes.
    fn undecided_stacks(&self) -> String {
        format!("{} {}", of(self.undecided, "stack", "stacks"), self.are_undecided())
    }

    /// What is said of the undecided stacks, before the bytes that they hold.
    fn are_undecided(&self) -> &'static str {
        if self.undecided == 1 { "is undecided and holds" } else { "are undecided and hold" }
    }

    /// Why live blocks account for growth and no stack is told of that grows.
    fn nothing_shown_grows(&self, snapshot: &Snapshot) -> String {
        if self.suppressed > 0 {
            let are = of(self.suppressed, "stack that grows is suppressed", "stacks that grow are suppressed");
            return format!("and {are}");
        }
        if snapshot.focus.hidden_stacks > 0 {
            let hidden = of(snapshot.focus.hidden_stacks, "stack that is", "stacks that are");
            return format!(
                "but no stack that is shown is known to grow; {hidden} left out on request {} {}",
                if snapshot.focus.hidden_stacks == 1 { "holds" } else { "hold" },
                bytes(snapshot.focus.hidden_bytes)
            );
        }
        "but no stack of them is known to grow".to_owned()
    }

    fn grows(&mut self, sum: &Stack, group: Option<(GroupBy, u64)>, stack: Option<&String>) {
        let rate = sum.growth_bytes_per_hour;
        self.growing_rate += rate;
        if self.first.as_ref().is_none_or(|first| rate > first.rate) {
            self.first = Some(First {
                rate,
                frames: sum.frames.clone(),
                group,
                kind: sum.kind,
                heap: sum.heap.clone(),
                pid: sum.pid,
                stack: stack.cloned(),
                size: sum.outstanding_bytes as f64 / sum.outstanding_blocks.max(1) as f64,
            });
        }
    }

    /// The frames of what grows the fastest, where they are not known yet: those of the stack by whose id it is named.
    pub fn name_first(&mut self, frames: impl FnOnce(&str) -> Vec<Frame>) {
        if let Some(first) = self.first.as_mut().filter(|first| first.frames.is_empty())
            && let Some(stack) = &first.stack
        {
            first.frames = frames(stack);
        }
    }
}

/// The sentence of a snapshot; for one that was saved without it, made of the stacks that were saved.
pub fn headline(snapshot: &Snapshot) -> String {
    if snapshot.headline.text.is_empty() {
        return answer(&Tally::of(&snapshot.stacks, &snapshot.groups), snapshot).text;
    }
    snapshot.headline.text.clone()
}

/// How the processes that grow do so together.
#[derive(Clone, Copy, Debug, Default)]
struct Whole {
    processes: u64,
    rate: f64,
    low: f64,
    high: f64,
    before: u64,
    growth: u64,
    stacks: u64,
    rest: i64,
    files: i64,
    shared: i64,
}

impl Whole {
    fn of<'a>(processes: impl Iterator<Item = &'a ProcessMemory>) -> Self {
        let mut whole = Self::default();
        for memory in processes.filter(|memory| memory.grows) {
            let (Some(growth), Some(since)) = (memory.growth, memory.since_attach) else { continue };
            whole.processes += 1;
            whole.rate += growth.bytes_per_hour;
            whole.low += growth.low_bytes_per_hour;
            whole.high += growth.high_bytes_per_hour;
            whole.before = whole.before.saturating_add(since.before_bytes);
            whole.growth = whole.growth.saturating_add(u64::try_from(since.growth_bytes).unwrap_or(0));
            whole.stacks = whole.stacks.saturating_add(since.stacks_bytes);
            whole.rest = whole.rest.saturating_add(since.rest_bytes);
            whole.files = whole.files.saturating_add(since.file_bytes);
            whole.shared = whole.shared.saturating_add(since.shmem_bytes);
        }
        whole
    }

    fn matters(&self) -> bool {
        self.growth >= LEAST_GROWTH && self.growth as f64 >= LEAST_SHARE * self.before as f64
    }

    fn explained(&self) -> Option<f64> {
        (self.growth > 0).then(|| (self.stacks as f64 / self.growth as f64).min(1.0))
    }

    /// `The process grows by +35.0 MB/h (+30.0 MB/h to +40.0 MB/h)`.
    fn says(&self) -> String {
        let who = match self.processes {
            1 => "The process grows".to_owned(),
            many => format!("{} processes grow", count(many)),
        };
        format!("{who} by {} ({} to {})", rate(self.rate), rate(self.low), rate(self.high))
    }

    /// Where most of what the stacks do not hold is, and what would show it.
    fn rest(&self, is_growth_mode: bool) -> &'static str {
        let largest = self.rest.max(self.files).max(self.shared);
        if largest == self.files && self.files > 0 {
            "most of the rest is pages of mapped files"
        } else if largest == self.shared && self.shared > 0 {
            "most of the rest is shared memory"
        } else if is_growth_mode {
            "most of the rest is memory that was mapped before the attach or is kept by the allocator"
        } else {
            "the rest is memory that no traced call allocated, or that the allocator keeps; --mode growth shows who touches \
             it first"
        }
    }
}

/// The answer of a run, from the sums over all stacks and what is known of the processes.
pub fn answer(tally: &Tally, snapshot: &Snapshot) -> Headline {
    let mut headline = of_what_was_seen(tally, snapshot);
    let first = |since: fn(&Process) -> Option<u64>| {
        let processes = snapshot.processes.iter().filter_map(|process| Some((process.pid, since(process)?)));
        processes.min_by_key(|&(_, since_ms)| since_ms)
    };
    if let Some((pid, moved_ms)) = first(|process| process.code_moved_ms) {
        let why = format!(
            "since {} after the attach process {pid} has run its code from memory without a file, where no probe can be; what \
             that code allocates is not seen, and a leak there is not shown (run memtrace again with --mode growth to see who \
             touches memory). Of what is seen",
            duration(moved_ms)
        );
        headline.blind(&why);
    }
    if let Some((pid, unprobed_ms)) = first(|process| process.unprobed_ms) {
        let why = format!(
            "{} after the attach the probes on process {pid} were found to be gone; memtrace tries to put them back twice a \
             second, and until it succeeds nothing that the process allocates or releases is recorded. Of what was seen",
            duration(unprobed_ms)
        );
        headline.blind(&why);
    }
    if let Some(process) = snapshot.processes.iter().find(|process| process.allocates_unseen) {
        let why = format!(
            "process {} frees blocks, {} so far, that it was never seen to allocate: an allocator in it is compiled into its \
             callers (--mode growth shows who touches memory). Of what is seen",
            process.pid,
            count(process.totals.frees_unmatched)
        );
        headline.blind(&why);
    }
    let ended = snapshot.processes.iter().filter(|process| process.probably_ended_by_probes);
    if let Some(sentence) = ended.filter_map(|process| ending::sentence(process.pid, process.ended_by_signal?)).next() {
        headline.text = format!("{sentence} Until then: {}", lower_first(&headline.text));
    }
    headline
}

impl Headline {
    /// Says first `why` not everything is seen; what is seen to grow still does.
    fn blind(&mut self, why: &str) {
        self.text = format!("Blind: {why}: {}", lower_first(&self.text));
        self.blind = true;
        if self.state != State::Growing {
            self.state = State::Blind;
        }
    }
}

/// The answer, as far as it can be told from what was seen.
fn of_what_was_seen(tally: &Tally, snapshot: &Snapshot) -> Headline {
    let memories =
        || snapshot.processes.iter().filter(|process| !process.exited).filter_map(|process| process.memory.as_ref());
    let whole = Whole::of(memories());
    let resident: u64 = snapshot.processes.iter().map(|process| process.rss_bytes).fold(0, u64::saturating_add);
    let explained = if whole.matters() { whole.explained() } else { None };
    let is_growth_mode = snapshot.stacks.iter().any(|stack| stack.kind == StackKind::Page);
    let say = |state, growth_bytes_per_hour, text: String| Headline {
        text,
        state,
        growth_bytes_per_hour,
        explained,
        blind: false,
    };
    if let Some(sentence) = growing(tally, snapshot) {
        if whole.matters() && tally.growing_rate < EXPLAINED * whole.low {
            let share = percent(tally.growing_rate / whole.rate);
            let text = format!("{}; growing stacks explain only {share} of that: {sentence}", whole.says());
            return say(State::Growing, Some(tally.growing_rate), text);
        }
        return say(State::Growing, Some(tally.growing_rate), sentence);
    }
    let least = LEAST_BYTES.max((LEAST_SHARE * resident as f64) as u64);
    let undecided_matter = tally.undecided_bytes >= least;
    if whole.matters() {
        let share = whole.explained().unwrap_or(0.0);
        if share < EXPLAINED {
            let text = format!(
                "{}, and most of that is not explained by stacks: live blocks account for {} of the growth since the attach; {}.",
                whole.says(),
                percent(share),
                whole.rest(is_growth_mode)
            );
            return say(State::Unexplained, Some(whole.rate), text);
        }
        if undecided_matter {
            let stacks = tally.undecided_stacks();
            let held = bytes(tally.undecided_bytes);
            let text = format!("Too early to tell: {}; {stacks} {held}.", lower_first(&whole.says()));
            return say(State::Undecided, Some(whole.rate), text);
        }
        let text = format!(
            "{}: live blocks account for {} of that, {}.",
            whole.says(),
            percent(share),
            tally.nothing_shown_grows(snapshot)
        );
        return say(State::Unexplained, Some(whole.rate), text);
    }
    let small = if whole.processes > 0 {
        format!(" Memory rose by {} ({}), too little to be judged.", bytes(whole.growth), rate(whole.rate))
    } else {
        String::new()
    };
    if let Some(intervals) = tally.intervals.filter(|&intervals| intervals < MIN_INTERVALS && tally.undecided > 0) {
        let passed = of(intervals as u64, "has passed", "have passed");
        let text = format!("Too early to tell: a verdict takes {MIN_INTERVALS} intervals, and {passed}.");
        return say(State::Undecided, None, text);
    }
    if undecided_matter {
        let text = format!(
            "No stack is known to grow; {} of {} {} {}.",
            count(tally.undecided),
            count(tally.holding),
            tally.are_undecided(),
            bytes(tally.undecided_bytes)
        );
        return say(State::Undecided, None, text);
    }
    let text = match (tally.undecided, tally.holding) {
        (_, 0) => "No stack keeps growing: nothing is held that was allocated since the attach.".to_owned(),
        (0, _) => "No stack keeps growing.".to_owned(),
        (_, _) => format!(
            "No stack is known to grow; {} only {} in all, too little to be judged important.",
            tally.undecided_stacks(),
            bytes(tally.undecided_bytes)
        ),
    };
    say(State::Level, None, text + &small)
}

/// `keep (leaky.c:12), called from handle (app.py:11)`; the caller only where interpreted code called compiled code.
fn blamed_place(frames: &[Frame]) -> String {
    let at = blamed(frames);
    let blamed = frames.get(at).map_or_else(|| "an unknown place".to_owned(), place);
    match called_by(frames, at) {
        Some(caller) => format!("{blamed}, called from {}", place(&frames[caller])),
        None => blamed,
    }
}

/// The type of which the objects in a process's heap that a runtime manages grow the fastest, in bytes: one that its program made, if there is one, and not its
/// runtime.
fn fastest_type(types: &[Type], pid: u32) -> Option<String> {
    let of_heap = |of: &&Type| of.pid == pid && of.language != Language::Native;
    let growing = || types.iter().filter(of_heap).filter(|of| of.judged.verdict.is_leak());
    let named = growing().find(|of| !of.is_of_runtime());
    named.or_else(|| growing().next()).map(|of| escape(&of.name).into_owned())
}

/// What grows; `None` when nothing does.
fn growing(tally: &Tally, snapshot: &Snapshot) -> Option<String> {
    let first = tally.first.as_ref()?;
    let place = first.heap.as_deref().map_or_else(|| blamed_place(&first.frames), |heap| format!("the {heap}"));
    let total = rate(tally.growing_rate);
    let stacks = of(tally.growing_stacks, "stack", "stacks");
    let first_is_goroutine = first.kind == StackKind::Goroutine && first.group.is_none();
    Some(match (tally.growing_stacks, tally.growing_groups) {
        (1, 0) if first.heap.is_some() => {
            let heap = first.heap.as_deref().unwrap_or_default();
            let fastest = fastest_type(&snapshot.types, first.pid);
            let of_type = fastest.map(|name| format!(", {name} the fastest of its types")).unwrap_or_default();
            let was_asked = snapshot.processes.iter().any(|of| of.pid == first.pid && of.asked.is_some());
            let who = match heap {
                v8::HEAP if was_asked => "who allocates in it V8 does not tell",
                v8::HEAP => "with --ask V8 tells who allocates in it",
                _ => "who allocates in it cannot be told from outside",
            };
            format!("The {heap} keeps growing: {total}, as a whole{of_type}; {who}")
        }
        (1, 0) if first_is_goroutine => {
            let number = per_second(first.rate / first.size.max(1.0));
            format!("Goroutines of one kind keep growing in number: {number}, {total} of their stacks, in {place}")
        }
        (1, 0) => format!("1 stack keeps growing: {total} in {place}"),
        (_, 0) => format!("{stacks} keep growing: {total} together, the fastest in {place}"),
        (0, 1) => match first.group {
            Some((GroupBy::Process | GroupBy::Heap | GroupBy::Module, many)) => {
                let most =
                    if first.frames.is_empty() { String::new() } else { format!("; the most is held by {place}") };
                let stacks = of(many, "stack", "stacks");
                format!("The memory of {stacks} grows together: {total}, and no few of them account for it{most}")
            }
            Some((_, many)) => format!("A group of {} keeps growing: {total} in {place}", of(many, "stack", "stacks")),
            None => format!("1 group of stacks keeps growing: {total} in {place}"),
        },
        (0, groups) => {
            format!("{} groups of stacks keep growing: {total} together, the fastest in {place}", count(groups))
        }
        (_, groups) => {
            let groups = of(groups, "group of stacks", "groups of stacks");
            format!("{groups} and {stacks} keep growing: {total} together, the fastest in {place}")
        }
    })
}

/// `+12 goroutines a second`, from the number an hour.
fn per_second(an_hour: f64) -> String {
    match an_hour / 3600.0 {
        fast if fast >= 1.0 => format!("+{fast:.0} goroutines a second"),
        _ if an_hour / 60.0 >= 1.0 => format!("+{:.0} goroutines a minute", an_hour / 60.0),
        _ => format!("+{an_hour:.0} goroutines an hour"),
    }
}

/// Never all and never none by rounding.
fn percent(share: f64) -> String {
    match share {
        share if share <= 0.0 => "none".to_owned(),
        share if share < 0.01 => "less than 1%".to_owned(),
        share => format!("{}%", (share * 100.0).floor().min(100.0)),
    }
}

fn lower_first(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_lowercase().chain(rest).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{
        memory::{Growth, SinceAttach},
        sample,
    };

    fn stack(verdict: Verdict, outstanding_bytes: u64) -> Stack {
        Stack { verdict, outstanding_bytes, ..sample::stack() }
    }

    /// Of these stacks, in a process that grew by so much, of which the stacks hold so much.
    fn said(stacks: Vec<Stack>, grown: Option<(u64, u64)>, intervals: usize) -> Headline {
        let mut snapshot = sample::snapshot();
        snapshot.stacks = stacks;
        if let Some((growth, held)) = grown {
            snapshot.processes[0].memory = Some(ProcessMemory {
                grows: true,
                growth: Some(Growth { bytes_per_hour: 35e6, low_bytes_per_hour: 30e6, high_bytes_per_hour: 40e6 }),
                since_attach: Some(SinceAttach {
                    before_bytes: 10_000_000,
                    growth_bytes: growth as i64,
                    stacks_bytes: held,
                    rest_bytes: growth as i64 - held as i64,
                    ..SinceAttach::default()
                }),
                ..ProcessMemory::default()
            });
        }
        let tally = Tally { intervals: Some(intervals), ..Tally::of(&snapshot.stacks, &[]) };
        answer(&tally, &snapshot)
    }

    #[test]
    fn what_grows_is_counted_and_summed_over_all() {
        let growing = || stack(Verdict::Growing, 603_340);
        assert_eq!(
            said(vec![growing()], None, 12).text,
            "1 stack keeps growing: +36.2 MB/h in leak_here (server.c:42)"
        );
        let two = said(vec![growing(), growing(), stack(Verdict::Plateau, 1)], None, 12);
        assert_eq!(two.text, "2 stacks keep growing: +72.4 MB/h together, the fastest in leak_here (server.c:42)");
        assert_eq!((two.state, two.growth_bytes_per_hour), (State::Growing, Some(72_400_800.0)));
        let nameless = Stack { frames: Vec::new(), ..growing() };
        assert_eq!(said(vec![nameless], None, 12).text, "1 stack keeps growing: +36.2 MB/h in an unknown place");
        let suppressed = Stack { suppressed: Some("leak:x".to_owned()), ..growing() };
        assert_eq!(said(vec![suppressed], None, 12).text, "No stack keeps growing.");
    }

    #[test]
    fn a_group_stands_for_its_stacks() {
        let mut snapshot = sample::snapshot();
        let group = |by, stack_count| Group {
            by,
            name: "node_new".to_owned(),
            stack_count,
            stacks: Vec::new(),
            paths: Vec::new(),
            sum: sample::stack(),
        };
        for stack in &mut snapshot.stacks {
            stack.group = Some("9f3c00d1e2a4b5c6".to_owned());
        }
        let said = |groups: &[Group]| answer(&Tally::of(&snapshot.stacks, groups), &snapshot).text;
        let function = group(GroupBy::Function, 812);
        assert_eq!(
            said(std::slice::from_ref(&function)),
            "A group of 812 stacks keeps growing: +36.2 MB/h in leak_here (server.c:42)"
        );
        assert_eq!(
            said(&[group(GroupBy::Heap, 812)]),
            "The memory of 812 stacks grows together: +36.2 MB/h, and no few of them account for it; the most is held by leak_here \
             (server.c:42)"
        );
        let mut unnamed = group(GroupBy::Heap, 812);
        unnamed.sum.frames.clear();
        assert_eq!(
            said(&[unnamed]),
            "The memory of 812 stacks grows together: +36.2 MB/h, and no few of them account for it"
        );
        assert!(
            said(&[function.clone(), function]).starts_with("2 groups of stacks keep growing: +72.4 MB/h together")
        );
    }

    #[test]
    fn a_process_that_grows_is_told_whatever_the_stacks_say() {
        let unexplained = said(vec![stack(Verdict::Plateau, 9000)], Some((5_000_000, 9000)), 12);
        assert_eq!(unexplained.state, State::Unexplained);
        assert!(
            unexplained.text.starts_with(
                "The process grows by +35.0 MB/h (+30.0 MB/h to +40.0 MB/h), and most of that is not explained by stacks: live blocks account \
                 for less than 1% of the growth since the attach; "
            ),
            "{}",
            unexplained.text
        );
        assert!(unexplained.text.contains("--mode growth"));
        let small = Stack { growth_bytes_per_hour: 1e6, ..stack(Verdict::Growing, 9000) };
        let partly = said(vec![small], Some((5_000_000, 9000)), 12);
        assert!(
            partly.text.contains("The process grows by +35.0 MB/h")
                && partly.text.ends_with("; growing stacks explain only 2% of that: 1 stack keeps growing: +1.00 MB/h in leak_here (server.c:42)"),
            "{}",
            partly.text
        );
        let undecided = said(vec![stack(Verdict::Undecided, 4_500_000)], Some((5_000_000, 4_500_000)), 12);
        assert_eq!(undecided.state, State::Undecided);
        assert!(
            undecided.text.contains("the process grows") && undecided.text.contains("1 stack is undecided and holds")
        );
        let level = said(vec![stack(Verdict::Plateau, 4_500_000)], Some((5_000_000, 4_500_000)), 12);
        assert_eq!(level.state, State::Unexplained, "{}", level.text);
        let little = said(vec![stack(Verdict::Plateau, 9000)], Some((90_000, 9000)), 12);
        assert_eq!(
            little.text,
            "No stack keeps growing. Memory rose by 90.0 kB (+35.0 MB/h), too little to be judged."
        );
    }

    #[test]
    fn an_allocator_that_is_not_seen_is_said_first() {
        let mut snapshot = sample::snapshot();
        snapshot.stacks.clear();
        snapshot.processes[0].allocates_unseen = true;
        let blind = answer(&Tally::default(), &snapshot);
        assert_eq!(blind.state, State::Blind);
        assert!(blind.text.starts_with("Blind: process 4242 frees blocks, 37 so far, that"), "{}", blind.text);
    }

    #[test]
    fn a_process_that_has_lost_its_probes_is_said_first() {
        let mut snapshot = sample::snapshot();
        snapshot.stacks.clear();
        snapshot.processes[0].unprobed_ms = Some(9000);
        let blind = answer(&Tally::default(), &snapshot);
        assert_eq!(blind.state, State::Blind);
        assert!(blind.text.starts_with("Blind: 9 s after the attach the probes on process 4242"), "{}", blind.text);
    }

    #[test]
    fn a_process_that_probes_have_probably_ended_is_said_first() {
        let mut snapshot = sample::snapshot();
        snapshot.stacks.clear();
        (snapshot.processes[0].exited, snapshot.processes[0].ended_by_signal) = (true, Some(15));
        assert!(answer(&Tally::default(), &snapshot).text.starts_with("No stack"));
        (snapshot.processes[0].ended_by_signal, snapshot.processes[0].probably_ended_by_probes) = (Some(5), true);
        let said = answer(&Tally::default(), &snapshot).text;
        assert!(said.starts_with("Process 4242 was ended by SIGTRAP, and memtrace is the likely cause"), "{said}");
        assert!(said.contains(" Until then: no stack keeps growing"), "{said}");
    }

    #[test]
    fn what_is_small_is_no_reason_to_doubt() {
        let crumbs = || vec![stack(Verdict::Undecided, 21), stack(Verdict::Plateau, 1 << 20)];
        assert_eq!(
            said(crumbs(), None, 12).text,
            "No stack is known to grow; 1 stack is undecided and holds only 21 B in all, too little to be judged important."
        );
        assert_eq!(said(crumbs(), None, 3).text, "Too early to tell: a verdict takes 5 intervals, and 3 have passed.");
        let large = said(vec![stack(Verdict::Undecided, 5 << 20), stack(Verdict::Plateau, 7)], None, 12);
        assert_eq!(large.text, "No stack is known to grow; 1 of 2 is undecided and holds 5.24 MB.");
        assert_eq!(large.state, State::Undecided);
        assert_eq!(said(vec![stack(Verdict::Plateau, 7)], None, 2).text, "No stack keeps growing.");
        let nothing = Stack { outstanding_bytes: 0, outstanding_blocks: 0, ..sample::stack() };
        assert!(said(vec![nothing], None, 9).text.ends_with("nothing is held that was allocated since the attach."));
    }
}
