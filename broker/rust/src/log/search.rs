//! Finding records by their timestamps, inside batches of every codec (ListOffsets).
use std::fs::File;

use super::{Log, WINDOW_BYTES};
use crate::batch::{HEADER_BYTES, Header};
use crate::codec::{Codec, Scratch};
use crate::error::Result;
use crate::records;
use crate::segment::Scan;

impl Log {
    /// (offset, timestamp, leader epoch) of the first record at or after a time.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<(i64, i64, i32)>> {
        let mut state = self.state();
        let visible = state.visible();
        for index in 0..state.segments.len() {
            let segment = &state.segments[index];
            if segment.max_timestamp < timestamp || segment.size == 0 {
                continue;
            }
            let start = segment.position_for_time(timestamp)?;
            let (end, _) = state.segment_end(index, &visible);
            let file = state.file(index)?;
            let found = first_record(&file, start, end, state.log_start, |time| time >= timestamp)?;
            if let Some((offset, time)) = found {
                return Ok(Some((offset, time, state.epochs.at(offset))));
            }
        }
        Ok(None)
    }

    /// (offset, timestamp, leader epoch) of the first record with the largest timestamp.
    pub fn max_timestamp(&self) -> Result<Option<(i64, i64, i32)>> {
        let mut state = self.state();
        let visible = state.visible();
        let mut best: Option<(i64, i64)> = None;
        for index in 0..state.segments.len() {
            let segment = &state.segments[index];
            let (max, holder) = (segment.max_timestamp, segment.max_timestamp_offset);
            if segment.size == 0 || best.is_some_and(|(_, time)| time >= max) {
                continue;
            }
            let start = segment.position(holder)?;
            let (end, _) = state.segment_end(index, &visible);
            let file = state.file(index)?;
            let mut found = first_record(&file, start, end, state.log_start, |time| time >= max)?;
            if found.is_none() {
                // The holder is below the log start or not flushed yet: the largest of what is left.
                found = largest_record(&file, end, state.log_start)?;
                if let Some((offset, time)) = found
                    && end == state.segments[index].size
                {
                    // All is flushed, so it was the log start, which never goes back: the next search finds this one.
                    state.segments[index].max_timestamp = time;
                    state.segments[index].max_timestamp_offset = offset;
                }
            }
            best = match (best, found) {
                (Some(known), Some(new)) if new.1 <= known.1 => Some(known),
                (known, new) => new.or(known),
            };
        }
        Ok(best.map(|(offset, time)| (offset, time, state.epochs.at(offset))))
    }
}

/// Calls `visit` with (offset, timestamp) of each record at or above `least` in batches that `wanted` names.
fn visit_records(
    file: &File,
    start: u64,
    end: u64,
    least: i64,
    wanted: impl Fn(&Header<'_>) -> bool,
    mut visit: impl FnMut(i64, i64) -> bool,
) -> Result<()> {
    let mut scan = Scan::new(file, start, end, WINDOW_BYTES);
    let mut scratch = Scratch::default();
    while let Some(bytes) = scan.header()? {
        let Some(header) = Header::new(&bytes) else { break };
        if header.last_offset() >= least && wanted(&header) {
            let Some(batch) = scan.batch(&bytes)? else { break };
            scratch.reset(usize::MAX);
            if !visit_batch(batch, least, &mut scratch, &mut visit) {
                return Ok(());
            }
        }
        if !scan.step(&bytes) {
            break;
        }
    }
    Ok(())
}

fn visit_batch(batch: &[u8], least: i64, scratch: &mut Scratch, visit: &mut impl FnMut(i64, i64) -> bool) -> bool {
    let Some(header) = Header::new(batch) else { return false };
    if header.is_log_append_time() || header.count() == 1 {
        // All records have the header's time: nothing needs to be inflated.
        return visit(header.base_offset().max(least), header.max_timestamp());
    }
    let payload = &batch[HEADER_BYTES..];
    let records = match header.codec() {
        Some(Codec::None) => payload,
        Some(codec) => match scratch.inflate(codec, payload) {
            Ok(records) => records,
            Err(_) => return true,
        },
        None => return true,
    };
    let mut go_on = true;
    // The batch was walked when it was appended: a fault here can only end the walk early.
    let _ = records::each(records, header.count(), header.base_timestamp(), |_, record| {
        let offset = header.base_offset().saturating_add(i64::from(record.offset_delta));
        if go_on && offset >= least {
            go_on = visit(offset, record.timestamp);
        }
    });
    go_on
}

fn first_record(
    file: &File,
    start: u64,
    end: u64,
    least: i64,
    fits: impl Fn(i64) -> bool,
) -> Result<Option<(i64, i64)>> {
    let mut found = None;
    visit_records(
        file,
        start,
        end,
        least,
        |header| fits(header.max_timestamp()),
        |offset, time| {
            if fits(time) {
                found = Some((offset, time));
            }
            found.is_none()
        },
    )?;
    Ok(found)
}

/// The first of the largest in the batches before `end`; of whole batches the headers tell, and one is inflated.
fn largest_record(file: &File, end: u64, least: i64) -> Result<Option<(i64, i64)>> {
    let mut largest: Option<(i64, i64)> = None;
    let mut holder: Option<(u64, i64)> = None;
    let mut scan = Scan::new(file, 0, end, WINDOW_BYTES);
    let mut scratch = Scratch::default();
    while let Some(bytes) = scan.header()? {
        let Some(header) = Header::new(&bytes) else { break };
        if header.base_offset() >= least {
            if holder.is_none_or(|(_, time)| header.max_timestamp() > time) {
                holder = Some((scan.position, header.max_timestamp()));
            }
        } else if header.last_offset() >= least {
            let Some(batch) = scan.batch(&bytes)? else { break };
            visit_batch(batch, least, &mut scratch, &mut |offset, time| {
                if largest.is_none_or(|(_, known)| time > known) {
                    largest = Some((offset, time));
                }
                true
            });
        }
        if !scan.step(&bytes) {
            break;
        }
    }
    match holder {
        Some((position, time)) if largest.is_none_or(|(_, known)| time > known) => {
            first_record(file, position, end, least, |found| found >= time)
        }
        _ => Ok(largest),
    }
}
