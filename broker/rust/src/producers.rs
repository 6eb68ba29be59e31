//! Idempotent producers: per producer id its epoch and its last five batches (Kafka's ProducerStateManager).
//!
//! A batch that repeats one of the five is a duplicate and gets the first one's offset. Otherwise its sequence must
//! follow; a producer that is not known may begin anywhere (KIP-360).
use std::collections::HashMap;

use crate::batch::Header;
use crate::error::{Refusal, code};

const WINDOW: usize = 5;
const ENTRY_BYTES: usize = 8 + 2 + 8 + 1;
const BATCH_BYTES: usize = 4 + 4 + 8 + 8;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sequenced {
    first: i32,
    last: i32,
    pub base_offset: i64,
    pub timestamp: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    seen_ms: i64,
    /// Oldest first.
    batches: Vec<Sequenced>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Producers {
    by_id: HashMap<i64, Producer>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Append,
    Duplicate(Sequenced),
}

/// Sequences wrap from 2147483647 to 0 (DefaultRecordBatch.incrementSequence).
fn plus(sequence: i32, increment: i32) -> i32 {
    ((i64::from(sequence) + i64::from(increment)) & i64::from(i32::MAX)) as i32
}

impl Producers {
    pub fn check(&self, header: &Header<'_>) -> Result<Verdict, Refusal> {
        let id = header.producer_id();
        let Some(known) = (id >= 0).then(|| self.by_id.get(&id)).flatten() else { return Ok(Verdict::Append) };
        let (epoch, first) = (header.producer_epoch(), header.base_sequence());
        if epoch < known.epoch {
            let why = format!("Producer {id} has epoch {} by now; a batch of epoch {epoch} came.", known.epoch);
            return Err(Refusal::new(code::INVALID_PRODUCER_EPOCH, why));
        }
        if epoch > known.epoch {
            return in_order(id, first, 0);
        }
        let last = plus(first, header.last_offset_delta());
        let duplicate = known.batches.iter().find(|batch| batch.first == first && batch.last == last);
        match (duplicate, known.batches.last()) {
            (Some(batch), _) => Ok(Verdict::Duplicate(*batch)),
            (None, Some(previous)) => in_order(id, first, plus(previous.last, 1)),
            (None, None) => Ok(Verdict::Append),
        }
    }

    /// Remembers a batch that is in the log at `base_offset`.
    pub fn appended(&mut self, header: &Header<'_>, base_offset: i64, timestamp: i64, now_ms: i64) {
        let id = header.producer_id();
        if id < 0 || header.is_control() {
            return;
        }
        let epoch = header.producer_epoch();
        let producer = self.by_id.entry(id).or_insert_with(|| Producer { epoch, seen_ms: now_ms, batches: Vec::new() });
        if producer.epoch != epoch {
            producer.epoch = epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == WINDOW {
            producer.batches.remove(0);
        }
        let first = header.base_sequence();
        let last = plus(first, header.last_offset_delta());
        producer.batches.push(Sequenced { first, last, base_offset, timestamp });
        producer.seen_ms = now_ms;
    }

    pub fn expire(&mut self, before_ms: i64) {
        self.by_id.retain(|_, producer| producer.seen_ms >= before_ms);
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.by_id.len() as u32).to_be_bytes());
        for (id, producer) in &self.by_id {
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&producer.epoch.to_be_bytes());
            out.extend_from_slice(&producer.seen_ms.to_be_bytes());
            out.push(producer.batches.len() as u8);
            for batch in &producer.batches {
                out.extend_from_slice(&batch.first.to_be_bytes());
                out.extend_from_slice(&batch.last.to_be_bytes());
                out.extend_from_slice(&batch.base_offset.to_be_bytes());
                out.extend_from_slice(&batch.timestamp.to_be_bytes());
            }
        }
    }

    /// None unless the bytes are exactly what `encode` wrote.
    pub fn decode(bytes: &[u8]) -> Option<Producers> {
        let (count, mut rest) = bytes.split_first_chunk::<4>()?;
        let mut producers = Producers::default();
        for _ in 0..u32::from_be_bytes(*count) {
            let (entry, tail) = rest.split_first_chunk::<ENTRY_BYTES>()?;
            let batches = usize::from(entry[18]);
            let (listed, tail) = tail.split_at_checked(batches * BATCH_BYTES)?;
            rest = tail;
            let producer = Producer {
                epoch: i16::from_be_bytes([entry[8], entry[9]]),
                seen_ms: number(&entry[10..18]),
                batches: listed.chunks_exact(BATCH_BYTES).map(sequenced).collect(),
            };
            producers.by_id.insert(number(&entry[..8]), producer);
        }
        rest.is_empty().then_some(producers)
    }
}

