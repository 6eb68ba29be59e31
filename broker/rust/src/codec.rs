//! Decompression of a batch's records: only to look inside; batches are kept as their producer compressed them.
//!
//! A payload is accepted if every reader reads the same bytes from it: Java's (the codec classes below
//! org.apache.kafka.common.compress) and those of the C libraries. Java stops at the end of an lz4 frame or at bytes
//! that are no gzip header and ignores the rest; others fail there. So nothing may be left over, every frame is read
//! and counted, and every check that a format has is made.
use std::io::Read;

use zstd_safe::{DCtx, InBuffer, OutBuffer, get_error_name};

/// A batch may not inflate to more, nor may all batches of one request together: guards against bombs, far above what
/// producers send. The first also bounds for how long one batch holds everybody up.
const BATCH_INFLATED_BYTES_MAX: usize = 64 << 20;
const REQUEST_INFLATED_BYTES_MAX: usize = 1 << 30;
/// What one frame counts towards that besides its bytes: its set-up costs as much as inflating these.
const FRAME_COST_BYTES: usize = 16 << 10;
/// What one batch may inflate to while the event loop waits: more than clients put into a batch.
const AT_ONCE_INFLATED_BYTES_MAX: usize = 4 << 20;
/// What checking one record costs, as bytes inflated in the same time.
const RECORD_COST_BYTES: usize = 16;
/// snappy-java's stream format, which Kafka's clients write: this magic, its version, the oldest reader's version,
/// then blocks with their length.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_VERSIONS: &[u8] = &[0, 0, 0, 1, 0, 0, 0, 1];
const LZ4_MAGIC: &[u8] = &[0x04, 0x22, 0x4d, 0x18];

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
pub struct Scratch {
    bytes: Vec<u8>,
    left_bytes: usize,
    work_bytes: usize,
    zstd: Option<DCtx<'static>>,
    /// Whether a batch may inflate to all that is allowed, since nobody waits.
    patient: bool,
    /// Whether a batch was given up that is to be tried again with patience.
    put_off: bool,
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch {
            bytes: Vec::new(),
            left_bytes: REQUEST_INFLATED_BYTES_MAX,
            work_bytes: 0,
            zstd: None,
            patient: true,
            put_off: false,
        }
    }
}

impl Scratch {
    /// For batches that are checked while the event loop waits: one that inflates to much is given up.
    pub fn in_a_hurry() -> Self {
        Scratch { patient: false, ..Scratch::default() }
    }

    /// Whether the last batch was given up only because it inflates to much.
    pub fn take_put_off(&mut self) -> bool {
        std::mem::take(&mut self.put_off)
    }

    /// The next request has the whole allowance; memory beyond `kept_bytes` goes back.
    pub fn reset(&mut self, kept_bytes: usize) {
        self.left_bytes = REQUEST_INFLATED_BYTES_MAX;
        self.work_bytes = 0;
        if self.bytes.capacity() > kept_bytes {
            self.bytes = Vec::new();
        }
        // A decoder holds the largest window that it met, up to 128 MiB.
        if self.zstd.as_ref().is_some_and(|decoder| decoder.sizeof() > kept_bytes) {
            self.zstd = None;
        }
    }

    /// How much may still be inflated, for a request that goes on in a later turn.
    pub fn left_bytes(&self) -> usize {
        self.left_bytes
    }

    /// Goes on with a request of which that much is left.
    pub fn go_on(&mut self, left_bytes: usize) {
        self.left_bytes = left_bytes;
    }

