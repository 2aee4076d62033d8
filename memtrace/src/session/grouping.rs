//! Groups of stacks in a run: which a stack belongs to, by the names of its functions, and which of them a report shows.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use memtrace_common::Slot;

use super::{
    describe::{self, say, unjudged_group},
    key::Key,
    pages::Pages,
    siblings,
    state::State,
};
use crate::{
    ledger::{self, Cohort},
    report::{
        gate::{self, Gate, Ruling},
        group::{self, CalledBy, Group, GroupBy},
        place, rank,
        snapshot::{Frame, Stack},
    },
    symbol::{FrameKind, Symbolizer, family::family},
    trend::{
        Observation, Trend,
        explain::{Leaf, Node, explain},
        groups::{GroupId, GroupIndex, Groups},
    },
};

/// Callers by which stacks of one allocating function are told apart.
const CALLERS: usize = 3;

/// The level of groups that have an allocating function in common; wider ones come before.
const FUNCTION: usize = 3;

/// How long naming new stacks may hold up the ring in one interval; the others are named in the next ones.
const NAMING: Duration = Duration::from_millis(150);

/// What groups of memory are called that only collections free: what V8's ArrayBuffers hold.
const COLLECTED: &str = "all ArrayBuffers";

/// What a group is called of all objects of JavaScript that V8 says live.
const PROFILED: &str = "all objects of JavaScript that live";

/// The stacks of a group by which it is described, those that hold the most.
const DESCRIBED: usize = 64;

/// The stacks of a group that are asked whether its callers call each other.
const ASKED: usize = 8;

/// A group of one process.
type GroupKey = (Slot, GroupIndex);

/// The groups of all stacks of a run.
#[derive(Default)]
pub(super) struct Grouping {
    pub(super) groups: Groups<Key, Slot>,
    /// What a process is told from others by.
    programs: HashMap<Slot, u64>,
    /// Whether stacks whose names have not come are grouped as they are: there is no later.
    is_last: bool,
}

impl Grouping {
    /// Names what runs in a slot: equal programs have equal groups.
    pub(super) fn name_program(&mut self, slot: Slot, command: &str) {
        let program = command.split(' ').next().unwrap_or_default();
        self.programs.entry(slot).or_insert_with(|| hashed(0, program));
    }

    /// From now on stacks are grouped by what is known of them, also when more is to come: what is observed next is the last.
    pub(super) fn wait_no_more(&mut self) {
        self.is_last = true;
    }

    /// Makes new stacks members of their groups, and records what all groups hold.
    pub(super) fn observe(&mut self, state: &mut State, trend: &Trend<Key>, seen: Vec<(Key, Observation)>) {
        let until = Instant::now() + NAMING;
        for &(key, _) in &seen {
            let joined = self.groups.joined(key);
            if joined > 2 {
                continue;
            }
            let program = self.programs.get(&key.0).copied().unwrap_or_default();
            let all = apart(key, &state.pages).map_or(program, |name| hashed(program, name));
            let kind = hashed(all, &key.2);
            let mut path = vec![GroupId(all), GroupId(kind)];
            if Instant::now() < until {
                let resolved = state.symbols.frames(key.0, key.1);
                if resolved.names_come && !self.is_last {
                    // The stacks that come later will have names, and belong together with these.
                    self.groups.join(key, key.0, &path, trend);
                    continue;
                }
                let common = Common::of(&describe::frames(resolved.frames));
                path.extend(common.labels.iter().scan(kind, |above, label| {
                    *above = hashed(*above, label);
                    Some(GroupId(*above))
                }));
            }
            self.groups.join(key, key.0, &path, trend);
        }
        self.groups.observe(seen);
    }

