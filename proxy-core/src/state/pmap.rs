//! A map in the order of its keys of which a copy costs nothing: copies share what they have in common.
//!
//! The maps of the replicated state that grow with the load are such maps, so that a snapshot is taken of a copy, beside
//! further changes, and not while everything waits. What a change costs more while a copy lives is the part of the tree
//! that leads to the record (ADR 0010 has the figures). Records lie behind a pointer of their own: a change copies one
//! record, and not its neighbours.
//!
//! What is used of `BTreeMap` is here under the same names. What was removed is given back shared: it may still belong to
//! a copy.

use std::borrow::Borrow;
use std::fmt;
use std::iter::Map;
use std::marker::PhantomData;
use std::ops::RangeBounds;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::{self, DiffItem};
use imbl::shared_ptr::DefaultSharedPtr;
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
}

type Show<'a, K, V> = fn((&'a K, &'a Arc<V>)) -> (&'a K, &'a V);

/// Records in the order of their keys.
pub type Iter<'a, K, V> = Map<ordmap::Iter<'a, K, Arc<V>, DefaultSharedPtr>, Show<'a, K, V>>;

/// Records of a range of keys, in order.
pub type Range<'a, K, V> = Map<ordmap::RangedIter<'a, K, Arc<V>, DefaultSharedPtr>, Show<'a, K, V>>;

impl<K, V> PMap<K, V> {
    /// One without records.
    #[must_use]
    pub fn new() -> Self {
        Self { map: OrdMap::new() }
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

/// A key, and its record before and after a change; `None`: there was none.
pub type Changed<'a, K, V> = (&'a K, Option<&'a V>, Option<&'a V>);

impl<K: Ord, V: Eq> PMap<K, V> {
    /// The records that differ from those of `before`, in the order of their keys. What both share is not looked at, so
    /// that it costs as much as the changes between two copies of one map.
    pub fn changed_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = Changed<'a, K, V>> {
        before.map.diff(&self.map).map(|item| match item {
            DiffItem::Add(key, new) => (key, None, Some(&**new)),
            DiffItem::Update { old: (_, old), new: (key, new) } => (key, Some(&**old), Some(&**new)),
            DiffItem::Remove(key, old) => (key, Some(&**old), None),
        })
    }
}

fn shown<'a, K, V>((key, value): (&'a K, &'a Arc<V>)) -> (&'a K, &'a V) {
    (key, value)
}

impl<K: Ord + Clone, V> PMap<K, V> {
    /// Puts a record in the place of the one with that key, if there is one, which is given back.
    pub fn insert(&mut self, key: K, value: V) -> Option<Arc<V>> {
        self.map.insert(key, Arc::new(value))
    }

    /// Takes the record of a key out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
    {
        self.map.remove(key)
    }

    /// Takes the first record out.
    pub fn pop_first(&mut self) -> Option<(K, Arc<V>)> {
        let key = self.map.get_min()?.0.clone();
        self.map.remove_with_key(&key)
    }
}

impl<K: Ord + Clone, V: Clone> PMap<K, V> {
    /// The record of a key, to be changed. It is copied first if a copy of the map has it, too.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        // Looked for first: a change of nothing copies nothing.
        if !self.map.contains_key(key) {
            return None;
        }
        self.map.get_mut(key).map(Arc::make_mut)
    }

    /// The record of a key, to be changed, which is made where it is missing.
    pub fn get_or_default(&mut self, key: &K) -> &mut V
    where
        V: Default,
    {
        Arc::make_mut(self.map.entry(key.clone()).or_default())
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
    fn clone(&self) -> Self {
        Self { map: self.map.clone() }
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
    enum Change {
        Insert(u8, u16),
        Remove(u8),
        Set(u8, u16),
        Make(u8, u16),
        PopFirst,
        Keep,
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            4 => (any::<u8>(), any::<u16>()).prop_map(|(k, v)| Change::Insert(k, v)),
            2 => any::<u8>().prop_map(Change::Remove),
            2 => (any::<u8>(), any::<u16>()).prop_map(|(k, v)| Change::Set(k, v)),
            1 => (any::<u8>(), any::<u16>()).prop_map(|(k, v)| Change::Make(k, v)),
            1 => Just(Change::PopFirst),
            1 => Just(Change::Keep),
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
            for change in changes {
                match change {
                    Change::Insert(k, v) => {
                        let old = map.insert(k.to_string(), v);
                        prop_assert_eq!(old.map(|v| *v), model.insert(k.to_string(), v));
                    }
                    Change::Remove(k) => {
                        let k = k.to_string();
                        prop_assert_eq!(map.remove(k.as_str()).map(|v| *v), model.remove(&k));
                    }
                    Change::Set(k, v) => {
                        let k = k.to_string();
                        if let Some(record) = map.get_mut(k.as_str()) {
                            *record = v;
                        }
                        if let Some(record) = model.get_mut(&k) {
                            *record = v;
                        }
                    }
                    Change::Make(k, v) => {
                        let k = k.to_string();
                        *map.get_or_default(&k) = v;
                        *model.entry(k).or_default() = v;
                    }
                    Change::PopFirst => {
                        prop_assert_eq!(map.pop_first().map(|(k, v)| (k, *v)), model.pop_first());
                    }
                    Change::Keep => kept.push((map.clone(), model.clone())),
                }
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(map.first_key_value(), model.first_key_value());
            }
            kept.push((map, model));
            for (before, after) in kept.iter().zip(kept.iter().skip(1)) {
                let keys: BTreeSet<_> = before.1.keys().chain(after.1.keys()).collect();
                let model = keys.into_iter().map(|k| (k, before.1.get(k), after.1.get(k)));
                prop_assert!(after.0.changed_since(&before.0).eq(model.filter(|(_, old, new)| old != new)));
            }
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
