//! Which log a topic's name or id and a partition's index stand for.
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result, malformed};
use crate::log::Log;

pub type TopicId = [u8; 16];

#[derive(Clone)]
pub struct Entry {
    /// What the partition is called in the results for Python.
    pub handle: u32,
    pub log: Arc<Log>,
}

/// How a request names a topic: by name in old versions, by id in new ones.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TopicKey<T> {
    Name(T),
    Id(TopicId),
}

/// Topics and partitions that one request may name: each costs memory and a part of the answer. Kafka has no limit.
const NAMED_MAX: usize = 20_000;

/// How many topics and partitions a request names, counted before there is room made for them.
#[derive(Default)]
pub struct PartitionCount(usize);

impl PartitionCount {
    /// The count of one more array, or an error if the request names too many.
    pub fn room(&mut self, count: usize) -> Result<usize> {
        self.0 += count;
        match self.0 > NAMED_MAX {
            true => malformed(format!("a request may name {NAMED_MAX} topics and partitions, this one names more")),
            false => Ok(count),
        }
    }
}

/// Refuses a request that names a partition twice: its answers could contradict each other.
pub fn check_named_once<'a, T: Eq + Hash + 'a>(partitions: impl Iterator<Item = (&'a TopicKey<T>, i32)>) -> Result<()> {
    let mut partitions = partitions.peekable();
    let Some(first) = partitions.next() else { return Ok(()) };
    if partitions.peek().is_none() {
        return Ok(());
    }
    let mut named = HashSet::from([first]);
    match partitions.all(|partition| named.insert(partition)) {
        true => Ok(()),
        false => malformed("a request names a partition twice"),
    }
}

/// Faults of reads that are not told yet; more than a few at once are one fault of the disk.
#[derive(Default)]
pub struct Unreadable {
    any: AtomicBool,
    noted: Mutex<Vec<(u32, String)>>,
}

const NOTED_MAX: usize = 100;

impl Unreadable {
    pub fn note(&self, handle: u32, fault: &Error) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() < NOTED_MAX {
            noted.push((handle, fault.to_string()));
        }
        self.any.store(true, Ordering::Release);
    }

    /// All that was noted since; asked after each fetch, so that it takes no lock while there is nothing.
    pub fn take(&self) -> Vec<(u32, String)> {
        if !self.any.load(Ordering::Relaxed) || !self.any.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut *self.noted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Default)]
pub struct Table {
    pub unreadable: Unreadable,
    by_name: HashMap<String, (TopicId, Vec<Option<Entry>>)>,
    names: HashMap<TopicId, String>,
    next_handle: u32,
}

impl Table {
    pub fn add(&mut self, name: &str, id: TopicId, index: usize, log: Arc<Log>) -> u32 {
        let handle = self.next_handle;
        self.next_handle += 1;
        let (_, entries) = self.by_name.entry(name.to_string()).or_insert_with(|| (id, Vec::new()));
        if entries.len() <= index {
            entries.resize(index + 1, None);
        }
        entries[index] = Some(Entry { handle, log });
        self.names.insert(id, name.to_string());
        handle
    }

    pub fn remove(&mut self, name: &str) {
        if let Some((id, _)) = self.by_name.remove(name) {
            self.names.remove(&id);
        }
    }

    pub fn find<T: AsRef<str>>(&self, key: &TopicKey<T>, index: i32) -> Option<&Entry> {
        let (_, entries) = self.by_name.get(self.name(key)?)?;
        entries.get(usize::try_from(index).ok()?)?.as_ref()
    }

    /// The name that a topic goes by, whether it exists or not; None for an id that stands for none.
    pub fn name<'a, T: AsRef<str>>(&'a self, key: &'a TopicKey<T>) -> Option<&'a str> {
        match key {
            TopicKey::Name(name) => Some(name.as_ref()),
            TopicKey::Id(id) => self.names.get(id).map(String::as_str),
        }
    }

    pub fn knows_name(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    pub fn knows_id(&self, id: &TopicId) -> bool {
        self.names.contains_key(id)
    }
}
