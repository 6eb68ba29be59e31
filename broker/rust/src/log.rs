//! One partition's log: append, locate, roll, retain, checkpoint. The only writer of its folder.
//!
//! Two locks: `state` is held for memory and for the write of a batch, never for an fsync; `maintenance` keeps
//! checkpoints, retention and closing apart. Readers take the place of their bytes under `state` and read without it.
//!
//! Two kinds of crash are told apart below. A kill takes memory only: what `write` returned for is in the system's page
//! cache, and the next start reads it. A power cut also takes what was not flushed, in any order, names of files too.
//! Every step leaves a folder that `recovery` opens; the comments at the steps say what it finds there.
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::batch::{self, ASSIGNED_BYTES, HEADER_BYTES, Header, NO_TIMESTAMP, Rules};
use crate::codec::Scratch;
use crate::epochs::Epochs;
use crate::error::{Error, Result};
use crate::producers::{Producers, Verdict};
use crate::recovery::{Report, recover};
use crate::segment::{Placed, Scan, Segment};

mod durability;
mod retention;
mod search;
#[cfg(test)]
mod tests;

/// Kafka's limit on a segment: positions in its index are 31 bits.
const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;
const WINDOW_BYTES: usize = 8 << 10;
const CURSORS: usize = 8;
const OPEN_CLOSED_SEGMENTS: usize = 4;

/// Of all logs together; a log that finds none left opens its file for each read.
const KEPT_OPEN_MAX: usize = 128;
static KEPT_OPEN: AtomicUsize = AtomicUsize::new(0);

/// A file of a closed segment that is kept open, counted as long as this lives.
#[derive(Debug)]
struct KeptOpen;

impl KeptOpen {
    fn one_more() -> Option<KeptOpen> {
        let counted = KEPT_OPEN.fetch_add(1, Ordering::Relaxed) < KEPT_OPEN_MAX;
        let kept = KeptOpen;
        counted.then_some(kept)
    }
}

impl Drop for KeptOpen {
    fn drop(&mut self) {
        KEPT_OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The topic configs that the core obeys; -1 is "no limit".
#[derive(Debug, Clone, Copy)]
pub struct Config {
    pub segment_bytes: i64,
    pub segment_ms: i64,
    pub index_interval_bytes: i64,
    pub retention_ms: i64,
    pub retention_bytes: i64,
    pub delete: bool,
    pub compact: bool,
    pub max_message_bytes: i64,
    pub log_append_time: bool,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    pub flush_messages: i64,
    pub producer_expiration_ms: i64,
}

/// A place in the log: an offset, and the segment and position at which it stands or will stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    offset: i64,
    base: i64,
    position: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Open,
    Closed,
    Abandoned,
}

#[derive(Debug)]
struct State {
    config: Config,
    status: Status,
    segments: Vec<Segment>,
    next_offset: i64,
    log_start: i64,
    epoch: i32,
    epochs: Epochs,
    producers: Producers,
    flushed: Place,
    /// The newest segment whose name is known to be on disk too.
    named: Option<i64>,
    /// The mark of the last checkpoint; while it holds there is nothing to write.
    checkpointed: Option<(i64, i64, i64)>,
    /// Where readers stopped, so that the next read of a tail needs no index.
    cursors: [Option<Place>; CURSORS],
    next_cursor: usize,
    /// Files of closed segments that were read lately, oldest first.
    open_closed: Vec<(i64, Arc<File>, KeptOpen)>,
}

pub struct Log {
    directory: PathBuf,
    pub report: Report,
    state: Mutex<State>,
    maintenance: Mutex<()>,
}

/// What the client of an append is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: i64,
    /// -1 unless the topic has LogAppendTime.
    pub append_time: i64,
    pub log_start: i64,
    pub duplicate: bool,
    /// The flush policy wants an fsync before this is acknowledged.
    pub must_flush: bool,
}

