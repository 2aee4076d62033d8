//! Equal stacks of several processes are one line of the report: a server's workers run the same code, and a leak in it is
//! one leak.

use std::{collections::HashMap, hash::Hash};

use crate::report::{focus::SinceMark, sampling::Estimate, snapshot::Stack};

/// The stacks that one of them speaks for, itself first, by that one.
pub(super) type Siblings<K> = HashMap<K, Vec<K>>;

/// Puts equal stacks together. `stacks` must be ranked: the first of equal ones speaks for all, with its verdict. What
/// they hold is added up over the processes that run; over all when none does, as the memory of those has gone with them.
/// One that has ended speaks only while nothing is known of those that run, and then with the rate that it had: after a
/// restart the same code is at work.
/// `shape` is equal for the same stack in processes that run the same files, and `None` when that is not known.
pub(super) fn group<K: Copy + Eq + Hash, S: Eq + Hash>(
    stacks: Vec<(K, Stack)>,
    shape: impl Fn(K) -> Option<S>,
    runs: impl Fn(K) -> bool,
) -> (Vec<(K, Stack)>, Siblings<K>) {
    let mut groups: Vec<Vec<(K, Stack)>> = Vec::with_capacity(stacks.len());
    let mut known: HashMap<S, usize> = HashMap::new();
    for (key, stack) in stacks {
        let place = shape(key).map_or(groups.len(), |shape| *known.entry(shape).or_insert(groups.len()));
        match groups.get_mut(place) {
            Some(group) => group.push((key, stack)),
            None => groups.push(vec![(key, stack)]),
        }
    }
    let mut siblings = Siblings::new();
    let one = |group: Vec<(K, Stack)>| {
        let mut keys: Vec<K> = group.iter().map(|(key, _)| *key).collect();
        let (key, stack) = add_up(group, &runs)?;
        // The one that speaks first; the others stay in their order.
        keys.sort_by_key(|&one| one != key);
        if keys.len() > 1 {
            siblings.insert(key, keys);
        }
        Some((key, stack))
    };
    (groups.into_iter().filter_map(one).collect(), siblings)
}

/// One stack for all of a group; `None` for an empty one.
fn add_up<K: Copy>(group: Vec<(K, Stack)>, runs: impl Fn(K) -> bool) -> Option<(K, Stack)> {
    let mut group = group;
    let any_runs = group.iter().any(|(key, _)| runs(*key));
    if group.first().is_some_and(|(key, _)| !runs(*key))
        && let Some(speaker) = group.iter().position(|(key, stack)| runs(*key) && stack.verdict.is_decided())
    {
        let speaker = group.remove(speaker);
        group.insert(0, speaker);
    }
    let mut group = group.into_iter();
    let (key, mut sum) = group.next()?;
    let known = (sum.growth_bytes_per_hour, sum.growth_interval_bytes_per_hour);
    let mut rates = 0;
    let counts = |key: K| runs(key) || !any_runs;
    if counts(key) {
        rates += 1;
    } else {
        (sum.outstanding_bytes, sum.outstanding_blocks, sum.growth_bytes_per_hour) = (0, 0, 0.0);
        sum.estimate = sum.estimate.map(|_| Estimate { blocks_seen: 0, outstanding_interval_bytes: (0, 0) });
        sum.growth_interval_bytes_per_hour = sum.growth_interval_bytes_per_hour.map(|_| (0.0, 0.0));
        sum.since_mark = sum.since_mark.map(|since| SinceMark { outstanding_bytes: 0, outstanding_blocks: 0, ..since });
    }
    for (key, stack) in group {
        if !sum.pids.contains(&stack.pid) {
            sum.pids.push(stack.pid);
        }
        sum.allocations += stack.allocations;
        sum.allocated_bytes = sum.allocated_bytes.saturating_add(stack.allocated_bytes);
        if !counts(key) {
            continue;
        }
        if let (Some(estimate), Some(other)) = (&mut sum.estimate, stack.estimate) {
            *estimate = estimate.with(sum.outstanding_bytes, other, stack.outstanding_bytes);
        }
        sum.outstanding_bytes = sum.outstanding_bytes.saturating_add(stack.outstanding_bytes);
        sum.outstanding_blocks += stack.outstanding_blocks;
        if let (Some(since), Some(other)) = (&mut sum.since_mark, stack.since_mark) {
            since.outstanding_bytes = since.outstanding_bytes.saturating_add(other.outstanding_bytes);
            since.outstanding_blocks += other.outstanding_blocks;
        }
        // Those that are undecided yet would only blur the rate of those that are not.
        if stack.verdict == sum.verdict {
            rates += 1;
            sum.growth_bytes_per_hour += stack.growth_bytes_per_hour;
            if let (Some(sum), Some(other)) =
                (&mut sum.growth_interval_bytes_per_hour, stack.growth_interval_bytes_per_hour)
            {
                *sum = (sum.0 + other.0, sum.1 + other.1);
            }
        }
    }
    if rates == 0 {
        (sum.growth_bytes_per_hour, sum.growth_interval_bytes_per_hour) = known;
    }
    Some((key, sum))
}