    /// The inflated payload; the error is a sentence.
    pub fn inflate(&mut self, codec: Codec, payload: &[u8]) -> Result<&[u8], String> {
        self.bytes.clear();
        let allowed_bytes = self.left_bytes.min(BATCH_INFLATED_BYTES_MAX);
        let at_once_bytes = if self.patient { allowed_bytes } else { allowed_bytes.min(AT_ONCE_INFLATED_BYTES_MAX) };
        let mut out = Output { bytes: &mut self.bytes, left_bytes: at_once_bytes, full: false };
        let inflated = match codec {
            Codec::None => out.room(payload.len()).map(|()| out.bytes.extend_from_slice(payload)),
            Codec::Gzip => gunzip(payload, &mut out),
            Codec::Snappy => unsnap(payload, &mut out),
            Codec::Lz4 => unlz4(payload, &mut out),
            Codec::Zstd => unzstd(self.zstd.get_or_insert_with(DCtx::create), payload, &mut out),
        };
        // What a broken payload cost counts too.
        let spent_bytes = at_once_bytes - out.left_bytes + out.bytes.len();
        self.put_off = out.full && at_once_bytes < allowed_bytes;
        self.work_bytes += spent_bytes;
        if !self.put_off {
            self.left_bytes = self.left_bytes.saturating_sub(spent_bytes);
        }
        inflated.map(|()| &self.bytes[..])
    }

    /// Counts a batch of that size and number of records as work.
    pub fn count(&mut self, batch_bytes: usize, records: i32) {
        self.work_bytes += batch_bytes + RECORD_COST_BYTES * usize::try_from(records).unwrap_or(0);
    }

    /// What was done since the last call, in bytes that could have been inflated in the same time.
    pub fn take_work(&mut self) -> usize {
        std::mem::take(&mut self.work_bytes)
    }
}

/// The inflated bytes, and what they and the frames to come may still be.
struct Output<'a> {
    bytes: &'a mut Vec<u8>,
    left_bytes: usize,
    /// Whether there were more.
    full: bool,
}

impl Output<'_> {
    /// Counts one frame.
    fn frame(&mut self) -> Result<(), String> {
        self.room(FRAME_COST_BYTES)?;
        self.left_bytes -= FRAME_COST_BYTES;
        Ok(())
    }

    /// Fails unless this many more bytes may come.
    fn room(&mut self, more_bytes: usize) -> Result<(), String> {
        self.full |= self.bytes.len().saturating_add(more_bytes) > self.left_bytes;
        match self.full {
            true => Err(broken(format!(
                "a batch may be {BATCH_INFLATED_BYTES_MAX} bytes inflated, a request's batches {REQUEST_INFLATED_BYTES_MAX}"
            ))),
            false => Ok(()),
        }
    }

    /// Takes all that the decoder gives.
    fn drain(&mut self, decoder: impl Read) -> Result<(), String> {
        let left_bytes = self.left_bytes.saturating_sub(self.bytes.len());
        decoder.take(left_bytes as u64 + 1).read_to_end(self.bytes).map_err(broken)?;
        self.room(0)
    }
}

fn broken(why: impl std::fmt::Display) -> String {
    format!("The batch's records cannot be decompressed: {why}.")
}

/// One gzip member and nothing else: at the end of the first, librdkafka stops.
fn gunzip(payload: &[u8], out: &mut Output<'_>) -> Result<(), String> {
    out.frame()?;
    let mut member = flate2::bufread::GzDecoder::new(payload);
    out.drain(&mut member)?;
    match member.into_inner() {
        [] => Ok(()),
        _ => Err(broken("bytes follow the gzip member")),
    }
}

/// snappy-java's blocks, or one bare block (org.xerial.snappy.SnappyInputStream).
fn unsnap(payload: &[u8], out: &mut Output<'_>) -> Result<(), String> {
    let Some(framed) = payload.strip_prefix(XERIAL_MAGIC) else { return unsnap_block(payload, out) };
    // Clients compare the versions with these two and take anything else for a bare block.
    let mut rest = framed.strip_prefix(XERIAL_VERSIONS).ok_or_else(|| broken("the snappy header is not version 1"))?;
    while !rest.is_empty() {
        let (length, tail) = rest.split_first_chunk::<4>().ok_or_else(|| broken("a snappy block's length is cut"))?;
        let length = u32::from_be_bytes(*length) as usize;
        let block = tail.get(..length).ok_or_else(|| broken("a snappy block is cut"))?;
        unsnap_block(block, out)?;
        rest = &tail[length..];
    }
    Ok(())
}

