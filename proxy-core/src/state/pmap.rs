//! A map in the order of its keys of which a copy costs nothing: copies share what they have in common.
//!
//! The maps of the replicated state that grow with the load are such maps, so that a snapshot is taken of a copy, beside
//! further changes, and not while everything waits. What a change costs more while a copy lives is the part of the tree
//! that leads to the record (ADR 0010 has the figures). Records lie behind a pointer of their own: a change copies one
//! record, and not its neighbours.
//!
//! A map that is watched notes the records that are changed, as they were: so that they can be told, and taken back. That
//! costs as much as the changes, and no copy of the map need live meanwhile, for which a change copies a part of the tree.
//!
//! What is used of `BTreeMap` is here under the same names. What was removed is given back shared: it may still belong to
//! a copy.

use std::borrow::Borrow;
use std::fmt;
use std::iter::Map;
use std::marker::PhantomData;
use std::ops::RangeBounds;
use std::sync::Arc;

use imbl::shared_ptr::DefaultSharedPtr;
use imbl::{OrdMap, ordmap};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A persistent map.
///
/// ```
/// # use proxy_core::state::PMap;
/// let mut map: PMap<String, u32> = [("a".to_owned(), 1)].into_iter().collect();
/// let copy = map.clone();
/// map.insert("b".to_owned(), 2);
/// assert_eq!((copy.len(), map.len()), (1, 2));
/// ```
pub struct PMap<K, V> {
    map: OrdMap<K, Arc<V>>,
    watch: Watch<K, V>,
}

/// What was noted since [`PMap::watch`].
struct Watch<K, V> {
    on: bool,
    /// The tree is being changed: after a panic in the midst of that it is of no use.
    busy: bool,
    /// The records that were changed, as they were, the first change first.
    old: Vec<(K, Option<Arc<V>>)>,
}

impl<K, V> Default for Watch<K, V> {
    fn default() -> Self {
        Self { on: false, busy: false, old: Vec::new() }
    }
}

impl<K, V> Watch<K, V> {
    fn note(&mut self, key: K, old: Option<Arc<V>>) {
        if self.on {
            self.old.push((key, old));
        }
    }
}

/// A key, and its record before and after; `None`: there was none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<K, V> {
    /// Names the record.
    pub key: K,
    /// As it was.
    pub before: Option<Arc<V>>,
    /// As it is.
    pub after: Option<Arc<V>>,
}

/// A map cannot be made what it was: it was not watched, or a change of it was broken off in the midst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what was changed cannot be taken back")]
pub struct Lost;

type Show<'a, K, V> = fn((&'a K, &'a Arc<V>)) -> (&'a K, &'a V);

/// Records in the order of their keys.
pub type Iter<'a, K, V> = Map<ordmap::Iter<'a, K, Arc<V>, DefaultSharedPtr>, Show<'a, K, V>>;

/// Records of a range of keys, in order.
pub type Range<'a, K, V> = Map<ordmap::RangedIter<'a, K, Arc<V>, DefaultSharedPtr>, Show<'a, K, V>>;

impl<K, V> PMap<K, V> {
    /// One without records.
    #[must_use]
    pub fn new() -> Self {
        Self { map: OrdMap::new(), watch: Watch::default() }
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Whether both are copies of one map and neither was changed since.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.map.ptr_eq(&other.map)
    }
}

impl<K: Ord, V> PMap<K, V> {
    /// The record of a key.
    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.map.get(key).map(|v| &**v)
    }

    /// The record of a key, and the key as it is stored.
    #[must_use]
    pub fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        self.map.get_key_value(key).map(|(k, v)| (k, &**v))
    }

    /// Whether there is a record of a key.
    #[must_use]
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.map.contains_key(key)
    }

    /// The first record.
    #[must_use]
    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        self.map.get_min().map(|(k, v)| (k, &**v))
    }

    /// All records, in the order of their keys.
    pub fn iter(&self) -> Iter<'_, K, V> {
        self.map.iter().map(shown as Show<'_, K, V>)
    }

    /// All keys, in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.map.keys()
    }

    /// All records, in the order of their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.map.values().map(|v| &**v)
    }

    /// Records of a range of keys, in order.
    pub fn range<Q: Ord + ?Sized, R: RangeBounds<Q>>(&self, range: R) -> Range<'_, K, V>
    where
        K: Borrow<Q>,
    {
        self.map.range(range).map(shown as Show<'_, K, V>)
    }
}

fn shown<'a, K, V>((key, value): (&'a K, &'a Arc<V>)) -> (&'a K, &'a V) {
    (key, value)
}

impl<K: Ord + Clone, V> PMap<K, V> {
    /// Puts a record in the place of the one with that key, if there is one, which is given back.
    pub fn insert(&mut self, key: K, value: V) -> Option<Arc<V>> {
        let noted = self.watch.on.then(|| key.clone());
        let old = self.change(|map| map.insert(key, Arc::new(value)));
        if let Some(key) = noted {
            self.watch.note(key, old.clone());
        }
        old
    }

    /// Takes the record of a key out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
    {
        let (key, old) = self.change(|map| map.remove_with_key(key))?;
        self.watch.note(key, Some(old.clone()));
        Some(old)
    }

