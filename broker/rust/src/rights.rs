//! Which topics one connection may write to, or read from, as far as that is decided.
//!
//! What is allowed is remembered until `forget`; what is denied never is, so that each denial is decided, and told,
//! anew. A request is served only once every topic that it names is decided.
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Instant;

use crate::table::{Table, TopicKey};

/// Only topics that exist are remembered; this many are more than a broker holds unless they come and go.
const TOPICS_MAX: usize = 1 << 16;

/// For so long what is remembered is taken for true; then somebody must look whether the rules are still the same.
/// Far below the second within which a revoked right must end, and far above the time of a request.
const TRUSTED_MS: u64 = 100;

#[derive(Debug)]
pub struct TopicRights {
    allowed: RwLock<HashSet<String>>,
    born: Instant,
    trusted_until_ms: AtomicU64,
}

impl Default for TopicRights {
    fn default() -> Self {
        TopicRights { allowed: RwLock::default(), born: Instant::now(), trusted_until_ms: AtomicU64::new(0) }
    }
}

/// What was decided for one request beyond what was known before.
#[derive(Debug, Default)]
pub struct Decided(HashMap<String, bool>);

impl TopicRights {
    /// The topics among these that somebody must decide about first. An id that stands for no topic needs no right.
    pub fn undecided<'a, T: AsRef<str> + 'a>(
        &self,
        table: &Table,
        topics: impl Iterator<Item = &'a TopicKey<T>>,
        decided: &Decided,
    ) -> Vec<String> {
        let allowed = self.allowed.read().unwrap_or_else(PoisonError::into_inner);
        let names = topics.filter_map(|key| table.name(key));
        let open = names.filter(|name| !allowed.contains(*name) && !decided.0.contains_key(*name));
        open.map(str::to_string).collect()
    }

    pub fn decide(&self, table: &Table, decided: &mut Decided, name: String, allowed: bool) {
        if allowed && table.knows_name(&name) {
            let mut known = self.allowed.write().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= TOPICS_MAX {
                known.clear();
            }
            known.insert(name.clone());
        }
        decided.0.insert(name, allowed);
    }

    /// Whether somebody must look at the rules first; who is told so is trusted to do it.
    pub fn renews(&self) -> bool {
        let now_ms = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        let due = now_ms >= self.trusted_until_ms.load(Ordering::Relaxed);
        if due {
            self.trusted_until_ms.store(now_ms.saturating_add(TRUSTED_MS), Ordering::Relaxed);
        }
        due
    }

    pub fn forget(&self) {
        self.allowed.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Decided {
    pub fn denies<T: AsRef<str>>(&self, table: &Table, key: &TopicKey<T>) -> bool {
        !self.0.is_empty() && table.name(key).is_some_and(|name| self.0.get(name) == Some(&false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undecided(rights: &TopicRights, decided: &Decided, name: &str) -> Vec<String> {
        rights.undecided(&Table::default(), [TopicKey::Name(name)].iter(), decided)
    }

    #[test]
    fn a_topic_that_does_not_exist_is_decided_for_one_request_only() {
        let (rights, mut decided) = (TopicRights::default(), Decided::default());
        rights.decide(&Table::default(), &mut decided, "a".to_string(), true);
        assert!(undecided(&rights, &decided, "a").is_empty());
        assert_eq!(undecided(&rights, &Decided::default(), "a"), ["a"]);
    }

    #[test]
    fn what_is_denied_is_decided_anew_by_each_request() {
        let (rights, mut decided) = (TopicRights::default(), Decided::default());
        rights.decide(&Table::default(), &mut decided, "a".to_string(), false);
        assert!(decided.denies(&Table::default(), &TopicKey::Name("a")));
        assert_eq!(undecided(&rights, &Decided::default(), "a"), ["a"]);
    }

    #[test]
    fn what_is_remembered_is_trusted_for_a_while_only() {
        let rights = TopicRights::default();
        assert!(rights.renews());
        assert!(!rights.renews());
        rights.trusted_until_ms.store(0, Ordering::Relaxed);
        assert!(rights.renews());
    }

    #[test]
    fn an_unknown_id_needs_no_right() {
        let key: TopicKey<&str> = TopicKey::Id([7; 16]);
        assert!(
            TopicRights::default().undecided(&Table::default(), [&key].into_iter(), &Decided::default()).is_empty()
        );
    }
}
