//! A partition's checkpoint: up to where the log is known to be whole and flushed, and the producers' states there.
//!
//! All that it vouches for is on disk before it is (`Log::checkpoint_alone`), so an older one is never wrong: it only makes
//! recovery scan more.
use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::index::write_whole;
use crate::producers::Producers;

pub const FILE: &str = "checkpoint";
const MAGIC: &[u8; 8] = b"tidemil1";
const FIELDS: usize = 8;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub log_start: i64,
    pub end_offset: i64,
    /// The active segment, its size, and what its scan would have found.
    pub active_base: i64,
    pub active_size: u64,
    pub first_timestamp: i64,
    pub max_timestamp: i64,
    pub max_timestamp_offset: i64,
    pub created_ms: i64,
    pub producers: Producers,
}

impl Checkpoint {
    /// None if there is none or it is damaged: then recovery scans everything.
    pub fn load(directory: &Path) -> Option<Checkpoint> {
        let bytes = fs::read(directory.join(FILE)).ok()?;
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(content) != u32::from_be_bytes(*crc) {
            return None;
        }
        let (magic, mut rest) = content.split_first_chunk::<8>()?;
        if magic != MAGIC {
            return None;
        }
        let mut fields = [0i64; FIELDS];
        for field in &mut fields {
            let (bytes, tail) = rest.split_first_chunk::<8>()?;
            *field = i64::from_be_bytes(*bytes);
            rest = tail;
        }
        let [log_start, end_offset, active_base, active_size, first_timestamp, max_timestamp, at, created_ms] = fields;
        Some(Checkpoint {
            log_start,
            end_offset,
            active_base,
            active_size: u64::try_from(active_size).ok()?,
            first_timestamp,
            max_timestamp,
            max_timestamp_offset: at,
            created_ms,
            producers: Producers::decode(rest)?,
        })
    }

    pub fn save(&self, directory: &Path) -> io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        let fields: [i64; FIELDS] = [
            self.log_start,
            self.end_offset,
            self.active_base,
            self.active_size as i64,
            self.first_timestamp,
            self.max_timestamp,
            self.max_timestamp_offset,
            self.created_ms,
        ];
        for field in fields {
            bytes.extend_from_slice(&field.to_be_bytes());
        }
        self.producers.encode(&mut bytes);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        // Crash before the rename in this: the old checkpoint, and a `.tmp` that recovery removes.
        write_whole(&directory.join(FILE), &bytes)?;
        // Power cut before this: the old or the new one, and both are true. It also makes the renames of the indexes and
        // the epochs durable, which were made just before.
        File::open(directory)?.sync_all()
    }
}