    /// Takes the first record out.
    pub fn pop_first(&mut self) -> Option<(K, Arc<V>)> {
        let key = self.map.get_min()?.0.clone();
        let (key, old) = self.change(|map| map.remove_with_key(&key))?;
        if self.watch.on {
            self.watch.note(key.clone(), Some(old.clone()));
        }
        Some((key, old))
    }

    fn change<R>(&mut self, change: impl FnOnce(&mut OrdMap<K, Arc<V>>) -> R) -> R {
        self.watch.busy = true;
        let result = change(&mut self.map);
        self.watch.busy = false;
        result
    }

    /// Begins to note what is changed. What was noted before is forgotten.
    pub fn watch(&mut self) {
        self.watch.on = true;
        self.watch.old.clear();
    }

    /// Notes no more, and forgets what was noted.
    pub fn leave(&mut self) {
        self.watch = Watch::default();
    }

    /// Takes back what was changed since [`PMap::watch`], and goes on noting.
    ///
    /// # Errors
    /// It cannot be taken back.
    pub fn take_back(&mut self) -> Result<(), Lost> {
        if !self.watch.on || self.watch.busy {
            return Err(Lost);
        }
        for (key, old) in std::mem::take(&mut self.watch.old).into_iter().rev() {
            match old {
                Some(old) => drop(self.map.insert(key, old)),
                None => drop(self.map.remove(&key)),
            }
        }
        Ok(())
    }

    /// The records that differ from what they were at [`PMap::watch`], in the order of their keys. Notes no more.
    pub fn changes(&mut self) -> Vec<Change<K, V>>
    where
        V: Eq,
    {
        let mut old = std::mem::take(&mut self.watch).old;
        // What a key had first is what it had before all changes: the order of equal keys stays.
        old.sort_by(|(a, _), (b, _)| a.cmp(b));
        old.dedup_by(|(later, _), (first, _)| later == first);
        let change = |(key, before)| {
            let after = self.map.get(&key).cloned();
            (before != after).then_some(Change { key, before, after })
        };
        old.into_iter().filter_map(change).collect()
    }
}

impl<K: Ord + Clone, V: Clone> PMap<K, V> {
    /// The record of a key, to be changed. It is copied first if a copy of the map has it, too.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        // Looked for first: a change of nothing copies nothing.
        let (found, old) = self.map.get_key_value(key)?;
        if self.watch.on {
            self.watch.note(found.clone(), Some(old.clone()));
        }
        self.watch.busy = true;
        let record = self.map.get_mut(key);
        self.watch.busy = false;
        record.map(Arc::make_mut)
    }

    /// The record of a key, to be changed, which is made where it is missing.
    pub fn get_or_default(&mut self, key: &K) -> &mut V
    where
        V: Default,
    {
        if self.watch.on {
            self.watch.note(key.clone(), self.map.get(key).cloned());
        }
        self.watch.busy = true;
        let record = self.map.entry(key.clone()).or_default();
        self.watch.busy = false;
        Arc::make_mut(record)
    }
}

impl<'a, K: Ord, V> IntoIterator for &'a PMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

impl<K, V> Clone for PMap<K, V> {
    /// What was noted is not in the copy.
    fn clone(&self) -> Self {
        Self { map: self.map.clone(), watch: Watch::default() }
    }
}

impl<K, V> Default for PMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord, V: PartialEq> PartialEq for PMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other) || (self.len() == other.len() && self.iter().eq(other.iter()))
    }
}

impl<K: Ord, V: Eq> Eq for PMap<K, V> {}

impl<K: Ord + fmt::Debug, V: fmt::Debug> fmt::Debug for PMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Ord + Clone, V> Extend<(K, V)> for PMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, records: I) {
        for (key, value) in records {
            self.insert(key, value);
        }
    }
}

impl<K: Ord + Clone, V> FromIterator<(K, V)> for PMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(records: I) -> Self {
        let mut map = Self::new();
        map.extend(records);
        map
    }
}

impl<K: Ord + Serialize, V: Serialize> Serialize for PMap<K, V> {
    /// As a `BTreeMap` with the same records.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

struct Records<K, V>(PhantomData<(K, V)>);

impl<'de, K: Ord + Clone + Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for Records<K, V> {
    type Value = PMap<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<PMap<K, V>, A::Error> {
        let mut map = PMap::new();
        while let Some((key, value)) = access.next_entry()? {
            map.insert(key, value);
        }
        Ok(map)
    }
}

