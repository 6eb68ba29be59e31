//! The records inside a batch: walked without copying, to validate them and to find timestamps.

/// What one pass over all records of a batch found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    pub min_timestamp: i64,
    pub max_timestamp: i64,
    pub null_keys: u32,
}

/// The parts of a record that the log ever looks at.
pub struct Record {
    pub offset_delta: i32,
    pub timestamp: i64,
    pub key_is_null: bool,
}

type Fault = &'static str;

/// Checks every record (DefaultRecord.readFrom, LogValidator.validateRecord) and sums them up.
pub fn walk(records: &[u8], count: i32, base_timestamp: i64) -> Result<Walk, Fault> {
    let mut found = Walk { min_timestamp: i64::MAX, max_timestamp: i64::MIN, null_keys: 0 };
    each(records, count, base_timestamp, |_, record| {
        found.min_timestamp = found.min_timestamp.min(record.timestamp);
        found.max_timestamp = found.max_timestamp.max(record.timestamp);
        found.null_keys += u32::from(record.key_is_null);
    })?;
    Ok(found)
}

/// Calls `visit` with every record; fails at the first that is not well formed or not in its place.
pub fn each(records: &[u8], count: i32, base_timestamp: i64, mut visit: impl FnMut(i32, &Record)) -> Result<(), Fault> {
    let mut rest = records;
    for index in 0..count {
        let length = varint(&mut rest)?;
        let body = split(&mut rest, length)?;
        let record = record(body, base_timestamp)?;
        if record.offset_delta != index {
            return Err("The batch's records do not have consecutive offsets from 0.");
        }
        visit(index, &record);
    }
    if rest.is_empty() { Ok(()) } else { Err("The batch has bytes behind its last record.") }
}

fn record(mut body: &[u8], base_timestamp: i64) -> Result<Record, Fault> {
    let body = &mut body;
    // Nobody uses a record's attributes. Java reads a byte and ignores it, aiokafka reads a varint.
    if split(body, 1)?[0] >= 0x80 {
        return Err("A record has attributes that not every client can read.");
    }
    let timestamp = base_timestamp.wrapping_add(varlong(body)?);
    let offset_delta = varint(body)?;
    let key_length = varint(body)?;
    skip_nullable(body, key_length)?;
    let value_length = varint(body)?;
    skip_nullable(body, value_length)?;
    skip_headers(body)?;
    if !body.is_empty() {
        return Err("A record is longer than its fields.");
    }
    Ok(Record { offset_delta, timestamp, key_is_null: key_length < 0 })
}

fn skip_headers(body: &mut &[u8]) -> Result<(), Fault> {
    let headers = varint(body)?;
    if headers < 0 {
        return Err("A record has a negative number of headers.");
    }
    for _ in 0..headers {
        let key_length = varint(body)?;
        split(body, key_length)?;
        let value_length = varint(body)?;
        skip_nullable(body, value_length)?;
    }
    Ok(())
}

/// Java takes any negative length for null; librdkafka only -1, and it cannot read the batch with another.
fn skip_nullable(rest: &mut &[u8], length: i32) -> Result<(), Fault> {
    if length < -1 {
        return Err("A record has a field with a length below -1.");
    }
    split(rest, length.max(0)).map(|_| ())
}

fn split<'a>(rest: &mut &'a [u8], length: i32) -> Result<&'a [u8], Fault> {
    match usize::try_from(length) {
        Ok(length) if length <= rest.len() => {
            let (head, tail) = rest.split_at(length);
            *rest = tail;
            Ok(head)
        }
        _ => Err("A record runs past the end of its batch."),
    }
}

fn varint(rest: &mut &[u8]) -> Result<i32, Fault> {
    let value = unsigned(rest, 5)?;
    if value > u64::from(u32::MAX) {
        return Err("A record has a varint above 32 bits.");
    }
    let value = value as u32;
    Ok((value >> 1) as i32 ^ -((value & 1) as i32))
}

fn varlong(rest: &mut &[u8]) -> Result<i64, Fault> {
    let value = unsigned(rest, 10)?;
    Ok((value >> 1) as i64 ^ -((value & 1) as i64))
}

