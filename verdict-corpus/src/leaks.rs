//! Leaks of which nothing is ever freed, judged after every interval: once `growing`, they have to stay so.
//!
//! How much they leave behind in an interval follows a pattern, since a real load is never a straight line.

use std::{collections::BTreeMap, f64::consts::TAU};

use memtrace::parts::trend::Verdict;

use crate::{heap::Heap, noise::Noise};

/// How many intervals each leak is watched for.
pub const INTERVALS: usize = 60;

/// Verdicts are compared from this interval on.
const JUDGED_FROM: usize = 5;

/// Blocks that a leak leaves behind in an interval of usual load.
const USUAL: f64 = 60.0;

/// A kind of leak: the blocks that it leaves behind in an interval, in units of the usual; `scale` is between 0 and 1 and
/// belongs to one run.
struct Leak {
    name: &'static str,
    amount: fn(at: usize, scale: f64, random: &mut Noise) -> f64,
}

const LEAKS: &[Leak] = &[
    Leak { name: "constant", amount: |_, _, _| 1.0 },
    Leak { name: "slowing a little", amount: |at, scale, _| 1.0 - (0.003 + 0.007 * scale) * at as f64 },
    Leak { name: "quickening", amount: |at, scale, _| 1.0 + (0.005 + 0.1 * scale) * at as f64 },
    Leak { name: "jitter of a tenth", amount: |_, _, random| 0.9 + 0.2 * random.uniform() },
    Leak { name: "jitter of three tenths", amount: |_, _, random| 0.7 + 0.6 * random.uniform() },
    Leak { name: "jitter of a half", amount: |_, _, random| 0.5 + random.uniform() },
    Leak {
        name: "gentle wave",
        amount: |at, scale, _| 1.0 + 0.08 * (TAU * (at as f64 / (5.0 + 6.0 * scale) + scale)).sin(),
    },
    Leak { name: "wave", amount: |at, scale, _| 1.0 + 0.3 * (TAU * (at as f64 / (5.0 + 6.0 * scale) + scale)).sin() },
    Leak {
        name: "bursts on a steady rate",
        amount: |_, scale, random| if random.happens(0.15) { 1.0 + 3.0 * scale } else { 1.0 },
    },
    Leak { name: "small stairs", amount: |at, _, _| [1.2, 0.8][at % 2] },
    Leak {
        name: "two speeds, the second faster",
        amount: |at, scale, _| if at < 20 { 1.0 } else { 1.0 + 2.0 * scale },
    },
];

/// What became of the leaks that were watched.
#[derive(Debug, Default)]
pub struct Stability {
    /// Leaks that were called `growing` after some interval.
    pub once_growing: usize,
    /// Leaks that never were.
    pub never: usize,
    /// Leaks that had another verdict after they were `growing`.
    pub changed_back: usize,
    /// Of those, how many of each kind, and after how many intervals.
    pub when: BTreeMap<&'static str, Vec<usize>>,
}

/// Watches `runs` leaks of each kind.
pub fn watch(seed: u64, runs: usize) -> Stability {
    let mut stability = Stability::default();
    for (number, leak) in (0..).zip(LEAKS) {
        for run in 0..runs as u64 {
            let case = 1 << 61 | number << 48 | run;
            stability.count(leak.name, &verdicts(leak, &mut Noise::new(seed, case)));
        }
    }
    stability
}

fn verdicts(leak: &Leak, random: &mut Noise) -> Vec<(usize, Verdict)> {
    let mut heap = Heap::new(JUDGED_FROM);
    let scale = random.uniform();
    let mut owed = 0.0;
    for at in 0..INTERVALS {
        owed += USUAL * (leak.amount)(at, scale, random);
        let calls = owed.floor();
        owed -= calls;
        for _ in 0..calls as usize {
            heap.wait(0.9 / calls);
            heap.leak(250);
        }
        heap.end_interval();
    }
    heap.judgements.iter().map(|(at, judgement)| (*at, judgement.verdict)).collect()
}

impl Stability {
    fn count(&mut self, name: &'static str, verdicts: &[(usize, Verdict)]) {
        let mut later = verdicts.iter().skip_while(|(_, verdict)| !verdict.is_leak()).peekable();
        if later.peek().is_none() {
            self.never += 1;
            return;
        }
        self.once_growing += 1;
        if let Some((at, _)) = later.find(|(_, verdict)| !verdict.is_leak()) {
            self.changed_back += 1;
            self.when.entry(name).or_default().push(*at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_that_is_growing_and_then_is_not_is_counted_once() {
        use Verdict::{Growing, Undecided};
        let mut stability = Stability::default();
        stability.count("kept", &[(5, Undecided), (6, Growing), (7, Growing)]);
        stability.count("flickers", &[(6, Growing), (7, Undecided), (8, Growing), (9, Undecided)]);
        stability.count("missed", &[(5, Undecided)]);
        assert_eq!((stability.once_growing, stability.changed_back, stability.never), (2, 1, 1));
        assert_eq!(stability.when["flickers"], [7]);
    }
}
