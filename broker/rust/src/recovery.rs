//! Opening a partition's folder: what the checkpoint vouches for is taken as it is, everything behind it is scanned
//! batch by batch with its CRC. A torn tail is cut; a damaged segment is kept under another name, and one without the
//! damage takes its place (docs/decisions/0105).
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::Header;
use crate::checkpoint::Checkpoint;
use crate::epochs::Epochs;
use crate::index::{self, Index};
use crate::producers::Producers;
use crate::salvage::{Damage, Salvage, free_name, replace, write_without};
use crate::segment::{Placed, Segment, log_file};

/// What opening a log took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub scanned_bytes: u64,
    pub cut_bytes: u64,
    pub damage: Vec<Damage>,
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
        producers_until: vouching.map_or(i64::MIN, |known| known.end_offset),
        report: Report::default(),
        now_ms,
    };
    let mut segments = recovery.segments(directory, files, vouching)?;
    // Epochs that began behind a cut had their batches there.
    recovery.epochs.truncate(recovery.next_offset.saturating_add(1));
    let (mut next_offset, mut log_start) = (recovery.next_offset, first_base);
    if let Some(known) = &checkpoint {
        recovery.note_missing_ends(directory, known, first_base);
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
    /// The offset up to which `producers` has seen the batches.
    producers_until: i64,
    report: Report,
    now_ms: i64,
}

/// A segment's file, and the first offset that cannot be in it.
struct Place {
    path: PathBuf,
    base: i64,
    limit: i64,
    last: bool,
}

impl Recovery {
    fn segments(
        &mut self,
        directory: &Path,
        files: Vec<(i64, PathBuf)>,
        known: Option<&Checkpoint>,
    ) -> io::Result<Vec<Segment>> {
        let mut segments: Vec<Segment> = Vec::with_capacity(files.len());
        let mut files = files.into_iter().peekable();
        while let Some(place) = next_place(&mut files) {
            if place.base < self.next_offset {
                self.set_aside(directory, &place)?;
                continue;
            }
            // Closed before the checkpoint, thus flushed, with its indexes saved, before that was written.
            let vouched = known.is_some_and(|known| !place.last && place.base < known.active_base);
            let segment = match vouched.then(|| trusted(&place)).flatten() {
                Some((segment, next_offset)) => {
                    self.next_offset = next_offset;
                    segment
                }
                None => self.scan(&place, known)?,
            };
            if !place.last && self.next_offset < place.limit {
                let reported = self.report.damage.last().is_some_and(|told| told.end == place.limit);
                if !reported {
                    let gap = Damage::gap(place.path.clone(), segment.size, self.next_offset, place.limit);
                    self.report.damage.push(gap);
                }
            }
            segments.push(segment);
        }
        for closed in segments.iter_mut().rev().skip(1) {
            closed.file = None;
        }
        Ok(segments)
    }

    /// Other batches have the offsets of this file: it is kept, but not read.
    fn set_aside(&mut self, directory: &Path, place: &Place) -> io::Result<()> {
        let kept = free_name(&place.path);
        let bytes = fs::metadata(&place.path)?.len();
        fs::rename(&place.path, &kept)?;
        Segment::closed(place.path.clone(), place.base, 0, self.now_ms).remove_files()?;
        File::open(directory)?.sync_all()?;
        let (file, kept) = (place.path.clone(), Some(kept));
        self.report.damage.push(Damage { file, position: 0, bytes, start: place.base, end: place.base, kept });
        Ok(())
    }

    /// Takes a torn tail off. Crash before this: the next start finds the same tail and cuts it again. It is gone durably
    /// before anything is appended in its place.
    fn cut(&mut self, file: &File, from: u64, end: u64) -> io::Result<()> {
        self.report.cut_bytes += end - from;
        file.set_len(from)?;
        file.sync_all()
    }

