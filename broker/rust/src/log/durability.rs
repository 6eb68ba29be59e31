//! What reaches the disk and when: flushes, checkpoints, and the last one of all.
use std::fs::File;
use std::io;
use std::sync::PoisonError;

use super::{Log, State, Status};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::segment::{Segment, Unflushed};

impl Log {
    /// Fsyncs all that is appended so far; the high watermark after it.
    pub fn flush(&self) -> Result<i64> {
        let (files, place, is_named) = {
            let state = self.state();
            let unflushed = state.segments.iter().filter(|segment| segment.base >= state.flushed.base);
            let files: Vec<_> = unflushed.map(Segment::unflushed).collect();
            let place = state.end();
            (files, place, state.named == Some(place.base))
        };
        // Power cut in here: any part of what is not flushed yet may be missing; recovery cuts at the first batch that is
        // not whole. Nobody was told that it is flushed, and with flush.messages=1 nobody has read it.
        let flushed = files.iter().try_for_each(Unflushed::sync);
        // A new segment's name is the folder's, not the file's (UnifiedLog.flush does the same).
        let flushed = if is_named { flushed } else { flushed.and_then(|()| self.sync_folder()) };
        let mut state = self.state();
        match flushed {
            // The folder was taken away: nobody can ask for these bytes any more.
            Err(_) if state.status == Status::Abandoned => return Ok(state.visible().offset),
            Err(fault) => {
                // A later fsync may succeed without these bytes: only a restart, which reads them, can tell.
                state.status = Status::Closed;
                return Err(fault.into());
            }
            Ok(()) => {}
        }
        state.named = state.named.max(Some(place.base));
        state.flushed = state.flushed.max(place);
        Ok(state.visible().offset)
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    /// Flushes, writes indexes and producer states, and moves the point from which recovery scans.
    pub fn checkpoint(&self) -> Result<()> {
        if self.needs_checkpoint() {
            // The long part, while who deletes the topic need not wait for it; what comes meanwhile is little.
            self.flush()?;
        }
        let _alone = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        self.checkpoint_alone()
    }

    fn needs_checkpoint(&self) -> bool {
        let state = self.state();
        state.status == Status::Open && state.checkpointed != Some(state.mark())
    }

    fn checkpoint_alone(&self) -> Result<()> {
        let (checkpoint, indexes, epochs, mark) = {
            let state = self.state();
            let mark = state.mark();
            if state.status != Status::Open || state.checkpointed == Some(mark) {
                return Ok(());
            }
            let indexes: Vec<_> = state
                .segments
                .iter()
                .filter_map(|segment| Some((segment.path.clone(), segment.index.clone()?)))
                .collect();
            (snapshot(&state), indexes, state.epochs.clone(), mark)
        };
        // The order matters: until the last save the old checkpoint holds, and it must stay true. Crash after the flush:
        // nothing has changed but that more is on disk.
        self.flush()?;
        // Crash in or after this: indexes that know more than the old checkpoint. Of the segment that was active there
        // only entries below its marks are loaded; those of segments closed since are not trusted, and rebuilt.
        for (path, index) in &indexes {
            index.save(path)?;
        }
        // Crash after this: epochs that the old checkpoint does not know; the scan assigns none of them twice.
        epochs.save(&self.directory)?;
        // Crash in this: the old checkpoint or the new one. From then on recovery scans from the new marks.
        checkpoint.save(&self.directory)?;
        let mut state = self.state();
        state.checkpointed = Some(mark);
        let active_base = checkpoint.active_base;
        for segment in state.segments.iter_mut().filter(|segment| segment.base < active_base) {
            // Closed, flushed and indexed on disk: nothing of it needs to stay in memory.
            segment.index = None;
        }
        Ok(())
    }

    pub fn close(&self) -> Result<()> {
        let _alone = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        self.checkpoint_alone()?;
        self.state().status = Status::Closed;
        Ok(())
    }
}

fn snapshot(state: &State) -> Checkpoint {
    let active = &state.segments[state.segments.len() - 1];
    Checkpoint {
        log_start: state.log_start,
        end_offset: state.next_offset,
        active_base: active.base,
        active_size: active.size,
        first_timestamp: active.first_timestamp,
        max_timestamp: active.max_timestamp,
        max_timestamp_offset: active.max_timestamp_offset,
        created_ms: active.created_ms,
        producers: state.producers.clone(),
    }
}
