//! What reaches the disk and when: flushes, checkpoints, and the last one of all.
use std::sync::PoisonError;

use super::{Log, State, Status};
use crate::checkpoint::Checkpoint;
use crate::error::Result;

impl Log {
    /// Fsyncs all that is appended so far; the high watermark after it.
    pub fn flush(&self) -> Result<i64> {
        let (files, place) = {
            let state = self.state();
            let unflushed = state.segments.iter().filter(|segment| segment.base >= state.flushed.base);
            (unflushed.filter_map(|segment| segment.file.clone()).collect::<Vec<_>>(), state.end())
        };
        for file in files {
            if let Err(fault) = file.sync_data() {
                // A later fsync may succeed without these bytes: only a restart, which reads them, can tell.
                self.state().status = Status::Closed;
                return Err(fault.into());
            }
        }
        let mut state = self.state();
        state.flushed = state.flushed.max(place);
        Ok(state.visible().offset)
    }

    /// Flushes, writes indexes and producer states, and moves the point from which recovery scans.
    pub fn checkpoint(&self) -> Result<()> {
        let _alone = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        self.checkpoint_alone()
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
        self.flush()?;
        for (path, index) in &indexes {
            index.save(path)?;
        }
        epochs.save(&self.directory)?;
        checkpoint.save(&self.directory)?;
        let mut state = self.state();
        state.checkpointed = Some(mark);
        let active_base = checkpoint.active_base;
        for segment in state.segments.iter_mut().filter(|segment| segment.base < active_base) {
            // Closed, flushed and indexed on disk: nothing of it needs to stay open or in memory.
            (segment.file, segment.index) = (None, None);
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
