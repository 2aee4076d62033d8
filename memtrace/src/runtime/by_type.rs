//! What the objects of each type hold, from one census to the next: a type of which none is left holds nothing.

use std::{collections::BTreeMap, sync::Arc};

use super::count::{Count, Counted};

/// What types are called together for which there is no room.
const OTHERS: &str = "(other types)";

/// What objects hold, by the name of their type.
#[derive(Debug)]
pub struct ByType {
    held: BTreeMap<Arc<str>, Held>,
    /// The most names that are told apart.
    most: usize,
}

/// What objects of the types of one name hold.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Held {
    objects: u64,
    bytes: u64,
    /// The most of either that a census has found.
    most_objects: u64,
    most_bytes: u64,
}

impl ByType {
    /// Nothing yet; `most` names are told apart at most.
    pub fn new(most: usize) -> Self {
        Self { held: BTreeMap::new(), most }
    }

    /// What a census has found: names, numbers of objects and bytes, the names that are to be told apart first. A name may come more than once.
    pub fn take(&mut self, found: impl IntoIterator<Item = (Arc<str>, u64, u64)>) -> impl Iterator<Item = Count> {
        self.held.values_mut().for_each(|held| (held.objects, held.bytes) = (0, 0));
        for (name, objects, bytes) in found {
            let has_room = self.held.len() < self.most || self.held.contains_key(&name);
            let held = self.held.entry(if has_room { name } else { OTHERS.into() }).or_default();
            held.objects = held.objects.saturating_add(objects);
            held.bytes = held.bytes.saturating_add(bytes);
        }
        self.held.iter_mut().map(|(name, held)| held.count(name))
    }
}

impl Held {
    fn count(&mut self, name: &Arc<str>) -> Count {
        self.most_objects = self.most_objects.max(self.objects);
        self.most_bytes = self.most_bytes.max(self.bytes);
        Count {
            counted: Counted::Type,
            name: Some(Arc::clone(name)),
            place: Arc::default(),
            bytes: self.bytes,
            objects: self.objects,
            ever: self.most_objects,
            ever_bytes: self.most_bytes,
            sampled: None,
            state: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(types: &mut ByType, found: &[(&str, u64, u64)]) -> Vec<(String, u64, u64, u64)> {
        let found: Vec<_> = found.iter().map(|&(name, objects, bytes)| (name.into(), objects, bytes)).collect();
        let name = |count: &Count| count.name.as_deref().unwrap_or_default().to_owned();
        types.take(found).map(|count| (name(&count), count.objects, count.bytes, count.ever)).collect()
    }

    #[test]
    fn a_type_of_which_none_is_left_holds_nothing() {
        let mut types = ByType::new(10);
        assert_eq!(take(&mut types, &[("a", 1, 10), ("a", 2, 20)]), [("a".to_owned(), 3, 30, 3)]);
        assert_eq!(take(&mut types, &[("b", 1, 5)]), [("a".to_owned(), 0, 0, 3), ("b".to_owned(), 1, 5, 1)]);
    }

    #[test]
    fn more_types_than_there_is_room_for_are_one() {
        let mut types = ByType::new(1);
        let found = take(&mut types, &[("a", 1, 10), ("b", 1, 5), ("c", 2, 5), ("a", 1, 10)]);
        assert_eq!(found, [(OTHERS.to_owned(), 3, 10, 3), ("a".to_owned(), 2, 20, 2)]);
    }
}