fn number(bytes: &[u8]) -> i64 {
    bytes.iter().fold(0i64, |value, byte| value << 8 | i64::from(*byte))
}

fn sequenced(bytes: &[u8]) -> Sequenced {
    Sequenced {
        first: number(&bytes[..4]) as i32,
        last: number(&bytes[4..8]) as i32,
        base_offset: number(&bytes[8..16]),
        timestamp: number(&bytes[16..24]),
    }
}

fn in_order(id: i64, first: i32, expected: i32) -> Result<Verdict, Refusal> {
    if first == expected {
        return Ok(Verdict::Append);
    }
    let why = format!("Producer {id} sent sequence {first} where {expected} must come.");
    Err(Refusal::new(code::OUT_OF_ORDER_SEQUENCE_NUMBER, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::build;

    fn batch(epoch: i16, sequence: i32, count: usize) -> Vec<u8> {
        let records: Vec<build::Value<'_>> = vec![(0, None, b"v"); count];
        build::batch(&build::Producer { id: 7, epoch, sequence }, 0, &records)
    }

    fn check(producers: &Producers, epoch: i16, sequence: i32, count: usize) -> Result<Verdict, i16> {
        let bytes = batch(epoch, sequence, count);
        producers.check(&Header::new(&bytes).unwrap()).map_err(|refusal| refusal.code)
    }

    fn append(producers: &mut Producers, epoch: i16, sequence: i32, count: usize, offset: i64) {
        assert_eq!(check(producers, epoch, sequence, count), Ok(Verdict::Append));
        producers.appended(&Header::new(&batch(epoch, sequence, count)).unwrap(), offset, 5, 1);
    }

    #[test]
    fn the_last_five_batches_are_duplicates_and_the_sixth_is_out_of_order() {
        let mut producers = Producers::default();
        for index in 0..6 {
            append(&mut producers, 0, index * 2, 2, 100 + i64::from(index));
        }
        for index in 1..6 {
            match check(&producers, 0, index * 2, 2) {
                Ok(Verdict::Duplicate(found)) => assert_eq!(found.base_offset, 100 + i64::from(index)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(check(&producers, 0, 0, 2), Err(code::OUT_OF_ORDER_SEQUENCE_NUMBER));
        assert_eq!(check(&producers, 0, 13, 1), Err(code::OUT_OF_ORDER_SEQUENCE_NUMBER));
        assert_eq!(check(&producers, 0, 10, 1), Err(code::OUT_OF_ORDER_SEQUENCE_NUMBER));
        assert_eq!(Producers::decode(&encoded(&producers)), Some(producers));
    }

    fn encoded(producers: &Producers) -> Vec<u8> {
        let mut out = Vec::new();
        producers.encode(&mut out);
        out
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_fences_the_old_one() {
        let mut producers = Producers::default();
        append(&mut producers, 3, 41, 1, 0);
        assert_eq!(check(&producers, 4, 42, 1), Err(code::OUT_OF_ORDER_SEQUENCE_NUMBER));
        append(&mut producers, 4, 0, 1, 1);
        assert_eq!(check(&producers, 3, 42, 1), Err(code::INVALID_PRODUCER_EPOCH));
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut producers = Producers::default();
        append(&mut producers, 0, i32::MAX - 1, 2, 0);
        append(&mut producers, 0, 0, 1, 2);
    }
}