    /// Tells the groups that rise which of their blocks live; the stacks' own are found in the same pass.
    pub(super) fn look(&mut self, state: &State, trend: &mut Trend<Key>) {
        let ends_ns = trend.cohort_ends_ns().to_vec();
        let mut sets: HashMap<Slot, Vec<Set>> = HashMap::new();
        for key in trend.followed().into_iter().filter(|key| key.2.has_blocks()) {
            sets.entry(key.0).or_default().push(Set::Stack(key));
        }
        for index in self.groups.followed() {
            let Some(group) = self.groups.get(index) else { continue };
            // Of what a runtime counts no block is known. In a group of all that a process holds it would be taken for dead.
            let is_mixed = group.level == 0 && state.counts.has(group.owner);
            if group.first.2.has_blocks() && !is_mixed {
                sets.entry(group.owner).or_default().push(Set::Group(index));
            }
        }
        for (slot, sets) in sets {
            let Some(process) = state.ledger.process(slot) else { continue };
            let places: HashMap<Set, u32> = (0..).zip(&sets).map(|(place, &set)| (set, place)).collect();
            let found = process.cohorts_of_sets(sets.len(), &ends_ns, |id, kind, member| {
                let key = (slot, id, kind);
                member.extend(places.get(&Set::Stack(key)));
                member.extend(self.groups.of(key).iter().filter_map(|&index| places.get(&Set::Group(index))));
            });
            for (set, alive) in sets.into_iter().zip(found) {
                let alive: &[Cohort] = &alive;
                match set {
                    Set::Stack(key) => trend.look(key, alive),
                    Set::Group(index) => self.groups.look(index, alive),
                }
            }
        }
    }

    /// The groups that explain growth where no few stacks do, the fastest first. `stacks` are judged; those of reported groups are marked.
    pub(super) fn report(
        &self,
        stacks: &mut [(Key, Stack)],
        state: &mut State,
        threshold: Option<f64>,
        now_ns: u64,
        runs: impl Fn(Slot) -> bool,
    ) -> Vec<Group> {
        let mut judged = self.judged(state);
        self.wait_for_collections(&mut judged, state, now_ns);
        if judged.is_empty() {
            return Vec::new();
        }
        let order = rank::Order::of(judged.iter().map(|(_, stack)| stack));
        judged.sort_by(|(_, a), (_, b)| order.compare(a, b));
        let id = |key: GroupKey| self.groups.get(key.1).map(|group| group.id);
        let (mut judged, mut siblings) = siblings::group(judged, id, |key| runs(key.0));
        // The widest first, so that every group comes after those that contain it.
        judged.sort_by_key(|(key, _)| self.level(key.1));
        let places: HashMap<GroupId, usize> =
            judged.iter().enumerate().filter_map(|(place, &(key, _))| Some((id(key)?, place))).collect();
        let holds: HashMap<Key, u64> = stacks.iter().map(|(key, stack)| (*key, stack.outstanding_bytes)).collect();
        let nodes: Vec<Node> = judged.iter().map(|(key, sum)| self.node(key.1, sum, &places)).collect();
        let gate = Gate { leak_threshold_bytes_per_hour: threshold, ..Gate::default() };
        let leaf = |(key, stack): &(Key, Stack)| {
            gate.rule(stack).map(|ruling| Leaf {
                parent: self.narrowest(*key, &places),
                rate: stack.growth_bytes_per_hour,
                fails: (ruling != Ruling::Suppressed).then_some(ruling == Ruling::Fails),
            })
        };
        let leaves: Vec<Leaf> = stacks.iter().filter_map(leaf).collect();
        let symbols = &mut state.symbols;
        let chosen = explain(&nodes, &leaves, threshold, |callers| {
            let callers: Vec<GroupIndex> = callers.iter().map(|&place| judged[place].0.1).collect();
            self.call_each_other(&callers, symbols, &holds)
        });
        let mut reported = Vec::new();
        for place in chosen {
            let (key, sum) = judged[place].clone();
            let keys = siblings.remove(&key).unwrap_or_else(|| vec![key]);
            let first = self.groups.get(keys[0].1).map(|group| group.first);
            let apart = first.and_then(|first| apart(first, &state.pages));
            let mut group = self.describe(&keys, sum, symbols, &holds);
            if let Some(name) = apart
                && matches!(group.by, GroupBy::Process | GroupBy::Heap)
            {
                group.name = name.to_owned();
            }
            for (key, stack) in &mut *stacks {
                let within = || self.groups.of(*key).iter().any(|index| keys.contains(&(key.0, *index)));
                // A wide group has all sorts of stacks; only those that grow are the same news.
                if (self.level(keys[0].1) >= FUNCTION || gate::grows(stack)) && within() {
                    stack.group = Some(group.sum.id.clone());
                }
            }
            reported.push(group);
        }
        reported.sort_by(|a, b| b.sum.growth_bytes_per_hour.total_cmp(&a.sum.growth_bytes_per_hour));
        reported
    }

