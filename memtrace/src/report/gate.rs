//! Which growing stacks make a build fail, which are let pass and why, and how many.

use serde::{Deserialize, Serialize};

use super::{
    escape::escape,
    group::Group,
    number, place,
    snapshot::{Frame, Snapshot, Stack},
};

/// What becomes of a growing stack.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ruling {
    /// It makes the run fail.
    Fails,
    /// Its estimated rate is below the threshold.
    Slow,
    /// A suppression names it.
    Suppressed,
}

/// The sums over every growing stack, shown or not.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Gate {
    /// The rate that a growing stack must reach to fail; `None` without one.
    pub leak_threshold_bytes_per_hour: Option<f64>,
    /// Growing stacks that make the run fail, without those of reported groups.
    pub failing_stacks: u64,
    /// Growing groups that make the run fail.
    pub failing_groups: u64,
    /// Growing stacks below the threshold.
    pub slow_stacks: u64,
    /// Growing stacks that suppressions name.
    pub suppressed_stacks: u64,
    /// What those hold, in bytes.
    pub suppressed_bytes: u64,
}

impl Gate {
    /// Counts stacks and reported groups. What the stacks of a group do is the group's.
    pub fn of<'a>(
        stacks: impl IntoIterator<Item = &'a Stack>,
        groups: &'a [Group],
        threshold_bytes_per_hour: Option<f64>,
    ) -> Self {
        let mut gate = Self { leak_threshold_bytes_per_hour: threshold_bytes_per_hour, ..Self::default() };
        let groups = groups.iter().map(|group| (true, &group.sum));
        let stacks = stacks.into_iter().filter(|stack| stack.group.is_none()).map(|stack| (false, stack));
        for (is_group, stack) in groups.chain(stacks) {
            match gate.rule(stack) {
                None => {}
                Some(Ruling::Fails) if is_group => gate.failing_groups += 1,
                Some(Ruling::Fails) => gate.failing_stacks += 1,
                Some(Ruling::Slow) => gate.slow_stacks += 1,
                Some(Ruling::Suppressed) => {
                    gate.suppressed_stacks += 1;
                    gate.suppressed_bytes = gate.suppressed_bytes.saturating_add(stack.outstanding_bytes);
                }
            }
        }
        gate
    }

    /// What becomes of a stack; `None` when it does not grow. The estimate of the rate has to reach the threshold, not
    /// the lower end of its interval: in the short runs of a build that end is low for a real leak, too.
    pub fn rule(&self, stack: &Stack) -> Option<Ruling> {
        if !grows(stack) {
            return None;
        }
        let slow = |threshold| stack.growth_bytes_per_hour < threshold;
        Some(match stack.suppressed {
            Some(_) => Ruling::Suppressed,
            None if self.leak_threshold_bytes_per_hour.is_some_and(slow) => Ruling::Slow,
            None => Ruling::Fails,
        })
    }

    /// Whether anything makes the run fail.
    pub const fn fails(&self) -> bool {
        self.failing_stacks > 0 || self.failing_groups > 0
    }

    /// What the reader has to know of it, in sentences.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.suppressed_stacks > 0 {
            let stacks = number::of(self.suppressed_stacks, "stack", "stacks");
            notes.push(format!("{stacks} suppressed, {}.", number::bytes(self.suppressed_bytes)));
        }
        if let (1.., Some(threshold)) = (self.slow_stacks, self.leak_threshold_bytes_per_hour) {
            let grow = number::of(self.slow_stacks, "stack grows", "stacks grow");
            notes.push(format!("{grow} more slowly than --leak-threshold, {}.", number::rate(threshold)));
        }
        notes
    }
}

/// Whether a stack is a leak as far as it can be told: it keeps growing, and holds something.
pub fn grows(stack: &Stack) -> bool {
    stack.verdict.is_leak() && (stack.outstanding_bytes > 0 || stack.outstanding_blocks > 0)
}

/// Whether something grows that is no known leak.
pub(super) fn any_grows(snapshot: &Snapshot) -> bool {
    leaks(snapshot).any(|stack| grows(stack) && stack.suppressed.is_none())
}

