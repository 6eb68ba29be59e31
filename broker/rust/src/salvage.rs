//! Reading a segment of which nothing is trusted: every whole batch, and the damaged stretches between them.
//!
//! Kafka cuts a log at the first batch that is not whole and deletes the segments behind it (LogLoader.recoverSegments,
//! LogSegment.recover): with one copy that loses records which nothing is wrong with. See docs/decisions/0105.
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::batch::{HEADER_BYTES, Header, is_intact};
use crate::segment::Scan;

const WINDOW_BYTES: usize = 1 << 20;
const SEARCH_BYTES: usize = 64 << 10;
/// The byte of a batch's header that is 2 in each (`Header::magic`).
const MAGIC_AT: usize = 16;
/// How many bytes a search for the next whole batch may compare with their CRCs, in sizes of the segment: payloads can be
/// made so that each byte of them looks like a header.
const SEARCHED_SIZES_MAX: u64 = 4;

/// A stretch of a segment's file that holds no whole batch, and the offsets that are lost with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    pub from: u64,
    pub to: u64,
    pub start: i64,
    pub end: i64,
}

/// What is told of damage: the offsets from `start` to before `end` cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub file: PathBuf,
    pub position: u64,
    /// 0 where a file ends too early, or is not there at all.
    pub bytes: u64,
    pub start: i64,
    pub end: i64,
    /// The file as it was; None if nothing was changed.
    pub kept: Option<PathBuf>,
}

impl Damage {
    pub fn of(hole: &Hole, file: &Path, kept: Option<&Path>) -> Damage {
        Damage {
            file: file.to_path_buf(),
            position: hole.from,
            bytes: hole.to - hole.from,
            start: hole.start,
            end: hole.end,
            kept: kept.map(Path::to_path_buf),
        }
    }

    /// Nothing stands where records should be: behind the end of a file, or where one is missing.
    pub fn gap(file: PathBuf, position: u64, start: i64, end: i64) -> Damage {
        Damage { file, position, bytes: 0, start, end, kept: None }
    }
}

pub struct Salvage<'a> {
    file: &'a File,
    scan: Scan<'a>,
    end: u64,
    /// The first offset that cannot be in this segment.
    limit: i64,
    pub next_offset: i64,
    pub holes: Vec<Hole>,
    /// What follows the last whole batch is the front part of one, or zeros: what a write that was cut short leaves.
    pub torn: bool,
    search_left: u64,
}

impl<'a> Salvage<'a> {
    /// From a position on, at which the batch of `next_offset` or a later one stands, to the file's end.
    pub fn new(file: &'a File, position: u64, end: u64, next_offset: i64, limit: i64) -> Self {
        let scan = Scan::new(file, position, end, WINDOW_BYTES);
        let search_left = end.saturating_mul(SEARCHED_SIZES_MAX);
        Salvage { file, scan, end, limit, next_offset, holes: Vec::new(), torn: false, search_left }
    }

