//! Which tables stand in the kernel's array of rows when not all of them fit: those that were used last.
//!
//! Time is counted in looks, one an interval. A table is used when it is newly mapped, and at a look when a stack that
//! allocated since the last one has a frame in it. Tables that no target maps any more go first, then those that were
//! used longest ago, and never one that was used as recently as the newcomer. The rows of a table stand together: if it
//! spares more recently used tables, the ones that stay are moved together.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

/// Where in an array something is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Extent {
    /// Index of its first element.
    pub first: u32,
    /// Its elements.
    pub count: u32,
}

impl Extent {
    const fn end(self) -> u32 {
        self.first.saturating_add(self.count)
    }
}

/// The tables that targets map, and the places of those that have one. `K` stands for a table.
#[derive(Debug)]
pub struct Budget<K> {
    limit: u32,
    look: u64,
    tables: HashMap<K, Known>,
    /// By first row; tables without rows take no room and are not in here.
    places: BTreeMap<u32, K>,
}

#[derive(Debug)]
struct Known {
    rows: u32,
    /// Targets that map it.
    users: u32,
    /// The look at which it was used last.
    used: u64,
    first: Option<u32>,
}

impl Known {
    /// What goes first has the least.
    const fn rank(&self) -> Rank {
        if self.users == 0 { None } else { Some(self.used) }
    }
}

/// `None` for a table that no target maps.
type Rank = Option<u64>;

/// What became of a table that asked for a place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Admission<K> {
    /// It had one.
    There,
    /// It has one now, and its rows are to be written.
    Placed {
        /// Tables that lost theirs, though targets map them.
        evicted: Vec<K>,
        /// Tables that no target maps, and which are forgotten.
        forgotten: Vec<K>,
        /// Tables that have another place now, and whose rows are to be written again.
        moved: Vec<K>,
    },
    /// There is no room that could be made.
    LeftOut,
}

impl<K: Copy + Eq + Hash> Budget<K> {
    /// An empty array of `limit` rows.
    pub fn new(limit: u32) -> Self {
        Self { limit, look: 0, tables: HashMap::new(), places: BTreeMap::new() }
    }

    /// A target maps the table from now on, which has this many rows.
    pub fn map(&mut self, key: K, rows: u32) {
        let known = self.tables.entry(key).or_insert(Known { rows, users: 0, used: 0, first: None });
        known.users += 1;
        known.used = self.look;
    }

    /// A target that mapped the table does not any more. One that no target maps keeps its place until it is needed;
    /// true when it has none and is forgotten.
    pub fn unmap(&mut self, key: K) -> bool {
        let Some(known) = self.tables.get_mut(&key) else { return false };
        known.users = known.users.saturating_sub(1);
        let forgotten = known.users == 0 && known.first.is_none();
        if forgotten {
            self.tables.remove(&key);
        }
        forgotten
    }

    /// Begins the next look at which tables are used.
    pub fn begin_look(&mut self) {
        self.look += 1;
    }

    /// The table was used, as this look finds.
    pub fn mark_used(&mut self, key: K) {
        if let Some(known) = self.tables.get_mut(&key) {
            known.used = self.look;
        }
    }

