//! What has happened to those whom somebody waits for: so that an engine need not look at everybody to find out.
//!
//! Not replicated and not compared: each node has its own, made by `apply`. An engine remembers how far it has read.
//! One that comes too late, or that has just become active, looks at all there is.

use std::collections::VecDeque;
use std::net::SocketAddr;

/// Entries that are kept; an engine that is further behind looks at everything.
const MAX_NEWS: usize = 8192;

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewsItem {
    /// A call of a user whose calls are watched.
    Calls {
        /// Address of record.
        aor: String,
    },
    /// The contacts of a user for whom messages are kept.
    Contacts {
        /// Address of record.
        aor: String,
    },
    /// The last dialog of a call that had media is over.
    MediaOver {
        /// Call-ID.
        call_id: String,
        /// From tag of who called.
        from_tag: String,
        /// The rtpengine that has the call.
        node: SocketAddr,
    },
}

/// The newest entries.
#[derive(Debug, Clone, Default)]
pub(super) struct News {
    items: VecDeque<NewsItem>,
    /// How many there have been.
    count: u64,
}

/// Derived, but not from the records alone: it does not count in comparisons.
impl PartialEq for News {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for News {}

impl News {
    pub(super) fn push(&mut self, item: NewsItem) {
        // A record that is changed is taken out and put in again.
        if self.items.back() == Some(&item) {
            self.items.pop_back();
        } else if self.items.len() >= MAX_NEWS {
            self.items.pop_front();
        }
        self.items.push_back(item);
        self.count += 1;
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// What came after the first `seen` entries; `None` if that is not known any more. An entry that was repeated may
    /// come though it was seen.
    pub(super) fn since(&self, seen: u64) -> Option<impl Iterator<Item = &NewsItem>> {
        let new = usize::try_from(self.count.checked_sub(seen)?).ok()?;
        // Repetitions count, but take no place: all that is there is new then, at worst.
        let known = self.items.len() >= new || self.items.len() < MAX_NEWS;
        known.then(|| self.items.iter().skip(self.items.len().saturating_sub(new)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(n: u32) -> NewsItem {
        NewsItem::Calls { aor: n.to_string() }
    }

    #[test]
    fn a_reader_gets_each_entry_once_and_is_told_when_it_is_too_late() {
        let mut news = News::default();
        news.push(of(1));
        news.push(of(2));
        assert_eq!(news.since(0).map(|i| i.cloned().collect()), Some(vec![of(1), of(2)]));
        assert_eq!(news.since(2).map(Iterator::count), Some(0));
        news.push(of(2));
        assert_eq!(news.since(2).map(|i| i.cloned().collect()), Some(vec![of(2)]), "a repetition is news");
        for n in 0..u32::try_from(MAX_NEWS).expect("a small number") {
            news.push(of(n + 10));
        }
        assert!(news.since(3).is_some());
        assert!(news.since(1).is_none());
        assert!(news.since(news.count() + 1).is_none(), "of another state");
    }
}
