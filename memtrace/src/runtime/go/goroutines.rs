//! Goroutines: how many there are of each place that started them, and what they wait for.

use std::{collections::HashMap, sync::Arc};

use super::Code;
use crate::runtime::{
    Language, Memory,
    count::{Count, Counted, State},
    pages::Pages,
};

/// The most goroutines that are looked at.
const MAX_GOROUTINES: u64 = 1 << 20;

/// How many have to look like goroutines before a layout is trusted.
const PROOFS: u64 = 64;

/// The most bytes of the name of what goroutines wait for, and how many such names there are at most.
const MAX_REASON: u64 = 64;
const MAX_REASONS: u64 = 256;

/// Bits of a status that say what a goroutine does, without the one that the collector sets while it looks at its stack.
const STATUS: u32 = 0xfff;

/// Where the parts of a goroutine are (`runtime.g` in runtime/runtime2.go), in bytes from its begin. Its stack's bounds come first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Layout {
    status: u64,
    number: u64,
    waits_since: u64,
    reason: u64,
    /// The return address of the call that started it.
    started_by: u64,
    /// The entry of its function.
    function: u64,
}

/// Of Go 1.23 and 1.24; of 1.26 and 1.27; of 1.21, 1.22 and 1.25; of 1.19.
const LAYOUTS: [Layout; 4] =
    [Layout::new(152, 288, 304), Layout::new(144, 288, 304), Layout::new(144, 280, 296), Layout::new(144, 296, 312)];

impl Layout {
    const fn new(status: u64, started_by: u64, function: u64) -> Self {
        Layout { status, number: status + 8, waits_since: status + 24, reason: status + 32, started_by, function }
    }
}

/// A goroutine, as far as it is of interest.
#[derive(Clone, Copy, Debug)]
struct Goroutine {
    stack_bytes: u64,
    status: u32,
    number: u64,
    waits_since: u64,
    reason: u8,
    started_by: u64,
    function: u64,
}

/// Reads the goroutines of one process.
#[derive(Debug)]
pub struct Goroutines {
    /// Where the list of all is.
    list: u64,
    layout: Layout,
    /// Names of what they wait for, by number.
    reasons: Vec<String>,
    /// The largest number that was seen: those of new ones are larger.
    newest: u64,
    /// How many ever were, and their bytes, by place.
    ever: HashMap<(u64, u64), (u64, u64)>,
    places: HashMap<(u64, u64), Arc<[u64]>>,
}

/// Finds where the list of all goroutines is, and how they are laid out: the first of these places whose goroutines all run functions
/// of the program.
pub fn prove(places: &[u64], reasons: &[u64], memory: &Memory, code: &Code) -> Option<Goroutines> {
    let mut pages = Pages::of(memory);
    places.iter().find_map(|&list| {
        let layout = LAYOUTS.into_iter().find(|layout| is_list(list, layout, &mut pages, code))?;
        let reasons = reasons.iter().map(|&at| names(at, &mut pages)).find(|names| names.len() > 16);
        Some(Goroutines {
            list,
            layout,
            reasons: reasons.unwrap_or_default(),
            newest: 0,
            ever: HashMap::new(),
            places: HashMap::new(),
        })
    })
}

fn is_list(list: u64, layout: &Layout, pages: &mut Pages<'_>, code: &Code) -> bool {
    let Some([first, count, room]) = pages.words::<3>(list) else { return false };
    if count == 0 || count > room || room > u64::from(u32::MAX) || !first.is_multiple_of(8) {
        return false;
    }
    let mut alive = 0;
    for index in 0..count.min(PROOFS) {
        let Some(goroutine) = pages.word(first.wrapping_add(8 * index)).and_then(|at| read(at, layout, pages)) else {
            return false;
        };
        let is_started = goroutine.started_by == 0 || code.is_code(goroutine.started_by);
        if goroutine.is_alive() && (goroutine.number == 0 || !is_started || !code.is_entry(goroutine.function)) {
            return false;
        }
        alive += usize::from(goroutine.is_alive());
    }
    alive > 0
}

fn read(at: u64, layout: &Layout, pages: &mut Pages<'_>) -> Option<Goroutine> {
    let [low, high] = pages.words(at)?;
    let mut word = |offset: u64| pages.word(at.checked_add(offset)?);
    let (status, number) = (word(layout.status)? as u32 & STATUS, word(layout.number)?);
    let (waits_since, reason) = (word(layout.waits_since)?, word(layout.reason)? as u8);
    let (started_by, function) = (word(layout.started_by)?, word(layout.function)?);
    let is_possible = status <= 16 && low <= high && high - low <= 1 << 32;
    is_possible.then_some(Goroutine {
        stack_bytes: high - low,
        status,
        number,
        waits_since,
        reason,
        started_by,
        function,
    })
}