fn unsnap_block(block: &[u8], out: &mut Output<'_>) -> Result<(), String> {
    let size = snap::raw::decompress_len(block).map_err(broken)?;
    let start = out.bytes.len();
    out.room(size)?;
    out.bytes.resize(start + size, 0);
    snap::raw::Decoder::new().decompress(block, &mut out.bytes[start..]).map_err(broken)?;
    Ok(())
}

fn unlz4(payload: &[u8], out: &mut Output<'_>) -> Result<(), String> {
    out.frame()?;
    check_lz4_frame(payload)?;
    out.drain(lz4_flex::frame::FrameDecoder::new(payload))
}

/// One whole frame and nothing else, of the kind that Kafka's Lz4BlockInputStream reads: it knows no linked blocks and
/// no dictionaries, and what follows the first frame it ignores.
fn check_lz4_frame(payload: &[u8]) -> Result<(), String> {
    let cut = || broken("the lz4 frame is cut");
    let frame = payload.strip_prefix(LZ4_MAGIC).ok_or_else(|| broken("it does not begin with an lz4 frame"))?;
    let (&[flags, block_sizes], _) = frame.split_first_chunk::<2>().ok_or_else(cut)?;
    if flags >> 6 != 1 || flags & 0b11 != 0 || block_sizes & 0b1000_1111 != 0 {
        return Err(broken("the lz4 frame uses what Kafka's readers do not know"));
    }
    if flags & 1 << 5 == 0 {
        return Err(broken("lz4 blocks must be independent, or Java cannot read them"));
    }
    let content_size_bytes = if flags & 1 << 3 != 0 { 8 } else { 0 };
    let mut rest = frame.get(2 + content_size_bytes + 1..).ok_or_else(cut)?;
    let checksum_bytes = if flags & 1 << 4 != 0 { 4 } else { 0 };
    loop {
        let (size, tail) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
        // The highest bit says that the block is not compressed.
        let size = (u32::from_le_bytes(*size) & 0x7fff_ffff) as usize;
        if size == 0 {
            let content_checksum_bytes = if flags & 1 << 2 != 0 { 4 } else { 0 };
            return match tail.len() == content_checksum_bytes {
                true => Ok(()),
                false => Err(broken("bytes follow the lz4 frame")),
            };
        }
        rest = tail.get(size + checksum_bytes..).ok_or_else(cut)?;
    }
}

