//! The report for a person, at 80 columns: the answer first, then what it rests on.
//!
//! The last report of a run has every stack with its frames; those of the intervals before are a few lines each.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::{
    escape::escape,
    number::{bytes, count, duration, of, rate},
    snapshot::{Frame, Process, Snapshot, Stack, StackKind},
};
use crate::trend::Verdict;

/// No line is wider, however long the names are.
const WIDTH: usize = 80;

/// The most stacks of an interval's report.
const INTERVAL_STACKS: usize = 5;

/// The most frames of a stack in an interval's report.
const INTERVAL_FRAMES: usize = 3;

const SPARKLINE: usize = 40;

/// Writes one report.
///
/// # Errors
/// Those of `out`.
pub fn render(snapshot: &Snapshot, colour: bool, out: &mut dyn Write) -> io::Result<()> {
    let mut page = Page { out, colour };
    let headline = headline(&snapshot.stacks);
    if snapshot.is_final {
        page.wrapped("", &headline)?;
    } else {
        page.wrapped("", &format!("[{}] {headline}", duration(snapshot.elapsed_ms)))?;
    }
    for process in &snapshot.processes {
        page.process(process, snapshot)?;
    }
    let holding = snapshot.stacks.iter().filter(|stack| holds(stack));
    if snapshot.is_final {
        for (number, stack) in (1..).zip(holding) {
            page.line("")?;
            page.stack(number, stack, snapshot.processes.len() > 1)?;
        }
        page.emptied(&snapshot.stacks)?;
    } else {
        for (number, stack) in (1..).zip(holding.take(INTERVAL_STACKS)) {
            page.stack_line(number, stack)?;
        }
    }
    page.losses(&snapshot.loss, snapshot.is_final)?;
    if snapshot.is_final { page.notes(&snapshot.processes) } else { page.line("") }
}

fn holds(stack: &Stack) -> bool {
    stack.outstanding_bytes > 0 || stack.outstanding_blocks > 0
}

/// The answer in a sentence.
fn headline(stacks: &[Stack]) -> String {
    let with = |verdict: Verdict| stacks.iter().filter(move |stack| holds(stack) && stack.verdict == verdict.as_str());
    let growing: Vec<&Stack> = with(Verdict::Growing).collect();
    if let Some(first) = growing.first() {
        let place = first.frames.first().map_or_else(|| "an unknown place".to_owned(), place);
        let total = rate(growing.iter().map(|stack| stack.growth_bytes_per_hour).sum());
        return match growing.len() {
            1 => format!("1 stack keeps growing: {total} in {place}"),
            many => format!("{} stacks keep growing: {total} together, first in {place}", count(many as u64)),
        };
    }
    let undecided = with(Verdict::Undecided).count();
    let held = stacks.iter().filter(|stack| holds(stack)).count();
    match (undecided, held) {
        (0, 0) => "No stack keeps growing: nothing is held that was allocated since the attach.".to_owned(),
        (0, _) => "No stack keeps growing.".to_owned(),
        (some, all) if some == all => {
            format!("Too early to tell: {} undecided.", of(some as u64, "stack is", "stacks are"))
        }
        (some, all) => {
            let are = if some == 1 { "is" } else { "are" };
            format!("No stack is known to grow; {} of {} {are} undecided.", count(some as u64), count(all as u64))
        }
    }
}

/// `leak_here (server.c:42)`, short enough for the headline.
fn place(frame: &Frame) -> String {
    let name = shorten(&function(frame), 60);
    match (source(frame, true), &frame.module) {
        (Some(source), _) => format!("{name} ({})", shorten(&source, 40)),
        (None, Some(module)) => format!("{name} ({})", shorten(&escape(module), 40)),
        (None, None) => name,
    }
}

fn function(frame: &Frame) -> String {
    frame.function.as_deref().map_or_else(|| escape(&frame.address).into_owned(), |name| escape(name).into_owned())
}

/// `server.c:42`; with the whole path unless `base_only`.
fn source(frame: &Frame, base_only: bool) -> Option<String> {
    let file = frame.file.as_deref()?;
    let file = if base_only { file.rsplit('/').next().unwrap_or(file) } else { file };
    let line = frame.line.map(|line| format!(":{line}")).unwrap_or_default();
    Some(format!("{}{line}", escape(file)))
}

