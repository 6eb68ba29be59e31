//! Which log a topic's name or id and a partition's index stand for.
use std::collections::HashMap;
use std::sync::Arc;

use crate::log::Log;

pub type TopicId = [u8; 16];

#[derive(Clone)]
pub struct Entry {
    /// What the partition is called in the results for Python.
    pub handle: u32,
    pub log: Arc<Log>,
}

/// How a request names a topic: by name in old versions, by id in new ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicKey<T> {
    Name(T),
    Id(TopicId),
}

#[derive(Default)]
pub struct Table {
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