/// The names of an array of texts; none where there is no such array.
fn names(at: u64, pages: &mut Pages<'_>) -> Vec<String> {
    let mut name = |index: u64| {
        let [text, length] = pages.words(at.checked_add(16 * index)?)?;
        if length > MAX_REASON {
            return None;
        }
        let mut bytes = vec![0; length as usize];
        pages.fill(text, &mut bytes).or((length == 0).then_some(()))?;
        let is_plain = bytes.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
        is_plain.then(|| String::from_utf8(bytes).ok())?
    };
    (0..MAX_REASONS).map_while(&mut name).collect()
}

impl Goroutine {
    /// Whether it runs or will; not one that is kept for later use.
    fn is_alive(&self) -> bool {
        matches!(self.status, 1..=4 | 8..=10)
    }
}

/// What goroutines of one place add up to.
#[derive(Default)]
struct Sum {
    count: u64,
    bytes: u64,
    /// By status and reason.
    states: HashMap<(u32, u8), (u64, u64)>,
}

impl Goroutines {
    /// The goroutines of each place; those of Go itself are left out. `now_ns` is by the clock that Go uses, the monotonic one.
    pub fn count(&mut self, memory: &Memory, code: &Code, now_ns: u64) -> Option<Vec<Count>> {
        let mut pages = Pages::of(memory);
        let [first, count, _] = pages.words::<3>(self.list)?;
        let mut sums: HashMap<(u64, u64), Sum> = HashMap::new();
        let known = self.newest;
        for index in 0..count.min(MAX_GOROUTINES) {
            let at = pages.word(first.wrapping_add(8 * index));
            let Some(found) = at.and_then(|at| read(at, &self.layout, &mut pages)) else { continue };
            if !found.is_alive() || code.is_of_runtime(found.function) {
                continue;
            }
            let place = (found.function, found.started_by);
            let sum = sums.entry(place).or_default();
            sum.count += 1;
            sum.bytes = sum.bytes.saturating_add(found.stack_bytes);
            let state = sum.states.entry((found.status, found.reason)).or_insert((0, u64::MAX));
            state.0 += 1;
            if found.waits_since != 0 {
                state.1 = state.1.min(found.waits_since);
            }
            if found.number > known {
                let ever = self.ever.entry(place).or_default();
                *ever = (ever.0 + 1, ever.1.wrapping_add(found.stack_bytes));
                self.newest = self.newest.max(found.number);
            }
        }
        // Those of which none is left go on to be told of, as what holds nothing now.
        self.ever.keys().for_each(|place| _ = sums.entry(*place).or_default());
        Some(sums.into_iter().map(|(place, sum)| self.describe(place, sum, code, now_ns)).collect())
    }

    fn describe(&mut self, place: (u64, u64), sum: Sum, code: &Code, now_ns: u64) -> Count {
        let (ever, ever_bytes) = self.ever.get(&place).copied().unwrap_or_default();
        let (function, started_by) = place;
        // The address behind the first instruction of its function, and the return address of the call that started it, if that was not
        // the runtime.
        let frames = || {
            let caller = Some(started_by).filter(|&caller| caller != 0 && !code.is_in_runtime(caller));
            [function.wrapping_add(1)].into_iter().chain(caller).collect()
        };
        let most = sum.states.iter().max_by_key(|(key, (count, _))| (*count, **key));
        Count {
            counted: Counted::Goroutines,
            language: Language::Go,
            name: None,
            place: Arc::clone(self.places.entry(place).or_insert_with(frames)),
            bytes: sum.bytes,
            objects: sum.count,
            ever: ever.max(sum.count),
            ever_bytes: ever_bytes.max(sum.bytes),
            sampled: None,
            state: most.map(|(&(status, reason), &(count, since))| State {
                name: self.name(status, reason),
                count,
                longest_ms: (since <= now_ns).then(|| (now_ns - since) / 1_000_000),
            }),
        }
    }

    fn name(&self, status: u32, reason: u8) -> String {
        let name = match status {
            1 => "runnable",
            2 => "running",
            3 => "syscall",
            4 => match self.reasons.get(usize::from(reason)).map(String::as_str) {
                Some("") | None => "waiting",
                Some(reason) => reason,
            },
            _ => "preempted",
        };
        name.to_owned()
    }
}