fn unsigned(rest: &mut &[u8], bytes_max: usize) -> Result<u64, Fault> {
    let mut value = 0u64;
    for (index, &byte) in rest.iter().take(bytes_max).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index as u32);
        if byte < 0x80 {
            *rest = &rest[index + 1..];
            return Ok(value);
        }
    }
    Err("A record has a varint that does not end.")
}

#[cfg(test)]
pub mod build {
    //! Batches for the tests of the crate, uncompressed.
    use crate::batch::HEADER_BYTES;

    /// (timestamp delta, key, value)
    pub type Value<'a> = (i64, Option<&'a [u8]>, &'a [u8]);

    fn zigzag(out: &mut Vec<u8>, value: i64) {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        while rest >= 0x80 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }

    pub fn records(values: &[Value<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        for (index, (delta, key, value)) in values.iter().enumerate() {
            let mut body = vec![0];
            zigzag(&mut body, *delta);
            zigzag(&mut body, index as i64);
            zigzag(&mut body, key.map_or(-1, |key| key.len() as i64));
            body.extend_from_slice(key.unwrap_or(b""));
            zigzag(&mut body, value.len() as i64);
            body.extend_from_slice(value);
            zigzag(&mut body, 0);
            zigzag(&mut out, body.len() as i64);
            out.extend(body);
        }
        out
    }

    pub struct Producer {
        pub id: i64,
        pub epoch: i16,
        pub sequence: i32,
    }

    pub const ANONYMOUS: Producer = Producer { id: -1, epoch: -1, sequence: -1 };

    pub fn sealed(mut batch: Vec<u8>) -> Vec<u8> {
        let length = (batch.len() - 12) as i32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        batch
    }

    pub fn batch(producer: &Producer, base_timestamp: i64, values: &[Value<'_>]) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES];
        out[16] = 2;
        let max_timestamp = base_timestamp + values.iter().map(|(delta, _, _)| *delta).max().unwrap_or(0);
        out[23..27].copy_from_slice(&(values.len() as i32 - 1).to_be_bytes());
        out[27..35].copy_from_slice(&base_timestamp.to_be_bytes());
        out[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
        out[43..51].copy_from_slice(&producer.id.to_be_bytes());
        out[51..53].copy_from_slice(&producer.epoch.to_be_bytes());
        out[53..57].copy_from_slice(&producer.sequence.to_be_bytes());
        out[57..61].copy_from_slice(&(values.len() as i32).to_be_bytes());
        out.extend(records(values));
        sealed(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_sees_the_times_and_the_missing_keys() {
        let records = build::records(&[(5, Some(b"k"), b"v"), (-3, None, b"w")]);
        let found = walk(&records, 2, 100).unwrap();
        assert_eq!(found, Walk { min_timestamp: 97, max_timestamp: 105, null_keys: 1 });
    }

    #[test]
    fn null_is_the_length_of_minus_one_alone() {
        let zigzag = |length: i8| ((length << 1) ^ (length >> 7)) as u8;
        for (length, is_read) in [(-1, true), (-2, false)] {
            let null = zigzag(length);
            let key = [0, 0, 0, null, zigzag(0), zigzag(0)].to_vec();
            let value = [0, 0, 0, zigzag(0), null, zigzag(0)].to_vec();
            let header = [0, 0, 0, zigzag(0), zigzag(0), zigzag(1), zigzag(0), null].to_vec();
            for body in [key, value, header] {
                let record = [vec![zigzag(body.len() as i8)], body].concat();
                assert_eq!(walk(&record, 1, 0).is_ok(), is_read, "{record:?}");
            }
        }
    }

    #[test]
    fn a_cut_at_any_byte_is_a_fault() {
        let records = build::records(&[(0, Some(b"key"), b"value"), (1, None, b"w")]);
        for end in 0..records.len() {
            assert!(walk(&records[..end], 2, 0).is_err(), "cut at {end}");
        }
        assert!(walk(&records, 1, 0).is_err());
        assert!(walk(&records, 3, 0).is_err());
    }
}
