//! A whole Fetch request (versions 4 to 18), from its frame to the response's.
//!
//! Always answers session id 0, which KIP-227 allows: clients then send full requests. Only one node, so no preferred
//! replica, no other leader, and the last stable offset is the high watermark as long as there are no transactions.
use std::sync::{Arc, Mutex, PoisonError};

use crate::allowed_topics::Decisions;
use crate::error::{Error, Result, code, malformed};
use crate::log::{Marks, Planned};
use crate::table::{Entry, PartitionCount, Table, TopicKey, check_named_once};
use crate::wire::{
    Reader, put_array_length, put_i16, put_i32, put_i64, put_string, put_tags, put_uvarint, request_header, uvarint_len,
};

const VERSIONS: std::ops::RangeInclusive<i16> = 4..=18;
const FLEXIBLE_FROM: i16 = 12;
const TOPIC_IDS_FROM: i16 = 13;
/// Buffers that are kept for the next responses; larger ones are given back to the system.
const POOLED_BYTES_MAX: usize = 8 << 20;
const POOLED_MAX: usize = 4;

struct Ask {
    index: i32,
    current_epoch: i32,
    offset: i64,
    last_fetched_epoch: i32,
    bytes_max: usize,
}

struct TopicAsk {
    key: TopicKey<String>,
    partitions: Vec<Ask>,
}

pub struct Request {
    version: i16,
    correlation_id: i32,
    pub max_wait_ms: i32,
    min_bytes: usize,
    bytes_max: usize,
    read_committed: bool,
    session_unknown: bool,
    topics: Vec<TopicAsk>,
}

/// Response buffers, used again: fresh memory costs more than what is copied into it.
#[derive(Default)]
pub struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    fn take(&self, size: usize) -> Vec<u8> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.iter().position(|buffer| buffer.len() >= size).or(kept.len().checked_sub(1)) {
            Some(at) => kept.swap_remove(at),
            None => vec![0; size],
        }
    }

    fn put(&self, buffer: Vec<u8>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.len() <= POOLED_BYTES_MAX && kept.len() < POOLED_MAX {
            kept.push(buffer);
        }
    }
}

/// A response frame under construction, then finished; its buffer goes back to the pool.
pub struct Page {
    buffer: Vec<u8>,
    used: usize,
    pool: Arc<Pool>,
}

impl Page {
    fn put(&mut self, bytes: &[u8]) {
        let end = self.used + bytes.len();
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        self.buffer[self.used..end].copy_from_slice(bytes);
        self.used = end;
    }

    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.used]
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.pool.put(std::mem::take(&mut self.buffer));
    }
}

/// One partition's answer before its records are read.
enum Answer {
    Failed(i16, Marks),
    /// The consumer's last epoch ended before its offset (KIP-595).
    Diverging(i32, i64, Marks),
    Records(Entry, Option<Planned>, Marks),
}

const NO_MARKS: Marks = Marks { high_watermark: -1, log_start: -1, epoch: -1 };

pub fn parse(frame: &[u8], fetch_bytes_max: usize) -> Result<Request> {
    let mut reader = Reader::new(frame);
    let header = request_header(&mut reader, FLEXIBLE_FROM)?;
    let version = header.version;
    if header.key != 1 || !VERSIONS.contains(&version) {
        return malformed(format!("Fetch version {version} is not served: use 4 to 18"));
    }
    if version <= 14 {
        reader.i32()?;
    }
    let max_wait_ms = reader.i32()?;
    let min_bytes = reader.i32()?.max(0) as usize;
    let bytes_max = (reader.i32()?.max(0) as usize).min(fetch_bytes_max);
    let read_committed = reader.i8()? == 1;
    let mut session_unknown = false;
    if version >= 7 {
        reader.i32()?;
        // 0 and -1 ask for a full fetch, whatever session they name (FetchMetadata.isFull).
        session_unknown = !(-1..=0).contains(&reader.i32()?);
    }
    let topics = parse_topics(&mut reader, version)?;
    Ok(Request {
        version,
        correlation_id: header.correlation_id,
        max_wait_ms,
        min_bytes: min_bytes.min(bytes_max),
        bytes_max,
        read_committed,
        session_unknown,
        topics,
    })
}

