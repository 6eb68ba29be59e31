//! Reading: where the bytes from an offset on stand, and whole batches of them; the files that stay open for it.
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{CURSORS, Log, Place, State, WINDOW_BYTES};
use crate::batch::{HEADER_BYTES, Header, is_intact};
use crate::error::{Error, Result};
use crate::salvage::is_misplaced;
use crate::segment::{Scan, log_file};

const OPEN_CLOSED_SEGMENTS: usize = 4;

/// Of all logs together; a log that finds none left opens its file for each read.
const KEPT_OPEN_MAX: usize = 128;
static KEPT_OPEN: AtomicUsize = AtomicUsize::new(0);

/// A file of a closed segment that is kept open, counted as long as this lives.
#[derive(Debug)]
pub(super) struct KeptOpen;

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

/// The bytes of a read, not read yet.
pub struct Planned {
    pub file: Arc<File>,
    pub position: u64,
    /// How many bytes to take: at most what was asked for.
    pub bytes: usize,
    /// How many stand there: the same as `bytes` means that they end with a whole batch.
    pub available: u64,
    pub base: i64,
    /// The offset that is asked for.
    pub offset: i64,
    /// The offset behind the last available byte.
    pub end_offset: i64,
    /// Nobody has compared these bytes with their CRCs since a checkpoint vouched for them.
    unverified: bool,
    repairs: u64,
}

impl Planned {
    /// The same, with at most so many bytes.
    pub fn at_most(&self, bytes: usize) -> Planned {
        Planned { bytes: self.bytes.min(bytes), file: self.file.clone(), ..*self }
    }

    /// Whether a batch is what was written, behind those of the read that are.
    fn is_right(&self, batch: &[u8], header: &Header<'_>, before: &Whole) -> io::Result<bool> {
        let first = before.bytes == 0;
        let offsets = (first || header.base_offset() >= before.next_offset) && header.last_offset() < self.end_offset;
        if !offsets || !is_intact(batch) {
            return Ok(false);
        }
        let end = self.position + self.available;
        let following = self.position + (before.bytes + batch.len()) as u64;
        Ok(!is_misplaced(&self.file, end, header, following, before.next_offset)?)
    }

    /// For a reader that compares the CRCs itself.
    pub fn unchecked(self) -> Planned {
        Planned { unverified: false, ..self }
    }
}

impl State {
    pub(super) fn segment_end(&self, index: usize, visible: &Place) -> (u64, i64) {
        let segment = &self.segments[index];
        if segment.base > visible.base {
            return (0, visible.offset);
        }
        if segment.base == visible.base {
            return (visible.position, visible.offset);
        }
        (segment.size, self.segments.get(index + 1).map_or(self.next_offset, |next| next.base))
    }