/// One frame after the other, skippable ones too, as libzstd reads them for Java and for the C clients.
fn unzstd(decoder: &mut DCtx<'static>, payload: &[u8], out: &mut Output<'_>) -> Result<(), String> {
    const STEP_BYTES: usize = 128 << 10;
    let named = |code| broken(get_error_name(code));
    decoder.init().map_err(named)?;
    let mut input = InBuffer::around(payload);
    while input.pos() < payload.len() {
        out.frame()?;
        loop {
            if out.bytes.capacity() - out.bytes.len() < STEP_BYTES {
                out.bytes.reserve(STEP_BYTES.max(out.bytes.len()));
            }
            let start = out.bytes.len();
            let (wanted, full) = {
                let mut output = OutBuffer::around_pos(&mut *out.bytes, start);
                let wanted = decoder.decompress_stream(&mut output, &mut input).map_err(named)?;
                (wanted, output.pos() == output.capacity())
            };
            out.room(0)?;
            if wanted == 0 {
                break;
            }
            if input.pos() == payload.len() && !full {
                return Err(broken("the zstd frame is cut"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(left_bytes: usize) -> Scratch {
        Scratch { left_bytes, ..Scratch::default() }
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        flate2::read::GzEncoder::new(content, flate2::Compression::fast()).read_to_end(&mut out).unwrap();
        out
    }

    fn zstd(content: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(zstd_safe::compress_bound(content.len()));
        zstd_safe::compress(&mut out, content, 1).unwrap();
        out
    }

    #[test]
    fn the_batches_of_one_request_share_an_allowance() {
        let payload = snap::raw::Encoder::new().compress_vec(&[7; 60]).unwrap();
        let mut scratch = scratch(100);

        assert_eq!(scratch.inflate(Codec::Snappy, &payload).map(<[u8]>::len), Ok(60));
        assert!(scratch.inflate(Codec::Snappy, &payload).is_err());
        scratch.reset(0);
        assert_eq!(scratch.inflate(Codec::Snappy, &payload).map(<[u8]>::len), Ok(60));
    }

    #[test]
    fn what_inflates_to_much_is_put_off_in_a_hurry_and_costs_the_request_nothing() {
        let payload = zstd(&vec![0; AT_ONCE_INFLATED_BYTES_MAX + 1]);
        let mut hurried = Scratch::in_a_hurry();
        assert!(hurried.inflate(Codec::Zstd, &payload).is_err());
        assert!(hurried.take_put_off() && !hurried.take_put_off());
        assert_eq!(hurried.left_bytes(), REQUEST_INFLATED_BYTES_MAX);

        assert!(Scratch::default().inflate(Codec::Zstd, &payload).is_ok());
        assert!(hurried.inflate(Codec::Zstd, &zstd(b"small")).is_ok());
        assert!(!hurried.take_put_off());
    }

    #[test]
    fn frames_in_a_row_are_one_payload_and_each_counts() {
        assert_eq!(scratch(1 << 20).inflate(Codec::Zstd, &zstd(b"half").repeat(2)), Ok(&b"halfhalf"[..]));

        let many = zstd(b"").repeat((1 << 20) / FRAME_COST_BYTES + 1);
        assert!(scratch(1 << 20).inflate(Codec::Zstd, &many).is_err());
    }

    #[test]
    fn a_second_gzip_member_is_refused() {
        for halves in [[&b"half"[..], b"half"], [b"", b"whole"], [b"whole", b""]] {
            let payload = halves.map(gzip).concat();
            assert!(scratch(1 << 20).inflate(Codec::Gzip, &payload).is_err(), "{halves:?}");
        }
    }

    #[test]
    fn a_second_frame_counts_towards_the_allowance() {
        let mut scratch = scratch(1 << 20);
        let payload = [zstd(b"record"), zstd(&vec![0; 2 << 20])].concat();
        assert!(scratch.inflate(Codec::Zstd, &payload).is_err());
        assert!(scratch.bytes.capacity() < 4 << 20, "{}", scratch.bytes.capacity());
    }

    #[test]
    fn nothing_may_follow_and_nothing_may_lack() {
        let mut lz4 = lz4_flex::frame::FrameEncoder::with_frame_info(
            lz4_flex::frame::FrameInfo::new().block_mode(lz4_flex::frame::BlockMode::Independent),
            Vec::new(),
        );
        std::io::Write::write_all(&mut lz4, b"content").unwrap();
        let whole =
            [(Codec::Gzip, gzip(b"content")), (Codec::Lz4, lz4.finish().unwrap()), (Codec::Zstd, zstd(b"content"))];
        for (codec, payload) in whole {
            assert_eq!(scratch(1 << 20).inflate(codec, &payload), Ok(&b"content"[..]), "{codec:?}");
            for junk in [&b"junk"[..], b"\0", b"\0\0\0\0\0\0\0\0\0\0\0\0"] {
                let longer = [&payload[..], junk].concat();
                assert!(scratch(1 << 20).inflate(codec, &longer).is_err(), "{codec:?} {junk:?}");
            }
            for end in 1..payload.len() {
                assert!(scratch(1 << 20).inflate(codec, &payload[..end]).is_err(), "{codec:?} cut at {end}");
            }
        }
    }
}
