//! Decompression of a batch's records: only to look inside; batches are kept as their producer compressed them.
use std::io::Read;

/// A batch may not inflate to more: what Kafka's own request limit allows, and a guard against bombs.
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

/// Inflates into `out`, which is cleared first; the error is a sentence.
pub fn inflate(codec: Codec, payload: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    out.clear();
    match codec {
        Codec::None => {
            out.extend_from_slice(payload);
            Ok(())
        }
        Codec::Gzip => drain(flate2::read::MultiGzDecoder::new(payload), out),
        Codec::Snappy => unsnap(payload, out),
        Codec::Lz4 if depends_on_blocks(payload) => {
            Err(broken("lz4 blocks must be independent, or Java cannot read them"))
        }
        Codec::Lz4 => drain(lz4_flex::frame::FrameDecoder::new(payload), out),
        Codec::Zstd => match ruzstd::decoding::StreamingDecoder::new(payload) {
            Ok(decoder) => drain(decoder, out),
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

fn drain(decoder: impl Read, out: &mut Vec<u8>) -> Result<(), String> {
    let read = decoder.take(INFLATED_BYTES_MAX as u64 + 1).read_to_end(out).map_err(broken)?;
    within_limit(read)
}

fn within_limit(size: usize) -> Result<(), String> {
    if size > INFLATED_BYTES_MAX {
        Err(broken(format!("more than {INFLATED_BYTES_MAX} bytes come out")))
    } else {
        Ok(())
    }
}

fn unsnap(payload: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    if !payload.starts_with(XERIAL_MAGIC) {
        return unsnap_block(payload, out);
    }
    let mut rest = payload.get(XERIAL_HEADER_BYTES..).ok_or_else(|| broken("the snappy header is cut"))?;
    while !rest.is_empty() {
        let (length, tail) = rest.split_first_chunk::<4>().ok_or_else(|| broken("a snappy block's length is cut"))?;
        let length = u32::from_be_bytes(*length) as usize;
        let block = tail.get(..length).ok_or_else(|| broken("a snappy block is cut"))?;
        unsnap_block(block, out)?;
        rest = &tail[length..];
    }
    Ok(())
}

fn unsnap_block(block: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let size = snap::raw::decompress_len(block).map_err(broken)?;
    let start = out.len();
    within_limit(start.saturating_add(size))?;
    out.resize(start + size, 0);
    snap::raw::Decoder::new().decompress(block, &mut out[start..]).map_err(broken)?;
    Ok(())
}
