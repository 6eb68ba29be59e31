//! The header of a record batch (message format v2) and its validation, as Kafka's DefaultRecordBatch and LogValidator.
//!
//! Base offset, length and leader epoch lie before the part that the CRC covers, so the broker sets them without
//! recomputing it; the attributes and the largest timestamp lie behind it.
use crate::codec::{Codec, Scratch};
use crate::error::{Refusal, code};
use crate::records::{Walk, walk};

pub const HEADER_BYTES: usize = 61;
/// Base offset and batch length: what `size_bytes` does not count.
pub const LOG_OVERHEAD: usize = 12;
/// Where the leader epoch ends; the broker writes everything before it.
pub const ASSIGNED_BYTES: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;
pub const NO_PRODUCER: i64 = -1;
pub const NO_TIMESTAMP: i64 = -1;

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

/// The fixed header of a batch; the slice holds at least HEADER_BYTES.
#[derive(Clone, Copy)]
pub struct Header<'a>(&'a [u8]);

impl<'a> Header<'a> {
    /// None if there are not even the bytes of a header.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        (bytes.len() >= HEADER_BYTES).then_some(Header(bytes))
    }

    pub fn base_offset(&self) -> i64 {
        i64::from_be_bytes(array(self.0, 0))
    }

    pub fn length_field(&self) -> i32 {
        i32::from_be_bytes(array(self.0, 8))
    }

    /// The whole batch as its length field says; None if that cannot be.
    pub fn size_bytes(&self) -> Option<usize> {
        let size = usize::try_from(self.length_field()).ok()?.checked_add(LOG_OVERHEAD)?;
        (size >= HEADER_BYTES).then_some(size)
    }

    pub fn leader_epoch(&self) -> i32 {
        i32::from_be_bytes(array(self.0, 12))
    }

    pub fn magic(&self) -> i8 {
        self.0[16] as i8
    }

    pub fn crc(&self) -> u32 {
        u32::from_be_bytes(array(self.0, CRC_AT))
    }

    pub fn attributes(&self) -> i16 {
        i16::from_be_bytes(array(self.0, ATTRIBUTES_AT))
    }

    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(array(self.0, 23))
    }

    pub fn last_offset(&self) -> i64 {
        self.base_offset().saturating_add(i64::from(self.last_offset_delta()))
    }

    pub fn base_timestamp(&self) -> i64 {
        i64::from_be_bytes(array(self.0, 27))
    }

    pub fn max_timestamp(&self) -> i64 {
        i64::from_be_bytes(array(self.0, MAX_TIMESTAMP_AT))
    }

    pub fn producer_id(&self) -> i64 {
        i64::from_be_bytes(array(self.0, 43))
    }

    pub fn producer_epoch(&self) -> i16 {
        i16::from_be_bytes(array(self.0, 51))
    }

    pub fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(array(self.0, 53))
    }

    pub fn count(&self) -> i32 {
        i32::from_be_bytes(array(self.0, 57))
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL != 0
    }

    pub fn is_log_append_time(&self) -> bool {
        self.attributes() & LOG_APPEND_TIME != 0
    }

    pub fn codec(&self) -> Option<Codec> {
        Codec::from_attributes(self.attributes())
    }
}

/// Whether the bytes are one whole batch with the right CRC: what recovery asks.
pub fn is_intact(batch: &[u8]) -> bool {
    let Some(header) = Header::new(batch) else { return false };
    header.magic() == 2
        && header.size_bytes() == Some(batch.len())
        && header.last_offset_delta() >= 0
        && crc32c::crc32c(&batch[ATTRIBUTES_AT..]) == header.crc()
}

/// Whether its records have to be inflated to be looked at.
pub fn is_compressed(batch: &[u8]) -> bool {
    Header::new(batch).is_some_and(|header| header.codec() != Some(Codec::None))
}

/// What a topic asks of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub max_message_bytes: i64,
    pub log_append_time: bool,
    pub before_max_ms: i64,
    pub after_max_ms: i64,
    pub keys_required: bool,
    /// Batches of the broker's own may be control batches and transactional.
    pub from_client: bool,
    pub zstd_allowed: bool,
}

/// The header as it goes to disk, but for offset and epoch, and the time that the index learns.
pub struct Checked {
    /// The header with attributes, largest timestamp and CRC set anew, if they had to change.
    pub rewritten: Option<[u8; HEADER_BYTES]>,
    pub max_timestamp: i64,
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(code::INVALID_RECORD, message)
}

fn corrupt(message: impl Into<String>) -> Refusal {
    Refusal::new(code::CORRUPT_MESSAGE, message)
}

/// Everything that Kafka checks of a produced batch before the log sees it.
pub fn check(batch: &[u8], rules: &Rules, now_ms: i64, scratch: &mut Scratch) -> Result<Checked, Refusal> {
    let header = check_shape(batch, rules)?;
    let codec = check_header(&header, rules)?;
    let found = check_records(&header, codec, batch, rules, now_ms, scratch)?;
    let max_timestamp = if rules.log_append_time { now_ms } else { found.max_timestamp };
    let unchanged = max_timestamp == header.max_timestamp() && header.is_log_append_time() == rules.log_append_time;
    let rewritten = (!unchanged).then(|| stamped(batch, rules.log_append_time, max_timestamp));
    Ok(Checked { rewritten, max_timestamp })
}

