//! What is deleted, and when: whole segments, oldest first, and never what a reader may still be promised.
use std::fs::File;
use std::sync::PoisonError;

use super::{Log, State, Status};
use crate::error::{Error, Result};
use crate::segment::Segment;

impl Log {
    /// Moves the log start (-1: to the high watermark), durably, and drops whole segments below it.
    pub fn delete_before(&self, offset: i64) -> Result<i64> {
        {
            let mut state = self.state();
            let end = state.visible().offset;
            let target = if offset == -1 { end } else { offset };
            if target > end || target < 0 {
                return Err(Error::OutOfRange(format!("Offset {offset} is above the high watermark {end}.")));
            }
            state.log_start = state.log_start.max(target);
        }
        // Crash before this: the old log start holds again, and no file is gone; nobody was told otherwise.
        self.checkpoint()?;
        // Crash before or in this: files below the log start are left, out of reach; the next pass removes them.
        self.remove_below_log_start()?;
        Ok(self.state().log_start)
    }

    /// One pass of retention (UnifiedLog.deleteOldSegments); how many segments went.
    pub fn retain(&self, now_ms: i64) -> Result<usize> {
        {
            let mut state = self.state();
            if state.status != Status::Open {
                return Ok(0);
            }
            let expired_before = now_ms.saturating_sub(state.config.producer_expiration_ms);
            state.producers.expire(expired_before);
            let keep_from = state.expired(now_ms);
            if keep_from == 0 {
                return Ok(0);
            }
            if keep_from == state.segments.len() {
                // The active segment goes too: an empty one that carries on the offsets comes first.
                state.roll(&self.directory, now_ms)?;
            }
            let start = state.segments[keep_from].base;
            state.log_start = state.log_start.max(start);
        }
        // The new segment's name is on disk before an old one goes, and so is the log start, by the checkpoint. Crash before
        // the checkpoint: the old log start, and every file. Crash after it: files that the next pass removes.
        File::open(&self.directory)?.sync_all()?;
        self.checkpoint()?;
        self.remove_below_log_start()
    }

    /// Drops whole segments below the log start, oldest first.
    fn remove_below_log_start(&self) -> Result<usize> {
        let _alone = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        let removed = {
            let mut state = self.state();
            if state.status != Status::Open {
                return Ok(0);
            }
            let log_start = state.log_start;
            let count = state.segments.windows(2).take_while(|pair| pair[1].base <= log_start).count();
            state.open_closed.retain(|(base, ..)| *base >= log_start);
            state.epochs.forget_before(log_start);
            state.segments.drain(..count).collect::<Vec<_>>()
        };
        for segment in &removed {
            segment.remove_files()?;
        }
        Ok(removed.len())
    }
}

impl State {
    /// How many of the oldest segments have expired: below the log start, then by size, then by time; all at most.
    fn expired(&self, now_ms: i64) -> usize {
        let config = &self.config;
        let mut expired = self.segments.windows(2).take_while(|pair| pair[1].base <= self.log_start).count();
        if !config.delete {
            return expired;
        }
        let mut kept_bytes: u64 = self.segments[expired..].iter().map(|segment| segment.size).sum();
        while let Some(oldest) = self.segments.get(expired)
            && (oldest.size > 0 || expired + 1 < self.segments.len())
        {
            let over = config.retention_bytes >= 0 && kept_bytes - oldest.size >= config.retention_bytes as u64;
            // A closed segment is empty only after a repair; nothing is lost with it.
            let old = config.retention_ms >= 0
                && (oldest.size == 0 || now_ms.saturating_sub(oldest.newest_ms()) > config.retention_ms);
            if !over && !old {
                break;
            }
            kept_bytes -= oldest.size;
            expired += 1;
        }
        expired
    }
}

impl Segment {
    /// The largest timestamp, or the file's own time where records carry none (LogSegment.largestTimestamp).
    fn newest_ms(&self) -> i64 {
        if self.max_timestamp >= 0 {
            return self.max_timestamp;
        }
        let modified = self.path.metadata().and_then(|metadata| metadata.modified()).ok();
        let since = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        since.map_or(i64::MAX, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}