/// The sum of several series. Between two samples a series holds what it held at the first of them; after its last one
/// nothing, as its process has ended.
pub(super) fn sum(series: &[Vec<(u64, u64)>]) -> Vec<(u64, u64)> {
    let Some((first, others)) = series.split_first() else { return Vec::new() };
    let mut times: Vec<u64> = series.iter().flatten().map(|&(time, _)| time).collect();
    times.sort_unstable();
    times.dedup();
    // The longest series may have been thinned; no more samples than it has are worth showing.
    let most = series.iter().map(Vec::len).max().unwrap_or(0).max(2);
    let step = times.len().div_ceil(most).max(1);
    let at = |series: &[(u64, u64)], time: u64| {
        let later = series.partition_point(|&(sampled, _)| sampled <= time);
        let is_over = later == series.len() && series.last().is_some_and(|&(last, _)| last < time);
        later.checked_sub(1).filter(|_| !is_over).map_or(0, |index| series[index].1)
    };
    let wanted = times.iter().rev().step_by(step).rev();
    wanted
        .map(|&time| (time, others.iter().fold(at(first, time), |sum, other| sum.saturating_add(at(other, time)))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ledger, session::describe::unjudged, trend::Verdict};

    fn stack(pid: u32, verdict: Verdict, rate: f64) -> (u32, Stack) {
        let totals = ledger::StackTotals {
            id: memtrace_common::StackId(7),
            kind: ledger::Kind::Heap,
            outstanding_bytes: 1000,
            outstanding_blocks: 10,
            allocations: 10,
            allocated_bytes: 1000,
            moves: 0,
            moved_bytes: 0,
        };
        let stack = unjudged(pid, &totals, None);
        (
            pid,
            Stack { verdict, growth_bytes_per_hour: rate, growth_interval_bytes_per_hour: Some((rate, rate)), ..stack },
        )
    }

    /// Of equal stacks of processes; 1 and 2 have ended.
    fn together(stacks: Vec<(u32, Stack)>) -> (Stack, Vec<u32>) {
        let (mut stacks, siblings) = group(stacks, |_| Some(()), |pid| pid > 2);
        assert_eq!(stacks.len(), 1);
        let (key, stack) = stacks.remove(0);
        (stack, siblings.get(&key).cloned().unwrap_or_default())
    }

    #[test]
    fn after_a_restart_the_rate_is_the_old_one_until_the_new_one_is_known() {
        let (stack_of, keys) = together(vec![stack(1, Verdict::Growing, 5e6), stack(3, Verdict::Undecided, 1.0)]);
        assert_eq!((stack_of.verdict, stack_of.growth_bytes_per_hour), (Verdict::Growing, 5e6));
        assert_eq!(stack_of.growth_interval_bytes_per_hour, Some((5e6, 5e6)));
        // What it holds is what the process that runs holds.
        assert_eq!((stack_of.outstanding_bytes, keys), (1000, vec![1, 3]));
        let (stack_of, keys) = together(vec![
            stack(1, Verdict::Growing, 5e6),
            stack(2, Verdict::Growing, 4e6),
            stack(3, Verdict::Plateau, 0.0),
        ]);
        assert_eq!((stack_of.verdict, stack_of.growth_bytes_per_hour), (Verdict::Plateau, 0.0));
        assert_eq!((stack_of.outstanding_bytes, keys), (1000, vec![3, 1, 2]));
    }

    #[test]
    fn rates_of_processes_that_run_add_up() {
        let growing = |pid, rate| stack(pid, Verdict::Growing, rate);
        let (stack_of, _) = together(vec![growing(1, 9e6), growing(3, 2e6), growing(4, 1e6)]);
        assert_eq!((stack_of.growth_bytes_per_hour, stack_of.outstanding_bytes), (3e6, 2000));
        // Of those that have all ended nothing is left to say but what they did.
        let (stack_of, _) = together(vec![growing(1, 9e6), growing(2, 2e6)]);
        assert_eq!((stack_of.growth_bytes_per_hour, stack_of.outstanding_bytes), (11e6, 2000));
    }

    #[test]
    fn series_add_up_at_every_time() {
        let summed = sum(&[vec![(0, 1), (10, 2), (20, 3)], vec![(10, 5), (20, 7)], vec![(20, 1)]]);
        assert_eq!(summed, [(0, 1), (10, 7), (20, 11)]);
        assert_eq!(sum(&[vec![(0, 1), (10, 2)], vec![(0, 5), (10, 6), (20, 7)]]), [(0, 6), (10, 8), (20, 7)]);
        assert_eq!(sum(&[]), []);
        assert_eq!(sum(&[vec![(5, 1)]]), [(5, 1)]);
    }
}