/// The growing groups and stacks of a snapshot with what becomes of them, in its order.
pub(super) fn growing(snapshot: &Snapshot) -> impl Iterator<Item = (&Stack, Ruling)> {
    leaks(snapshot).filter_map(|stack| Some((stack, snapshot.gate.rule(stack)?)))
}

/// What a leak may be: the groups that are reported, and the stacks that are in none of them.
fn leaks(snapshot: &Snapshot) -> impl Iterator<Item = &Stack> {
    let alone = snapshot.stacks.iter().filter(|stack| stack.group.is_none());
    snapshot.groups.iter().map(|group| &group.sum).chain(alone)
}

/// A function's name, or where its code is when it has none: never an address, which no two runs share.
pub(super) fn name(frame: &Frame) -> String {
    frame.function.as_deref().map_or_else(|| clean(&place::at(frame)), clean)
}

/// `#0 leak_here /src/server.c:42 (server)`, a line a frame.
pub(super) fn stack_text(stack: &Stack) -> String {
    let mut text = String::new();
    for (number, frame) in stack.frames.iter().enumerate() {
        let file = frame.file.as_deref().map(|file| format!(" {}", clean(file))).unwrap_or_default();
        let line = frame.line.map(|line| format!(":{line}")).unwrap_or_default();
        let module = frame.module.as_deref().map(|module| format!(" ({})", clean(module))).unwrap_or_default();
        text.push_str(&format!("#{number} {}{file}{line}{module}\n", name(frame)));
    }
    if let Some(reason) = &stack.truncated {
        text.push_str(&format!("the stack ends here: {}\n", clean(reason)));
    }
    text
}

/// The frame to blame; `None` without frames.
pub(super) fn blamed(stack: &Stack) -> Option<&Frame> {
    stack.frames.get(place::blamed(&stack.frames))
}

/// What grows, where and how, in a sentence or two.
pub(super) fn sentence(stack: &Stack) -> String {
    let place = blamed(stack).map_or_else(|| "an unknown place".to_owned(), name);
    let held = number::bytes(stack.outstanding_bytes);
    let blocks = number::of(stack.outstanding_blocks, "block", "blocks");
    let rate = number::rate(stack.growth_bytes_per_hour);
    let of = match stack.pids.len() {
        0 | 1 => format!("pid {}", stack.pid),
        many => format!("pid {} and {} more", stack.pid, many - 1),
    };
    format!("memory allocated by {place} keeps growing: {rate}, {held} in {blocks} of {of}")
}

/// Escaped, and without the two characters that XML 1.0 (2.2) leaves out besides control characters.
pub(super) fn clean(text: &str) -> String {
    escape(text).replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{report::sample, trend::Verdict};

    fn growing(rate: f64, suppressed: Option<&str>) -> Stack {
        let suppressed = suppressed.map(str::to_owned);
        Stack { growth_bytes_per_hour: rate, suppressed, ..sample::stack() }
    }

    #[test]
    fn each_growing_stack_is_counted_once() {
        let level = Stack { verdict: Verdict::Plateau, ..sample::stack() };
        let gone = Stack { outstanding_bytes: 0, outstanding_blocks: 0, ..sample::stack() };
        let stacks = [growing(2e6, None), growing(0.5e6, None), growing(9e9, Some("leak:x")), level, gone];
        let gate = Gate::of(&stacks, &[], Some(1e6));
        assert_eq!((gate.failing_stacks, gate.slow_stacks, gate.suppressed_stacks), (1, 1, 1));
        assert_eq!(gate.suppressed_bytes, stacks[2].outstanding_bytes);
        assert_eq!(
            gate.notes(),
            ["1 stack suppressed, 603 kB.", "1 stack grows more slowly than --leak-threshold, +1.00 MB/h."]
        );
        assert_eq!(Gate::of(&stacks, &[], None).failing_stacks, 2);
        assert!(Gate::of(&stacks[..1], &[], None).notes().is_empty());
    }

    #[test]
    fn a_stack_at_the_threshold_fails() {
        assert_eq!(Gate::of(&[growing(1e6, None)], &[], Some(1e6)).failing_stacks, 1);
    }
}
