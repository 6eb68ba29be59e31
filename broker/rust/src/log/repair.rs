//! Damage that a read found: the damaged file is kept aside, and one without the damage takes its place.
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::PoisonError;

use super::{CURSORS, Log, Status};
use crate::error::Result;
use crate::index::Index;
use crate::salvage::{Damage, Hole, Salvage, replace, write_without};
use crate::segment::{Placed, Segment};

/// A closed segment as it stands, to be read without a lock: nobody writes to it.
struct Damaged {
    path: PathBuf,
    base: i64,
    size: u64,
    limit: i64,
    created_ms: i64,
    interval_bytes: u64,
}

impl Log {
    /// Takes out of the segments what reads found damaged; what is lost by it.
    ///
    /// The long part, reading the segment and writing it anew, holds no lock.
    pub fn repair(&self, now_ms: i64) -> Result<Vec<Damage>> {
        let mut lost = Vec::new();
        loop {
            let Some(base) = self.state().damaged.first().copied() else { return Ok(lost) };
            lost.extend(self.repair_segment(base, now_ms)?);
            self.state().damaged.remove(&base);
        }
    }

    fn repair_segment(&self, base: i64, now_ms: i64) -> Result<Vec<Damage>> {
        let Some(damaged) = self.closed_for_repair(base, now_ms)? else { return Ok(Vec::new()) };
        // What counts as flushed must not point into the file that goes.
        self.flush()?;
        let prepared = damaged.prepare();
        match prepared {
            Ok((segment, holes)) if holes.is_empty() => {
                drop(segment);
                Ok(Vec::new())
            }
            Ok((segment, holes)) => self.put_in_place(&damaged, segment, &holes),
            // The topic was deleted, or retention took the segment.
            Err(fault) if fault.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(fault) => Err(fault.into()),
        }
    }

    /// The segment; one that is written to is closed first.
    fn closed_for_repair(&self, base: i64, now_ms: i64) -> io::Result<Option<Damaged>> {
        let mut state = self.state();
        if state.status != Status::Open {
            return Ok(None);
        }
        if state.active().base == base && state.next_offset > base {
            state.roll(&self.directory, now_ms)?;
        }
        let index = state.segment_of(base);
        let Some(limit) = state.segments.get(index + 1).map(|next| next.base) else { return Ok(None) };
        let segment = &state.segments[index];
        Ok((segment.base == base).then(|| Damaged {
            path: segment.path.clone(),
            base,
            size: segment.size,
            limit,
            created_ms: segment.created_ms,
            interval_bytes: state.config.index_interval_bytes.max(0) as u64,
        }))
    }

    fn put_in_place(&self, damaged: &Damaged, segment: Segment, holes: &[Hole]) -> Result<Vec<Damage>> {
        let _alone = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        let index = state.segment_of(damaged.base);
        let same = state.segments[index].base == damaged.base && state.segments[index].size == damaged.size;
        if state.status != Status::Open || !same {
            return Ok(Vec::new());
        }
        // Indexes first: without them the next start scans the segment, whichever file a crash leaves there.
        segment.remove_indexes()?;
        let kept = replace(&damaged.path)?;
        state.segments[index] = segment;
        state.open_closed.retain(|(base, ..)| *base != damaged.base);
        state.cursors = [None; CURSORS];
        state.repairs += 1;
        state.checkpointed = None;
        Ok(holes.iter().map(|hole| Damage::of(hole, &damaged.path, Some(&kept))).collect())
    }
}

impl Damaged {
    /// Reads it whole, and writes what is whole of it beside it.
    fn prepare(&self) -> io::Result<(Segment, Vec<Hole>)> {
        let file = File::open(&self.path)?;
        let mut segment = Segment::closed(self.path.clone(), self.base, 0, self.created_ms);
        segment.index = Some(Index::default());
        let mut salvage = Salvage::new(&file, 0, self.size, self.base, self.limit);
        salvage.run(|header, position| segment.note(&Placed::of(header, position), self.interval_bytes))?;
        segment.seal();
        let mut holes = salvage.holes;
        if let Some(tail) = holes.last_mut().filter(|hole| hole.to == self.size) {
            tail.end = self.limit;
        }
        if !holes.is_empty() {
            write_without(&holes, &self.path, self.size)?;
        }
        Ok((segment, holes))
    }
}
