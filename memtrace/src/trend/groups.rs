//! Groups of stacks, each with a series and a survival of its own: what all stacks of a process, of a module, of an
//! allocating function hold together.
//!
//! A leak that is reached over many paths (recursion, template instances, tiers of a JIT compiler) is too little and too
//! irregular in each stack and plain in their sum. Each stack is a member of a chain of groups, from the whole process to
//! its innermost callers; a group of one stack has no series, since it would be that stack's. The samples are taken at the
//! same moments as those of the stacks, so a stack that joins late brings its past along ([`Trend::absorb`]).

use std::{collections::HashMap, hash::Hash};

use super::{Judgement, Observation, Sample, Trend};

/// The most groups with a series, about 9 kB each; what comes later is only in the groups above it.
pub const MAX_GROUPS: usize = 2000;

/// Stands for what the stacks of a group have in common; equal in different processes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct GroupId(pub u64);

/// A group's place among all groups of a run.
pub type GroupIndex = u32;

/// The groups of the stacks `K` of the processes `O`.
#[derive(Debug)]
pub struct Groups<K, O> {
    trend: Trend<GroupIndex>,
    known: HashMap<(O, GroupId), GroupIndex>,
    all: Vec<Group<K, O>>,
    /// Places in `all` of groups that were forgotten, for groups that come later.
    free: Vec<GroupIndex>,
    /// The groups of each stack, from the widest to the narrowest.
    members: HashMap<K, Box<[GroupIndex]>>,
    tracked: usize,
}

/// What is known of one group.
#[derive(Clone, Copy, Debug)]
pub struct Group<K, O> {
    /// Whose stacks these are.
    pub owner: O,
    /// What they have in common.
    pub id: GroupId,
    /// How many groups are wider than this one and contain it.
    pub level: usize,
    /// The narrowest group that contains this one; `None` for the widest.
    pub parent: Option<GroupIndex>,
    /// The stack that was there first.
    pub first: K,
    /// How many stacks there are.
    pub stacks: u32,
    /// Whether it has a series: two stacks at least, and room.
    pub is_tracked: bool,
}

impl<K, O> Default for Groups<K, O> {
    fn default() -> Self {
        Self {
            trend: Trend::default(),
            known: HashMap::new(),
            all: Vec::new(),
            free: Vec::new(),
            members: HashMap::new(),
            tracked: 0,
        }
    }
}

impl<K: Copy + Eq + Hash + Ord, O: Copy + Eq + Hash> Groups<K, O> {
    /// Starts the observations made at `elapsed_ms`, as [`Trend::begin_interval`] does; `distance` is as in
    /// [`Trend::sample`]. The stacks' own trend has been told of the same interval before.
    pub fn begin_interval(&mut self, elapsed_ms: u64, now_ns: u64, distance: u64) {
        self.trend.sample(distance);
        self.trend.begin_interval(elapsed_ms, now_ns);
    }

    /// A new measuring window begins, as with [`Trend::beginning_at`].
    pub fn begin_at(&mut self, elapsed_ms: u64) {
        self.trend = Trend::beginning_at(elapsed_ms);
    }

    /// Notes a gap for every group, as [`Trend::mark_gap`] does for stacks.
    pub fn mark_gap(&mut self) {
        self.trend.mark_gap();
    }

    /// Notes a stretch without samples for every group, as [`Trend::add_gap`] does for stacks.
    pub fn add_gap(&mut self, start_ms: u64, end_ms: u64) {
        self.trend.add_gap(start_ms, end_ms);
    }

    /// Has every group's verdict say that events were lost, as [`Trend::mark_all_lossy`] does.
    pub fn mark_all_lossy(&mut self) {
        self.trend.mark_all_lossy();
    }

    /// How many groups of `key` are known, from the widest on.
    pub fn joined(&self, key: K) -> usize {
        self.members.get(&key).map_or(0, |path| path.len())
    }