    /// Calls `visit` with each whole batch and the position at which it stands once the holes are taken out.
    pub fn run(&mut self, mut visit: impl FnMut(&Header<'_>, u64)) -> io::Result<()> {
        let mut removed = 0;
        while self.scan.position < self.end {
            let from = self.scan.position;
            let Some(bytes) = self.whole()? else {
                if !self.find_next()? {
                    return self.end_with(from);
                }
                removed += self.scan.position - from;
                continue;
            };
            let Some(header) = Header::new(&bytes) else { break };
            visit(&header, from - removed);
            self.next_offset = header.last_offset().saturating_add(1);
            self.scan.step(&bytes);
        }
        Ok(())
    }

    /// The header of the whole batch at the present position, unless its offset cannot be right.
    fn whole(&mut self) -> io::Result<Option<[u8; HEADER_BYTES]>> {
        let Some(bytes) = self.scan.header()? else { return Ok(None) };
        let Some(header) = Header::new(&bytes) else { return Ok(None) };
        let Some(batch) = self.scan.batch(&bytes)? else { return Ok(None) };
        let possible = header.base_offset() >= self.next_offset && header.last_offset() < self.limit;
        if !possible || !is_intact(batch) {
            return Ok(None);
        }
        let size = batch.len() as u64;
        // The CRC does not cover the base offset. Behind a hole it may well be larger than the last one; what follows tells.
        let following = self.scan.position + size;
        if is_misplaced(self.file, self.end, &header, following, self.next_offset)? {
            return Ok(None);
        }
        Ok(Some(bytes))
    }

    /// Goes on to the next whole batch and notes the hole before it; false, and it stays, if there is none.
    fn find_next(&mut self) -> io::Result<bool> {
        let from = self.scan.position;
        // Most damage is in a payload: then the header still tells where the next batch begins.
        if let Some(size) = self.scan.header()?.and_then(|bytes| Header::new(&bytes)?.size_bytes())
            && from + (size as u64) < self.end
            && self.note_hole(from, from + size as u64)?
        {
            return Ok(true);
        }
        let mut window = vec![0; SEARCH_BYTES + HEADER_BYTES];
        let mut at = from + 1;
        while at + HEADER_BYTES as u64 <= self.end {
            let size = (window.len() as u64).min(self.end - at) as usize;
            self.file.read_exact_at(&mut window[..size], at)?;
            for start in 0..size.saturating_sub(HEADER_BYTES - 1) {
                if window[start + MAGIC_AT] != 2 {
                    continue;
                }
                let position = at + start as u64;
                let Some(bytes) = self.plausible(&window[start..start + HEADER_BYTES], position) else { continue };
                let Some(left) = self.search_left.checked_sub(bytes) else { return self.give_up(from) };
                self.search_left = left;
                if self.note_hole(from, position)? {
                    return Ok(true);
                }
            }
            at += (size - (HEADER_BYTES - 1)) as u64;
        }
        self.give_up(from)
    }

    fn give_up(&mut self, from: u64) -> io::Result<bool> {
        self.scan.position = from;
        Ok(false)
    }

    /// The size of the batch whose header this may be.
    fn plausible(&self, bytes: &[u8], position: u64) -> Option<u64> {
        let header = Header::new(bytes)?;
        let size = header.size_bytes()? as u64;
        let fits = (self.next_offset..self.limit).contains(&header.base_offset()) && position + size <= self.end;
        fits.then_some(size)
    }

    fn note_hole(&mut self, from: u64, to: u64) -> io::Result<bool> {
        self.scan.position = to;
        let Some(bytes) = self.whole()? else {
            self.scan.position = from;
            return Ok(false);
        };
        let end = Header::new(&bytes).map_or(self.next_offset, |header| header.base_offset());
        self.holes.push(Hole { from, to, start: self.next_offset, end });
        Ok(true)
    }

    /// No whole batch follows any more.
    fn end_with(&mut self, from: u64) -> io::Result<()> {
        let start = self.next_offset;
        let header = self.scan.header()?;
        let fields = header.as_ref().and_then(|bytes| Header::new(bytes));
        let whole = fields.filter(|header| header.size_bytes().is_some_and(|size| from + size as u64 <= self.end));
        self.torn = match (&fields, &whole) {
            (None, _) => true,
            (Some(header), None) => header.size_bytes().is_some() || self.is_zero(from)?,
            (Some(_), Some(_)) => false,
        };
        // An offset that was given once is not given again, if the header is right about it.
        if let Some(header) = whole
            && header.base_offset() == self.next_offset
            && i64::from(header.count()) == i64::from(header.last_offset_delta()) + 1
            && (self.next_offset..self.limit).contains(&header.last_offset())
        {
            self.next_offset = header.last_offset() + 1;
        }
        self.holes.push(Hole { from, to: self.end, start, end: self.next_offset });
        Ok(())
    }

    fn is_zero(&self, from: u64) -> io::Result<bool> {
        let mut window = vec![0; SEARCH_BYTES];
        let mut at = from;
        while at < self.end {
            let size = (SEARCH_BYTES as u64).min(self.end - at) as usize;
            self.file.read_exact_at(&mut window[..size], at)?;
            if window[..size].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += size as u64;
        }
        Ok(true)
    }
}

/// Whether a batch's base offset is damaged: it leaves out offsets that the whole batch behind it has.
pub fn is_misplaced(file: &File, end: u64, header: &Header<'_>, following: u64, next_offset: i64) -> io::Result<bool> {
    if header.base_offset() <= next_offset {
        return Ok(false);
    }
    let mut scan = Scan::new(file, following, end, HEADER_BYTES);
    let Some(bytes) = scan.header()? else { return Ok(false) };
    let Some(batch) = scan.batch(&bytes)? else { return Ok(false) };
    let Some(next) = Header::new(&bytes) else { return Ok(false) };
    Ok(is_intact(batch) && (next_offset..=header.last_offset()).contains(&next.base_offset()))
}

/// Writes a segment without its holes beside it, durably; it takes the segment's place by `replace`.
///
/// Crash before that: a `.tmp`, which recovery removes.
pub fn write_without(holes: &[Hole], path: &Path, end: u64) -> io::Result<File> {
    let mut whole = fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(draft(path))?;
    let mut damaged = File::open(path)?;
    let mut from = 0;
    let tail = Hole { from: end, to: end, start: 0, end: 0 };
    for hole in holes.iter().chain([&tail]) {
        damaged.seek(SeekFrom::Start(from))?;
        io::copy(&mut damaged.by_ref().take(hole.from - from), &mut whole)?;
        from = hole.to;
    }
    whole.sync_all()?;
    Ok(whole)
}

/// Keeps the damaged file under another name, which is returned, and puts the one without holes in its place.
///
/// A crash in here leaves the damaged file in its place, perhaps under both names, or the other: each is opened.
pub fn replace(path: &Path) -> io::Result<PathBuf> {
    let kept = free_name(path);
    fs::hard_link(path, &kept)?;
    fs::rename(draft(path), path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(kept)
}

/// A name beside a file for what is kept of it: `….log.damaged`, or with a number if that is taken.
pub fn free_name(path: &Path) -> PathBuf {
    let named = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut numbered = (1u32..).map(|number| named(&format!(".{number}.damaged")));
    let first = named(".damaged");
    if first.exists() { numbered.find(|name| !name.exists()).unwrap_or(first) } else { first }
}

fn draft(path: &Path) -> PathBuf {
    path.with_extension("log.tmp")
}
