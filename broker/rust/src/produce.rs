//! A whole Produce request (versions 3 to 13), from its frame to the response's.
//!
//! Versions 0 to 2 are advertised (KAFKA-18659: librdkafka reads its codecs off that range) but carry message formats
//! that Kafka 4 does not take any more either. The frame is parsed to its end before anything is appended.
use std::ops::Deref;

use crate::allowed_topics::Decisions;
use crate::batch::Header;
use crate::codec::Scratch;
use crate::error::{Error, Refusal, Result, code, malformed};
use crate::log::{Appended, Writer};
use crate::table::{PartitionCount, Table, TopicKey, check_named_once};
use crate::wire::{
    Reader, RequestHeader, put_array_length, put_i16, put_i32, put_i64, put_nullable_string, put_string, put_tags,
    request_header, seal_frame,
};

const VERSIONS: std::ops::RangeInclusive<i16> = 3..=13;
const FLEXIBLE_FROM: i16 = 9;
const TOPIC_IDS_FROM: i16 = 13;
/// Kafka: Topic.INTERNAL_TOPICS. Who could write there would forge what the coordinators know of everybody.
const INTERNAL_TOPICS: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];

struct Ask<'a> {
    index: i32,
    records: &'a [u8],
}

struct TopicAsk<'a> {
    key: TopicKey<&'a str>,
    partitions: Vec<Ask<'a>>,
}

pub struct Request<'a> {
    header: RequestHeader,
    transactional_id: Option<&'a str>,
    acks: i16,
    topics: Vec<TopicAsk<'a>>,
}

/// What came of a request.
#[derive(Debug, Default)]
pub struct Produced {
    /// The response with its length; None for acks=0.
    pub frame: Option<Vec<u8>>,
    pub failed: bool,
    /// Partitions that consumers can read further now.
    pub grew: Vec<u32>,
    /// Partitions to flush before the response may go out.
    pub unflushed: Vec<u32>,
    pub fault: Option<String>,
    /// Partitions that closed a segment.
    pub rolled: Vec<u32>,
}

/// What the first call may do, for which the event loop waits, in bytes that could be inflated in the same time: some
/// 10 ms.
const AT_ONCE_WORK_BYTES: usize = 8 << 20;
/// What a further call may do, beside the event loop, before other requests have their turn.
const TURN_WORK_BYTES: usize = 32 << 20;

/// How far a request has come.
#[derive(Debug, Default)]
pub struct Progress {
    produced: Produced,
    out: Vec<u8>,
    /// The topic and the partition of it that come next.
    next: (usize, usize),
    /// What may still be inflated; None before the first turn.
    left_bytes: Option<usize>,
}

impl Progress {
    pub fn into_produced(self) -> Produced {
        self.produced
    }
}

/// Appends a request's batches until all are done (then it is true) or a turn's work is. `table` is asked for each
/// batch, so that nobody waits for the table while one is inflated.
pub fn produce<T: Deref<Target = Table>>(
    table: impl Fn() -> T,
    request: &Request<'_>,
    decisions: &Decisions,
    transaction_denied: bool,
    now_ms: i64,
    scratch: &mut Scratch,
    progress: &mut Progress,
) -> bool {
    let Progress { produced, out, next, left_bytes } = progress;
    let version = request.header.version;
    let flexible = version >= FLEXIBLE_FROM;
    match *left_bytes {
        Some(left_bytes) => scratch.go_on(left_bytes),
        None => begin(out, request, flexible),
    }
    let at_once = left_bytes.is_none();
    let most_work_bytes = if at_once { AT_ONCE_WORK_BYTES } else { TURN_WORK_BYTES };
    let mut work_bytes = 0;
    for topic in &request.topics[next.0..] {
        let topic_at = out.len();
        if next.1 == 0 {
            match &topic.key {
                TopicKey::Name(name) => put_string(out, name, flexible),
                TopicKey::Id(id) => out.extend_from_slice(id),
            }
            put_array_length(out, topic.partitions.len(), flexible);
        }
        // A transaction that is denied takes the whole request with it (KafkaApis.handleProduceRequest).
        let denied = match transaction_denied {
            true => Some(code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
            false => decisions.denies(&table(), &topic.key).then_some(code::TOPIC_AUTHORIZATION_FAILED),
        };
        for ask in &topic.partitions[next.1..] {
            let outcome = match denied {
                Some(code) => Some(Err(Refusal::new(code, ""))),
                None if at_once && ask.records.len() > AT_ONCE_WORK_BYTES => None,
                None => Some(append(&table, request, topic, ask, now_ms, scratch, produced))
                    .filter(|_| !scratch.take_put_off()),
            };
            let Some(outcome) = outcome else {
                // The next call begins with this batch, and with its topic if that has only begun.
                out.truncate(if next.1 == 0 { topic_at } else { out.len() });
                *left_bytes = Some(scratch.left_bytes());
                return false;
            };
            produced.failed |= outcome.is_err();
            put_outcome(out, version, ask.index, &outcome);
            work_bytes += scratch.take_work();
            next.1 += 1;
            if work_bytes >= most_work_bytes {
                *left_bytes = Some(scratch.left_bytes());
                return false;
            }
        }
        put_tags(out, flexible);
        *next = (next.0 + 1, 0);
    }
    put_i32(out, 0);
    put_tags(out, flexible);
    seal_frame(out);
    produced.frame = (request.acks != 0).then(|| std::mem::take(out));
    true
}

fn begin(out: &mut Vec<u8>, request: &Request<'_>, flexible: bool) {
    out.reserve(128);
    put_i32(out, 0);
    put_i32(out, request.header.correlation_id);
    put_tags(out, flexible);
    put_array_length(out, request.topics.len(), flexible);
}

impl<'a> Request<'a> {
    /// The transactional id that a right is needed for, if any batch is of a transaction; "" where none is given.
    pub fn transaction(&self) -> Option<&'a str> {
        let mut asks = self.topics.iter().flat_map(|topic| &topic.partitions);
        let any = asks.any(|ask| Header::new(ask.records).is_some_and(|header| header.is_transactional()));
        any.then(|| self.transactional_id.unwrap_or_default())
    }

    /// Every topic that is written to.
    pub fn topics(&self) -> impl Iterator<Item = &TopicKey<&'a str>> {
        self.topics.iter().map(|topic| &topic.key)
    }
}

