//! Reading: where the bytes from an offset on stand, and whole batches of them; the files that stay open for it.
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{CURSORS, Log, Place, State, WINDOW_BYTES};
use crate::batch::{HEADER_BYTES, Header};
use crate::error::{Error, Result};
use crate::segment::Scan;

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
    /// The offset behind the last available byte.
    pub end_offset: i64,
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