/// The few looks that text has.
#[derive(Clone, Copy)]
enum Look {
    Red,
    Green,
    Dim,
    Bold,
}

impl Look {
    const fn code(self) -> &'static str {
        match self {
            Self::Red => "\x1b[1;31m",
            Self::Green => "\x1b[32m",
            Self::Dim => "\x1b[2m",
            Self::Bold => "\x1b[1m",
        }
    }
}

struct Page<'a> {
    out: &'a mut dyn Write,
    colour: bool,
}

impl Page<'_> {
    fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    fn looks(&self, look: Look, text: &str) -> String {
        if self.colour { format!("{}{text}\x1b[0m", look.code()) } else { text.to_owned() }
    }

    /// Text broken at spaces so that it fits; later lines are indented as the first.
    fn wrapped(&mut self, indent: &str, text: &str) -> io::Result<()> {
        let room = WIDTH - width(indent);
        let mut line = String::new();
        for word in text.split(' ') {
            let word = shorten(word, room);
            if !line.is_empty() && width(&line) + 1 + width(&word) > room {
                writeln!(self.out, "{indent}{line}")?;
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word);
        }
        writeln!(self.out, "{indent}{line}")
    }

    fn process(&mut self, process: &Process, snapshot: &Snapshot) -> io::Result<()> {
        let totals = &process.totals;
        if !snapshot.is_final {
            let text = format!(
                "pid {}: rss {}, outstanding {} in {}",
                process.pid,
                bytes(process.rss_bytes),
                bytes(totals.outstanding_bytes),
                of(totals.outstanding_blocks, "block", "blocks")
            );
            return self.wrapped("  ", &text);
        }
        self.line("")?;
        let exited = if process.exited { " (ended)" } else { "" };
        let head = format!("pid {}{exited}", process.pid);
        let command = shorten(&escape(&process.command), WIDTH - width(&head) - 2);
        let head = self.looks(Look::Bold, &head);
        self.line(format!("{head}  {command}").trim_end())?;
        let mapped =
            if totals.mapped_bytes > 0 { format!(", mapped {}", bytes(totals.mapped_bytes)) } else { String::new() };
        self.wrapped(
            "  ",
            &format!(
                "traced for {}, rss {}, outstanding {} in {}{mapped}",
                duration(snapshot.elapsed_ms),
                bytes(process.rss_bytes),
                bytes(totals.outstanding_bytes),
                of(totals.outstanding_blocks, "block", "blocks"),
            ),
        )?;
        self.wrapped(
            "  ",
            &format!(
                "{} of {}, {} of {}",
                of(totals.allocations, "allocation", "allocations"),
                bytes(totals.allocated_bytes),
                of(totals.frees, "free", "frees"),
                bytes(totals.freed_bytes),
            ),
        )
    }

    /// The verdict with its confidence, coloured. Undecided has no confidence to speak of.
    fn verdict(&self, stack: &Stack) -> String {
        let verdict = escape(stack.verdict);
        if stack.verdict == Verdict::Undecided.as_str() {
            return verdict.into_owned();
        }
        // Never "100%": nothing is that sure.
        let text = format!("{verdict} {}%", (stack.confidence * 100.0).floor().clamp(0.0, 99.0));
        match stack.verdict {
            "growing" => self.looks(Look::Red, &text),
            "plateau" => self.looks(Look::Green, &text),
            _ => text,
        }
    }

    fn stack(&mut self, number: usize, stack: &Stack, several: bool) -> io::Result<()> {
        let verdict = self.verdict(stack);
        let age = stack.age_ms.map(|age| format!(", half older than {}", duration(age.p50))).unwrap_or_default();
        let growth = rate(stack.growth_bytes_per_hour);
        self.line(&format!("#{number}  {verdict}  {growth}  {}{age}", holding(stack)))?;
        if several {
            self.line(&format!("    pid {}", stack.pid))?;
        }
        if let Some((bars, least, most)) = sparkline(&stack.series) {
            self.line(&format!("    {bars}  {} to {}", bytes(least), bytes(most)))?;
        }
        if !stack.evidence.is_empty() {
            self.wrapped("    ", &escape(&stack.evidence))?;
        }
        for frame in &stack.frames {
            self.frame(frame)?;
        }
        if let Some(reason) = &stack.truncated {
            self.wrapped("      ", &format!("the stack ends here: {}", escape(reason)))?;
        }
        Ok(())
    }

    /// `function  file:line  (module)`. When it is too long the path goes first, then the middle of the function.
    fn frame(&mut self, frame: &Frame) -> io::Result<()> {
        let mark = if frame.inlined { "      inlined " } else { "      " };
        let name = function(frame);
        let module =
            frame.module.as_deref().map(|module| format!("  ({})", shorten(&escape(module), 24))).unwrap_or_default();
        let room = WIDTH - width(mark) - width(&module);
        let fits =
            |source: &Option<String>| width(&name) + source.as_ref().map_or(0, |source| width(source) + 2) <= room;
        let mut place = source(frame, false);
        if !fits(&place) {
            place = source(frame, true).map(|place| shorten(&place, 28));
        }
        let place = place.map(|place| format!("  {place}")).unwrap_or_default();
        let name = shorten(&name, room.saturating_sub(width(&place)));
        let module = if module.is_empty() { module } else { self.looks(Look::Dim, &module) };
        self.line(&format!("{mark}{name}{place}{module}"))
    }

    /// One stack of an interval's report: a line of numbers, a line of the nearest callers.
    fn stack_line(&mut self, number: usize, stack: &Stack) -> io::Result<()> {
        let verdict = self.verdict(stack);
        let growth = rate(stack.growth_bytes_per_hour);
        self.line(&format!("  #{number}  {verdict}  {growth}  {}", holding(stack)))?;
        let frames = &stack.frames[..stack.frames.len().min(INTERVAL_FRAMES)];
        if frames.is_empty() {
            return Ok(());
        }
        let room = (WIDTH - 6 - 3 * (frames.len() - 1)) / frames.len();
        let names: Vec<String> = frames.iter().map(|frame| shorten(&function(frame), room)).collect();
        self.line(&format!("      {}", names.join(" < ")))
    }

    /// Stacks whose blocks are all gone need no more than their number.
    fn emptied(&mut self, stacks: &[Stack]) -> io::Result<()> {
        let (mut number, mut allocations) = (0u64, 0u64);
        for stack in stacks.iter().filter(|stack| !holds(stack)) {
            number += 1;
            allocations = allocations.saturating_add(stack.allocations);
        }
        if number == 0 {
            return Ok(());
        }
        self.line("")?;
        let text = format!(
            "{} nothing any more, after {}.",
            of(number, "further stack holds", "further stacks hold"),
            of(allocations, "allocation", "allocations")
        );
        self.wrapped("", &text)
    }

    fn losses(&mut self, loss: &BTreeMap<&'static str, u64>, with_harmless: bool) -> io::Result<()> {
        let mut titled = false;
        for (&name, &number) in loss.iter().filter(|&(_, &number)| number > 0) {
            let (harm, meaning) = meaning(name);
            if harm == Harm::None && !with_harmless {
                continue;
            }
            if !titled {
                self.line("")?;
                let title = self.looks(Look::Bold, "Not everything was seen, or not at once:");
                self.line(&title)?;
                titled = true;
            }
            self.wrapped("  ", &format!("{} {}: {meaning}", count(number), escape(name)))?;
        }
        Ok(())
    }

    fn notes(&mut self, processes: &[Process]) -> io::Result<()> {
        let mut notes = Vec::new();
        for process in processes {
            let totals = &process.totals;
            let mut note = |number: u64, one: &str, many: &str| {
                if number > 0 {
                    notes.push(format!("pid {}: {}", process.pid, of(number, one, many)));
                }
            };
            note(
                totals.frees_unmatched,
                "free was of a block not seen to appear: from before the attach, filtered, or lost.",
                "frees were of blocks not seen to appear: from before the attach, filtered, or lost.",
            );
            note(
                totals.frees_implied,
                "free was not seen, but its address was allocated again, so it is counted.",
                "frees were not seen, but their addresses were allocated again, so they are counted.",
            );
            note(
                totals.blocks_dropped_by_exec,
                "block went with the old program when the process called exec.",
                "blocks went with the old program when the process called exec.",
            );
            note(totals.failed_allocations, "allocator call failed.", "allocator calls failed.");
            note(
                totals.allocations_filtered,
                "allocation was left out by --min-size or --max-size.",
                "allocations were left out by --min-size or --max-size.",
            );
        }
        if notes.is_empty() {
            return Ok(());
        }
        self.line("")?;
        for note in notes {
            self.wrapped("", &note)?;
        }
        Ok(())
    }
}