    /// Tables that this look found used and that have no place.
    pub fn missed(&self) -> impl Iterator<Item = K> + '_ {
        let missed = self.tables.iter().filter(|(_, known)| known.first.is_none() && known.used == self.look);
        missed.map(|(&key, _)| key)
    }

    /// Where a table has its rows; `None` when it has no room.
    pub fn place(&self, key: K) -> Option<Extent> {
        let known = self.tables.get(&key)?;
        Some(Extent { first: known.first?, count: known.rows })
    }

    /// How many rows are in use.
    pub fn rows(&self) -> usize {
        self.places.values().filter_map(|key| self.tables.get(key)).map(|known| known.rows as usize).sum()
    }

    /// Rows that there is room for.
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// Gives a known table a place, if there is room or less recently used tables can make some.
    pub fn admit(&mut self, key: K) -> Admission<K> {
        let (rows, rank) = match self.tables.get(&key) {
            Some(known) if known.first.is_some() => return Admission::There,
            Some(known) => (known.rows, known.rank()),
            None => return Admission::LeftOut,
        };
        let cheapest = self.cheapest(rows);
        let (victims, stretch) = match cheapest {
            Some((first, None)) => (Vec::new(), Some(first)),
            _ => {
                let oldest = self.oldest(rows).filter(|&(_, worst)| worst < Some(rank));
                let Some((victims, worst)) = oldest else { return Admission::LeftOut };
                // To clear a stretch is enough, unless that costs tables that were used later than what must go anyway.
                match cheapest.filter(|&(_, cost)| cost <= worst) {
                    Some((first, _)) => {
                        let stretch = Extent { first, count: rows };
                        (self.overlapping(stretch).map(|(_, key)| key).collect(), Some(first))
                    }
                    None => (victims, None),
                }
            }
        };
        let (evicted, forgotten) = self.displace(&victims);
        let (first, moved) = stretch.map_or_else(|| self.compact(), |first| (first, Vec::new()));
        if let Some(known) = self.tables.get_mut(&key) {
            known.first = Some(first);
        }
        if rows > 0 {
            self.places.insert(first, key);
        }
        Admission::Placed { evicted, forgotten, moved }
    }

    /// The tables that must go so that there are `rows` free rows, wherever they are, and the rank of the last of them.
    /// `None` when that is more than there is.
    fn oldest(&self, rows: u32) -> Option<(Vec<K>, Option<Rank>)> {
        let mut free = u64::from(self.limit) - self.rows() as u64;
        let mut placed: Vec<(Rank, u32, K)> = Vec::new();
        for &key in self.places.values() {
            let known = self.tables.get(&key)?;
            placed.push((known.rank(), known.rows, key));
        }
        // Of equally old ones the large first: fewer go.
        placed.sort_by_key(|&(rank, rows, _)| (rank, Reverse(rows)));
        let (mut victims, mut worst) = (Vec::new(), None);
        let mut placed = placed.into_iter();
        while free < u64::from(rows) {
            let (rank, rows, key) = placed.next()?;
            free += u64::from(rows);
            worst = Some(rank);
            victims.push(key);
        }
        Some((victims, worst))
    }

    /// Takes their places from these tables: the ones that targets map, and the others, which are forgotten.
    fn displace(&mut self, victims: &[K]) -> (Vec<K>, Vec<K>) {
        let (mut evicted, mut forgotten) = (Vec::new(), Vec::new());
        for &key in victims {
            let Some(known) = self.tables.get_mut(&key) else { continue };
            if let Some(first) = known.first.take() {
                self.places.remove(&first);
            }
            if known.users > 0 {
                evicted.push(key);
            } else {
                self.tables.remove(&key);
                forgotten.push(key);
            }
        }
        (evicted, forgotten)
    }

    /// Moves all tables together: the first row behind them, and the tables that have moved.
    fn compact(&mut self) -> (u32, Vec<K>) {
        let (mut next, mut moved) = (0, Vec::new());
        for (first, key) in std::mem::take(&mut self.places) {
            let Some(known) = self.tables.get_mut(&key) else { continue };
            known.first = Some(next);
            self.places.insert(next, key);
            if next != first {
                moved.push(key);
            }
            next += known.rows;
        }
        (next, moved)
    }

    /// The start of the stretch of `rows` rows whose most recently used table was used longest ago, and that table's rank:
    /// `None` when the stretch is free. Any stretch can be moved down to the end of a table, or to 0, without meeting
    /// another table; so these are all that need to be looked at.
    fn cheapest(&self, rows: u32) -> Option<(u32, Option<Rank>)> {
        let ends = self.places.iter().map(|(&first, key)| first.saturating_add(self.rows_of(key)));
        let mut best: Option<((Option<Rank>, u64), u32)> = None;
        for first in std::iter::once(0).chain(ends) {
            if self.limit.saturating_sub(first) < rows {
                continue;
            }
            let mut cost: (Option<Rank>, u64) = (None, 0);
            for (_, key) in self.overlapping(Extent { first, count: rows }) {
                let Some(known) = self.tables.get(&key) else { continue };
                cost = (cost.0.max(Some(known.rank())), cost.1 + u64::from(known.rows));
            }
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, first));
            }
            if cost.0.is_none() {
                break;
            }
        }
        best.map(|((worst, _), first)| (first, worst))
    }

    /// Tables with a row in the stretch, and where they start.
    fn overlapping(&self, stretch: Extent) -> impl Iterator<Item = (u32, K)> + '_ {
        let before = self.places.range(..stretch.first).next_back();
        let before = before.filter(move |(first, key)| first.saturating_add(self.rows_of(key)) > stretch.first);
        before.into_iter().chain(self.places.range(stretch.first..stretch.end())).map(|(&first, &key)| (first, key))
    }

    fn rows_of(&self, key: &K) -> u32 {
        self.tables.get(key).map_or(0, |known| known.rows)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn placed(budget: &Budget<u32>) -> BTreeSet<u32> {
        budget.tables.keys().copied().filter(|&key| budget.place(key).is_some()).collect()
    }

    #[test]
    fn what_nobody_maps_goes_first_then_what_was_used_longest_ago() {
        let mut budget = Budget::new(30);
        for key in [1, 2, 3] {
            budget.map(key, 10);
            assert_eq!(budget.admit(key), Admission::Placed { evicted: vec![], forgotten: vec![], moved: vec![] });
        }
        budget.map(4, 10);
        assert_eq!(budget.admit(4), Admission::LeftOut, "all were used at the same time");
        budget.begin_look();
        budget.mark_used(1);
        budget.mark_used(4);
        assert_eq!(budget.missed().collect::<Vec<_>>(), [4]);
        assert_eq!(budget.admit(4), Admission::Placed { evicted: vec![2], forgotten: vec![], moved: vec![] });
        budget.unmap(1);
        budget.begin_look();
        budget.map(5, 10);
        assert_eq!(budget.admit(5), Admission::Placed { evicted: vec![], forgotten: vec![1], moved: vec![] });
        assert_eq!(placed(&budget), [3, 4, 5].into());
        assert_eq!(budget.rows(), 30);
    }

    #[test]
    fn a_table_that_is_larger_than_the_budget_evicts_nothing() {
        let mut budget = Budget::new(30);
        budget.map(1, 30);
        budget.admit(1);
        budget.begin_look();
        budget.map(2, 31);
        assert_eq!(budget.admit(2), Admission::LeftOut);
        assert_eq!(placed(&budget), [1].into());
    }

    #[test]
    fn tables_are_moved_together_rather_than_evicted() {
        let mut budget = Budget::new(30);
        for key in [1, 2, 3] {
            budget.map(key, 10);
            budget.admit(key);
        }
        budget.begin_look();
        budget.mark_used(2);
        budget.map(4, 20);
        assert_eq!(budget.admit(4), Admission::Placed { evicted: vec![1, 3], forgotten: vec![], moved: vec![2] });
        assert_eq!(
            (budget.place(2), budget.place(4)),
            (Some(Extent { first: 0, count: 10 }), Some(Extent { first: 10, count: 20 }))
        );
    }

    #[test]
    fn a_table_without_rows_always_has_a_place_and_harms_nobody() {
        let mut budget = Budget::new(10);
        for (key, rows) in [(1, 0), (2, 10), (3, 0)] {
            budget.map(key, rows);
            assert_eq!(budget.admit(key), Admission::Placed { evicted: vec![], forgotten: vec![], moved: vec![] });
        }
        assert_eq!((placed(&budget), budget.rows()), ([1, 2, 3].into(), 10));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Map(u32),
        Unmap(u32),
        /// A look that finds these used.
        Look(Vec<u32>),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let key = 0..12_u32;
        prop::collection::vec(
            prop_oneof![
                2 => key.clone().prop_map(Step::Map),
                1 => key.clone().prop_map(Step::Unmap),
                3 => prop::collection::vec(key, 0..5).prop_map(Step::Look),
            ],
            0..80,
        )
    }

    /// The rank of the last table that must go for there to be so many free rows: the plainest way to find it.
    fn least_worst(budget: &Budget<u32>, rows: u32) -> Option<Option<Rank>> {
        let placed = || placed(budget).into_iter().filter_map(|key| budget.tables.get(&key));
        let left_with = |worst: Option<Rank>| -> u32 {
            placed().filter(|known| Some(known.rank()) > worst).map(|known| known.rows).sum()
        };
        let ranks = placed().filter(|known| known.rows > 0).map(|known| Some(known.rank()));
        ranks.chain([None]).filter(|&worst| left_with(worst) + rows <= budget.limit).min()
    }

    /// Admits, and checks the choice.
    fn admit(budget: &mut Budget<u32>, key: u32) -> Result<(), TestCaseError> {
        if budget.place(key).is_some() {
            prop_assert_eq!(budget.admit(key), Admission::There);
            return Ok(());
        }
        let (rows, rank) = (budget.tables[&key].rows, budget.tables[&key].rank());
        let before: HashMap<u32, (Rank, Option<Extent>)> =
            budget.tables.iter().map(|(&key, known)| (key, (known.rank(), budget.place(key)))).collect();
        let least = least_worst(budget, rows);
        match budget.admit(key) {
            Admission::There => prop_assert!(false, "it had no place"),
            Admission::LeftOut => prop_assert!(least.is_none_or(|worst| worst >= Some(rank))),
            Admission::Placed { evicted, forgotten, moved } => {
                let worst = evicted.iter().chain(&forgotten).map(|gone| before[gone].0).max();
                prop_assert_eq!(Some(worst), least, "only the least recently used go");
                prop_assert!(worst < Some(rank));
                prop_assert!(evicted.iter().all(|key| budget.place(*key).is_none() && before[key].0.is_some()));
                prop_assert!(forgotten.iter().all(|key| before[key].0.is_none() && !budget.tables.contains_key(key)));
                for (other, (_, place)) in before {
                    let stays = other != key && !evicted.contains(&other) && !forgotten.contains(&other);
                    if stays && !moved.contains(&other) {
                        prop_assert_eq!(budget.place(other), place);
                    }
                }
            }
        }
        Ok(())
    }

    /// No two tables share a row, none is beyond the limit.
    fn check_places(budget: &Budget<u32>) -> Result<(), TestCaseError> {
        let mut places: Vec<Extent> = placed(budget).into_iter().filter_map(|key| budget.place(key)).collect();
        places.retain(|place| place.count > 0);
        places.sort_by_key(|place| place.first);
        prop_assert!(places.is_sorted_by(|one, next| one.end() <= next.first), "{places:?}");
        prop_assert!(places.last().is_none_or(|last| last.end() <= budget.limit));
        prop_assert_eq!(places.iter().map(|place| place.count as usize).sum::<usize>(), budget.rows());
        prop_assert!(budget.rows() <= budget.limit as usize);
        Ok(())
    }

    /// Runs the steps; `sizes` are the tables' rows.
    fn run(
        steps: Vec<Step>,
        limit: u32,
        sizes: impl Fn(u32) -> u32,
        check: impl Fn(&Budget<u32>) -> Result<(), TestCaseError>,
    ) -> Result<(), TestCaseError> {
        let mut budget = Budget::new(limit);
        for step in steps {
            match step {
                Step::Map(key) => {
                    budget.map(key, sizes(key));
                    admit(&mut budget, key)?;
                }
                Step::Unmap(key) => _ = budget.unmap(key),
                Step::Look(used) => {
                    budget.begin_look();
                    used.into_iter().for_each(|key| budget.mark_used(key));
                    for key in budget.missed().collect::<BTreeSet<_>>() {
                        admit(&mut budget, key)?;
                    }
                    check(&budget)?;
                }
            }
            check_places(&budget)?;
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn the_budget_holds_and_only_the_least_recently_used_go(
            steps in steps(), limit in 0..40_u32, sizes in prop::collection::vec(0..16_u32, 12),
        ) {
            run(steps, limit, |key| sizes[key as usize], |_| Ok(()))?;
        }

        /// Where all tables are as large, room is a number of tables, and they are the ones that a plain list of the
        /// most recently used would keep.
        #[test]
        fn equal_tables_are_kept_by_their_last_use(steps in steps(), room in 1..8_u32) {
            run(steps, room * 5 + 3, |_| 5, |budget| {
                let in_use: Vec<(&u32, &Known)> = budget.tables.iter().filter(|(_, known)| known.users > 0).collect();
                let (kept, missed): (Vec<_>, Vec<_>) = in_use.iter().partition(|(_, known)| known.first.is_some());
                let used_now = in_use.iter().filter(|(_, known)| known.used == budget.look).count();
                let kept_now = kept.iter().filter(|(_, known)| known.used == budget.look).count();
                prop_assert_eq!(kept_now, used_now.min(room as usize));
                if missed.iter().any(|(_, known)| known.used == budget.look) {
                    prop_assert!(kept.iter().all(|(_, known)| known.used == budget.look));
                }
                Ok(())
            })?;
        }
    }
}
