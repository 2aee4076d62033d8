//! What the objects of each type hold, from one census to the next: a type of which none is left holds nothing.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Language,
    count::{Count, Counted, Sampled},
};

/// What types are called together for which there is no room.
const OTHERS: &str = "(other types)";

/// What objects hold, by the name of their type.
#[derive(Debug)]
pub struct ByType {
    language: Language,
    held: BTreeMap<Arc<str>, Held>,
    /// The most names that are told apart.
    most: usize,
}

/// The objects of one type in one census.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum {
    /// How many there are: what those that were seen stand for.
    pub objects: f64,
    /// Their bytes, likewise.
    pub bytes: f64,
    /// How many were seen.
    pub seen: u64,
    /// The variance of the bytes; 0 where all were seen.
    pub variance: f64,
}

impl Sum {
    /// Of objects that stand for themselves.
    pub fn exact(objects: u64, bytes: u64) -> Self {
        Self { objects: objects as f64, bytes: bytes as f64, seen: objects, variance: 0.0 }
    }

    /// Adds other objects of the type.
    pub fn add(&mut self, other: Self) {
        self.objects += other.objects;
        self.bytes += other.bytes;
        self.seen = self.seen.saturating_add(other.seen);
        self.variance += other.variance;
    }
}

/// What objects of the types of one name hold.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Held {
    now: Sum,
    /// The most of each that a census has found.
    most: Sum,
}

impl ByType {
    /// Nothing yet of the types of a language; `most` names are told apart at most.
    pub fn new(language: Language, most: usize) -> Self {
        Self { language, held: BTreeMap::new(), most }
    }

    /// What a census has found, the names that are to be told apart first. A name may come more than once.
    pub fn take(&mut self, found: impl IntoIterator<Item = (Arc<str>, Sum)>) -> impl Iterator<Item = Count> {
        self.held.values_mut().for_each(|held| held.now = Sum::default());
        for (name, sum) in found {
            let has_room = self.held.len() < self.most || self.held.contains_key(&name);
            self.held.entry(if has_room { name } else { OTHERS.into() }).or_default().now.add(sum);
        }
        let language = self.language;
        self.held.iter_mut().map(move |(name, held)| held.count(name, language))
    }
}

impl Held {
    fn count(&mut self, name: &Arc<str>, language: Language) -> Count {
        let Self { now, most } = self;
        *most = Sum {
            objects: most.objects.max(now.objects),
            bytes: most.bytes.max(now.bytes),
            seen: most.seen.max(now.seen),
            variance: most.variance.max(now.variance),
        };
        // What was an estimate once stays one.
        let sampled = (most.variance > 0.0).then_some(Sampled {
            held: now.seen,
            ever: most.seen,
            held_variance: now.variance,
            turnover_variance: most.variance,
        });
        Count {
            counted: Counted::Type,
            language,
            name: Some(Arc::clone(name)),
            place: Arc::default(),
            // A number that is too large becomes the largest one.
            bytes: now.bytes.round() as u64,
            objects: now.objects.round() as u64,
            ever: most.objects.round() as u64,
            ever_bytes: most.bytes.round() as u64,
            sampled,
            state: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(types: &mut ByType, found: &[(&str, u64, u64)]) -> Vec<(String, u64, u64, u64)> {
        let found: Vec<_> =
            found.iter().map(|&(name, objects, bytes)| (name.into(), Sum::exact(objects, bytes))).collect();
        let name = |count: &Count| count.name.as_deref().unwrap_or_default().to_owned();
        types.take(found).map(|count| (name(&count), count.objects, count.bytes, count.ever)).collect()
    }

    #[test]
    fn a_type_of_which_none_is_left_holds_nothing() {
        let mut types = ByType::new(Language::Python, 10);
        assert_eq!(take(&mut types, &[("a", 1, 10), ("a", 2, 20)]), [("a".to_owned(), 3, 30, 3)]);
        assert_eq!(take(&mut types, &[("b", 1, 5)]), [("a".to_owned(), 0, 0, 3), ("b".to_owned(), 1, 5, 1)]);
    }

    #[test]
    fn more_types_than_there_is_room_for_are_one() {
        let mut types = ByType::new(Language::Python, 1);
        let found = take(&mut types, &[("a", 1, 10), ("b", 1, 5), ("c", 2, 5), ("a", 1, 10)]);
        assert_eq!(found, [(OTHERS.to_owned(), 3, 10, 3), ("a".to_owned(), 2, 20, 2)]);
    }

    #[test]
    fn an_estimate_says_how_good_it_is_and_stays_one() {
        let mut types = ByType::new(Language::Native, 10);
        let drawn = Sum { objects: 4.0, bytes: 400.0, seen: 1, variance: 120_000.0 };
        let mut counts = |found: &[(Arc<str>, Sum)]| types.take(found.to_vec()).collect::<Vec<_>>();
        let found = counts(&[("a".into(), drawn), ("a".into(), Sum::exact(2, 200)), ("b".into(), Sum::exact(1, 1))]);
        assert_eq!((found[0].objects, found[0].bytes, found[0].language), (6, 600, Language::Native));
        let known = Sampled { held: 3, ever: 3, held_variance: 120_000.0, turnover_variance: 120_000.0 };
        assert_eq!((found[0].sampled, found[1].sampled), (Some(known), None));
        let found = counts(&[("a".into(), Sum::exact(1, 100))]);
        assert_eq!(found[0].sampled, Some(Sampled { held: 1, held_variance: 0.0, ..known }));
    }
}