    /// Each group with a series, with its verdict.
    fn judged(&self, state: &State) -> Vec<(GroupKey, Stack)> {
        let judged = self.groups.judge().into_iter().filter_map(|(index, judgement)| {
            let group = self.groups.get(index)?;
            let last = self.groups.series(index).last()?;
            let mut sum = unjudged_group(group.id.0, group.first.2, last);
            sum.pid = state.pid(group.owner);
            sum.pids = vec![sum.pid];
            say(&mut sum, judgement);
            Some(((group.owner, index), sum))
        });
        judged.collect()
    }

    /// Takes back that groups grow which only collections free, unless what these leave shows it.
    fn wait_for_collections(&self, judged: &mut [(GroupKey, Stack)], state: &State, now_ns: u64) {
        let collections = &state.pages.collections;
        let mut waiting: HashMap<Slot, Vec<(GroupIndex, &mut Stack)>> = HashMap::new();
        for (key, sum) in judged.iter_mut().filter(|(_, sum)| sum.verdict.is_leak()) {
            if self.groups.get(key.1).is_some_and(|group| state.pages.is_known_collected(group.first)) {
                waiting.entry(key.0).or_default().push((key.1, sum));
            }
        }
        for (slot, mut groups) in waiting {
            let (Some(ends_ns), Some(process)) = (collections.quarters_ns(slot, now_ns), state.ledger.process(slot))
            else {
                continue;
            };
            if let Some(reachable) = state.counts.reachable_blocks(slot) {
                collections.rule_on_reachable(slot, process, reachable, &mut groups, |id, kind, of| {
                    of.extend(self.groups.of((slot, id, kind)));
                });
            }
            let places: HashMap<GroupIndex, u32> =
                (0..).zip(&groups).map(|(place, (index, _))| (*index, place)).collect();
            let found = process.cohorts_of_sets(groups.len(), &ends_ns, |id, kind, member| {
                member.extend(self.groups.of((slot, id, kind)).iter().filter_map(|index| places.get(index)));
            });
            for ((_, sum), living) in groups.into_iter().zip(found) {
                collections.rule_on_blocks(slot, sum, &living, now_ns);
            }
        }
    }

    fn node(&self, index: GroupIndex, sum: &Stack, places: &HashMap<GroupId, usize>) -> Node {
        let group = self.groups.get(index);
        let mut parent = group.and_then(|group| group.parent);
        // One without room for a series is passed over.
        let place = |index: GroupIndex| self.groups.get(index).and_then(|group| places.get(&group.id).copied());
        while let Some(index) = parent.filter(|&index| place(index).is_none()) {
            parent = self.groups.get(index).and_then(|group| group.parent);
        }
        let level = self.level(index);
        Node {
            parent: parent.and_then(place),
            growing: gate::grows(sum),
            rate: sum.growth_bytes_per_hour,
            stacks: group.map_or(0, |group| group.stacks.into()),
            is_function: level >= FUNCTION,
            is_caller: level > FUNCTION,
        }
    }

    fn level(&self, index: GroupIndex) -> usize {
        self.groups.get(index).map_or(0, |group| group.level)
    }

    /// The place of the narrowest group of a stack.
    fn narrowest(&self, key: Key, places: &HashMap<GroupId, usize>) -> Option<usize> {
        let of = self.groups.of(key).iter().rev();
        of.filter_map(|&index| places.get(&self.groups.get(index)?.id).copied()).next()
    }

    /// The members of a group that hold the most.
    fn largest(&self, index: GroupIndex, holds: &HashMap<Key, u64>, most: usize) -> Vec<(Key, u64)> {
        let mut members: Vec<(Key, u64)> =
            self.groups.members(index).map(|key| (key, holds.get(&key).copied().unwrap_or(0))).collect();
        members.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        members.truncate(most);
        members
    }

