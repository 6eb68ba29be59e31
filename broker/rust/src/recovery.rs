//! Opening a partition's folder: what the checkpoint vouches for is taken as it is, everything behind it is scanned
//! batch by batch with its CRC, and the first thing that is not a whole batch ends the log.
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::{Header, is_intact};
use crate::checkpoint::Checkpoint;
use crate::epochs::Epochs;
use crate::index::{self, Index};
use crate::producers::Producers;
use crate::segment::{Placed, Scan, Segment};

const WINDOW_BYTES: usize = 1 << 20;

/// What opening a log took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    pub scanned_bytes: u64,
    pub cut_bytes: u64,
    pub dropped_segments: u64,
}

/// A log as its files tell it.
pub struct Recovered {
    pub segments: Vec<Segment>,
    pub next_offset: i64,
    pub log_start: i64,
    pub epochs: Epochs,
    pub producers: Producers,
    pub report: Report,
    /// The checkpoint still tells everything.
    pub resumed: bool,
}

pub fn recover(directory: &Path, interval_bytes: u64, now_ms: i64) -> io::Result<Recovered> {
    // Crash after this: an empty folder, which opens as a new log.
    fs::create_dir_all(directory)?;
    let files = log_files(directory)?;
    let epochs = Epochs::load(directory);
    let checkpoint = Checkpoint::load(directory);
    // Epochs are saved without a flush, so a power cut can empty their file: then the batches themselves must tell, all
    // of them. The checkpoint's offsets below hold nevertheless.
    let vouching = checkpoint.as_ref().filter(|_| epochs.latest().is_some());
    let first_base = files.first().map_or(0, |(base, _)| *base);
    let mut recovery = Recovery {
        interval_bytes,
        next_offset: first_base,
        epochs,
        producers: vouching.map(|known| known.producers.clone()).unwrap_or_default(),
        report: Report::default(),
        now_ms,
    };
    let mut segments = recovery.segments(directory, files, vouching)?;
    // Epochs that began behind a cut had their batches there.
    recovery.epochs.truncate(recovery.next_offset.saturating_add(1));
    let (mut next_offset, mut log_start) = (recovery.next_offset, first_base);
    if let Some(known) = &checkpoint {
        // An offset that was given once is never given again, whatever the disk lost.
        next_offset = next_offset.max(known.end_offset);
        log_start = log_start.max(known.log_start);
    }
    if segments.is_empty() {
        // A new log, or a power cut that took the name of the only segment.
        segments.push(Segment::create(directory, next_offset, now_ms)?);
        log_start = log_start.max(next_offset);
    }
    let Recovery { epochs, producers, report, .. } = recovery;
    let log_start = log_start.min(next_offset);
    let resumed = checkpoint.is_some_and(|known| {
        report == Report::default() && (known.end_offset, known.log_start) == (next_offset, log_start)
    });
    Ok(Recovered { segments, next_offset, log_start, epochs, producers, report, resumed })
}

/// The segments' files by base offset; what a crash left half done is removed.
///
/// That is a `.tmp`, written by a save that did not come to its rename (the file that it was to replace is still there),
/// and an index whose log is gone: `Segment::remove_files` was under way, and the folder kept its removals out of order.
/// A crash in here leaves some of them to the next start.
fn log_files(directory: &Path) -> io::Result<Vec<(i64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|text| text.to_str());
        let base = path.file_stem().and_then(|text| text.to_str()).and_then(|text| text.parse::<i64>().ok());
        match (extension, base) {
            (Some("log"), Some(base)) => files.push((base, path)),
            (Some("index" | "timeindex"), Some(_)) if !path.with_extension("log").exists() => fs::remove_file(path)?,
            (Some("tmp"), _) => fs::remove_file(path)?,
            _ => {}
        }
    }
    files.sort();
    Ok(files)
}

struct Recovery {
    interval_bytes: u64,
    next_offset: i64,
    epochs: Epochs,
    producers: Producers,
    report: Report,
    now_ms: i64,
}

impl Recovery {
    fn segments(
        &mut self,
        directory: &Path,
        files: Vec<(i64, PathBuf)>,
        known: Option<&Checkpoint>,
    ) -> io::Result<Vec<Segment>> {
        let mut segments: Vec<Segment> = Vec::with_capacity(files.len());
        let mut files = files.into_iter();
        while let Some((base, path)) = files.next() {
            if base < self.next_offset {
                // It was dropped behind a cut, and a power cut undid its removal: other batches have its offsets now.
                self.drop_segment(path, base)?;
                continue;
            }
            let last = files.len() == 0;
            // Closed before the checkpoint, thus flushed, with its indexes saved, before that was written.
            let trusted = known.filter(|known| !last && base < known.active_base).and_then(|_| trusted(&path, base));
            if let Some(segment) = trusted {
                self.next_offset = base;
                segments.push(segment);
                continue;
            }
            let (mut segment, end) = self.scan(path, base, known)?;
            if segment.size < end {
                // Behind a cut nothing can be trusted to follow on (LogLoader.recoverSegments). What lies there goes
                // first, durably: a crash before the cut leaves the torn tail, and the next start begins again; with a
                // whole segment in front, it would keep what is left of them, behind a gap in the offsets.
                let mut dropped = false;
                for (base, path) in files.by_ref() {
                    self.drop_segment(path, base)?;
                    dropped = true;
                }
                if dropped {
                    File::open(directory)?.sync_all()?;
                }
                self.cut(&segment, end)?;
            }
            if !last {
                segment.seal();
            }
            segments.push(segment);
        }
        for closed in segments.iter_mut().rev().skip(1) {
            closed.file = None;
        }
        Ok(segments)
    }