/// ProduceRequest.validateRecords, then UnifiedLog.analyzeAndValidateRecords.
fn check_shape<'a>(batch: &'a [u8], rules: &Rules) -> Result<Header<'a>, Refusal> {
    if batch.is_empty() {
        return Err(invalid("A partition of a produce request must hold one record batch, this one holds none."));
    }
    if batch.len() > 16 && batch[16] != 2 {
        return Err(invalid(format!(
            "Record batches must have magic 2 (message format v2), this one has {}.",
            batch[16]
        )));
    }
    let Some(header) = Header::new(batch) else {
        return Err(corrupt(format!(
            "A record batch has a header of {HEADER_BYTES} bytes, only {} came.",
            batch.len()
        )));
    };
    match header.size_bytes() {
        None => return Err(corrupt(format!("The batch's length field says {}.", header.length_field()))),
        Some(size) if size > batch.len() => {
            return Err(corrupt(format!("The batch's length field says {size} bytes in all, {} came.", batch.len())));
        }
        Some(size) if size < batch.len() => {
            return Err(invalid("A partition of a produce request must hold exactly one record batch, more came."));
        }
        Some(_) => {}
    }
    if batch.len() as i64 > rules.max_message_bytes {
        let (size, limit) = (batch.len(), rules.max_message_bytes);
        return Err(Refusal::new(
            code::MESSAGE_TOO_LARGE,
            format!("The record batch is {size} bytes, above max.message.bytes of {limit}; raise it for the topic."),
        ));
    }
    if crc32c::crc32c(&batch[ATTRIBUTES_AT..]) != header.crc() {
        return Err(corrupt(format!("The batch's CRC-32C is not {:#010x} as its header says.", header.crc())));
    }
    Ok(header)
}

fn check_header(header: &Header<'_>, rules: &Rules) -> Result<Codec, Refusal> {
    let Some(codec) = header.codec() else {
        let id = header.attributes() & 7;
        return Err(Refusal::new(code::UNSUPPORTED_COMPRESSION_TYPE, format!("There is no compression codec {id}.")));
    };
    if codec == Codec::Zstd && !rules.zstd_allowed {
        return Err(Refusal::new(
            code::UNSUPPORTED_COMPRESSION_TYPE,
            "Batches compressed with zstd need Produce version 7 or above.",
        ));
    }
    if rules.from_client && header.is_control() {
        return Err(invalid("Clients are not allowed to write control batches."));
    }
    if rules.from_client && header.is_transactional() {
        return Err(Refusal::new(
            code::INVALID_TXN_STATE,
            "Transactions are not served yet: produce without a transactional.id.",
        ));
    }
    if header.count() <= 0 || i64::from(header.last_offset_delta()) + 1 != i64::from(header.count()) {
        let (count, delta) = (header.count(), header.last_offset_delta());
        return Err(invalid(format!("The batch holds {count} records but its last offset delta is {delta}.")));
    }
    if header.producer_id() >= 0 && (header.producer_epoch() < 0 || header.base_sequence() < 0) {
        let (epoch, sequence) = (header.producer_epoch(), header.base_sequence());
        return Err(invalid(format!("A producer id came with epoch {epoch} and sequence {sequence}.")));
    }
    Ok(codec)
}

fn check_records(
    header: &Header<'_>,
    codec: Codec,
    batch: &[u8],
    rules: &Rules,
    now_ms: i64,
    scratch: &mut Scratch,
) -> Result<Walk, Refusal> {
    let payload = &batch[HEADER_BYTES..];
    scratch.count(batch.len(), header.count());
    let records = match codec {
        Codec::None => payload,
        _ => {
            // The CRC was right, so this is what the producer made: no error that it would retry.
            scratch.inflate(codec, payload).map_err(invalid)?
        }
    };
    let earliest = now_ms.saturating_sub(rules.before_max_ms);
    let latest = now_ms.saturating_add(rules.after_max_ms);
    let base = header.base_timestamp();
    let found = walk(records, header.count(), base).map_err(invalid)?;
    if rules.keys_required && found.null_keys > 0 && !header.is_control() {
        return Err(listed(records, header, code::INVALID_RECORD, |record| {
            record.key_is_null.then(|| "A compacted topic takes no record without a key.".to_string())
        }));
    }
    let outside = |timestamp: i64| timestamp != NO_TIMESTAMP && (timestamp < earliest || timestamp > latest);
    if !rules.log_append_time && (outside(found.min_timestamp) || outside(found.max_timestamp)) {
        return Err(listed(records, header, code::INVALID_TIMESTAMP, |record| {
            let timestamp = record.timestamp;
            outside(timestamp).then(|| format!("Timestamp {timestamp} is outside [{earliest}, {latest}]."))
        }));
    }
    Ok(found)
}

/// A refusal that names each record at fault (ProduceResponse v8+ record errors).
fn listed(
    records: &[u8],
    header: &Header<'_>,
    code: i16,
    fault: impl Fn(&crate::records::Record) -> Option<String>,
) -> Refusal {
    let mut errors = Vec::new();
    let each = crate::records::each(records, header.count(), header.base_timestamp(), |index, record| {
        if let Some(why) = fault(record) {
            errors.push((index, why));
        }
    });
    let message = each.err().map(str::to_string).or(errors.first().map(|(_, why)| why.clone())).unwrap_or_default();
    Refusal { code, message, records: errors }
}

fn stamped(batch: &[u8], log_append_time: bool, max_timestamp: i64) -> [u8; HEADER_BYTES] {
    let mut header: [u8; HEADER_BYTES] = array(batch, 0);
    let mut attributes = i16::from_be_bytes(array(batch, ATTRIBUTES_AT)) & !LOG_APPEND_TIME;
    if log_append_time {
        attributes |= LOG_APPEND_TIME;
    }
    header[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
    header[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&max_timestamp.to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[ATTRIBUTES_AT..]), &batch[HEADER_BYTES..]);
    header[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    header
}