    /// Makes a stack a member of the groups of `path`, from the widest to the narrowest. Those that it is in already must
    /// come first again. `stacks` is the stacks' own trend, which has observed this interval.
    pub fn join(&mut self, key: K, owner: O, path: &[GroupId], stacks: &Trend<K>) {
        let joined = self.joined(key);
        if path.len() <= joined {
            return;
        }
        let mut indices = Vec::with_capacity(path.len());
        indices.extend(self.members.get(&key).into_iter().flatten().copied());
        for (level, &id) in path.iter().enumerate().skip(joined) {
            let parent = indices.last().copied();
            let index = self.known.get(&(owner, id)).copied().unwrap_or_else(|| {
                self.place(Group { owner, id, level, parent, first: key, stacks: 0, is_tracked: false })
            });
            indices.push(index);
            let group = &mut self.all[index as usize];
            group.stacks += 1;
            if group.stacks == 2 && self.tracked < MAX_GROUPS {
                group.is_tracked = true;
                self.tracked += 1;
                self.trend.absorb(index, stacks, group.first);
            }
            if group.is_tracked {
                self.trend.absorb(index, stacks, key);
            }
        }
        self.members.insert(key, indices.into());
    }

    /// Gives a new group a place, that of a forgotten one where there is one.
    fn place(&mut self, group: Group<K, O>) -> GroupIndex {
        let index = match self.free.pop() {
            Some(index) => {
                self.all[index as usize] = group;
                index
            }
            None => {
                self.all.push(group);
                (self.all.len() - 1) as GroupIndex
            }
        };
        self.known.insert((group.owner, group.id), index);
        index
    }

    /// Records what the groups hold at the current time: `seen` has every stack that was observed.
    pub fn observe(&mut self, seen: impl IntoIterator<Item = (K, Observation)>) {
        let mut sums: Vec<Option<Observation>> = vec![None; self.all.len()];
        for (key, observation) in seen {
            for &index in self.members.get(&key).into_iter().flatten() {
                if self.all[index as usize].is_tracked {
                    sums[index as usize].get_or_insert_default().add(&observation);
                }
            }
        }
        for (index, sum) in (0..).zip(sums) {
            if let Some(sum) = sum {
                self.trend.observe(index, sum);
            }
        }
    }

    /// The groups whose blocks are worth a look, as [`Trend::followed`] tells of stacks.
    pub fn followed(&self) -> Vec<GroupIndex> {
        self.trend.followed()
    }

    /// What lives of each cohort of a group at the current time.
    pub fn look(&mut self, index: GroupIndex, alive: &[crate::ledger::Cohort]) {
        self.trend.look(index, alive);
    }

    /// The groups of a stack, from the widest to the narrowest.
    pub fn of(&self, key: K) -> &[GroupIndex] {
        self.members.get(&key).map_or(&[], |path| path)
    }

    /// A group; `None` for an index that was never given.
    pub fn get(&self, index: GroupIndex) -> Option<&Group<K, O>> {
        self.all.get(index as usize)
    }

    /// Every group with a series, and what is said of it given that all of them were looked at.
    pub fn judge(&self) -> Vec<(GroupIndex, Judgement)> {
        let tracked = (0..).zip(&self.all).filter(|(_, group)| group.is_tracked);
        let indices: Vec<GroupIndex> = tracked.map(|(index, _)| index).collect();
        let judged = self.trend.judge_all(&indices);
        indices.into_iter().zip(judged).collect()
    }

    /// The samples of a group, oldest first.
    pub fn series(&self, index: GroupIndex) -> &[Sample] {
        self.trend.series(index)
    }

