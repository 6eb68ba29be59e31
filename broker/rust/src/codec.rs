//! Decompression of a batch's records: only to look inside; batches are kept as their producer compressed them.
use std::io::Read;

/// All batches of one request together may not inflate to more: a guard against bombs, far above what producers send.
pub const INFLATED_BYTES_MAX: usize = 256 << 20;
/// snappy-java's stream format, which Kafka's clients write: this magic, two versions, then blocks with their length.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    pub fn from_attributes(attributes: i16) -> Option<Codec> {
        [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd].get((attributes & 7) as usize).copied()
    }
}

/// Where the batches of one request are inflated, one after the other, and how much of that is still allowed.
#[derive(Debug)]
pub struct Scratch {
    bytes: Vec<u8>,
    left_bytes: usize,
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch { bytes: Vec::new(), left_bytes: INFLATED_BYTES_MAX }
    }
}

impl Scratch {
    /// The next request has the whole allowance; memory beyond `kept_bytes` goes back.
    pub fn reset(&mut self, kept_bytes: usize) {
        self.left_bytes = INFLATED_BYTES_MAX;
        if self.bytes.capacity() > kept_bytes {
            self.bytes = Vec::new();
        }
    }

    /// The inflated payload; the error is a sentence.
    pub fn inflate(&mut self, codec: Codec, payload: &[u8]) -> Result<&[u8], String> {
        let inflated = inflate(codec, payload, &mut self.bytes, self.left_bytes);
        // What a broken payload cost counts too.
        self.left_bytes = self.left_bytes.saturating_sub(self.bytes.len());
        inflated.map(|()| &self.bytes[..])
    }
}

fn inflate(codec: Codec, payload: &[u8], out: &mut Vec<u8>, bytes_max: usize) -> Result<(), String> {
    out.clear();
    match codec {
        Codec::None => {
            out.extend_from_slice(payload);
            Ok(())
        }
        Codec::Gzip => drain(flate2::read::MultiGzDecoder::new(payload), out, bytes_max),
        Codec::Snappy => unsnap(payload, out, bytes_max),
        Codec::Lz4 if depends_on_blocks(payload) => {
            Err(broken("lz4 blocks must be independent, or Java cannot read them"))
        }
        Codec::Lz4 => drain(lz4_flex::frame::FrameDecoder::new(payload), out, bytes_max),
        Codec::Zstd => match ruzstd::decoding::StreamingDecoder::new(payload) {
            Ok(decoder) => drain(decoder, out, bytes_max),
            Err(why) => Err(broken(why)),
        },
    }
}

/// Kafka's own reader refuses such frames (Lz4BlockOutputStream.FLG), so they must not get into a log.
fn depends_on_blocks(frame: &[u8]) -> bool {
    const FLAGS_AT: usize = 4;
    const INDEPENDENT: u8 = 1 << 5;
    frame.get(FLAGS_AT).is_some_and(|flags| flags & INDEPENDENT == 0)
}

fn broken(why: impl std::fmt::Display) -> String {
    format!("The batch's records cannot be decompressed: {why}.")
}

fn drain(decoder: impl Read, out: &mut Vec<u8>, bytes_max: usize) -> Result<(), String> {
    let read = decoder.take(bytes_max as u64 + 1).read_to_end(out).map_err(broken)?;
    within_limit(read, bytes_max)
}

fn within_limit(size: usize, bytes_max: usize) -> Result<(), String> {
    if size > bytes_max {
        Err(broken(format!("a request's batches may be {INFLATED_BYTES_MAX} bytes in all, inflated")))
    } else {
        Ok(())
    }
}

fn unsnap(payload: &[u8], out: &mut Vec<u8>, bytes_max: usize) -> Result<(), String> {
    if !payload.starts_with(XERIAL_MAGIC) {
        return unsnap_block(payload, out, bytes_max);
    }
    let mut rest = payload.get(XERIAL_HEADER_BYTES..).ok_or_else(|| broken("the snappy header is cut"))?;
    while !rest.is_empty() {
        let (length, tail) = rest.split_first_chunk::<4>().ok_or_else(|| broken("a snappy block's length is cut"))?;
        let length = u32::from_be_bytes(*length) as usize;
        let block = tail.get(..length).ok_or_else(|| broken("a snappy block is cut"))?;
        unsnap_block(block, out, bytes_max)?;
        rest = &tail[length..];
    }
    Ok(())
}

fn unsnap_block(block: &[u8], out: &mut Vec<u8>, bytes_max: usize) -> Result<(), String> {
    let size = snap::raw::decompress_len(block).map_err(broken)?;
    let start = out.len();
    within_limit(start.saturating_add(size), bytes_max)?;
    out.resize(start + size, 0);
    snap::raw::Decoder::new().decompress(block, &mut out[start..]).map_err(broken)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_batches_of_one_request_share_an_allowance() {
        let payload = snap::raw::Encoder::new().compress_vec(&[7; 60]).unwrap();
        let mut scratch = Scratch { bytes: Vec::new(), left_bytes: 100 };

        assert_eq!(scratch.inflate(Codec::Snappy, &payload).map(<[u8]>::len), Ok(60));
        assert!(scratch.inflate(Codec::Snappy, &payload).is_err());
        scratch.reset(0);
        assert_eq!(scratch.inflate(Codec::Snappy, &payload).map(<[u8]>::len), Ok(60));
    }
}