    /// Whether the callers that tell these groups apart call each other, as in a recursion.
    fn call_each_other(&self, groups: &[GroupIndex], symbols: &mut Symbolizer, holds: &HashMap<Key, u64>) -> bool {
        let stacks: Vec<Vec<Vec<String>>> = groups
            .iter()
            .map(|&index| {
                let members = self.largest(index, holds, ASKED);
                members.iter().map(|&(key, _)| labels(&frames(symbols, key))).collect()
            })
            .collect();
        let own = |place: usize| {
            let level = self.level(groups[place]);
            let of = stacks[place].first().map(|labels| Common::callers(labels));
            of.and_then(|labels| labels.get(level - FUNCTION).cloned())
        };
        let callers: Vec<Option<String>> = (0..groups.len()).map(own).collect();
        callers.iter().enumerate().any(|(place, caller)| {
            let Some(caller) = caller else { return false };
            stacks.iter().enumerate().any(|(other, stacks)| {
                other != place
                    && 2 * stacks.iter().filter(|labels| labels.contains(caller)).count() > stacks.len()
                    && callers[other].as_ref() != Some(caller)
            })
        })
    }

    /// A group for the report, with what its stacks have in common and the paths to it.
    fn describe(
        &self,
        keys: &[GroupKey],
        mut sum: Stack,
        symbols: &mut Symbolizer,
        holds: &HashMap<Key, u64>,
    ) -> Group {
        let level = keys.first().map_or(0, |key| self.level(key.1));
        let mut members: Vec<(Key, u64)> =
            keys.iter().flat_map(|key| self.largest(key.1, holds, Group::MAX_STACKS)).collect();
        members.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        members.truncate(Group::MAX_STACKS);
        let resolved: Vec<(Vec<Frame>, u64)> =
            members.iter().take(DESCRIBED).map(|&(key, bytes)| (frames(symbols, key), bytes)).collect();
        let by = match level {
            0 => GroupBy::Process,
            1 => GroupBy::Heap,
            2 => GroupBy::Module,
            FUNCTION => GroupBy::Function,
            _ => GroupBy::Frames,
        };
        let common = resolved.first().map(|(frames, _)| Common::of(frames)).unwrap_or_default();
        let own = common.labels.len().min(level.saturating_sub(1));
        let name = match by {
            GroupBy::Process => "all that the process holds".to_owned(),
            GroupBy::Heap => match keys.first().and_then(|key| self.groups.get(key.1)).map(|group| group.first.2) {
                Some(ledger::Kind::Map) => "all mappings".to_owned(),
                Some(ledger::Kind::Touched) => "all pages that were touched".to_owned(),
                Some(ledger::Kind::Managed) => "all objects of the managed heap".to_owned(),
                Some(ledger::Kind::Small) => "all small objects".to_owned(),
                Some(ledger::Kind::Goroutine) => "all goroutines".to_owned(),
                _ => "all heap blocks".to_owned(),
            },
            GroupBy::Module => common.labels.first().cloned().unwrap_or_default(),
            GroupBy::Function | GroupBy::Frames => common.labels.get(1..own).unwrap_or_default().join(" < "),
        };
        sum.frames = if level >= FUNCTION {
            let until = common.ends.get(own.wrapping_sub(2)).copied().unwrap_or(0);
            let mut frames = resolved.first().map(|(frames, _)| frames.clone()).unwrap_or_default();
            place::mark_own(&mut frames);
            // The allocating function first: it is what the group is called by.
            frames.truncate(until);
            frames.drain(..common.function.min(frames.len()));
            frames
        } else {
            Vec::new()
        };
        let called_by: Vec<CalledBy> = resolved
            .iter()
            .map(|(frames, bytes)| {
                let labels = labels(frames);
                let from = if level >= FUNCTION { level - FUNCTION + 1 } else { 0 };
                let mut callers: Vec<String> = Common::callers(&labels).into_iter().skip(from).collect();
                // The rounds of a recursion are one way.
                let mut seen = HashSet::new();
                callers.retain(|caller| seen.insert(caller.clone()));
                (callers, *bytes)
            })
            .collect();
        sum.series = match keys {
            [key] => self.series(key.1),
            all => siblings::sum(&all.iter().map(|key| self.series(key.1)).collect::<Vec<_>>()),
        };
        Group {
            by,
            name,
            stack_count: keys
                .iter()
                .filter_map(|key| self.groups.get(key.1))
                .map(|group| u64::from(group.stacks))
                .sum(),
            stacks: members.iter().map(|(key, _)| format!("{:016x}", key.1.0)).collect(),
            paths: group::paths(&called_by),
            sum,
        }
    }