fn holding(stack: &Stack) -> String {
    let (one, many) = match stack.kind {
        StackKind::Heap => ("block", "blocks"),
        StackKind::Map => ("mapped range", "mapped ranges"),
    };
    format!("{} in {}", bytes(stack.outstanding_bytes), of(stack.outstanding_blocks, one, many))
}

/// Whether a count stands for something that the numbers lack.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Harm {
    /// Numbers may be off.
    Some,
    /// Nothing is lost.
    None,
}

/// What a counter means to the reader; the names are those of `memtrace_common::counter`.
fn meaning(name: &str) -> (Harm, &'static str) {
    match name {
        "allocations_dropped" => (Harm::Some, "these allocations are missing: growth may be larger than shown."),
        "allocated_bytes_dropped" => (Harm::Some, "bytes of the allocations that are missing."),
        "releases_dropped" => (Harm::Some, "these frees are missing: some blocks shown as held may be free."),
        "mappings_dropped" => (Harm::Some, "these mmap or munmap calls are missing: mapped bytes may be off."),
        "thread_state_missing" => (Harm::Some, "the kernel had no room for a thread's state: these calls are missing."),
        "calls_abandoned" => (Harm::Some, "these calls were not seen to return (longjmp, thread exit): not counted."),
        "result_read_fault" => (Harm::Some, "the address could not be read: these blocks are missing."),
        "restores_dropped" => (Harm::Some, "blocks kept by a failed realloc that are no longer counted."),
        "allocations_deferred" => (Harm::None, "waited while the ring was full; nothing is lost."),
        "releases_deferred" => (Harm::None, "waited while the ring was full; nothing is lost."),
        "settled_blocks" => (Harm::None, "allocated and freed while the ring was full; in the totals, not in stacks."),
        "settled_bytes" => (Harm::None, "bytes of those; in the totals, not in stacks."),
        "stacks_deferred" => (Harm::None, "stacks that had to be sent again; nothing is lost."),
        "failed_allocations" => (Harm::None, "allocator calls that failed; not a loss."),
        "allocations_filtered" => (Harm::None, "left out by --min-size or --max-size; not a loss."),
        _ => (Harm::Some, "events that were not seen; numbers may be off."),
    }
}

