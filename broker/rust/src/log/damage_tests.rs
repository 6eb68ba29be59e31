//! Whatever is damaged, every record outside of the damage is read, and the damage is told with its place.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::tests::{CONFIG, Folder, append, batch, files};
use super::*;
use crate::records::build;
use crate::salvage::Damage;

const SMALL: Config = Config { segment_bytes: 700, ..CONFIG };

/// What a consumer gets that goes on behind what it cannot read only when the log was repaired: offset to batch.
fn consumed(log: &Log) -> (BTreeMap<i64, Vec<u8>>, Vec<Damage>) {
    let (mut found, mut told) = (BTreeMap::new(), Vec::new());
    let (mut offset, mut out) = (log.marks().log_start, Vec::new());
    while let Some(planned) = log.plan(offset, 300).unwrap() {
        let size = match log.read_planned(&planned, &mut out, 0, true) {
            Err(Error::Damaged(_)) => {
                let damage = log.repair(0).unwrap();
                assert!(!damage.is_empty(), "a repair finds what a read found");
                told.extend(damage);
                continue;
            }
            read => read.unwrap(),
        };
        assert!(size > 0, "there is something to read before the end");
        let mut rest = &out[..size];
        while let Some(header) = Header::new(rest) {
            let (batch, tail) = rest.split_at(header.size_bytes().unwrap());
            assert!(crate::batch::is_intact(batch), "nothing damaged is handed out");
            found.insert(header.base_offset(), batch.to_vec());
            offset = header.last_offset() + 1;
            rest = tail;
        }
    }
    (found, told)
}

fn filled(folder: &Folder, batches: i64, clean: bool) -> BTreeMap<i64, Vec<u8>> {
    let log = folder.open(SMALL);
    for index in 0..batches {
        append(&log, &batch(index, 1 + index as usize % 3)).unwrap();
        if !clean && index == batches / 2 {
            log.checkpoint().unwrap();
        }
    }
    if clean {
        log.close().unwrap();
    }
    consumed(&log).0
}

fn logs(folder: &Folder) -> Vec<PathBuf> {
    with_extension(folder, "log")
}

fn with_extension(folder: &Folder, extension: &str) -> Vec<PathBuf> {
    files(folder)
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| path.extension().is_some_and(|text| text == extension))
        .collect()
}

/// The batches of a file, as (base offset, from, to).
fn placed(path: &Path) -> Vec<(i64, usize, usize)> {
    let bytes = fs::read(path).unwrap();
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(header) = Header::new(&bytes[at..]) {
        let size = header.size_bytes().unwrap();
        found.push((header.base_offset(), at, at + size));
        at += size;
    }
    found
}

