//! Kafka's primitive types on a byte slice: a reader that refuses to run past the end, and what a response needs.
use crate::error::{Result, malformed};

/// Reads a request from front to back; every method fails on a short or impossible value and never panics.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        if count > self.rest.len() {
            return malformed(format!("{count} bytes announced, {} left", self.rest.len()));
        }
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(taken)
    }

    pub fn i8(&mut self) -> Result<i8> {
        Ok(self.take(1)?[0] as i8)
    }

    pub fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub fn uuid(&mut self) -> Result<[u8; 16]> {
        self.array()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    pub fn uvarint(&mut self) -> Result<u32> {
        let mut value = 0u32;
        for shift in 0..5 {
            let byte = self.take(1)?[0];
            if shift == 4 && byte > 0x0f {
                return malformed("a varint above 32 bits");
            }
            value |= u32::from(byte & 0x7f) << (7 * shift);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        malformed("a varint of more than 5 bytes")
    }

    /// A nullable string or byte field: a length of -1 (or 0 when compact) is null.
    fn nullable(&mut self, length: i64) -> Result<Option<&'a [u8]>> {
        match length {
            -1 => Ok(None),
            0.. => self.take(length as usize).map(Some),
            _ => malformed(format!("a length of {length}")),
        }
    }

    pub fn nullable_string(&mut self, compact: bool) -> Result<Option<&'a str>> {
        let length = if compact { i64::from(self.uvarint()?) - 1 } else { i64::from(self.i16()?) };
        match self.nullable(length)? {
            None => Ok(None),
            Some(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some(text)),
                Err(_) => malformed("a string that is not UTF-8"),
            },
        }
    }

    pub fn string(&mut self, compact: bool) -> Result<&'a str> {
        match self.nullable_string(compact)? {
            Some(text) => Ok(text),
            None => malformed("null where a string must be"),
        }
    }

    pub fn nullable_bytes(&mut self, compact: bool) -> Result<Option<&'a [u8]>> {
        let length = if compact { i64::from(self.uvarint()?) - 1 } else { i64::from(self.i32()?) };
        self.nullable(length)
    }

    /// The number of elements; `least_bytes` is the smallest element, so that no count can promise more than is there.
    pub fn array_length(&mut self, compact: bool, least_bytes: usize) -> Result<usize> {
        let length = if compact { i64::from(self.uvarint()?) - 1 } else { i64::from(self.i32()?) };
        if length < 0 {
            return malformed("null where an array must be");
        }
        if length as usize > self.rest.len() / least_bytes {
            return malformed(format!("an array of {length} elements in {} bytes", self.rest.len()));
        }
        Ok(length as usize)
    }

    /// Skips the tagged fields; nothing that this broker uses is tagged.
    pub fn tags(&mut self, flexible: bool) -> Result<()> {
        if !flexible {
            return Ok(());
        }
        for _ in 0..self.uvarint()? {
            self.uvarint()?;
            let size = self.uvarint()?;
            self.take(size as usize)?;
        }
        Ok(())
    }
}

/// The header of a request, versions 1 and 2.
pub struct RequestHeader {
    pub key: i16,
    pub version: i16,
    pub correlation_id: i32,
}

pub fn request_header(reader: &mut Reader<'_>, flexible_from: i16) -> Result<RequestHeader> {
    let header = RequestHeader { key: reader.i16()?, version: reader.i16()?, correlation_id: reader.i32()? };
    reader.nullable_string(false)?;
    reader.tags(header.version >= flexible_from)?;
    Ok(header)
}

pub fn uvarint_len(value: u32) -> usize {
    (38 - (value | 1).leading_zeros() as usize) / 7
}

pub fn put_uvarint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn put_i16(out: &mut Vec<u8>, value: i16) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub fn put_i32(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub fn put_string(out: &mut Vec<u8>, text: &str, compact: bool) {
    put_nullable_string(out, Some(text), compact);
}

pub fn put_nullable_string(out: &mut Vec<u8>, text: Option<&str>, compact: bool) {
    match (text, compact) {
        (None, true) => out.push(0),
        (None, false) => put_i16(out, -1),
        (Some(text), true) => put_uvarint(out, text.len() as u32 + 1),
        (Some(text), false) => put_i16(out, text.len() as i16),
    }
    out.extend_from_slice(text.unwrap_or("").as_bytes());
}

pub fn put_array_length(out: &mut Vec<u8>, count: usize, compact: bool) {
    if compact {
        put_uvarint(out, count as u32 + 1);
    } else {
        put_i32(out, count as i32);
    }
}

pub fn put_tags(out: &mut Vec<u8>, flexible: bool) {
    if flexible {
        out.push(0);
    }
}

/// Writes the 4-byte length that stands before every frame.
pub fn seal_frame(frame: &mut [u8]) {
    let length = (frame.len() - 4) as i32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_reads_back_at_every_length() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455, 268_435_456, u32::MAX] {
            let mut out = Vec::new();
            put_uvarint(&mut out, value);
            assert_eq!(out.len(), uvarint_len(value));
            assert_eq!(Reader::new(&out).uvarint().unwrap(), value);
        }
    }

    #[test]
    fn a_count_that_promises_more_than_the_frame_holds_is_refused() {
        let bytes = i32::MAX.to_be_bytes();
        assert!(Reader::new(&bytes).array_length(false, 1).is_err());
    }

    #[test]
    fn nothing_reads_past_the_end() {
        let mut reader = Reader::new(&[0, 5, b'a']);
        assert!(reader.string(false).is_err());
        assert!(Reader::new(&[0xff; 5]).uvarint().is_err());
        assert!(Reader::new(&[0xff, 0xfe]).nullable_string(false).is_err());
    }
}