impl<'de, K: Ord + Clone + Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for PMap<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Records(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::ops::Bound::{Excluded, Unbounded};

    use minicbor::{Decoder, Encoder};
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{self, Memory, Table};

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u8, u16),
        Remove(u8),
        Set(u8, u16),
        Make(u8, u16),
        PopFirst,
        Keep,
        TakeBack,
    }

    fn change() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (any::<u8>(), any::<u16>()).prop_map(|(k, v)| Step::Insert(k, v)),
            2 => any::<u8>().prop_map(Step::Remove),
            2 => (any::<u8>(), any::<u16>()).prop_map(|(k, v)| Step::Set(k, v)),
            1 => (any::<u8>(), any::<u16>()).prop_map(|(k, v)| Step::Make(k, v)),
            1 => Just(Step::PopFirst),
            1 => Just(Step::Keep),
            1 => Just(Step::TakeBack),
        ]
    }

    fn bytes<M: Table<Key = String, Value = u16>>(map: &M) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new());
        wire::map::encode(map, &mut encoder, &mut Memory::endless()).expect("encodes");
        encoder.into_writer()
    }

    fn read(bytes: &[u8]) -> PMap<String, u16> {
        wire::map::decode(&mut Decoder::new(bytes), &mut Memory::bytes(1 << 20)).expect("decodes")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_does_what_a_btree_map_does_and_copies_stay_what_they_were(
            changes in proptest::collection::vec(change(), 0..600)
        ) {
            let mut map: PMap<String, u16> = PMap::new();
            let mut model: BTreeMap<String, u16> = BTreeMap::new();
            let mut kept = Vec::new();
            map.watch();
            for change in changes {
                match change {
                    Step::Insert(k, v) => {
                        let old = map.insert(k.to_string(), v);
                        prop_assert_eq!(old.map(|v| *v), model.insert(k.to_string(), v));
                    }
                    Step::Remove(k) => {
                        let k = k.to_string();
                        prop_assert_eq!(map.remove(k.as_str()).map(|v| *v), model.remove(&k));
                    }
                    Step::Set(k, v) => {
                        let k = k.to_string();
                        if let Some(record) = map.get_mut(k.as_str()) {
                            *record = v;
                        }
                        if let Some(record) = model.get_mut(&k) {
                            *record = v;
                        }
                    }
                    Step::Make(k, v) => {
                        let k = k.to_string();
                        *map.get_or_default(&k) = v;
                        *model.entry(k).or_default() = v;
                    }
                    Step::PopFirst => {
                        prop_assert_eq!(map.pop_first().map(|(k, v)| (k, *v)), model.pop_first());
                    }
                    Step::Keep => {
                        let told = map.changes();
                        let before = kept.last().map_or_else(BTreeMap::new, |(_, model): &(_, BTreeMap<_, _>)| model.clone());
                        let keys: BTreeSet<_> = before.keys().chain(model.keys()).collect();
                        let all = keys.into_iter().map(|k| (k, before.get(k), model.get(k)));
                        let told = told.iter().map(|c| (&c.key, c.before.as_deref(), c.after.as_deref()));
                        prop_assert!(told.eq(all.filter(|(_, old, new)| old != new)));
                        map.watch();
                        kept.push((map.clone(), model.clone()));
                    }
                    Step::TakeBack => {
                        prop_assert_eq!(map.take_back(), Ok(()));
                        model = kept.last().map_or_else(BTreeMap::new, |(_, model)| model.clone());
                    }
                }
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(map.first_key_value(), model.first_key_value());
            }
            kept.push((map, model));
            for (map, model) in &kept {
                prop_assert!(map.iter().eq(model.iter()));
                prop_assert!(map.iter().rev().eq(model.iter().rev()));
                prop_assert!(map.keys().eq(model.keys()));
                prop_assert!(map.values().eq(model.values()));
                for k in ["", "1", "128", "9"] {
                    prop_assert_eq!(map.get(k), model.get(k));
                    prop_assert_eq!(map.contains_key(k), model.contains_key(k));
                    let range = (Excluded(k), Unbounded);
                    prop_assert!(map.range::<str, _>(range).eq(model.range::<str, _>(range)));
                }
                // Equal maps have equal bytes, however they came about.
                prop_assert_eq!(bytes(map), bytes(model));
                let again: PMap<String, u16> = model.clone().into_iter().collect();
                prop_assert_eq!(map, &again);
                prop_assert_eq!(map, &read(&bytes(model)));
            }
        }
    }

    #[test]
    fn what_is_not_watched_or_was_broken_off_is_not_taken_back() {
        let mut map: PMap<u32, u32> = (0..100).map(|n| (n, n)).collect();
        assert_eq!(map.take_back(), Err(Lost));
        map.watch();
        map.insert(7, 8);
        assert_eq!(map.clone().take_back(), Err(Lost), "a copy knows nothing of it");
        map.watch.busy = true;
        assert_eq!(map.take_back(), Err(Lost));
    }

    #[test]
    fn a_change_copies_the_record_and_not_its_neighbours() {
        let mut map: PMap<u32, Vec<u32>> = (0..100).map(|n| (n, vec![n])).collect();
        let copy = map.clone();
        assert!(map.is_same(&copy));
        map.get_mut(&50).expect("there").push(1);
        assert!(!map.is_same(&copy));
        assert_eq!((copy.get(&50), map.get(&50)), (Some(&vec![50]), Some(&vec![50, 1])));
        let shared = |n: u32| std::ptr::eq(copy.get(&n).expect("there"), map.get(&n).expect("there"));
        assert!(shared(49) && shared(51) && !shared(50));
        assert!(map.get_mut(&1000).is_none());
    }
}