fn damage(path: &Path, from: usize, to: usize, change: impl Fn(u8) -> u8) {
    let mut bytes = fs::read(path).unwrap();
    for byte in &mut bytes[from..to] {
        *byte = change(*byte);
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_flipped_byte_costs_its_batch_only_wherever_it_is_and_the_damaged_file_is_kept() {
    for clean in [true, false] {
        for which in [0, 2, usize::MAX] {
            for at in [3, 9, 16, 24, 40, 70] {
                let folder = Folder::new();
                let whole = filled(&folder, 30, clean);
                let segments = logs(&folder);
                let path = &segments[which.min(segments.len() - 1)];
                // A last batch whose length is damaged cannot be told from a torn one.
                let batches = placed(path);
                let (lost, from, to) = batches[batches.len() - 2];
                let before = {
                    damage(path, from + at, from + at + 1, |byte| byte ^ 0x41);
                    fs::read(path).unwrap()
                };

                let log = folder.open(SMALL);
                let (found, mut told) = consumed(&log);
                told.extend(log.report.damage.clone());

                let expected: BTreeMap<_, _> = whole.into_iter().filter(|(base, _)| *base != lost).collect();
                assert_eq!(found, expected, "clean={clean} segment={which} byte={at}");
                let [damage] = &told[..] else { panic!("{told:?}") };
                assert_eq!((&damage.file, damage.position, damage.bytes), (path, from as u64, (to - from) as u64));
                assert_eq!(damage.start, lost);
                assert_eq!(fs::read(damage.kept.as_ref().unwrap()).unwrap(), before);
                drop(log);
                let again = folder.open(SMALL);
                assert_eq!(consumed(&again), (expected, Vec::new()), "what was repaired stays so");
            }
        }
    }
}

#[test]
fn any_damage_of_any_files_leaves_every_record_outside_of_it() {
    let mut seed = 20_261_201u64;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below.max(1)
    };
    for run in 0..120 {
        let folder = Folder::new();
        let mut expected = filled(&folder, 30, random(2) == 0);
        let all: Vec<_> = files(&folder).into_iter().filter(|(_, size)| *size > 0).collect();
        for _ in 0..=random(3) {
            let (path, size) = &all[random(all.len())];
            let size = *size as usize;
            let from = random(size);
            let to = (from + 1 + random(200) * random(2)).min(size);
            let is_log = path.extension().is_some_and(|text| text == "log");
            let kind = random(3);
            if is_log {
                // Cutting damages what follows; else the batches that are touched are lost.
                let end = if kind == 2 { usize::MAX } else { to };
                let bytes = fs::read(path).unwrap();
                if bytes.len() < to {
                    continue;
                }
                for (base, start, stop) in offsets_of(&expected, path) {
                    if start < end && from < stop {
                        expected.remove(&base);
                    }
                }
            }
            let left = fs::metadata(path).unwrap().len() as usize;
            let (from, to) = (from.min(left), to.min(left));
            match kind {
                0 => damage(path, from, to, |byte| byte ^ 0x80),
                1 => damage(path, from, to, |_| 0),
                _ => fs::OpenOptions::new().write(true).open(path).unwrap().set_len(from as u64).unwrap(),
            }
        }

        let log = folder.open(SMALL);
        let (found, _) = consumed(&log);

        for (base, batch) in &expected {
            assert_eq!(found.get(base), Some(batch), "run {run}: batch {base}");
        }
        let end = log.end_offset();
        assert_eq!(append(&log, &build::batch(&build::ANONYMOUS, 0, &[(0, None, b"new")])).unwrap().base_offset, end);
    }
}

/// Where the batches of a segment stand: they were written one behind the other.
fn offsets_of(batches: &BTreeMap<i64, Vec<u8>>, path: &Path) -> Vec<(i64, usize, usize)> {
    let mut at = 0;
    let bytes = fs::read(path).unwrap();
    let base: i64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let mut found = Vec::new();
    for (offset, batch) in batches.range(base..) {
        let Some(place) = bytes[at..].windows(batch.len()).position(|window| window == batch) else { continue };
        found.push((*offset, at + place, at + place + batch.len()));
        at += place + batch.len();
    }
    found
}

#[test]
fn a_batch_inside_of_a_damaged_batch_is_not_taken_for_one_of_the_log() {
    let folder = Folder::new();
    let log = folder.open(CONFIG);
    let mut inner = batch(0, 1);
    inner[..8].copy_from_slice(&1i64.to_be_bytes());
    append(&log, &build::batch(&build::ANONYMOUS, 0, &[(0, None, &inner)])).unwrap();
    append(&log, &batch(1, 1)).unwrap();
    drop(log);
    let path = &logs(&folder)[0];
    damage(path, 40, 41, |byte| byte ^ 1);
    let log = folder.open(CONFIG);
    let (found, _) = consumed(&log);
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [1]);
    assert_eq!(found[&1].len(), batch(1, 1).len());
    assert_eq!(log.end_offset(), 2);
}

#[test]
fn a_read_at_a_damaged_index_finds_the_record_and_the_next_checkpoint_mends_it() {
    let folder = Folder::new();
    let whole = filled(&folder, 30, true);
    let log = folder.open(SMALL);
    for path in with_extension(&folder, "index").iter().filter(|path| path.metadata().unwrap().len() > 0) {
        damage(path, 4, 8, |byte| byte ^ 1);
    }
    for base in whole.keys() {
        let planned = log.plan(*base, 1).unwrap().unwrap();
        let mut out = Vec::new();
        let size = log.read_planned(&planned, &mut out, 0, true).unwrap();
        assert_eq!(&out[..size], &whole[base][..], "{base}");
    }
}

#[test]
fn a_segment_that_is_missing_is_told_with_the_offsets_that_it_held() {
    for which in [0, 1, usize::MAX] {
        let folder = Folder::new();
        filled(&folder, 30, true);
        let segments = logs(&folder);
        let at = which.min(segments.len() - 1);
        let held = placed(&segments[at]);
        fs::remove_file(&segments[at]).unwrap();
        let log = folder.open(SMALL);
        let [damage] = &log.report.damage[..] else { panic!("{:?}", log.report) };
        assert_eq!((damage.start, damage.bytes), (held[0].0, 0), "{at}");
        assert!(damage.end > held[held.len() - 1].0);
    }
}

#[test]
fn retention_goes_past_a_segment_of_which_nothing_was_left() {
    let folder = Folder::new();
    filled(&folder, 30, false);
    let first = &logs(&folder)[0];
    fs::write(first, vec![7; 500]).unwrap();
    fs::remove_file(folder.0.join("checkpoint")).unwrap();
    let log = folder.open(Config { retention_ms: 0, ..SMALL });
    assert_eq!(log.report.damage.len(), 1);
    assert!(log.retain(i64::MAX).unwrap() > 1);
}

#[test]
fn a_start_scans_only_what_came_after_the_last_closed_segment() {
    let folder = Folder::new();
    let log = folder.open(SMALL);
    let mut active = 0;
    for index in 0..30 {
        let size = log.size_bytes();
        if append(&log, &batch(index, 2)).unwrap().rolled {
            log.checkpoint().unwrap();
            active = log.size_bytes();
        }
        assert!(log.size_bytes() > size);
    }
    let left = log.size_bytes() - active;
    assert!(log.segment_count() > 3);
    drop(log);
    assert_eq!(folder.open(SMALL).report, Report { scanned_bytes: left, ..Report::default() });
}
