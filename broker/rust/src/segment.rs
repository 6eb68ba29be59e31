//! One segment: a file of batches named by its first offset, and the sparse indexes beside it.
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::{HEADER_BYTES, Header, NO_TIMESTAMP};
use crate::index::{self, Index};

const HEADERS_BYTES: usize = 8 << 10;

pub fn log_file(directory: &Path, base: i64) -> PathBuf {
    directory.join(format!("{base:020}.log"))
}

/// A segment as the log keeps it in mind.
#[derive(Debug)]
pub struct Segment {
    pub base: i64,
    pub size: u64,
    pub max_timestamp: i64,
    /// Last offset of the first batch that holds it: what Kafka's time index names.
    pub max_timestamp_offset: i64,
    /// The first batch's largest timestamp: what rolling by time counts from.
    pub first_timestamp: i64,
    pub created_ms: i64,
    pub path: PathBuf,
    /// Open in the active segment only: records may be segments of their own, and descriptors are few.
    pub file: Option<Arc<File>>,
    /// In memory while there may be something to flush: the active segment, and closed ones until the next checkpoint.
    pub index: Option<Index>,
    /// The bytes at the file's beginning that a checkpoint vouched for: nobody has compared them with their CRCs since.
    pub unverified: u64,
    /// How many bytes of them reads have compared, from the file's beginning on.
    pub verified: u64,
    unindexed_bytes: u64,
}

/// A segment that may have to be flushed.
pub enum Unflushed {
    Open(Arc<File>),
    Closed(PathBuf),
}

impl Unflushed {
    /// Fsyncs it, by any descriptor: the kernel flushes the file, not what one descriptor wrote.
    pub fn sync(&self) -> io::Result<()> {
        match self {
            Unflushed::Open(file) => file.sync_data(),
            Unflushed::Closed(path) => match File::open(path) {
                // Retention took it meanwhile.
                Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(()),
                opened => opened?.sync_data(),
            },
        }
    }
}

/// A batch's place and times, as the index learns them.
pub struct Placed {
    pub last_offset: i64,
    pub position: u64,
    pub size: u64,
    pub max_timestamp: i64,
}

impl Placed {
    pub fn of(header: &Header<'_>, position: u64) -> Placed {
        let size = header.size_bytes().unwrap_or(HEADER_BYTES) as u64;
        Placed { last_offset: header.last_offset(), position, size, max_timestamp: header.max_timestamp() }
    }
}

impl Segment {
    pub fn create(directory: &Path, base: i64, now_ms: i64) -> io::Result<Segment> {
        let path = log_file(directory, base);
        // Not synced: see `State::roll` for what a crash leaves, and `Log::flush` for when the name is on disk.
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        Ok(Segment {
            file: Some(Arc::new(file)),
            index: Some(Index::default()),
            ..Segment::closed(path, base, 0, now_ms)
        })
    }

    /// A segment that will not be written again.
    pub fn closed(path: PathBuf, base: i64, size: u64, created_ms: i64) -> Segment {
        Segment {
            base,
            size,
            max_timestamp: NO_TIMESTAMP,
            max_timestamp_offset: base,
            first_timestamp: NO_TIMESTAMP,
            created_ms,
            path,
            file: None,
            index: None,
            unverified: 0,
            verified: 0,
            unindexed_bytes: 0,
        }
    }

    pub fn relative(&self, offset: i64) -> u32 {
        u32::try_from(offset.saturating_sub(self.base).max(0)).unwrap_or(u32::MAX)
    }

    /// Appends the bytes of one batch, given in two parts; on a fault the file is as before.
    ///
    /// Crash between two writes of one batch: its front part is a torn tail, which recovery cuts.
    pub fn write(&mut self, head: &[u8], tail: &[u8]) -> io::Result<()> {
        let Some(shared) = self.file.clone() else { return Err(io::Error::other("the segment cannot be written")) };
        let mut file: &File = &shared;
        let mut parts = [IoSlice::new(head), IoSlice::new(tail)];
        let mut rest = &mut parts[..];
        while !rest.is_empty() {
            match file.write_vectored(rest) {
                Ok(0) => return self.undo(io::Error::from(io::ErrorKind::WriteZero)),
                Ok(written) => IoSlice::advance_slices(&mut rest, written),
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                Err(fault) => return self.undo(fault),
            }
        }
        Ok(())
    }