/// Who appends: clients may not do all that the broker may.
#[derive(Debug, Clone, Copy)]
pub struct Writer {
    pub is_client: bool,
    pub zstd_allowed: bool,
}

/// The bytes of a read, not read yet.
pub struct Planned {
    pub file: Arc<File>,
    pub position: u64,
    /// How many bytes to take: at most what was asked for.
    pub bytes: usize,
    /// How many stand there: the same as `bytes` means that they end with a whole batch.
    pub available: u64,
    pub base: i64,
    /// The offset behind the last available byte.
    pub end_offset: i64,
}

/// What a fetch is told of a partition besides its records.
#[derive(Debug, Clone, Copy)]
pub struct Marks {
    pub high_watermark: i64,
    pub log_start: i64,
    pub epoch: i32,
}

impl State {
    fn active(&mut self) -> &mut Segment {
        // There is always one: recovery makes it and rolling adds before anything is removed.
        let last = self.segments.len() - 1;
        &mut self.segments[last]
    }

    fn end(&self) -> Place {
        let active = &self.segments[self.segments.len() - 1];
        Place { offset: self.next_offset, base: active.base, position: active.size }
    }

    /// Where consumers must stop: with fsync before the reply only what is flushed is there for them.
    fn visible(&self) -> Place {
        if self.config.flush_messages <= 1 { self.flushed } else { self.end() }
    }

    /// What a checkpoint would tell: (end offset, log start, first segment).
    fn mark(&self) -> (i64, i64, i64) {
        (self.next_offset, self.log_start, self.segments[0].base)
    }

    fn must_flush(&self) -> bool {
        self.next_offset - self.flushed.offset >= self.config.flush_messages.max(1)
    }

    fn segment_of(&self, offset: i64) -> usize {
        self.segments.partition_point(|segment| segment.base <= offset).saturating_sub(1)
    }

    fn segment_end(&self, index: usize, visible: &Place) -> (u64, i64) {
        let segment = &self.segments[index];
        if segment.base > visible.base {
            return (0, visible.offset);
        }
        if segment.base == visible.base {
            return (visible.position, visible.offset);
        }
        (segment.size, self.segments.get(index + 1).map_or(self.next_offset, |next| next.base))
    }

    fn file(&mut self, index: usize) -> io::Result<Arc<File>> {
        let segment = &self.segments[index];
        if let Some(file) = &segment.file {
            return Ok(file.clone());
        }
        if let Some(at) = self.open_closed.iter().position(|(base, ..)| *base == segment.base) {
            return Ok(self.open_closed[at].1.clone());
        }
        let file = Arc::new(File::open(&segment.path)?);
        if self.open_closed.len() == OPEN_CLOSED_SEGMENTS {
            self.open_closed.remove(0);
        }
        if let Some(kept) = KeptOpen::one_more() {
            self.open_closed.push((segment.base, file.clone(), kept));
        }
        Ok(file)
    }

    /// The position of the batch that holds an offset, or of the segment's end.
    fn locate(&mut self, index: usize, offset: i64, end: u64) -> io::Result<u64> {
        let base = self.segments[index].base;
        let cursor = self.cursors.iter().flatten().find(|cursor| cursor.offset == offset && cursor.base == base);
        if let Some(cursor) = cursor {
            return Ok(cursor.position);
        }
        let start = self.segments[index].position(offset)?;
        let file = self.file(index)?;
        let mut scan = Scan::new(&file, start, end, WINDOW_BYTES);
        while let Some(bytes) = scan.header()? {
            let past = Header::new(&bytes).is_none_or(|header| header.last_offset() >= offset);
            if past || !scan.step(&bytes) {
                break;
            }
        }
        Ok(scan.position)
    }

    fn roll(&mut self, directory: &Path, now_ms: i64) -> io::Result<()> {
        // Crash after this: an empty newest file, which recovery opens as the active segment. Its name is on disk only
        // after the next flush; a power cut before may lose it, with the batches in it, of which none counts as flushed.
        let segment = Segment::create(directory, self.next_offset, now_ms)?;
        // Memory only: until a checkpoint saves its index, recovery scans the closed segment and rebuilds it.
        self.active().seal();
        self.active().file = None;
        self.segments.push(segment);
        Ok(())
    }