/// Bars from 0 to the most, with the least and the most bytes; `None` for fewer than two samples. Zero is the base, so
/// that a level series looks level.
fn sparkline(series: &[(u64, u64)]) -> Option<(String, u64, u64)> {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (first, last) = (series.first()?.0, series.last()?.0);
    let most = series.iter().map(|&(_, bytes)| bytes).max()?;
    let least = series.iter().map(|&(_, bytes)| bytes).min()?;
    if series.len() < 2 || last <= first {
        return None;
    }
    // A column is an equal share of the time and shows the newest sample up to its end.
    let columns = series.len().min(SPARKLINE);
    let mut bars = String::new();
    let mut index = 0;
    for column in 0..columns {
        let until = u128::from(last - first) * column as u128 / (columns - 1).max(1) as u128;
        while series.get(index + 1).is_some_and(|&(at, _)| u128::from(at.saturating_sub(first)) <= until) {
            index += 1;
        }
        let height = if most == 0 { 0 } else { (u128::from(series[index].1) * 7).div_ceil(u128::from(most)) };
        bars.push(BARS[(height as usize).min(7)]);
    }
    Some((bars, least, most))
}

/// Columns of a terminal: East Asian wide characters take two, combining ones are counted as one, which errs to short.
fn width(text: &str) -> usize {
    text.chars().map(character_width).sum()
}

fn character_width(character: char) -> usize {
    let wide = matches!(u32::from(character),
        0x1100..=0x115f | 0x2e80..=0x303e | 0x3041..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd);
    1 + usize::from(wide)
}