    fn undo(&mut self, fault: io::Error) -> io::Result<()> {
        if let Some(mut file) = self.file.as_deref() {
            // Crash before this: the part that was written is a torn tail, which recovery cuts.
            let undone = file.set_len(self.size).and_then(|()| file.seek(SeekFrom::Start(self.size)));
            if undone.is_err() {
                // What stands behind `size` is unknown now: nothing may be written after it until a recovery.
                self.file = None;
            }
        }
        Err(fault)
    }

    /// Takes note of a batch that stands at the end of the file (LogSegment.append). Memory only: after a crash the scan
    /// does it again for every batch behind the checkpoint.
    pub fn note(&mut self, placed: &Placed, interval_bytes: u64) {
        if self.size == 0 {
            self.first_timestamp = placed.max_timestamp;
        }
        if placed.max_timestamp > self.max_timestamp {
            self.max_timestamp = placed.max_timestamp;
            self.max_timestamp_offset = placed.last_offset;
        }
        let last = self.relative(placed.last_offset);
        let newest = (self.max_timestamp, self.relative(self.max_timestamp_offset));
        if let Some(index) = &mut self.index
            && self.unindexed_bytes > interval_bytes
        {
            index.add_offset(last, placed.position as u32);
            index.add_time(newest.0, newest.1);
            self.unindexed_bytes = 0;
        }
        self.unindexed_bytes += placed.size;
        self.size = placed.position + placed.size;
    }

    /// What to flush it by, under no lock.
    pub fn unflushed(&self) -> Unflushed {
        match &self.file {
            Some(file) => Unflushed::Open(file.clone()),
            None => Unflushed::Closed(self.path.clone()),
        }
    }

    /// The segment is closed: its time index ends with its largest timestamp.
    pub fn seal(&mut self) {
        let newest = (self.max_timestamp, self.relative(self.max_timestamp_offset));
        if let Some(index) = &mut self.index {
            index.add_time(newest.0, newest.1);
        }
    }

    /// The offset behind the last batch, found from the index on; None if headers and index contradict each other.
    pub fn end_offset(&self, file: &File, index: &Index, size: u64) -> Option<i64> {
        let (last, start) = index.last().map_or((None, 0), |(relative, position)| (Some(relative), position));
        let mut scan = Scan::new(file, u64::from(start), size, HEADERS_BYTES);
        let mut next_offset = self.base;
        while scan.position < size {
            let bytes = scan.header().ok()??;
            let header = Header::new(&bytes).filter(|header| header.base_offset() >= next_offset)?;
            if scan.position == u64::from(start) && last.is_some_and(|last| self.relative(header.last_offset()) != last)
            {
                return None;
            }
            next_offset = header.last_offset().saturating_add(1);
            if !scan.step(&bytes) {
                return None;
            }
        }
        (scan.position == size).then_some(next_offset)
    }

    /// The largest timestamp of the batch that holds an offset, as its header has it.
    pub fn batch_of(&self, file: &File, index: &Index, offset: i64) -> Option<i64> {
        // An entry names the last offset of its batch, and the position is that of this batch.
        let start = index.position(self.relative(offset));
        let mut scan = Scan::new(file, u64::from(start), self.size, HEADERS_BYTES);
        loop {
            let bytes = scan.header().ok()??;
            let header = Header::new(&bytes)?;
            if header.last_offset() >= offset {
                return Some(header.max_timestamp());
            }
            if !scan.step(&bytes) {
                return None;
            }
        }
    }

    /// Whether a batch begins at a position, with an offset at or below the given one.
    pub fn begins_batch(&self, file: &File, position: u64, offset: i64) -> io::Result<bool> {
        let mut scan = Scan::new(file, position, self.size, HEADER_BYTES);
        let bytes = scan.header()?.unwrap_or([0; HEADER_BYTES]);
        let plausible = |header: &Header<'_>| header.magic() == 2 && header.size_bytes().is_some();
        let offsets = self.base..=offset;
        Ok(Header::new(&bytes).is_some_and(|header| plausible(&header) && offsets.contains(&header.base_offset())))
    }

