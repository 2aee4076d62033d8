//! One stack: its numbers, its series and its frames.

use std::io;

use super::{
    page::{Look, Page, WIDTH},
    sparkline::{SPARKLINE, sparkline},
    width::{shorten, width},
};
use crate::{
    report::{
        enlarged,
        escape::escape,
        focus,
        name::{function, holding, holds, in_memory, inside, median_age, source},
        number::{bytes, of, rate, rate_within},
        place::{self, Shown},
        snapshot::{Frame, Stack},
        verdict::verdict,
    },
    symbol::FrameKind,
    trend::Verdict,
};

/// The most frames of a stack in an interval's report.
const INTERVAL_FRAMES: usize = 3;

/// Whose a stack is: `pid 7`, or `pids 7, 8, 9 and 5 more`.
fn processes(stack: &Stack) -> String {
    const SHOWN: usize = 6;
    let pids: Vec<String> = stack.pids.iter().take(SHOWN).map(u32::to_string).collect();
    match stack.pids.len() {
        0 | 1 => format!("pid {}", stack.pid),
        many if many <= SHOWN => format!("pids {}, together", pids.join(", ")),
        many => format!("pids {} and {} more, together", pids.join(", "), many - SHOWN),
    }
}

impl Page<'_> {
    /// The verdict with its confidence, coloured.
    fn verdict(&self, stack: &Stack) -> String {
        let text = verdict(stack);
        match stack.verdict {
            Verdict::Growing => self.looks(Look::Red, &text),
            Verdict::Plateau => self.looks(Look::Green, &text),
            Verdict::Undecided | Verdict::Sawtooth | Verdict::Shrinking => text,
        }
    }

    pub fn stack(&mut self, number: usize, stack: &Stack, several: bool) -> io::Result<()> {
        self.sum(number, stack, several)?;
        self.frames(&stack.frames)?;
        if let Some(reason) = &stack.truncated {
            self.wrapped("      ", &format!("the stack ends here: {}", escape(reason)))?;
        }
        Ok(())
    }

    /// What a stack or a group holds, and what is said of it.
    pub fn sum(&mut self, number: usize, stack: &Stack, several: bool) -> io::Result<()> {
        let growth = rate_within(stack.growth_bytes_per_hour, stack.growth_interval_bytes_per_hour);
        let head = format!("#{number}  {}  {growth}", self.verdict(stack));
        let held = holding(stack);
        let plain = Page { out: &mut io::sink(), colour: false }.verdict(stack);
        // Five for the number's mark and the gaps, four for the longest number.
        if 9 + width(&plain) + width(&growth) + width(&held) <= WIDTH {
            self.line(&format!("{head}  {held}"))?;
        } else {
            self.line(&head)?;
            self.wrapped("    ", &held)?;
        }
        if several {
            self.wrapped("    ", &processes(stack))?;
        }
        if let Some((bars, least, most)) = sparkline(&stack.series, SPARKLINE) {
            self.line(&format!("    {bars}  {} to {}", bytes(least), bytes(most)))?;
        }
        if let Some(estimate) = &stack.estimate {
            self.wrapped("    ", &estimate.sentence())?;
        }
        if let Some(memory) = in_memory(stack) {
            self.wrapped("    ", &memory)?;
        }
        // What became of older blocks is in the evidence.
        if let Some(age) = median_age(stack) {
            self.wrapped("    ", &age)?;
        }
        if !stack.evidence.is_empty() {
            self.wrapped("    ", &escape(&stack.evidence))?;
        }
        if let Some(callers) = enlarged::sentence(&stack.enlarged_by) {
            self.wrapped("    ", &callers)?;
        }
        if let Some(since) = focus::since_mark(stack) {
            self.wrapped("    ", &since)?;
        }
        if let Some(rule) = &stack.suppressed {
            self.wrapped("    ", &format!("suppressed by {}", escape(rule)))?;
        }
        Ok(())
    }

    /// The frames of a stack, a line each.
    pub fn frames(&mut self, frames: &[Frame]) -> io::Result<()> {
        for shown in place::shown(frames) {
            match shown {
                Shown::Frame(frame) => self.frame(frame)?,
                Shown::Inside(frame, count) => {
                    let line = format!("      {}", inside(frame, count));
                    let line = self.looks(Look::Dim, &line);
                    self.line(&line)?;
                }
            }
        }
        Ok(())
    }

    /// `function  file:line  (module)`. When it is too long the path goes first, then the middle of the function.
    pub fn frame(&mut self, frame: &Frame) -> io::Result<()> {
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

    /// One stack or group of an interval's report: a line of numbers, a line of the nearest callers.
    pub fn stack_line(&mut self, number: usize, stack: &Stack) -> io::Result<()> {
        let verdict = self.verdict(stack);
        let growth = rate(stack.growth_bytes_per_hour);
        self.line(&format!("  #{number}  {verdict}  {growth}  {}", holding(stack)))?;
        // Of interpreted code, its own functions say more than the interpreter's.
        let interpreted = stack.frames.iter().filter(|frame| frame.kind == FrameKind::Interpreter);
        let mut frames: Vec<&Frame> = interpreted.take(INTERVAL_FRAMES).collect();
        if frames.is_empty() {
            frames = stack.frames.iter().take(INTERVAL_FRAMES).collect();
        }
        if frames.is_empty() {
            return Ok(());
        }
        let room = (WIDTH - 6 - 3 * (frames.len() - 1)) / frames.len();
        let names: Vec<String> = frames.iter().map(|frame| shorten(&function(frame), room)).collect();
        self.line(&format!("      {}", names.join(" < ")))
    }

    /// Stacks whose blocks are all gone need no more than their number.
    pub fn emptied(&mut self, stacks: &[Stack]) -> io::Result<()> {
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
}
