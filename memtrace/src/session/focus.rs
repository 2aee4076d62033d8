//! Which stacks and blocks a run shows and judges: `--include`, `--exclude`, `--older`, and the window since a mark.

use std::{borrow::Cow, collections::HashMap, ops::RangeInclusive};

use hdrhistogram::Histogram;

use super::{gate::names, key::Key, state::State};
use crate::{
    ledger::Held,
    report::{
        focus::{Focus as Shown, Mark, SinceMark},
        sampling::Estimate,
        snapshot::Stack,
    },
    session::FocusConfig,
    symbol::Symbolizer,
};

/// How many stacks are named for the patterns in one report, those that hold the most first; the next report goes on.
const MAX_LOOKUPS: usize = 2000;

/// How many stacks are named for the patterns in the last report.
const MAX_FINAL_LOOKUPS: usize = 20_000;

/// The most stacks that are remembered to match or not.
const MAX_KNOWN: usize = 1 << 18;

/// The newest marks that are kept; only the last one counts.
const MAX_MARKS: usize = 1000;

/// What is asked of the stacks, and what is remembered for it.
pub(super) struct Focus {
    config: FocusConfig,
    /// Whether the patterns show a stack.
    known: HashMap<Key, bool>,
    marks: Vec<Mark>,
    /// When the last mark was, by the events' clock.
    marked_ns: Option<u64>,
    hidden_stacks: u64,
    hidden_bytes: u64,
}

impl Focus {
    pub(super) fn new(config: &FocusConfig) -> Self {
        Self {
            config: config.clone(),
            known: HashMap::new(),
            marks: Vec::new(),
            marked_ns: None,
            hidden_stacks: 0,
            hidden_bytes: 0,
        }
    }

    /// From here on a new window is measured.
    pub(super) fn mark(&mut self, elapsed_ms: u64, now_ns: u64) {
        if self.marks.len() == MAX_MARKS {
            self.marks.remove(0);
        }
        self.marks.push(Mark { elapsed_ms });
        self.marked_ns = Some(now_ns);
    }

    /// Every mark so far, oldest first.
    pub(super) fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// What the report says of it, as of the last [`hide`](Self::hide).
    pub(super) fn shown(&self) -> Shown {
        let texts = |rules: &[crate::report::rules::Rule]| rules.iter().map(ToString::to_string).collect();
        Shown {
            include: texts(&self.config.include),
            exclude: texts(&self.config.exclude),
            older_than_ms: self.least_age_ms(),
            hidden_stacks: self.hidden_stacks,
            hidden_bytes: self.hidden_bytes,
        }
    }

    /// Takes away the stacks that the patterns do not show. One that has no name yet, for want of lookups, is shown unless
    /// `--include` is given.
    pub(super) fn hide(&mut self, stacks: &mut Vec<(Key, Stack)>, symbols: &mut Symbolizer, is_final: bool) {
        let FocusConfig { include, exclude, .. } = &self.config;
        if include.is_empty() && exclude.is_empty() {
            return;
        }
        // Names may come late, such as those of code made at run time.
        if is_final && self.known.len() <= MAX_FINAL_LOOKUPS {
            self.known.clear();
        }
        let mut lookups = if is_final { MAX_FINAL_LOOKUPS } else { MAX_LOOKUPS };
        stacks.sort_by_key(|(_, stack)| std::cmp::Reverse((stack.outstanding_bytes, stack.allocations)));
        (self.hidden_stacks, self.hidden_bytes) = (0, 0);
        stacks.retain(|(key, stack)| {
            let mut shows = self.known.get(key).copied();
            if shows.is_none() && lookups > 0 && self.known.len() < MAX_KNOWN {
                lookups -= 1;
                let resolved = symbols.frames(key.0, key.1);
                let names = names(&resolved);
                let wanted = include.is_empty() || include.iter().any(|rule| rule.matches(&names));
                let answer = wanted && !exclude.iter().any(|rule| rule.matches(&names));
                self.known.insert(*key, answer);
                shows = Some(answer);
            }
            let shows = shows.unwrap_or(include.is_empty());
            if !shows && stack.outstanding_blocks > 0 {
                self.hidden_stacks += 1;
                self.hidden_bytes = self.hidden_bytes.saturating_add(stack.outstanding_bytes);
            }
            shows
        });
    }

    /// Counts what stacks hold: of old enough blocks only, and since the mark.
    pub(super) fn narrow(&self, stacks: &mut [(Key, Stack)], state: &State, elapsed_ms: u64, now_ns: u64) {
        let youngest_ns = self.least_age_ms().map(|least| now_ns.saturating_sub(least.saturating_mul(1_000_000)));
        if let Some(youngest_ns) = youngest_ns {
            let held = held(state, &(0..=youngest_ns));
            for (key, stack) in stacks.iter_mut().filter(|(key, _)| key.2.has_blocks()) {
                let Held { bytes, blocks, seen, variance } = held.get(key).copied().unwrap_or_default();
                (stack.outstanding_bytes, stack.outstanding_blocks) = (bytes, blocks);
                stack.estimate = stack.estimate.map(|_| Estimate::new(bytes, variance, seen));
            }
        }
        if let (Some(marked_ns), Some(mark)) = (self.marked_ns, self.marks.last()) {
            let window_ms = elapsed_ms.saturating_sub(mark.elapsed_ms);
            let held = held(state, &(marked_ns..=youngest_ns.unwrap_or(u64::MAX)));
            for (key, stack) in stacks.iter_mut().filter(|(key, _)| key.2.has_blocks()) {
                let Held { bytes, blocks, .. } = held.get(key).copied().unwrap_or_default();
                stack.since_mark = Some(SinceMark { window_ms, outstanding_bytes: bytes, outstanding_blocks: blocks });
            }
        }
    }

    /// The ages that count.
    pub(super) fn ages<'a>(&self, all: &'a Histogram<u64>) -> Cow<'a, Histogram<u64>> {
        let Some(least_ms) = self.least_age_ms() else { return Cow::Borrowed(all) };
        let mut counted = all.clone();
        counted.reset();
        for step in all.iter_recorded().filter(|step| step.value_iterated_to() >= least_ms) {
            counted.saturating_record_n(step.value_iterated_to(), step.count_since_last_iteration());
        }
        Cow::Owned(counted)
    }

    fn least_age_ms(&self) -> Option<u64> {
        self.config.older.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
    }
}

/// What the stacks of all targets hold of blocks from that time; stacks that hold none of them are left out.
fn held(state: &State, born_ns: &RangeInclusive<u64>) -> HashMap<Key, Held> {
    let mut all = HashMap::new();
    for (slot, process) in state.ledger.processes() {
        let holding = process.held_of(born_ns).filter(|(_, held)| held.blocks > 0);
        all.extend(holding.map(|(stack, held)| ((slot, stack.id, stack.kind), held)));
    }
    all
}