    fn drop_segment(&mut self, path: PathBuf, base: i64) -> io::Result<()> {
        self.report.dropped_segments += 1;
        Segment::closed(path, base, 0, self.now_ms).remove_files()
    }

    /// Takes a torn tail off. Crash before this: the next start finds the same tail and cuts it again. It is gone durably
    /// before anything is appended in its place.
    fn cut(&mut self, segment: &Segment, end: u64) -> io::Result<()> {
        self.report.cut_bytes += end - segment.size;
        if let Some(file) = &segment.file {
            file.set_len(segment.size)?;
            file.sync_all()?;
        }
        Ok(())
    }

    /// Scans a segment from where the checkpoint ends, and rebuilds its index; its file's size comes with it.
    fn scan(&mut self, path: PathBuf, base: i64, known: Option<&Checkpoint>) -> io::Result<(Segment, u64)> {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let end = file.metadata()?.len();
        let mut segment = Segment::closed(path, base, 0, self.now_ms);
        self.next_offset = base;
        segment.index = Some(Index::default());
        // A file that is shorter than the checkpoint says has lost what was flushed: all of it is scanned.
        if let Some(known) = known.filter(|known| known.active_base == base && known.active_size <= end) {
            self.resume(&mut segment, known);
        }
        let from = segment.size;
        let mut scan = Scan::new(&file, from, end, WINDOW_BYTES);
        while self.next_batch(&mut scan, &mut segment)? {}
        self.report.scanned_bytes += segment.size - from;
        // Appends go where the file stands, not where it ends.
        (&file).seek(SeekFrom::Start(segment.size))?;
        segment.file = Some(Arc::new(file));
        Ok((segment, end))
    }

    /// Takes over what the checkpoint knows of the active segment.
    fn resume(&mut self, segment: &mut Segment, known: &Checkpoint) {
        // A crash in a later checkpoint can leave an index that knows more than this one: only entries below its marks
        // are taken. Without a usable index the segment is scanned from its start, which rebuilds it.
        let trusted_offset = segment.relative(known.end_offset);
        let Some(index) = Index::load(&segment.path, known.active_size, trusted_offset) else { return };
        segment.index = Some(index);
        segment.size = known.active_size;
        segment.first_timestamp = known.first_timestamp;
        segment.max_timestamp = known.max_timestamp;
        segment.max_timestamp_offset = known.max_timestamp_offset;
        segment.created_ms = known.created_ms;
        self.next_offset = known.end_offset;
    }

    /// Takes the next batch into account; false at the first that is not whole: its header or body is cut short, its CRC
    /// is wrong, or its offset goes back. What stands there and behind it is the torn tail.
    fn next_batch(&mut self, scan: &mut Scan<'_>, segment: &mut Segment) -> io::Result<bool> {
        let position = scan.position;
        let Some(bytes) = scan.header()? else { return Ok(false) };
        let Some(header) = Header::new(&bytes) else { return Ok(false) };
        let Some(batch) = scan.batch(&bytes)? else { return Ok(false) };
        if header.base_offset() < self.next_offset || !is_intact(batch) {
            return Ok(false);
        }
        let size = batch.len() as u64;
        let (base_offset, last_offset) = (header.base_offset(), header.last_offset());
        let max_timestamp = header.max_timestamp();
        self.epochs.assign(header.leader_epoch(), base_offset);
        self.producers.appended(&header, base_offset, max_timestamp, self.now_ms);
        segment.note(&Placed { last_offset, position, size, max_timestamp }, self.interval_bytes);
        self.next_offset = last_offset.saturating_add(1);
        Ok(scan.step(&bytes))
    }
}

/// A closed segment that the checkpoint vouches for, if its indexes are there.
fn trusted(path: &Path, base: i64) -> Option<Segment> {
    let (max_timestamp, relative) = index::last_time_on_disk(path)?;
    let metadata = File::open(path).ok()?.metadata().ok()?;
    let mut segment = Segment::closed(path.to_path_buf(), base, metadata.len(), 0);
    segment.max_timestamp = max_timestamp;
    segment.max_timestamp_offset = base + i64::from(relative);
    Some(segment)
}
