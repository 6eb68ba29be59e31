//! Which topics one connection may write to, or read from, as far as that is decided.
//!
//! What is allowed is kept until `forget`; what is denied never is, so that each denial is decided, and audited,
//! anew. A request is served only once every topic that it names is decided. Nothing is decided here: Python decides
//! between two calls, and its decisions come in as values.
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Instant;

use crate::table::{Table, TopicKey};

/// Only topics that exist are kept; this many are more than a broker holds unless they come and go.
const TOPICS_MAX: usize = 1 << 16;

/// For so long what is kept holds without a look; then the caller must compare the version of the rules.
/// Far below the second within which a revoked right must end, and far above the time of a request.
const TRUSTED_MS: u64 = 100;

#[derive(Debug)]
pub struct AllowedTopics {
    names: RwLock<HashSet<String>>,
    born: Instant,
    trusted_until_ms: AtomicU64,
}

impl Default for AllowedTopics {
    fn default() -> Self {
        AllowedTopics { names: RwLock::default(), born: Instant::now(), trusted_until_ms: AtomicU64::new(0) }
    }
}

/// What was decided for one request beyond what was kept before: topic to whether it is allowed.
#[derive(Debug, Default)]
pub struct Decisions(pub HashMap<String, bool>);

impl AllowedTopics {
    /// The topics among these that must be decided first. An id that stands for no topic needs no right.
    pub fn undecided<'a, T: AsRef<str> + 'a>(
        &self,
        table: &Table,
        topics: impl Iterator<Item = &'a TopicKey<T>>,
        decisions: &Decisions,
    ) -> Vec<String> {
        let allowed = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let names = topics.filter_map(|key| table.name(key));
        let open = names.filter(|name| !allowed.contains(*name) && !decisions.0.contains_key(*name));
        open.map(str::to_string).collect()
    }

    /// Keeps what was allowed, of topics that exist.
    pub fn keep(&self, table: &Table, decisions: &Decisions) {
        if decisions.0.is_empty() {
            return;
        }
        let mut kept = self.names.write().unwrap_or_else(PoisonError::into_inner);
        for (name, _) in decisions.0.iter().filter(|(name, allowed)| **allowed && table.knows_name(name)) {
            if kept.len() >= TOPICS_MAX {
                kept.clear();
            }
            kept.insert(name.clone());
        }
    }

    /// Whether the rules must be compared first; said once, the caller then does it.
    pub fn is_due(&self) -> bool {
        let now_ms = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        let due = now_ms >= self.trusted_until_ms.load(Ordering::Relaxed);
        if due {
            self.trusted_until_ms.store(now_ms.saturating_add(TRUSTED_MS), Ordering::Relaxed);
        }
        due
    }

    pub fn forget(&self) {
        self.names.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Decisions {
    pub fn denies<T: AsRef<str>>(&self, table: &Table, key: &TopicKey<T>) -> bool {
        !self.0.is_empty() && table.name(key).is_some_and(|name| self.0.get(name) == Some(&false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decisions(name: &str, allowed: bool) -> Decisions {
        Decisions(HashMap::from([(name.to_string(), allowed)]))
    }

    fn undecided(allowed: &AllowedTopics, decisions: &Decisions, name: &str) -> Vec<String> {
        allowed.undecided(&Table::default(), [TopicKey::Name(name)].iter(), decisions)
    }

    #[test]
    fn a_topic_that_does_not_exist_is_decided_for_one_request_only() {
        let (allowed, decided) = (AllowedTopics::default(), decisions("a", true));
        allowed.keep(&Table::default(), &decided);
        assert!(undecided(&allowed, &decided, "a").is_empty());
        assert_eq!(undecided(&allowed, &Decisions::default(), "a"), ["a"]);
    }

    #[test]
    fn what_is_denied_is_decided_anew_by_each_request() {
        let (allowed, decided) = (AllowedTopics::default(), decisions("a", false));
        allowed.keep(&Table::default(), &decided);
        assert!(decided.denies(&Table::default(), &TopicKey::Name("a")));
        assert_eq!(undecided(&allowed, &Decisions::default(), "a"), ["a"]);
    }

    #[test]
    fn what_is_kept_holds_for_a_while_only() {
        let allowed = AllowedTopics::default();
        assert!(allowed.is_due());
        assert!(!allowed.is_due());
        allowed.trusted_until_ms.store(0, Ordering::Relaxed);
        assert!(allowed.is_due());
    }

    #[test]
    fn an_unknown_id_needs_no_right() {
        let key: TopicKey<&str> = TopicKey::Id([7; 16]);
        let allowed = AllowedTopics::default();
        assert!(allowed.undecided(&Table::default(), [&key].into_iter(), &Decisions::default()).is_empty());
    }
}