    /// LogSegment.shouldRoll.
    fn should_roll(&mut self, size: u64, max_timestamp: i64, delta: i64, now_ms: i64) -> bool {
        let (limit, segment_ms) = (self.config.segment_bytes.max(1) as u64, self.config.segment_ms);
        let next_offset = self.next_offset;
        let active = self.active();
        if active.size == 0 {
            return false;
        }
        let waited = if active.first_timestamp == NO_TIMESTAMP {
            now_ms.saturating_sub(active.created_ms)
        } else {
            max_timestamp.saturating_sub(active.first_timestamp)
        };
        active.size + size > limit.min(SEGMENT_BYTES_MAX)
            || waited > segment_ms
            || next_offset - active.base + delta > i64::from(i32::MAX)
    }

    fn marks(&self) -> Marks {
        Marks { high_watermark: self.visible().offset, log_start: self.log_start, epoch: self.epoch }
    }
}

impl Log {
    /// Opens or makes the log of a folder and begins a new leader epoch.
    pub fn open(directory: &Path, config: Config, now_ms: i64) -> Result<Log> {
        let recovered = recover(directory, config.index_interval_bytes.max(0) as u64, now_ms)?;
        let mut epochs = recovered.epochs;
        let epoch = epochs.latest().map_or(0, |latest| latest.saturating_add(1));
        // Crash before the save: the next start takes the same epoch, under which nothing was written. Crash after it:
        // one number is skipped, and `assign` forgets the epoch that wrote nothing.
        epochs.assign(epoch, recovered.next_offset);
        epochs.save(directory)?;
        let mut state = State {
            config,
            status: Status::Open,
            segments: recovered.segments,
            next_offset: recovered.next_offset,
            log_start: recovered.log_start,
            epoch,
            epochs,
            producers: recovered.producers,
            flushed: Place { offset: 0, base: 0, position: 0 },
            named: None,
            checkpointed: None,
            cursors: [None; CURSORS],
            next_cursor: 0,
            open_closed: Vec::new(),
        };
        state.flushed = state.end();
        if recovered.resumed || state.end().offset == 0 {
            state.checkpointed = Some(state.mark());
        }
        if config.flush_messages <= 1 && recovered.report.scanned_bytes > 0 {
            // What a killed broker had acknowledged is on disk; what it had not may be in the page cache only. It is
            // flushed before anybody reads it, or a power cut could take it from consumers that have seen it.
            for segment in state.segments.iter().filter(|segment| segment.index.is_some()) {
                segment.unflushed().sync()?;
            }
            File::open(directory)?.sync_all()?;
        } else if recovered.report.scanned_bytes > 0 {
            // Nobody knows how much of what was scanned is flushed: the next flush starts from the first segment.
            let first = &state.segments[0];
            state.flushed = Place { offset: state.log_start.min(first.base), base: first.base, position: 0 };
        }
        let maintenance = Mutex::new(());
        Ok(Log { directory: directory.to_path_buf(), report: recovered.report, state: Mutex::new(state), maintenance })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn marks(&self) -> Marks {
        self.state().marks()
    }

    pub fn end_offset(&self) -> i64 {
        self.state().next_offset
    }

    pub fn size_bytes(&self) -> u64 {
        self.state().segments.iter().map(|segment| segment.size).sum()
    }

    pub fn segment_count(&self) -> usize {
        self.state().segments.len()
    }

    pub fn must_flush(&self) -> bool {
        self.state().must_flush()
    }

    pub fn configure(&self, config: Config) -> Result<()> {
        if config.flush_messages <= 1 {
            // From now on only what is flushed can be read: nothing may vanish from readers by this.
            self.flush()?;
        }
        self.state().config = config;
        Ok(())
    }

    fn open_state(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state();
        match state.status {
            Status::Open => Ok(state),
            _ => Err(Error::Io(io::Error::other("the partition is closed"))),
        }
    }

    /// Validates a batch, gives it its offset and epoch, and writes it.
    pub fn append(&self, bytes: &[u8], writer: Writer, now_ms: i64, scratch: &mut Scratch) -> Result<Appended> {
        let mut state = self.open_state()?;
        let config = state.config;
        let rules = Rules {
            max_message_bytes: config.max_message_bytes,
            log_append_time: config.log_append_time,
            before_max_ms: config.timestamp_before_max_ms,
            after_max_ms: config.timestamp_after_max_ms,
            keys_required: config.compact,
            from_client: writer.is_client,
            zstd_allowed: writer.zstd_allowed,
        };
        let checked = if batch::is_compressed(bytes) {
            // Others read and write the partition while this one is inflated.
            drop(state);
            let checked = batch::check(bytes, &rules, now_ms, scratch)?;
            state = self.open_state()?;
            checked
        } else {
            batch::check(bytes, &rules, now_ms, scratch)?
        };
        let Some(header) = Header::new(bytes) else { return Err(Error::Malformed("a batch without a header".into())) };
        let append_time = if config.log_append_time { now_ms } else { NO_TIMESTAMP };
        let log_start = state.log_start;
        // A crash between the write and the reply makes the client send the batch again. The producers' states, of the
        // checkpoint and of the scan behind it, know its sequence: it is answered, not appended a second time.
        if let Verdict::Duplicate(first) = state.producers.check(&header)? {
            let append_time = if config.log_append_time { first.timestamp } else { NO_TIMESTAMP };
            let must_flush = state.must_flush();
            return Ok(Appended {
                base_offset: first.base_offset,
                append_time,
                log_start,
                duplicate: true,
                must_flush,
            });
        }
        let (size, delta) = (bytes.len() as u64, i64::from(header.last_offset_delta()));
        if state.should_roll(size, checked.max_timestamp, delta, now_ms) {
            state.roll(&self.directory, now_ms)?;
        }
        let base_offset = state.next_offset;
        let epoch = state.epoch;
        let position = state.active().size;
        // Crash in the write: the front part of a batch at the end of the file, which recovery cuts off; no reply was sent
        // for it. Crash after it: a kill loses nothing. A power cut may take the batch, or leave a part whose CRC is
        // wrong, unless it was flushed: with flush.messages=1 the reply waits for that, else it does not (as in Kafka).
        match checked.rewritten {
            None => {
                let mut head = [0; ASSIGNED_BYTES];
                assign(&mut head, base_offset, bytes, epoch);
                state.active().write(&head, &bytes[ASSIGNED_BYTES..])?;
            }
            Some(mut head) => {
                assign(&mut head, base_offset, bytes, epoch);
                state.active().write(&head, &bytes[HEADER_BYTES..])?;
            }
        }
        // From here on memory only: recovery learns the same from the batch (`Recovery::next_batch`).
        let max_timestamp = checked.max_timestamp;
        let placed = Placed { last_offset: base_offset + delta, position, size, max_timestamp };
        state.active().note(&placed, config.index_interval_bytes.max(0) as u64);
        state.producers.appended(&header, base_offset, max_timestamp, now_ms);
        state.next_offset = base_offset + delta + 1;
        Ok(Appended { base_offset, append_time, log_start, duplicate: false, must_flush: state.must_flush() })
    }

    /// Finds the bytes from an offset on; None at the high watermark.
    pub fn plan(&self, offset: i64, bytes_max: usize) -> Result<Option<Planned>> {
        let mut state = self.state();
        let visible = state.visible();
        if offset < state.log_start || offset > visible.offset {
            let (start, end) = (state.log_start, visible.offset);
            return Err(Error::OutOfRange(format!("Offset {offset} is outside the log, which is {start} to {end}.")));
        }
        let mut index = state.segment_of(offset);
        while offset < visible.offset && index < state.segments.len() {
            let (end, end_offset) = state.segment_end(index, &visible);
            let position = state.locate(index, offset, end)?;
            if position < end {
                let file = state.file(index)?;
                let available = end - position;
                let bytes = available.min(bytes_max as u64) as usize;
                let base = state.segments[index].base;
                return Ok(Some(Planned { file, position, bytes, available, base, end_offset }));
            }
            // The rest of this segment holds nothing at or after the offset.
            index += 1;
        }
        Ok(None)
    }

    /// Remembers where a read ended.
    fn remember(&self, offset: i64, base: i64, position: u64) {
        let mut state = self.state();
        let place = Place { offset, base, position };
        if state.cursors.contains(&Some(place)) {
            return;
        }
        let slot = state.next_cursor;
        state.cursors[slot] = Some(place);
        state.next_cursor = (slot + 1) % CURSORS;
    }

    /// Reads whole batches into `out` from `at` on, which is made longer as needed; how many bytes they are.
    ///
    /// `at_least_one` reads a first batch that is larger than was asked for; otherwise nothing is read of it.
    pub fn read_planned(&self, planned: &Planned, out: &mut Vec<u8>, at: usize, at_least_one: bool) -> Result<usize> {
        grow(out, at + planned.bytes);
        planned.file.read_exact_at(&mut out[at..at + planned.bytes], planned.position)?;
        if planned.bytes as u64 == planned.available {
            self.remember(planned.end_offset, planned.base, planned.position + planned.available);
            return Ok(planned.bytes);
        }
        let (whole, next_offset) = whole_batches(&out[at..at + planned.bytes]);
        if whole > 0 {
            self.remember(next_offset, planned.base, planned.position + whole as u64);
            return Ok(whole);
        }
        if !at_least_one {
            return Ok(0);
        }
        let mut scan = Scan::new(&planned.file, planned.position, planned.position + planned.available, HEADER_BYTES);
        let header = scan.header()?.unwrap_or([0; HEADER_BYTES]);
        let Some(batch) = scan.batch(&header)? else { return Ok(0) };
        let size = batch.len();
        grow(out, at + size);
        out[at..at + size].copy_from_slice(batch);
        let next_offset = Header::new(&header).map_or(0, |header| header.last_offset().saturating_add(1));
        self.remember(next_offset, planned.base, planned.position + size as u64);
        Ok(size)
    }

    pub fn epoch_at(&self, offset: i64) -> i32 {
        self.state().epochs.at(offset)
    }

    pub fn end_offset_for_epoch(&self, epoch: i32) -> (i32, i64) {
        let state = self.state();
        state.epochs.end_offset(epoch, state.visible().offset)
    }

    /// The folder is being deleted: once this returns nothing is written to it, or removed from it, any more.
    ///
    /// Maintenance that runs goes first: a topic made again under the same name has its folder at the same path.
    pub fn abandon(&self) {
        let _alone = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        self.state().status = Status::Abandoned;
    }
}

fn assign(head: &mut [u8], base_offset: i64, batch: &[u8], epoch: i32) {
    head[..8].copy_from_slice(&base_offset.to_be_bytes());
    head[8..12].copy_from_slice(&batch[8..12]);
    head[12..16].copy_from_slice(&epoch.to_be_bytes());
}

fn grow(out: &mut Vec<u8>, size: usize) {
    if out.len() < size {
        out.resize(size, 0);
    }
}

/// How many bytes of a read are whole batches, and the offset behind them.
fn whole_batches(bytes: &[u8]) -> (usize, i64) {
    let (mut whole, mut next_offset) = (0, 0);
    while let Some(header) = Header::new(&bytes[whole..]) {
        match header.size_bytes() {
            Some(size) if size <= bytes.len() - whole => {
                whole += size;
                next_offset = header.last_offset().saturating_add(1);
            }
            _ => break,
        }
    }
    (whole, next_offset)
}