    /// The stacks that belong to a group.
    pub fn members(&self, index: GroupIndex) -> impl Iterator<Item = K> + '_ {
        self.members.iter().filter(move |(_, path)| path.contains(&index)).map(|(&key, _)| key)
    }

    /// Forgets a process and the stacks that `belongs` to it.
    pub fn forget(&mut self, owner: O, belongs: impl Fn(&K) -> bool) {
        self.members.retain(|key, _| !belongs(key));
        let Self { known, all, free, trend, tracked, .. } = self;
        known.retain(|&(whose, _), &mut index| {
            if whose != owner {
                return true;
            }
            if std::mem::take(&mut all[index as usize].is_tracked) {
                *tracked -= 1;
                trend.forget(index);
            }
            free.push(index);
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trend::Verdict;

    fn seen(bytes: u64) -> Observation {
        Observation { bytes, blocks: bytes / 100, allocations: bytes / 100, allocated_bytes: bytes, precision: None }
    }

    /// Feeds both trends: what each stack holds at each step; every stack joins when it is first observed.
    fn fed(steps: u64, holds: impl Fn(u32, u64) -> u64, stacks: u32) -> (Trend<u32>, Groups<u32, u8>) {
        let (mut trend, mut groups) = (Trend::new(), Groups::default());
        for step in 1..=steps {
            trend.begin_interval(step * 1000, step * 1_000_000_000);
            groups.begin_interval(step * 1000, step * 1_000_000_000, 0);
            let all: Vec<(u32, Observation)> =
                (0..stacks).map(|key| (key, seen(holds(key, step)))).filter(|(_, seen)| seen.bytes > 0).collect();
            for &(key, observation) in &all {
                trend.observe(key, observation);
                groups.join(key, 0, &[GroupId(1), GroupId(10 + u64::from(key % 2))], &trend);
            }
            groups.observe(all);
        }
        (trend, groups)
    }

    #[test]
    fn what_is_irregular_in_each_stack_is_plain_in_their_sum() {
        // In each step one of 16 stacks gets a block that stays.
        let holds = |key: u32, step: u64| {
            100 * (1..=step).filter(|&at| ((at * 7919) >> 3) % 16 == u64::from(key)).count() as u64
        };
        let (trend, groups) = fed(12, holds, 16);
        assert!((0..16).all(|key| trend.judge(key).verdict != Verdict::Growing));
        let judged = groups.judge();
        let whole = judged.iter().find(|(index, _)| groups.get(*index).unwrap().level == 0).unwrap();
        assert_eq!(whole.1.verdict, Verdict::Growing, "{}", whole.1.evidence);
        assert!((whole.1.growth_bytes_per_hour / 360_000.0 - 1.0).abs() < 0.01);
    }

    #[test]
    fn a_stack_that_joins_late_brings_its_past() {
        let (trend, groups) = fed(10, |key, step| if step > u64::from(key) * 3 { 100 * step } else { 0 }, 3);
        let index = groups.of(0)[0];
        let sums: Vec<u64> = groups.series(index).iter().map(|sample| sample.bytes).collect();
        let expected: Vec<u64> =
            (0..=10).map(|step| (0..3).map(|key| if step > key * 3 { 100 * step } else { 0 }).sum()).collect();
        assert_eq!(sums, expected);
        assert_eq!(groups.get(index).unwrap().stacks, 3);
        assert_eq!(groups.series(groups.of(1)[1]), &[] as &[Sample], "a group of one has no series");
        assert_eq!(trend.len(), 3);
    }

    #[test]
    fn a_path_can_be_lengthened_and_a_process_forgotten() {
        let mut trend = Trend::new();
        let mut groups: Groups<u32, u8> = Groups::default();
        for step in 1..=3u64 {
            trend.begin_interval(step * 1000, step);
            groups.begin_interval(step * 1000, step, 0);
            for key in [1, 2] {
                trend.observe(key, seen(100 * step));
                groups.join(key, 0, &[GroupId(1), GroupId(2)][..if step < 3 { 1 } else { 2 }], &trend);
            }
            groups.observe([(1, seen(100 * step)), (2, seen(100 * step))]);
        }
        let [wide, narrow] = groups.of(1) else { panic!("two groups") };
        assert_eq!(groups.get(*narrow).unwrap().parent, Some(*wide));
        assert_eq!(groups.series(*narrow), groups.series(*wide));
        assert_eq!(groups.members(*wide).count(), 2);
        groups.forget(0, |_| true);
        assert!(groups.judge().is_empty() && groups.of(1).is_empty());
    }

    #[test]
    fn a_storm_of_processes_takes_no_more_places_than_live_at_once() {
        let mut trend = Trend::new();
        let mut groups: Groups<u32, u32> = Groups::default();
        for process in 0..100 {
            trend.begin_interval(u64::from(process) * 1000, u64::from(process));
            groups.begin_interval(u64::from(process) * 1000, u64::from(process), 0);
            for key in [2 * process, 2 * process + 1] {
                trend.observe(key, seen(100));
                groups.join(key, process, &[GroupId(1), GroupId(2)], &trend);
            }
            if let Some(ended) = process.checked_sub(1) {
                groups.forget(ended, |key| key / 2 == ended);
            }
            assert_eq!(groups.judge().len(), 2, "the groups of the living process");
            assert!(groups.judge().iter().all(|&(index, _)| groups.get(index).unwrap().owner == process));
        }
        assert_eq!((groups.all.len(), groups.free.len()), (4, 2));
    }
}
