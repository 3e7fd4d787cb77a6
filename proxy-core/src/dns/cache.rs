//! Answers by question, until their time is over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Answer, DnsConfig, MAX_RECORDS, Question};
use crate::time::MonoTime;

/// Answers kept; those that end first give way.
pub const MAX_ANSWERS: usize = 10_000;
/// Shortest time an answer is believed: a request that waits for several must find the first when the last comes.
const MIN_TTL: Duration = Duration::from_secs(1);
/// How long the failure of a question is believed, in times of the patience: a request that waits for three questions
/// one after the other must find that of the first when the last has failed.
const FAILURE_TTL: u32 = 3;

/// The cache of one engine.
#[derive(Debug, Default)]
pub struct Cache {
    answers: BTreeMap<Question, (MonoTime, Answer)>,
    ends: BTreeSet<(MonoTime, Question)>,
}

impl Cache {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps an answer. A failure does not displace records that still hold.
    pub fn insert(&mut self, now: MonoTime, config: &DnsConfig, question: Question, mut answer: Answer) {
        let ttl = match &mut answer {
            Answer::Records { records, ttl } => {
                records.truncate(MAX_RECORDS);
                (*ttl).clamp(MIN_TTL, config.max_ttl.max(MIN_TTL))
            }
            Answer::Absent { ttl } => (*ttl).clamp(MIN_TTL, config.max_negative_ttl.max(MIN_TTL)),
            Answer::Failed => {
                if self.get(now, &question).is_some() {
                    return;
                }
                config.patience.saturating_mul(FAILURE_TTL)
            }
        };
        self.remove(&question);
        while self.answers.len() >= MAX_ANSWERS {
            let Some((_, oldest)) = self.ends.pop_first() else { break };
            self.answers.remove(&oldest);
        }
        let end = now + ttl;
        self.ends.insert((end, question.clone()));
        self.answers.insert(question, (end, answer));
    }

    /// The answer, if there is one that still holds.
    #[must_use]
    pub fn get(&self, now: MonoTime, question: &Question) -> Option<&Answer> {
        self.answers.get(question).filter(|(end, _)| *end > now).map(|(_, answer)| answer)
    }

    /// Number of answers, also of those whose time is over.
    #[must_use]
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    fn remove(&mut self, question: &Question) {
        if let Some((end, _)) = self.answers.remove(question) {
            self.ends.remove(&(end, question.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Kind, Record};

    fn question(n: usize) -> Question {
        Question { kind: Kind::A, name: format!("h{n}.test") }
    }

    fn records(seconds: u64) -> Answer {
        Answer::Records {
            records: vec![Record::Address(std::net::IpAddr::from([192, 0, 2, 1]))],
            ttl: Duration::from_secs(seconds),
        }
    }

    fn at(seconds: u64) -> MonoTime {
        MonoTime(seconds * 1_000_000_000)
    }

    #[test]
    fn an_answer_is_believed_until_its_ttl_is_over() {
        let (mut cache, config) = (Cache::new(), DnsConfig::default());
        cache.insert(at(100), &config, question(1), records(30));
        assert!(cache.get(at(129), &question(1)).is_some());
        assert_eq!(cache.get(at(130), &question(1)), None);
        assert_eq!(cache.get(at(129), &question(2)), None);
    }

    #[test]
    fn ttls_are_bounded_below_and_above_and_absence_less_long_than_presence() {
        let (mut cache, config) = (Cache::new(), DnsConfig::default());
        cache.insert(at(0), &config, question(1), records(0));
        assert!(cache.get(MonoTime(999_999_999), &question(1)).is_some());
        cache.insert(at(0), &config, question(2), records(1 << 31));
        assert_eq!(cache.get(at(24 * 3600), &question(2)), None);
        cache.insert(at(0), &config, question(3), Answer::Absent { ttl: Duration::from_secs(86_400) });
        assert!(cache.get(at(299), &question(3)).is_some());
        assert_eq!(cache.get(at(300), &question(3)), None);
    }

    #[test]
    fn a_failure_is_forgotten_soon_and_does_not_displace_records() {
        let (mut cache, config) = (Cache::new(), DnsConfig::default());
        cache.insert(at(0), &config, question(1), Answer::Failed);
        assert_eq!(cache.get(at(11), &question(1)), Some(&Answer::Failed));
        assert_eq!(cache.get(at(12), &question(1)), None);
        cache.insert(at(13), &config, question(1), records(60));
        cache.insert(at(14), &config, question(1), Answer::Failed);
        assert!(matches!(cache.get(at(15), &question(1)), Some(Answer::Records { .. })));
    }

    #[test]
    fn the_cache_is_bounded_and_what_ends_first_gives_way() {
        let (mut cache, config) = (Cache::new(), DnsConfig::default());
        for n in 0..MAX_ANSWERS + 10 {
            cache.insert(at(0), &config, question(n), records(60 + n as u64));
        }
        assert_eq!(cache.len(), MAX_ANSWERS);
        assert_eq!(cache.get(at(1), &question(0)), None);
        assert!(cache.get(at(1), &question(MAX_ANSWERS + 9)).is_some());
        cache.insert(at(1), &config, question(MAX_ANSWERS), records(5));
        assert_eq!(cache.len(), MAX_ANSWERS);
    }
}