/// `text` in at most `most` columns: the middle goes, as both ends of a long C++ name tell more than it.
fn shorten(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let room = most.saturating_sub(1);
    let tail_room = room / 2;
    let take = |characters: &mut dyn Iterator<Item = char>, room: usize| {
        let mut taken = Vec::new();
        let mut used = 0;
        for character in characters {
            used += character_width(character);
            if used > room {
                break;
            }
            taken.push(character);
        }
        taken
    };
    let head: String = take(&mut text.chars(), room - tail_room).into_iter().collect();
    let tail: String = take(&mut text.chars().rev(), tail_room).into_iter().rev().collect();
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use memtrace_common::counter::Counter;
    use proptest::prelude::*;

    use super::*;
    use crate::report::{Format, render, sample};

    fn text(snapshot: &Snapshot) -> String {
        let mut out = Vec::new();
        render(Format::Text, snapshot, false, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn assert_fits(text: &str) {
        for line in text.lines() {
            assert!(width(line) <= WIDTH, "{} columns: {line}", width(line));
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }

    const FINAL: &str = "\
1 stack keeps growing: +36.2 MB/h in leak_here (server.c:42)

pid 4242  ./server --port 8080
  traced for 1m 00s, rss 48.0 MB, outstanding 12.9 MB in 4,200 blocks
  4,800 allocations of 13.5 MB, 600 frees of 597 kB

#1  growing 98%  +36.2 MB/h  603 kB in 1,200 blocks, half older than 29 s
    ▁▂▃▃▄▄▅▆▆▇▇██  0 B to 603 kB
    rose in 12 and fell in 0 of 12 intervals
      leak_here  /src/server/server.c:42  (server)
      inlined handle  /src/server/server.c:97  (server)
      main  /src/server/main.c:12  (server)
      0x55d0c0de1234  (libc.so.6)

#2  plateau 72%  0 B/h  12.3 MB in 3,000 blocks, half older than 29 s
    ▁▃▄▅▆▇███████  0 B to 12.3 MB
    rose earlier, level over the last 6 of 13 samples
      cache_insert  (libcache.so.1)
      the stack ends here: no unwind table for 0x7f0012345678

1 further stack holds nothing any more, after 500 allocations.

Not everything was seen, or not at once:
  12 allocations_dropped: these allocations are missing: growth may be larger
  than shown.
  5 releases_deferred: waited while the ring was full; nothing is lost.

pid 4242: 37 frees were of blocks not seen to appear: from before the attach,
filtered, or lost.
";

    const INTERVAL: &str = "\
[1m 00s] 1 stack keeps growing: +36.2 MB/h in leak_here (server.c:42)
  pid 4242: rss 48.0 MB, outstanding 12.9 MB in 4,200 blocks
  #1  growing 98%  +36.2 MB/h  603 kB in 1,200 blocks
      leak_here < handle < main
  #2  plateau 72%  0 B/h  12.3 MB in 3,000 blocks
      cache_insert

Not everything was seen, or not at once:
  12 allocations_dropped: these allocations are missing: growth may be larger
  than shown.

";

    #[test]
    fn the_final_report() {
        let text = text(&sample::snapshot());
        assert_fits(&text);
        assert_eq!(text, FINAL);
    }

    #[test]
    fn an_interval_report_is_short() {
        let mut snapshot = sample::snapshot();
        snapshot.is_final = false;
        let text = text(&snapshot);
        assert_fits(&text);
        assert_eq!(text, INTERVAL);
    }

    #[test]
    fn an_empty_run() {
        let mut snapshot = sample::snapshot();
        snapshot.stacks.clear();
        snapshot.processes.clear();
        snapshot.loss.clear();
        assert_eq!(text(&snapshot), "No stack keeps growing: nothing is held that was allocated since the attach.\n");
    }

    #[test]
    fn the_headline_answers_first() {
        let stack = |verdict| Stack { verdict, ..sample::stack() };
        assert_eq!(headline(&[stack("plateau")]), "No stack keeps growing.");
        assert_eq!(headline(&[stack("undecided")]), "Too early to tell: 1 stack is undecided.");
        assert_eq!(headline(&[stack("undecided"), stack("undecided")]), "Too early to tell: 2 stacks are undecided.");
        assert_eq!(
            headline(&[stack("plateau"), stack("undecided")]),
            "No stack is known to grow; 1 of 2 is undecided."
        );
        assert_eq!(
            headline(&[stack("growing"), stack("growing")]),
            "2 stacks keep growing: +72.4 MB/h together, first in leak_here (server.c:42)"
        );
        let nameless = Stack { frames: Vec::new(), ..sample::stack() };
        assert_eq!(headline(&[nameless]), "1 stack keeps growing: +36.2 MB/h in an unknown place");
    }

    #[test]
    fn colour_only_when_asked() {
        let mut out = Vec::new();
        render(Format::Text, &sample::snapshot(), true, &mut out).unwrap();
        let coloured = String::from_utf8(out).unwrap();
        assert!(coloured.contains("\x1b[1;31mgrowing 98%\x1b[0m") && coloured.contains("\x1b[32mplateau 72%\x1b[0m"));
        assert!(!text(&sample::snapshot()).contains('\x1b'));
        let plain = ["\x1b[1;31m", "\x1b[32m", "\x1b[2m", "\x1b[1m", "\x1b[0m"]
            .iter()
            .fold(coloured, |text, code| text.replace(code, ""));
        assert_eq!(plain, text(&sample::snapshot()));
    }

    #[test]
    fn hostile_and_huge_names_stay_on_their_line() {
        let names = [
            "a\x1b[2J\x1b]0;owned\x07b".to_owned(),
            "line\nbreak\r\n#9  growing 99%".to_owned(),
            "<script>alert(1)</script>&amp;".to_owned(),
            format!("std::vector<{}>::push_back(int)", "std::pair<int, ".repeat(700)),
            "\u{202e}gnp.exe\u{2066}".to_owned(),
            "漢字".repeat(60),
            String::new(),
        ];
        for name in names {
            let mut snapshot = sample::snapshot();
            snapshot.processes[0].command = name.clone();
            snapshot.stacks[0].truncated = Some(name.clone());
            snapshot.stacks[0].evidence = name.clone();
            for frame in &mut snapshot.stacks[0].frames {
                frame.function = Some(name.clone());
                frame.module = Some(name.clone());
                frame.file = Some(name.clone());
            }
            for is_final in [true, false] {
                snapshot.is_final = is_final;
                let text = text(&snapshot);
                assert_fits(&text);
                assert_eq!(text.lines().filter(|line| line.starts_with('#')).count(), if is_final { 2 } else { 0 });
            }
        }
    }

    #[test]
    fn ten_thousand_stacks() {
        let mut snapshot = sample::snapshot();
        snapshot.stacks = vec![sample::stack(); 10_000];
        let text = text(&snapshot);
        assert!(text.starts_with("10,000 stacks keep growing"));
        assert_eq!(text.lines().filter(|line| line.starts_with('#')).count(), 10_000);
    }

    #[test]
    fn every_counter_has_its_sentence() {
        let unknown = meaning("no such counter");
        for counter in Counter::ALL {
            assert_ne!(meaning(counter.name()), unknown, "{} needs a sentence in `meaning`", counter.name());
        }
    }

    #[test]
    fn harmless_counts_are_not_in_interval_reports() {
        let mut snapshot = sample::snapshot();
        snapshot.is_final = false;
        snapshot.loss = [("releases_deferred", 5)].into();
        assert!(!text(&snapshot).contains("Not everything"));
    }

    #[test]
    fn sparklines_start_at_zero_and_end_with_the_newest() {
        assert_eq!(sparkline(&[]), None);
        assert_eq!(sparkline(&[(0, 5)]), None);
        assert_eq!(sparkline(&[(0, 0), (1, 0)]), Some(("▁▁".to_owned(), 0, 0)));
        assert_eq!(sparkline(&[(0, 100), (1, 100), (2, 99)]), Some(("███".to_owned(), 99, 100)));
        let (bars, _, _) = sparkline(&(0..1000).map(|step| (step, step)).collect::<Vec<_>>()).unwrap();
        assert_eq!(bars.chars().count(), SPARKLINE);
        assert!(bars.starts_with('▁') && bars.ends_with('█'));
    }

    proptest! {
        #[test]
        fn shortened_text_fits(text in any::<String>(), most in 1usize..100) {
            prop_assert!(width(&shorten(&text, most)) <= most);
        }

        #[test]
        fn any_series_has_a_line(series in proptest::collection::vec(any::<(u64, u64)>(), 0..300)) {
            if let Some((bars, least, most)) = sparkline(&series) {
                prop_assert!(bars.chars().count() <= SPARKLINE && least <= most);
            }
        }

        #[test]
        fn any_name_fits(function in any::<String>(), module in any::<String>(), file in any::<String>()) {
            let mut snapshot = sample::snapshot();
            snapshot.stacks[0].frames = vec![sample::frame(&function, &module, Some((&file, 7)))];
            assert_fits(&text(&snapshot));
        }
    }
}