    pub(super) fn file(&mut self, index: usize) -> io::Result<Arc<File>> {
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
    pub(super) fn locate(&mut self, index: usize, offset: i64, end: u64) -> io::Result<u64> {
        let base = self.segments[index].base;
        let cursor = self.cursors.iter().flatten().find(|cursor| cursor.offset == offset && cursor.base == base);
        if let Some(cursor) = cursor {
            return Ok(cursor.position);
        }
        let file = self.file(index)?;
        let start = self.indexed_position(index, &file, offset)?;
        let mut scan = Scan::new(&file, start, end, WINDOW_BYTES);
        while let Some(bytes) = scan.header()? {
            let past = Header::new(&bytes).is_none_or(|header| header.last_offset() >= offset);
            if past || !scan.step(&bytes) {
                break;
            }
        }
        Ok(scan.position)
    }

    /// A position at or before the batch that holds an offset; an index that cannot be right is made anew in memory.
    fn indexed_position(&mut self, index: usize, file: &File, offset: i64) -> io::Result<u64> {
        let segment = &self.segments[index];
        match segment.position(offset) {
            Ok(0) => return Ok(0),
            Ok(position) if segment.begins_batch(file, position, offset)? => return Ok(position),
            _ => {}
        }
        let interval_bytes = self.config.index_interval_bytes.max(0) as u64;
        let anew = segment.index_anew(file, interval_bytes)?;
        let position = anew.position(segment.relative(offset));
        self.segments[index].index = Some(anew);
        Ok(u64::from(position))
    }
}

impl Log {
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
                let segment = &state.segments[index];
                let (base, repairs) = (segment.base, state.repairs);
                let unverified = position < segment.unverified && segment.verified < segment.unverified;
                return Ok(Some(Planned {
                    file,
                    position,
                    bytes,
                    available,
                    base,
                    offset,
                    end_offset,
                    unverified,
                    repairs,
                }));
            }
            // The rest of this segment holds nothing at or after the offset.
            index += 1;
        }
        Ok(None)
    }

    /// Remembers where a read ended, and what it compared with its CRCs.
    fn remember(&self, planned: &Planned, offset: i64, bytes: usize) {
        let mut state = self.state();
        if state.repairs != planned.repairs {
            return;
        }
        let position = planned.position + bytes as u64;
        if planned.unverified {
            let index = state.segment_of(planned.base);
            let segment = &mut state.segments[index];
            if segment.base == planned.base && planned.position <= segment.verified {
                segment.verified = segment.verified.max(position);
            }
        }
        let place = Place { offset, base: planned.base, position };
        if state.cursors.contains(&Some(place)) {
            return;
        }
        let slot = state.next_cursor;
        state.cursors[slot] = Some(place);
        state.next_cursor = (slot + 1) % CURSORS;
    }

    /// Reads whole batches into `out` from `at` on, which is made longer as needed; how many bytes they are.
    ///
    /// `at_least_one` reads a first batch that is larger than was asked for; otherwise nothing is read of it. What a
    /// checkpoint vouched for is compared with its CRCs the first time. Raises Damaged where the first batch is.
    pub fn read_planned(&self, planned: &Planned, out: &mut Vec<u8>, at: usize, at_least_one: bool) -> Result<usize> {
        grow(out, at + planned.bytes);
        planned.file.read_exact_at(&mut out[at..at + planned.bytes], planned.position)?;
        let all = planned.bytes as u64 == planned.available;
        if all && !planned.unverified {
            self.remember(planned, planned.end_offset, planned.bytes);
            return Ok(planned.bytes);
        }
        let read = whole_batches(&out[at..at + planned.bytes], planned)?;
        if read.bytes > 0 {
            let ends = all && read.bytes == planned.bytes;
            self.remember(planned, if ends { planned.end_offset } else { read.next_offset }, read.bytes);
            return Ok(read.bytes);
        }
        if read.damaged || (all && planned.bytes > 0) {
            return Err(self.damaged(planned));
        }
        if !at_least_one {
            return Ok(0);
        }
        let mut scan = Scan::new(&planned.file, planned.position, planned.position + planned.available, HEADER_BYTES);
        let header = scan.header()?.unwrap_or([0; HEADER_BYTES]);
        let Some(batch) = scan.batch(&header)? else { return Err(self.damaged(planned)) };
        if planned.unverified && !is_intact(batch) {
            return Err(self.damaged(planned));
        }
        let size = batch.len();
        grow(out, at + size);
        out[at..at + size].copy_from_slice(batch);
        let next_offset = Header::new(&header).map_or(0, |header| header.last_offset().saturating_add(1));
        self.remember(planned, next_offset, size);
        Ok(size)
    }

    /// Notes that a segment is damaged where a read begins: `repair` sees to it.
    fn damaged(&self, planned: &Planned) -> Error {
        let mut state = self.state();
        if state.repairs == planned.repairs {
            state.damaged.insert(planned.base);
        }
        let file = log_file(&self.directory, planned.base);
        Error::Damaged(format!("{} is damaged at position {}", file.display(), planned.position))
    }
}

fn grow(out: &mut Vec<u8>, size: usize) {
    if out.len() < size {
        out.resize(size, 0);
    }
}

/// What of a read is whole batches.
struct Whole {
    bytes: usize,
    /// The offset behind them.
    next_offset: i64,
    /// What follows them is no batch, or not what was written.
    damaged: bool,
}

fn whole_batches(bytes: &[u8], planned: &Planned) -> io::Result<Whole> {
    let mut whole = Whole { bytes: 0, next_offset: planned.offset, damaged: false };
    while let Some(header) = Header::new(&bytes[whole.bytes..]) {
        let left = bytes.len() - whole.bytes;
        let size = header.size_bytes().filter(|size| *size <= left);
        let Some(size) = size else {
            whole.damaged = header.size_bytes().is_none();
            break;
        };
        let batch = &bytes[whole.bytes..whole.bytes + size];
        whole.damaged = planned.unverified && !planned.is_right(batch, &header, &whole)?;
        if whole.damaged {
            break;
        }
        whole.bytes += size;
        whole.next_offset = header.last_offset().saturating_add(1);
    }
    Ok(whole)
}