    fn series(&self, index: GroupIndex) -> Vec<(u64, u64)> {
        self.groups.series(index).iter().map(|sample| (sample.elapsed_ms, sample.bytes)).collect()
    }

    /// The stacks by which a group is compared with suppressions, those that hold the most.
    pub(super) fn representatives(&self, group: &Group, stacks: &[(Key, Stack)]) -> Vec<Key> {
        let mut of: Vec<(u64, Key)> = stacks
            .iter()
            .filter(|(_, stack)| stack.group.as_deref() == Some(&group.sum.id))
            .map(|(key, stack)| (stack.outstanding_bytes, *key))
            .collect();
        of.sort_unstable_by(|a, b| b.cmp(a));
        of.into_iter().take(DESCRIBED).map(|(_, key)| key).collect()
    }

    /// Forgets a process.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.groups.forget(slot, |key| key.0 == slot);
        self.programs.remove(&slot);
    }
}

/// What is looked at for its living blocks.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Set {
    Stack(Key),
    Group(GroupIndex),
}

/// What a stack may have in common with others.
#[derive(Clone, Debug, Default)]
struct Common {
    /// The module, the allocating function, and its next callers.
    labels: Vec<String>,
    /// The frame of the allocating function.
    function: usize,
    /// Up to which frame, exclusive, each of the functions goes.
    ends: Vec<usize>,
}

impl Common {
    fn of(frames: &[Frame]) -> Self {
        let function = place::blamed(frames);
        let Some(first) = frames.get(function) else { return Self::default() };
        // Interpreted code has its file in place of a module.
        let module = if first.kind == FrameKind::Interpreter { &first.file } else { &first.module };
        let mut labels = vec![module.clone().unwrap_or_default()];
        let mut ends = Vec::new();
        for (at, frame) in frames.iter().enumerate().skip(function) {
            let label = label(frame);
            if labels.len() > 1 && labels.last() == Some(&label) {
                ends.pop();
                ends.push(at + 1);
                continue;
            }
            if labels.len() == 2 + CALLERS {
                break;
            }
            labels.push(label);
            ends.push(at + 1);
        }
        Self { labels, function, ends }
    }

    /// The functions of a stack from the allocating one on, each once in a row.
    fn callers(labels: &[String]) -> Vec<String> {
        let mut callers = labels.to_vec();
        callers.dedup();
        callers
    }
}

/// The labels of a stack's frames from the allocating function on.
fn labels(frames: &[Frame]) -> Vec<String> {
    let function = place::blamed(frames);
    frames.iter().skip(function).map(label).collect()
}

/// A function by a name that all its forms have; code without a name by its place, or as one where that is not known.
fn label(frame: &Frame) -> String {
    match (&frame.function, &frame.module, &frame.offset) {
        (Some(function), ..) => family(function).into_owned(),
        (None, Some(module), Some(offset)) => format!("{module}+{offset}"),
        (None, Some(module), None) => module.clone(),
        (None, None, _) => "unknown code".to_owned(),
    }
}

fn frames(symbols: &mut Symbolizer, key: Key) -> Vec<Frame> {
    describe::frames(symbols.frames(key.0, key.1).frames)
}

/// What all stacks are called together that are never in a group with others: what only collections free is judged in another way, and objects
/// of a sample are no number beside all blocks.
fn apart(key: Key, pages: &Pages) -> Option<&'static str> {
    match key.2 {
        _ if pages.is_known_collected(key) => Some(COLLECTED),
        ledger::Kind::Profiled => Some(PROFILED),
        _ => None,
    }
}

fn hashed(above: u64, label: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    above.hash(&mut hasher);
    label.hash(&mut hasher);
    hasher.finish()
}