fn parse_topics(reader: &mut Reader<'_>, version: i16) -> Result<Vec<TopicAsk>> {
    let flexible = version >= FLEXIBLE_FROM;
    let mut named = PartitionCount::default();
    let count = named.room(reader.array_length(flexible, 3)?)?;
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        let key = parse_key(reader, version)?;
        let count = named.room(reader.array_length(flexible, 16)?)?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            partitions.push(parse_ask(reader, version)?);
        }
        reader.tags(flexible)?;
        topics.push(TopicAsk { key, partitions });
    }
    if version >= 7 {
        for _ in 0..reader.array_length(flexible, 3)? {
            parse_key(reader, version)?;
            for _ in 0..reader.array_length(flexible, 4)? {
                reader.i32()?;
            }
            reader.tags(flexible)?;
        }
    }
    if version >= 11 {
        reader.nullable_string(flexible)?;
    }
    reader.tags(flexible)?;
    check_named_once(
        topics.iter().flat_map(|topic: &TopicAsk| topic.partitions.iter().map(|ask| (&topic.key, ask.index))),
    )?;
    Ok(topics)
}

fn parse_key(reader: &mut Reader<'_>, version: i16) -> Result<TopicKey<String>> {
    if version >= TOPIC_IDS_FROM {
        return Ok(TopicKey::Id(reader.uuid()?));
    }
    Ok(TopicKey::Name(reader.string(version >= FLEXIBLE_FROM)?.to_string()))
}

fn parse_ask(reader: &mut Reader<'_>, version: i16) -> Result<Ask> {
    let index = reader.i32()?;
    let current_epoch = if version >= 9 { reader.i32()? } else { -1 };
    let offset = reader.i64()?;
    let last_fetched_epoch = if version >= 12 { reader.i32()? } else { -1 };
    if version >= 5 {
        reader.i64()?;
    }
    let bytes_max = reader.i32()?.max(0) as usize;
    reader.tags(version >= FLEXIBLE_FROM)?;
    Ok(Ask { index, current_epoch, offset, last_fetched_epoch, bytes_max })
}