    /// Scans a segment from where the checkpoint ends, rebuilds its index, and takes out what is damaged.
    fn scan(&mut self, place: &Place, known: Option<&Checkpoint>) -> io::Result<Segment> {
        let mut file = OpenOptions::new().read(true).write(true).open(&place.path)?;
        let end = file.metadata()?.len();
        let mut segment = Segment::closed(place.path.clone(), place.base, 0, self.now_ms);
        self.next_offset = place.base;
        segment.index = Some(Index::default());
        // A file that is shorter than the checkpoint says has lost what was flushed: all of it is scanned.
        if let Some(known) = known.filter(|known| known.active_base == place.base && known.active_size <= end) {
            self.resume(&mut segment, &file, known);
        }
        let from = segment.size;
        let mut salvage = Salvage::new(&file, from, end, self.next_offset, place.limit);
        salvage.run(|header, position| self.learn(&mut segment, header, position))?;
        self.next_offset = salvage.next_offset;
        self.report.scanned_bytes += segment.size - from;
        // What a checkpoint vouched for was written whole, and flushed.
        let vouched = known.filter(|known| known.active_base == place.base).map_or(0, |known| known.active_size);
        let torn = salvage.torn && place.last && salvage.holes.last().is_some_and(|tail| tail.from >= vouched);
        let mut holes = salvage.holes;
        if torn && holes.len() == 1 {
            self.cut(&file, holes[0].from, end)?;
        } else if !holes.is_empty() {
            if let Some(tail) = holes.last_mut().filter(|hole| hole.to == end && !place.last) {
                tail.end = place.limit;
            }
            // The indexes go first: those of a segment that a checkpoint vouches for must not be taken for the new file's.
            segment.remove_indexes()?;
            file = write_without(&holes, &place.path, end)?;
            let kept = replace(&place.path)?;
            let told = if torn { &holes[..holes.len() - 1] } else { &holes[..] };
            self.report.damage.extend(told.iter().map(|hole| Damage::of(hole, &place.path, Some(&kept))));
        }
        // Appends go where the file stands, not where it ends.
        (&file).seek(SeekFrom::Start(segment.size))?;
        segment.file = Some(Arc::new(file));
        if !place.last {
            segment.seal();
        }
        Ok(segment)
    }

    /// Takes over what the checkpoint knows of the active segment.
    fn resume(&mut self, segment: &mut Segment, file: &File, known: &Checkpoint) {
        // A crash in a later checkpoint can leave an index that knows more than this one: only entries below its marks
        // are taken. Without a usable index the segment is scanned from its start, which rebuilds it.
        let trusted_offset = segment.relative(known.end_offset);
        let Some(index) = Index::load(&segment.path, known.active_size, trusted_offset) else { return };
        // A damaged index, or a segment that was written anew without its damage, leads elsewhere.
        if segment.end_offset(file, &index, known.active_size) != Some(known.end_offset) {
            return;
        }
        segment.index = Some(index);
        segment.size = known.active_size;
        segment.unverified = known.active_size;
        segment.first_timestamp = known.first_timestamp;
        segment.max_timestamp = known.max_timestamp;
        segment.max_timestamp_offset = known.max_timestamp_offset;
        segment.created_ms = known.created_ms;
        self.next_offset = known.end_offset;
    }

    /// Takes a whole batch into account.
    fn learn(&mut self, segment: &mut Segment, header: &Header<'_>, position: u64) {
        let (base_offset, max_timestamp) = (header.base_offset(), header.max_timestamp());
        self.epochs.assign(header.leader_epoch(), base_offset);
        if base_offset >= self.producers_until {
            self.producers.appended(header, base_offset, max_timestamp, self.now_ms);
        }
        segment.note(&Placed::of(header, position), self.interval_bytes);
    }

    /// Notes what a checkpoint knows of and no file holds, before the first segment and behind the last one.
    fn note_missing_ends(&mut self, directory: &Path, known: &Checkpoint, first_base: i64) {
        if known.log_start < first_base {
            let file = log_file(directory, known.log_start);
            self.report.damage.insert(0, Damage::gap(file, 0, known.log_start, first_base));
        }
        let end = self.next_offset.max(known.log_start);
        let told = self.report.damage.last_mut().filter(|told| told.end == self.next_offset && told.kept.is_some());
        if let Some(told) = told {
            // The damage at the end did not tell how many offsets it held.
            told.end = told.end.max(known.end_offset);
        } else if end < known.end_offset {
            self.report.damage.push(Damage::gap(log_file(directory, known.active_base), 0, end, known.end_offset));
        }
    }
}

fn next_place(files: &mut Peekable<impl Iterator<Item = (i64, PathBuf)>>) -> Option<Place> {
    let (base, path) = files.next()?;
    let following = files.peek().map(|(base, _)| *base);
    // Kafka: an offset is at most 2^31 - 1 behind its segment's base.
    let limit = following.unwrap_or(base.saturating_add(i64::from(i32::MAX) + 1));
    Some(Place { path, base, limit, last: following.is_none() })
}

/// A closed segment that the checkpoint vouches for, with the offset behind it, if its indexes and its end are right.
fn trusted(place: &Place) -> Option<(Segment, i64)> {
    let (max_timestamp, relative) = index::last_time_on_disk(&place.path)?;
    let file = File::open(&place.path).ok()?;
    let size = file.metadata().ok()?.len();
    let index = Index::load(&place.path, size, u32::MAX)?;
    let mut segment = Segment::closed(place.path.clone(), place.base, size, 0);
    segment.max_timestamp = max_timestamp;
    segment.max_timestamp_offset = place.base + i64::from(relative);
    segment.unverified = size;
    let next_offset = segment.end_offset(&file, &index, size).filter(|end| *end <= place.limit)?;
    let holder = segment.batch_of(&file, &index, segment.max_timestamp_offset);
    (size == 0 || holder == Some(max_timestamp)).then_some((segment, next_offset))
}
