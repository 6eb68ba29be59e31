//! The sparse indexes of one segment, in Kafka's file formats: `.index` holds (relative offset, position) pairs of
//! 4 + 4 bytes, `.timeindex` (largest timestamp so far, relative offset) pairs of 8 + 4 bytes.
//!
//! The active segment's are in memory; a closed segment's are searched where they lie, so they cost no memory.
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const OFFSET_ENTRY_BYTES: u64 = 8;
const TIME_ENTRY_BYTES: u64 = 12;

#[derive(Debug, Clone, Default)]
pub struct Index {
    /// (last offset of a batch, its position); a reader of a later offset may start there.
    offsets: Vec<(u32, u32)>,
    /// (largest timestamp so far, last offset of the first batch that has it).
    times: Vec<(i64, u32)>,
}

impl Index {
    pub fn add_offset(&mut self, relative: u32, position: u32) {
        self.offsets.push((relative, position));
    }

    pub fn add_time(&mut self, timestamp: i64, relative: u32) {
        if self.times.last().is_none_or(|(last, _)| timestamp > *last) {
            self.times.push((timestamp, relative));
        }
    }

    /// Where to start to find an offset.
    pub fn position(&self, relative: u32) -> u32 {
        match self.offsets.partition_point(|(offset, _)| *offset <= relative) {
            0 => 0,
            after => self.offsets[after - 1].1,
        }
    }

    /// The offset from which on to look for a timestamp: everything before it is older.
    pub fn offset_before(&self, timestamp: i64) -> u32 {
        match self.times.partition_point(|(time, _)| *time <= timestamp) {
            0 => 0,
            after => self.times[after - 1].1,
        }
    }

    /// The last offset and the position of the last batch that has an entry.
    pub fn last(&self) -> Option<(u32, u32)> {
        self.offsets.last().copied()
    }

    pub fn save(&self, log_file: &Path) -> io::Result<()> {
        let mut offsets = Vec::with_capacity(self.offsets.len() * OFFSET_ENTRY_BYTES as usize);
        for (relative, position) in &self.offsets {
            offsets.extend_from_slice(&relative.to_be_bytes());
            offsets.extend_from_slice(&position.to_be_bytes());
        }
        let mut times = Vec::with_capacity(self.times.len() * TIME_ENTRY_BYTES as usize);
        for (timestamp, relative) in &self.times {
            times.extend_from_slice(&timestamp.to_be_bytes());
            times.extend_from_slice(&relative.to_be_bytes());
        }
        write_whole(&offset_file(log_file), &offsets)?;
        write_whole(&time_file(log_file), &times)
    }

    /// The entries below a position that recovery trusts; None if a file is missing or cannot be right.
    pub fn load(log_file: &Path, trusted_bytes: u64, trusted_offset: u32) -> Option<Index> {
        let (offsets, times) = (fs::read(offset_file(log_file)).ok()?, fs::read(time_file(log_file)).ok()?);
        let mut index = Index::default();
        for entry in offsets.chunks(OFFSET_ENTRY_BYTES as usize) {
            let (relative, position) = (u32_at(entry, 0)?, u32_at(entry, 4)?);
            if index.offsets.last().is_some_and(|last| last.0 >= relative || last.1 >= position) {
                return None;
            }
            if u64::from(position) < trusted_bytes {
                index.offsets.push((relative, position));
            }
        }
        for entry in times.chunks(TIME_ENTRY_BYTES as usize) {
            let (timestamp, relative) = (i64_at(entry, 0)?, u32_at(entry, 8)?);
            if index.times.last().is_some_and(|last| last.0 >= timestamp) {
                return None;
            }
            if relative < trusted_offset {
                index.times.push((timestamp, relative));
            }
        }
        Some(index)
    }
}

/// `Index::position` on a closed segment's file.
pub fn position_on_disk(log_file: &Path, relative: u32) -> io::Result<u32> {
    let file = File::open(offset_file(log_file))?;
    let mut entry = [0; OFFSET_ENTRY_BYTES as usize];
    let found = last_entry(&file, &mut entry, |entry| u32_at(entry, 0) <= Some(relative))?;
    Ok(if found { u32_at(&entry, 4).unwrap_or(0) } else { 0 })
}

/// `Index::offset_before` on a closed segment's file.
pub fn offset_before_on_disk(log_file: &Path, timestamp: i64) -> io::Result<u32> {
    let file = File::open(time_file(log_file))?;
    let mut entry = [0; TIME_ENTRY_BYTES as usize];
    let found = last_entry(&file, &mut entry, |entry| i64_at(entry, 0) <= Some(timestamp))?;
    Ok(if found { u32_at(&entry, 8).unwrap_or(0) } else { 0 })
}

/// The last time entry of a closed segment is its largest timestamp; None if the files are not whole.
pub fn last_time_on_disk(log_file: &Path) -> Option<(i64, u32)> {
    let file = File::open(time_file(log_file)).ok()?;
    let offsets = fs::metadata(offset_file(log_file)).ok()?.len();
    let times = file.metadata().ok()?.len();
    if !offsets.is_multiple_of(OFFSET_ENTRY_BYTES) || !times.is_multiple_of(TIME_ENTRY_BYTES) || times == 0 {
        return None;
    }
    let mut entry = [0; TIME_ENTRY_BYTES as usize];
    file.read_exact_at(&mut entry, times - TIME_ENTRY_BYTES).ok()?;
    Some((i64_at(&entry, 0)?, u32_at(&entry, 8)?))
}

/// Binary search: leaves the last entry that fits in `entry`; false if none does.
fn last_entry(file: &File, entry: &mut [u8], fits: impl Fn(&[u8]) -> bool) -> io::Result<bool> {
    let size = entry.len() as u64;
    let (mut low, mut high) = (0, file.metadata()?.len() / size);
    let mut candidate = vec![0; entry.len()];
    while low < high {
        let middle = low + (high - low) / 2;
        file.read_exact_at(&mut candidate, middle * size)?;
        if fits(&candidate) {
            entry.copy_from_slice(&candidate);
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low > 0)
}

pub fn offset_file(log_file: &Path) -> PathBuf {
    log_file.with_extension("index")
}

pub fn time_file(log_file: &Path) -> PathBuf {
    log_file.with_extension("timeindex")
}

/// Written aside, flushed and renamed: a crash leaves the old file or the new one.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    fs::write(&temporary, bytes)?;
    if !bytes.is_empty() {
        File::open(&temporary)?.sync_data()?;
    }
    fs::rename(temporary, path)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