impl Request {
    /// The partitions whose growth may complete the fetch.
    pub fn handles(&self, table: &Table) -> Vec<u32> {
        let asks = self.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |ask| (&topic.key, ask.index)));
        asks.filter_map(|(key, index)| table.find(key, index).map(|entry| entry.handle)).collect()
    }

    /// Every topic that is read from.
    pub fn topics(&self) -> impl Iterator<Item = &TopicKey<String>> {
        self.topics.iter().map(|topic| &topic.key)
    }

    /// The response, or None while min_bytes are not there, unless this is the `last` try.
    pub fn answer(&self, table: &Table, decisions: &Decisions, last: bool, pool: &Arc<Pool>) -> Result<Option<Page>> {
        if self.session_unknown {
            return Ok(Some(self.refused(pool)));
        }
        let mut complete = last || self.min_bytes == 0 || self.max_wait_ms <= 0;
        let mut available = 0usize;
        let mut answers = Vec::with_capacity(self.topics.len());
        for topic in &self.topics {
            let mut of_topic = Vec::with_capacity(topic.partitions.len());
            let denied = decisions.denies(table, &topic.key);
            for ask in &topic.partitions {
                let answer = match denied {
                    true => Answer::Failed(code::TOPIC_AUTHORIZATION_FAILED, NO_MARKS),
                    false => answer_partition(table, &topic.key, ask)?,
                };
                match &answer {
                    Answer::Records(_, Some(planned), marks) => {
                        available = available.saturating_add(planned.bytes);
                        // The rest of a closed segment will never grow (DelayedFetch, case F).
                        complete |= planned.end_offset < marks.high_watermark;
                    }
                    Answer::Records(_, None, _) => {}
                    Answer::Failed(..) | Answer::Diverging(..) => complete = true,
                }
                of_topic.push(answer);
            }
            answers.push(of_topic);
        }
        if !complete && available < self.min_bytes {
            return Ok(None);
        }
        Ok(Some(self.respond(table, &answers, available, pool)))
    }

    fn head(&self, error: i16, topics: usize) -> Vec<u8> {
        let flexible = self.version >= FLEXIBLE_FROM;
        let mut head = Vec::with_capacity(64);
        put_i32(&mut head, 0);
        put_i32(&mut head, self.correlation_id);
        put_tags(&mut head, flexible);
        put_i32(&mut head, 0);
        if self.version >= 7 {
            put_i16(&mut head, error);
            put_i32(&mut head, 0);
        }
        put_array_length(&mut head, topics, flexible);
        head
    }

    fn finish(&self, mut page: Page) -> Page {
        if self.version >= FLEXIBLE_FROM {
            page.put(&[0]);
        }
        let length = (page.used - 4) as i32;
        page.buffer[..4].copy_from_slice(&length.to_be_bytes());
        page
    }

    fn refused(&self, pool: &Arc<Pool>) -> Page {
        let mut page = Page { buffer: pool.take(64), used: 0, pool: pool.clone() };
        page.put(&self.head(code::FETCH_SESSION_ID_NOT_FOUND, 0));
        self.finish(page)
    }

    fn respond(&self, table: &Table, answers: &[Vec<Answer>], available: usize, pool: &Arc<Pool>) -> Page {
        let flexible = self.version >= FLEXIBLE_FROM;
        let partitions: usize = answers.iter().map(Vec::len).sum();
        let estimate = available.min(self.bytes_max) + 128 * (partitions + self.topics.len()) + 128;
        let mut page = Page { buffer: pool.take(estimate), used: 0, pool: pool.clone() };
        page.put(&self.head(code::NONE, self.topics.len()));
        let mut total = 0usize;
        for (topic, of_topic) in self.topics.iter().zip(answers) {
            let mut head = Vec::with_capacity(32);
            match &topic.key {
                TopicKey::Name(name) => put_string(&mut head, name, flexible),
                TopicKey::Id(id) => head.extend_from_slice(id),
            }
            put_array_length(&mut head, of_topic.len(), flexible);
            page.put(&head);
            for (ask, answer) in topic.partitions.iter().zip(of_topic) {
                let budget = self.bytes_max.saturating_sub(total);
                total += self.put_partition(table, &mut page, ask, answer, budget, total == 0);
            }
            if flexible {
                page.put(&[0]);
            }
        }
        self.finish(page)
    }

    /// Writes one partition's answer with its records; how many bytes of records they are.
    fn put_partition(
        &self,
        table: &Table,
        page: &mut Page,
        ask: &Ask,
        answer: &Answer,
        budget: usize,
        first: bool,
    ) -> usize {
        let flexible = self.version >= FLEXIBLE_FROM;
        let (error, marks, diverging) = match answer {
            Answer::Failed(error, marks) => (*error, marks, None),
            Answer::Diverging(epoch, end, marks) => (code::NONE, marks, Some((*epoch, *end))),
            Answer::Records(_, _, marks) => (code::NONE, marks, None),
        };
        let head_at = page.used;
        page.put(&self.partition_head(ask.index, error, marks));
        let mut read = 0;
        // The length stands before the bytes: write the likely one, read, and correct it if fewer whole batches came.
        let length_at = page.used;
        if let Answer::Records(entry, Some(planned), _) = answer
            && (budget > 0 || first)
        {
            let planned = planned.at_most(budget);
            let gap = if flexible { uvarint_len(planned.bytes as u32 + 1) } else { 4 };
            page.put(&[0; 5][..gap]);
            let data_at = page.used;
            read = match entry.log.read_planned(&planned, &mut page.buffer, data_at, first) {
                Ok(read) => read,
                Err(fault) => {
                    let code =
                        if let Error::Damaged(_) = fault { code::CORRUPT_MESSAGE } else { code::KAFKA_STORAGE_ERROR };
                    table.unreadable.note(entry.handle, &fault);
                    page.buffer[head_at + 4..head_at + 6].copy_from_slice(&code.to_be_bytes());
                    0
                }
            };
            page.used = data_at + read;
        }
        self.put_length(page, length_at, read);
        if flexible {
            page.put(&partition_tags(diverging));
        }
        read
    }

    fn partition_head(&self, index: i32, error: i16, marks: &Marks) -> Vec<u8> {
        let flexible = self.version >= FLEXIBLE_FROM;
        let mut head = Vec::with_capacity(64);
        put_i32(&mut head, index);
        put_i16(&mut head, error);
        put_i64(&mut head, marks.high_watermark);
        put_i64(&mut head, marks.high_watermark);
        if self.version >= 5 {
            put_i64(&mut head, marks.log_start);
        }
        // Aborted transactions: null for read_uncommitted, a list for read_committed.
        match (self.read_committed, flexible) {
            (true, flexible) => put_array_length(&mut head, 0, flexible),
            (false, true) => put_uvarint(&mut head, 0),
            (false, false) => put_i32(&mut head, -1),
        }
        if self.version >= 11 {
            put_i32(&mut head, -1);
        }
        head
    }

    fn put_length(&self, page: &mut Page, at: usize, read: usize) {
        let mut length = Vec::with_capacity(5);
        if self.version >= FLEXIBLE_FROM {
            put_uvarint(&mut length, read as u32 + 1);
        } else {
            put_i32(&mut length, read as i32);
        }
        let data_at = page.used - read;
        if data_at != at + length.len() {
            let end = at + length.len() + read;
            if page.buffer.len() < end {
                page.buffer.resize(end, 0);
            }
            page.buffer.copy_within(data_at..data_at + read, at + length.len());
            page.used = end;
        }
        page.buffer[at..at + length.len()].copy_from_slice(&length);
    }
}

