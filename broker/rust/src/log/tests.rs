//! A log on a real folder: what is appended is read, survives any cut, and goes only by the rules.
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::error::{Refusal, code};
use crate::records::build::{self, ANONYMOUS, Producer};

static FOLDERS: AtomicU32 = AtomicU32::new(0);

pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new() -> Folder {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tidemill-log-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub(super) fn open(&self, config: Config) -> Log {
        Log::open(&self.0, config, 0).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) const CONFIG: Config = Config {
    segment_bytes: 1 << 30,
    segment_ms: i64::MAX,
    index_interval_bytes: 200,
    retention_ms: -1,
    retention_bytes: -1,
    delete: true,
    compact: false,
    max_message_bytes: 1 << 20,
    log_append_time: false,
    timestamp_before_max_ms: i64::MAX,
    timestamp_after_max_ms: i64::MAX,
    flush_messages: i64::MAX,
    producer_expiration_ms: i64::MAX,
};

const CLIENT: Writer = Writer { is_client: true, zstd_allowed: true };

pub(super) fn append(log: &Log, batch: &[u8]) -> std::result::Result<Appended, Refusal> {
    match log.append(batch, CLIENT, 1_000, &mut Scratch::default()) {
        Ok(appended) => Ok(appended),
        Err(Error::Refused(refusal)) => Err(refusal),
        Err(other) => panic!("{other}"),
    }
}

pub(super) fn batch(timestamp: i64, count: usize) -> Vec<u8> {
    let values: Vec<build::Value<'_>> =
        (0..count).map(|delta| (delta as i64, None, b"some value".as_slice())).collect();
    build::batch(&ANONYMOUS, timestamp, &values)
}

fn read(log: &Log, offset: i64, bytes_max: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let size = match log.plan(offset, bytes_max).unwrap() {
        Some(planned) => log.read_planned(&planned, &mut out, 0, true).unwrap(),
        None => 0,
    };
    out.truncate(size);
    out
}

/// The base offsets of all batches from an offset on, read piece by piece.
fn bases(log: &Log, mut offset: i64, bytes_max: usize) -> Vec<i64> {
    let mut found = Vec::new();
    loop {
        let bytes = read(log, offset, bytes_max);
        let mut rest = &bytes[..];
        while let Some(header) = Header::new(rest) {
            found.push(header.base_offset());
            offset = header.last_offset() + 1;
            rest = &rest[header.size_bytes().unwrap()..];
        }
        assert!(rest.is_empty(), "batches come whole");
        if bytes.is_empty() {
            return found;
        }
    }
}

#[test]
fn every_offset_is_found_over_segments_at_every_read_size() {
    let folder = Folder::new();
    let log = folder.open(Config { segment_bytes: 700, ..CONFIG });
    let mut expected = Vec::new();
    for index in 0..40 {
        expected.push(append(&log, &batch(index, 1 + index as usize % 3)).unwrap().base_offset);
    }
    assert!(log.segment_count() > 3);
    log.checkpoint().unwrap();
    append(&log, &batch(99, 1)).unwrap();
    expected.push(log.end_offset() - 1);
    for bytes_max in [0, 1, 100, 300, 1 << 20] {
        for offset in 0..log.end_offset() {
            let first = expected.partition_point(|base| *base <= offset) - 1;
            assert_eq!(bases(&log, offset, bytes_max), expected[first..], "from {offset} by {bytes_max}");
        }
    }
    assert!(read(&log, log.end_offset(), 100).is_empty());
    assert!(matches!(log.plan(log.end_offset() + 1, 1), Err(Error::OutOfRange(_))));
}

#[test]
fn a_log_cut_at_any_byte_keeps_every_whole_batch_and_goes_on_behind_them() {
    let folder = Folder::new();
    let mut ends = vec![(0u64, 0i64)];
    {
        let log = folder.open(CONFIG);
        for index in 0..4 {
            append(&log, &batch(index, 2)).unwrap();
            ends.push((log.size_bytes(), log.end_offset()));
        }
    }
    let file = folder.0.join("00000000000000000000.log");
    let bytes = fs::read(&file).unwrap();
    for cut in 0..=bytes.len() {
        let other = Folder::new();
        fs::write(other.0.join("00000000000000000000.log"), &bytes[..cut]).unwrap();
        let log = other.open(CONFIG);
        let (whole, end) = *ends.iter().rev().find(|(size, _)| *size <= cut as u64).unwrap();
        assert_eq!((log.size_bytes(), log.end_offset()), (whole, end), "cut at {cut}");
        assert_eq!(log.report.cut_bytes, cut as u64 - whole);
        assert_eq!(append(&log, &batch(9, 1)).unwrap().base_offset, end);
    }
}

#[test]
fn recovery_scans_only_behind_the_checkpoint() {
    let folder = Folder::new();
    let after_checkpoint;
    {
        let log = folder.open(Config { segment_bytes: 600, ..CONFIG });
        for index in 0..20 {
            append(&log, &batch(index, 2)).unwrap();
        }
        log.checkpoint().unwrap();
        let before = log.size_bytes();
        append(&log, &batch(20, 2)).unwrap();
        after_checkpoint = log.size_bytes() - before;
    }
    let log = folder.open(Config { segment_bytes: 600, ..CONFIG });
    assert_eq!(log.report.scanned_bytes, after_checkpoint);
    assert_eq!(bases(&log, 0, 1 << 20), (0..21).map(|index| index * 2).collect::<Vec<_>>());
    log.close().unwrap();
    let log = folder.open(Config { segment_bytes: 600, ..CONFIG });
    assert_eq!(log.report, Report::default());
    assert_eq!((log.end_offset(), log.marks().epoch), (42, 2));
    assert!(matches!(log.append(&[], CLIENT, 0, &mut Scratch::default()), Err(Error::Refused(_))));
}

#[test]
fn a_closed_log_takes_nothing() {
    let folder = Folder::new();
    let log = folder.open(CONFIG);
    log.close().unwrap();
    assert!(matches!(log.append(&batch(0, 1), CLIENT, 0, &mut Scratch::default()), Err(Error::Io(_))));
}

#[test]
fn duplicates_are_known_after_a_kill() {
    let folder = Folder::new();
    let first = build::batch(&Producer { id: 5, epoch: 1, sequence: 0 }, 7, &[(0, None, b"a"), (0, None, b"b")]);
    let second = build::batch(&Producer { id: 5, epoch: 1, sequence: 2 }, 7, &[(0, None, b"c")]);
    {
        let log = folder.open(CONFIG);
        append(&log, &first).unwrap();
        log.checkpoint().unwrap();
        append(&log, &second).unwrap();
    }
    let log = folder.open(CONFIG);
    let again = append(&log, &second).unwrap();
    assert_eq!((again.base_offset, again.duplicate), (2, true));
    assert_eq!(append(&log, &first).unwrap().base_offset, 0);
    let gap = build::batch(&Producer { id: 5, epoch: 1, sequence: 4 }, 7, &[(0, None, b"d")]);
    assert_eq!(append(&log, &gap).unwrap_err().code, code::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(log.end_offset(), 3);
}

#[test]
fn epochs_rise_with_every_start_and_end_where_the_next_began() {
    let folder = Folder::new();
    for start in 0..3 {
        let log = folder.open(CONFIG);
        assert_eq!(log.marks().epoch, start);
        append(&log, &batch(0, 2)).unwrap();
    }
    let log = folder.open(CONFIG);
    assert_eq!(log.end_offset_for_epoch(0), (0, 2));
    assert_eq!(log.end_offset_for_epoch(2), (2, 6));
    assert_eq!(log.end_offset_for_epoch(3), (3, 6));
    let stored = read(&log, 4, 1 << 20);
    assert_eq!(Header::new(&stored).unwrap().leader_epoch(), 2);
}

#[test]
fn expiry_takes_whole_segments_and_the_end_offset_goes_on() {
    let folder = Folder::new();
    let config = Config { segment_bytes: 300, retention_ms: 100, ..CONFIG };
    let log = folder.open(config);
    for index in 0..10 {
        append(&log, &batch(index * 10, 2)).unwrap();
    }
    let before = log.segment_count();
    assert_eq!(log.retain(100).unwrap(), 0);
    assert!(log.retain(150).unwrap() > 0);
    assert!(log.segment_count() < before);
    log.retain(10_000).unwrap();
    assert_eq!((log.segment_count(), log.size_bytes()), (1, 0));
    assert_eq!((log.marks().log_start, log.end_offset()), (20, 20));
    drop(log);
    let log = folder.open(config);
    assert_eq!((log.marks().log_start, log.end_offset()), (20, 20));
    assert_eq!(append(&log, &batch(9_990, 1)).unwrap().base_offset, 20);
}

#[test]
fn size_takes_the_oldest_and_a_record_of_the_future_holds_its_segment() {
    let folder = Folder::new();
    let config = Config { segment_bytes: 300, retention_ms: 100, ..CONFIG };
    let log = folder.open(config);
    append(&log, &batch(1_000_000, 2)).unwrap();
    for index in 0..9 {
        append(&log, &batch(index, 2)).unwrap();
    }
    assert_eq!(log.retain(5_000).unwrap(), 0);
    let size = log.size_bytes();
    log.configure(Config { retention_bytes: size as i64 / 2, ..config }).unwrap();
    assert!(log.retain(5_000).unwrap() > 0);
    assert_eq!(log.segment_count(), 1, "the rest was old and nothing holds it any more");
    log.configure(Config { delete: false, compact: true, retention_bytes: 0, ..config }).unwrap();
    assert_eq!(log.retain(i64::MAX).unwrap(), 0);
}

#[test]
fn the_log_start_moves_into_a_batch_and_stays_there() {
    let folder = Folder::new();
    {
        let log = folder.open(Config { segment_bytes: 300, ..CONFIG });
        for index in 0..6 {
            append(&log, &batch(index, 4)).unwrap();
        }
        assert_eq!(log.delete_before(10).unwrap(), 10);
        assert_eq!(log.delete_before(3).unwrap(), 10);
        assert!(matches!(log.delete_before(25), Err(Error::OutOfRange(_))));
    }
    let log = folder.open(Config { segment_bytes: 300, ..CONFIG });
    assert_eq!(log.marks().log_start, 10);
    assert!(matches!(log.plan(9, 1), Err(Error::OutOfRange(_))));
    assert_eq!(bases(&log, 10, 1 << 20), [8, 12, 16, 20]);
    assert_eq!(log.delete_before(-1).unwrap(), 24);
}

#[test]
fn unflushed_records_are_not_there_for_consumers_when_every_reply_waits_for_the_disk() {
    let folder = Folder::new();
    let log = folder.open(Config { flush_messages: 1, segment_bytes: 300, ..CONFIG });
    assert!(append(&log, &batch(0, 2)).unwrap().must_flush);
    append(&log, &batch(0, 2)).unwrap();
    append(&log, &batch(0, 2)).unwrap();
    assert_eq!((log.marks().high_watermark, log.end_offset()), (0, 6));
    assert!(read(&log, 0, 100).is_empty());
    assert_eq!(log.flush().unwrap(), 6);
    assert_eq!(bases(&log, 0, 100), [0, 2, 4]);
    assert!(!log.must_flush());
}

#[test]
fn append_time_is_stamped_and_the_crc_still_right() {
    let folder = Folder::new();
    let log = folder.open(Config { log_append_time: true, ..CONFIG });
    assert_eq!(append(&log, &batch(5, 2)).unwrap().append_time, 1_000);
    let stored = read(&log, 0, 1 << 20);
    assert!(crate::batch::is_intact(&stored));
    let header = Header::new(&stored).unwrap();
    assert!(header.is_log_append_time());
    assert_eq!(header.max_timestamp(), 1_000);
    assert_eq!(log.offset_for_timestamp(900).unwrap(), Some((0, 1_000, 0)));
}

#[test]
fn times_are_found_as_a_linear_search_finds_them() {
    let folder = Folder::new();
    let log = folder.open(Config { segment_bytes: 400, ..CONFIG });
    let times = [50i64, 10, 80, 80, 20, 120, 60, 5, 119, 120];
    let mut records = Vec::new();
    for time in times {
        let base = log.end_offset();
        append(&log, &build::batch(&ANONYMOUS, time, &[(0, None, b"a"), (3, None, b"b"), (-2, None, b"c")])).unwrap();
        records.extend([(base, time), (base + 1, time + 3), (base + 2, time - 2)]);
    }
    for closed in [false, true] {
        for target in 0..130 {
            let expected = records.iter().find(|(_, time)| *time >= target).map(|(offset, time)| (*offset, *time, 0));
            assert_eq!(log.offset_for_timestamp(target).unwrap(), expected, "{target} closed={closed}");
        }
        assert_eq!(log.max_timestamp().unwrap(), Some((16, 123, 0)));
        log.checkpoint().unwrap();
    }
}

#[test]
fn a_topic_is_deleted_only_when_the_maintenance_that_runs_is_done() {
    let folder = Folder::new();
    let log = Arc::new(folder.open(CONFIG));
    append(&log, &batch(0, 1)).unwrap();
    let running = log.maintenance.lock().unwrap();
    let (deleting, deleted) = (log.clone(), std::sync::mpsc::channel());
    let thread = std::thread::spawn(move || {
        deleting.abandon();
        deleted.0.send(()).unwrap();
    });
    assert!(deleted.1.recv_timeout(std::time::Duration::from_millis(50)).is_err());
    drop(running);
    deleted.1.recv().unwrap();
    thread.join().unwrap();
}

#[test]
fn a_deleted_log_leaves_the_folder_of_its_name_alone() {
    let folder = Folder::new();
    let old = folder.open(Config { segment_bytes: 200, ..CONFIG });
    for _ in 0..3 {
        append(&old, &batch(0, 2)).unwrap();
    }
    old.abandon();
    fs::remove_dir_all(&folder.0).unwrap();
    let new = folder.open(CONFIG);
    append(&new, &batch(0, 1)).unwrap();
    new.flush().unwrap();
    let before = files(&folder);
    old.checkpoint().unwrap();
    old.retain(i64::MAX).unwrap();
    old.delete_before(4).unwrap();
    old.flush().unwrap();
    assert_eq!(files(&folder), before);
}

pub(super) fn files(folder: &Folder) -> Vec<(PathBuf, u64)> {
    let entries = fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap());
    let mut found: Vec<_> = entries.map(|entry| (entry.path(), entry.metadata().unwrap().len())).collect();
    found.sort();
    found
}

#[test]
fn a_deleted_log_whose_folder_is_gone_can_still_be_flushed() {
    let folder = Folder::new();
    let log = folder.open(Config { flush_messages: 1, ..CONFIG });
    append(&log, &batch(0, 1)).unwrap();
    log.abandon();
    fs::remove_dir_all(&folder.0).unwrap();
    log.flush().unwrap();
}

#[test]
fn a_log_without_its_epochs_keeps_its_start_and_its_end() {
    let folder = Folder::new();
    let log = folder.open(CONFIG);
    for _ in 0..3 {
        append(&log, &batch(0, 2)).unwrap();
    }
    log.delete_before(3).unwrap();
    drop(log);
    fs::write(folder.0.join("leader-epoch-checkpoint"), "").unwrap();
    let log = folder.open(CONFIG);
    assert_eq!((log.marks().log_start, log.end_offset()), (3, 6));
}

#[test]
fn a_flush_covers_the_name_of_a_new_segment() {
    let folder = Folder::new();
    let log = folder.open(Config { segment_bytes: 200, ..CONFIG });
    append(&log, &batch(0, 2)).unwrap();
    log.flush().unwrap();
    while log.segment_count() == 1 {
        append(&log, &batch(0, 2)).unwrap();
    }
    let elsewhere = folder.0.with_extension("away");
    fs::rename(&folder.0, &elsewhere).unwrap();
    let flushed = log.flush();
    fs::rename(&elsewhere, &folder.0).unwrap();
    assert!(flushed.is_err(), "the folder was not synced: a power cut could take the segment's name");
}
