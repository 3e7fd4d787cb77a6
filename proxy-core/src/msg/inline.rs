//! A list that holds its first `N` elements in place, so that ordinary messages cost no allocation.

/// A growing list: the first `N` elements in place, the others in a vector.
#[derive(Debug, Clone)]
pub(crate) struct Inline<T, const N: usize> {
    len: usize,
    first: [T; N],
    rest: Vec<T>,
}

impl<T: Copy + Default, const N: usize> Inline<T, N> {
    /// An empty list.
    pub(crate) fn new() -> Self {
        Self { len: 0, first: [T::default(); N], rest: Vec::new() }
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds at the end.
    #[inline]
    pub(crate) fn push(&mut self, value: T) {
        match self.first.get_mut(self.len) {
            Some(slot) => *slot = value,
            None => self.rest.push(value),
        }
        self.len += 1;
    }

    /// The element at `index`.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<T> {
        if index >= self.len {
            return None;
        }
        if index < N { self.first.get(index).copied() } else { self.rest.get(index - N).copied() }
    }

    /// Sorts by insertion: the lists are short and nearly sorted. Long ones take the standard library's way.
    pub(crate) fn sort_by_key<K: Ord>(&mut self, key: impl Fn(&T) -> K) {
        if !self.rest.is_empty() {
            let mut all: Vec<T> = self.iter().collect();
            all.sort_by_key(key);
            all.into_iter().enumerate().for_each(|(i, v)| self.set(i, v));
            return;
        }
        let Some(part) = self.first.get_mut(..self.len) else { return };
        for i in 1..part.len() {
            let mut j = i;
            while j > 0
                && let (Some(a), Some(b)) = (part.get(j - 1), part.get(j))
                && key(a) > key(b)
            {
                part.swap(j - 1, j);
                j -= 1;
            }
        }
    }

    fn set(&mut self, index: usize, value: T) {
        let slot = if index < N { self.first.get_mut(index) } else { self.rest.get_mut(index - N) };
        if let Some(slot) = slot {
            *slot = value;
        }
    }

    /// All elements in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = T> + '_ {
        (0..self.len).filter_map(|i| self.get(i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_past_the_inline_room_keep_their_order() {
        let mut list: Inline<u8, 3> = Inline::new();
        (0..7).for_each(|v| list.push(v));
        assert_eq!(list.len(), 7);
        assert_eq!(list.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(list.get(7), None);
    }
}