/// Tagged field 0 is the diverging epoch: (epoch, end offset, no tags), 13 bytes.
fn partition_tags(diverging: Option<(i32, i64)>) -> Vec<u8> {
    let Some((epoch, end_offset)) = diverging else { return vec![0] };
    let mut tags = vec![1, 0, 13];
    put_i32(&mut tags, epoch);
    put_i64(&mut tags, end_offset);
    tags.push(0);
    tags
}

fn answer_partition(table: &Table, key: &TopicKey<String>, ask: &Ask) -> Result<Answer> {
    let Some(entry) = table.find(key, ask.index) else {
        let unknown_id = matches!(key, TopicKey::Id(id) if !table.knows_id(id));
        let code = if unknown_id { code::UNKNOWN_TOPIC_ID } else { code::UNKNOWN_TOPIC_OR_PARTITION };
        return Ok(Answer::Failed(code, NO_MARKS));
    };
    let log = &entry.log;
    let marks = log.marks();
    if ask.current_epoch >= 0 && ask.current_epoch != marks.epoch {
        let older = ask.current_epoch < marks.epoch;
        let code = if older { code::FENCED_LEADER_EPOCH } else { code::UNKNOWN_LEADER_EPOCH };
        return Ok(Answer::Failed(code, NO_MARKS));
    }
    if ask.last_fetched_epoch >= 0 {
        let (epoch, end_offset) = log.end_offset_for_epoch(ask.last_fetched_epoch);
        if epoch < 0 {
            return Ok(Answer::Failed(code::OFFSET_OUT_OF_RANGE, marks));
        }
        if epoch < ask.last_fetched_epoch || end_offset < ask.offset {
            return Ok(Answer::Diverging(epoch, end_offset, marks));
        }
    }
    match log.plan(ask.offset, ask.bytes_max) {
        Ok(planned) => Ok(Answer::Records(entry.clone(), planned, marks)),
        Err(Error::OutOfRange(_)) => Ok(Answer::Failed(code::OFFSET_OUT_OF_RANGE, marks)),
        Err(fault @ Error::Io(_)) => {
            table.unreadable.note(entry.handle, &fault);
            Ok(Answer::Failed(code::KAFKA_STORAGE_ERROR, marks))
        }
        Err(other) => Err(other),
    }
}