    /// What its batches' headers say that the index should be.
    pub fn index_anew(&self, file: &File, interval_bytes: u64) -> io::Result<Index> {
        let mut anew = Segment { index: Some(Index::default()), ..Segment::closed(self.path.clone(), self.base, 0, 0) };
        let mut scan = Scan::new(file, 0, self.size, HEADERS_BYTES);
        while let Some(bytes) = scan.header()? {
            let position = scan.position;
            let Some(header) = Header::new(&bytes).filter(|header| header.magic() == 2) else { break };
            if !scan.step(&bytes) {
                break;
            }
            anew.note(&Placed::of(&header, position), interval_bytes);
        }
        anew.seal();
        Ok(anew.index.unwrap_or_default())
    }

    /// A position at or before the batch that holds an offset.
    pub fn position(&self, offset: i64) -> io::Result<u64> {
        let relative = self.relative(offset);
        match &self.index {
            Some(index) => Ok(u64::from(index.position(relative))),
            None => index::position_on_disk(&self.path, relative).map(u64::from),
        }
    }

    /// A position at or before the first batch that reaches a timestamp.
    pub fn position_for_time(&self, timestamp: i64) -> io::Result<u64> {
        let relative = match &self.index {
            Some(index) => index.offset_before(timestamp),
            None => index::offset_before_on_disk(&self.path, timestamp)?,
        };
        self.position(self.base + i64::from(relative))
    }

    pub fn remove_indexes(&self) -> io::Result<()> {
        remove(&[index::offset_file(&self.path), index::time_file(&self.path)])
    }

    /// Indexes go first, so that a kill leaves no index without its log. It may leave the log without its indexes: then
    /// recovery scans it, and below the log start the next retention pass removes it.
    pub fn remove_files(&self) -> io::Result<()> {
        self.remove_indexes()?;
        remove(std::slice::from_ref(&self.path))
    }
}

fn remove(paths: &[PathBuf]) -> io::Result<()> {
    for path in paths {
        match std::fs::remove_file(path) {
            Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
            _ => {}
        }
    }
    Ok(())
}

/// Batches of a file from a position on, through a window that is read as few times as possible.
pub struct Scan<'a> {
    file: &'a File,
    pub position: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
    window_bytes: usize,
}

impl<'a> Scan<'a> {
    pub fn new(file: &'a File, position: u64, end: u64, window_bytes: usize) -> Self {
        Scan { file, position, end, window: Vec::new(), window_at: position, window_bytes }
    }

    /// The bytes from the present position on; None if so many are not there.
    fn bytes(&mut self, count: usize) -> io::Result<Option<&[u8]>> {
        if self.position.saturating_add(count as u64) > self.end {
            return Ok(None);
        }
        let inside = self.position >= self.window_at
            && self.position + count as u64 <= self.window_at + self.window.len() as u64;
        if !inside {
            let size = (count.max(self.window_bytes) as u64).min(self.end - self.position) as usize;
            self.window.resize(size, 0);
            self.file.read_exact_at(&mut self.window, self.position)?;
            self.window_at = self.position;
        }
        let start = (self.position - self.window_at) as usize;
        Ok(Some(&self.window[start..start + count]))
    }

    /// The header at the present position; None at the end or before something that is no batch.
    pub fn header(&mut self) -> io::Result<Option<[u8; HEADER_BYTES]>> {
        let Some(bytes) = self.bytes(HEADER_BYTES)? else { return Ok(None) };
        let mut header = [0; HEADER_BYTES];
        header.copy_from_slice(bytes);
        Ok(Some(header))
    }

    /// The whole batch at the present position, by its header.
    pub fn batch(&mut self, header: &[u8; HEADER_BYTES]) -> io::Result<Option<&[u8]>> {
        match Header::new(header).and_then(|header| header.size_bytes()) {
            Some(size) => self.bytes(size),
            None => Ok(None),
        }
    }

    /// Steps over the batch with that header.
    pub fn step(&mut self, header: &[u8; HEADER_BYTES]) -> bool {
        match Header::new(header).and_then(|header| header.size_bytes()) {
            Some(size) => {
                self.position += size as u64;
                true
            }
            None => false,
        }
    }
}
