//! One partition's log: append, locate, roll, retain, checkpoint. The only writer of its folder.
//!
//! Two locks: `state` is held for memory and for the write of a batch, never for an fsync; `maintenance` keeps
//! checkpoints, retention and closing apart. Readers take the place of their bytes under `state` and read without it.
//!
//! Two kinds of crash are told apart below. A kill takes memory only: what `write` returned for is in the system's page
//! cache, and the next start reads it. A power cut also takes what was not flushed, in any order, names of files too.
//! Every step leaves a folder that `recovery` opens; the comments at the steps say what it finds there.
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::batch::{self, ASSIGNED_BYTES, HEADER_BYTES, Header, NO_TIMESTAMP, Rules};
use crate::codec::Scratch;
use crate::epochs::Epochs;
use crate::error::{Error, Result};
use crate::producers::{Producers, Verdict};
use crate::recovery::{Report, recover};
use crate::segment::{Placed, Segment};

#[cfg(test)]
mod damage_tests;
mod durability;
mod reading;
mod repair;
mod retention;
mod search;
#[cfg(test)]
mod tests;

use reading::KeptOpen;
pub use reading::Planned;

/// Kafka's limit on a segment: positions in its index are 31 bits.
const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;
const WINDOW_BYTES: usize = 8 << 10;
const CURSORS: usize = 8;

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
    /// Segments in which a read found damage, by their first offsets.
    damaged: BTreeSet<i64>,
    /// How many segments were written anew: places that were found before count no more.
    repairs: u64,
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
    /// A segment was closed before it: `checkpoint` spares the next start its scan.
    pub rolled: bool,
}

/// Who appends: clients may not do all that the broker may.
#[derive(Debug, Clone, Copy)]
pub struct Writer {
    pub is_client: bool,
    pub zstd_allowed: bool,
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
            damaged: BTreeSet::new(),
            repairs: 0,
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
                rolled: false,
            });
        }
        let (size, delta) = (bytes.len() as u64, i64::from(header.last_offset_delta()));
        let rolled = state.should_roll(size, checked.max_timestamp, delta, now_ms);
        if rolled {
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
        let must_flush = state.must_flush();
        Ok(Appended { base_offset, append_time, log_start, duplicate: false, must_flush, rolled })
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