pub fn parse(frame: &[u8]) -> Result<Request<'_>> {
    let mut reader = Reader::new(frame);
    let header = request_header(&mut reader, FLEXIBLE_FROM)?;
    let version = header.version;
    if header.key != 0 || !VERSIONS.contains(&version) {
        return malformed(format!(
            "Produce version {version} is not served: message formats before 2 are gone, use 3 to 13"
        ));
    }
    let flexible = version >= FLEXIBLE_FROM;
    let transactional_id = reader.nullable_string(flexible)?;
    let acks = reader.i16()?;
    reader.i32()?;
    let mut named = PartitionCount::default();
    let count = named.room(reader.array_length(flexible, 3)?)?;
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        let key = if version >= TOPIC_IDS_FROM {
            TopicKey::Id(reader.uuid()?)
        } else {
            TopicKey::Name(reader.string(flexible)?)
        };
        let count = named.room(reader.array_length(flexible, 5)?)?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            let index = reader.i32()?;
            let records = reader.nullable_bytes(flexible)?.unwrap_or(&[]);
            reader.tags(flexible)?;
            partitions.push(Ask { index, records });
        }
        reader.tags(flexible)?;
        topics.push(TopicAsk { key, partitions });
    }
    reader.tags(flexible)?;
    check_named_once(topics.iter().flat_map(|topic| topic.partitions.iter().map(|ask| (&topic.key, ask.index))))?;
    Ok(Request { header, transactional_id, acks, topics })
}

fn append<T: Deref<Target = Table>>(
    table: &impl Fn() -> T,
    request: &Request<'_>,
    topic: &TopicAsk<'_>,
    ask: &Ask<'_>,
    now_ms: i64,
    scratch: &mut Scratch,
    produced: &mut Produced,
) -> std::result::Result<Appended, Refusal> {
    if !(-1..=1).contains(&request.acks) {
        let why = format!("acks must be -1, 0 or 1, not {}.", request.acks);
        return Err(Refusal::new(code::INVALID_REQUIRED_ACKS, why));
    }
    let entry = {
        let table = table();
        let Some(entry) = table.find(&topic.key, ask.index) else { return Err(unknown(&table, &topic.key)) };
        if let Some(name) = table.name(&topic.key).filter(|name| INTERNAL_TOPICS.contains(name)) {
            return Err(Refusal::new(code::INVALID_TOPIC_EXCEPTION, format!("Cannot append to internal topic {name}")));
        }
        entry.clone()
    };
    let writer = Writer { is_client: true, zstd_allowed: request.header.version >= 7 };
    let appended = entry.log.append(ask.records, writer, now_ms, scratch).map_err(|error| match error {
        Error::Refused(refusal) => refusal,
        other => {
            produced.fault.get_or_insert_with(|| other.to_string());
            Refusal::new(code::KAFKA_STORAGE_ERROR, format!("The batch could not be written: {other}."))
        }
    })?;
    if appended.rolled {
        produced.rolled.push(entry.handle);
    }
    if appended.must_flush {
        produced.unflushed.push(entry.handle);
    } else if !appended.duplicate {
        produced.grew.push(entry.handle);
    }
    Ok(appended)
}

fn unknown(table: &Table, key: &TopicKey<&str>) -> Refusal {
    match key {
        TopicKey::Id(id) if !table.knows_id(id) => {
            Refusal::new(code::UNKNOWN_TOPIC_ID, "There is no topic with that id.")
        }
        _ => Refusal::new(code::UNKNOWN_TOPIC_OR_PARTITION, "There is no such topic or partition."),
    }
}

fn put_outcome(out: &mut Vec<u8>, version: i16, index: i32, outcome: &std::result::Result<Appended, Refusal>) {
    let flexible = version >= FLEXIBLE_FROM;
    let refusal = outcome.as_ref().err();
    let appended = outcome.as_ref().ok();
    put_i32(out, index);
    put_i16(out, refusal.map_or(code::NONE, |refusal| refusal.code));
    put_i64(out, appended.map_or(-1, |appended| appended.base_offset));
    put_i64(out, appended.map_or(-1, |appended| appended.append_time));
    if version >= 5 {
        put_i64(out, appended.map_or(-1, |appended| appended.log_start));
    }
    if version >= 8 {
        let message = refusal.map(|refusal| refusal.message.as_str()).filter(|message| !message.is_empty());
        let records = refusal.map_or(&[][..], |refusal| &refusal.records);
        put_array_length(out, records.len(), flexible);
        for (index, why) in records {
            put_i32(out, *index);
            put_nullable_string(out, Some(why), flexible);
            put_tags(out, flexible);
        }
        put_nullable_string(out, message, flexible);
    }
    put_tags(out, flexible);
}
