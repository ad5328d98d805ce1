//! Takes a layer's compression away, by what its first bytes say: media types are often wrong.
//!
//! What comes out is bounded by what went in: few bytes that stand for very many are an attack on the disk.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

const BUFFER: usize = 256 << 10;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// So many times its size may content be; gzip cannot say more of zeros, zstd can.
const MOST_TIMES: u64 = 1_100;
/// Content up to this size is looked at in any case.
const ALWAYS: u64 = 1 << 30;

/// Reads the plain tar stream of any source.
pub(crate) fn reader_of(source: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    reader("", source)
}

/// Reads the plain tar stream.
pub(crate) fn reader<S: Read + Send + 'static>(
    media_type: &str,
    source: S,
) -> io::Result<Box<dyn Read + Send>> {
    let taken = Arc::new(AtomicU64::new(0));
    let counted = Counted { inner: source, taken: Arc::clone(&taken) };
    let mut file = BufReader::with_capacity(BUFFER, counted);
    let start = file.fill_buf()?;
    if start.starts_with(GZIP) {
        let plain = BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file));
        return Ok(Box::new(Bounded { inner: plain, given: 0, taken, always: ALWAYS }));
    }
    if start.starts_with(ZSTD) {
        let plain = Frames { file: Some(file), frame: None };
        return Ok(Box::new(Bounded { inner: plain, given: 0, taken, always: ALWAYS }));
    }
    if media_type.contains("encrypted") {
        let reason = format!("layers of type `{media_type}` are not supported");
        return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
    }
    Ok(Box::new(file))
}

/// Counts what is taken from a source.
struct Counted<R> {
    inner: R,
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.taken.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

/// Refuses to give more than so many times what was taken.
struct Bounded<R> {
    inner: R,
    given: u64,
    taken: Arc<AtomicU64>,
    always: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.given += length as u64;
        let most = self.taken.load(Ordering::Relaxed).saturating_mul(MOST_TIMES);
        if self.given > most.max(self.always) {
            let reason = format!("it unpacks to more than {MOST_TIMES} times its size");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(length)
    }
}

type Frame<S> = ruzstd::decoding::StreamingDecoder<BufReader<S>, ruzstd::decoding::FrameDecoder>;

/// A zstd file is a row of frames, of which some only carry notes.
struct Frames<S: Read> {
    file: Option<BufReader<S>>,
    frame: Option<Box<Frame<S>>>,
}

impl<S: Read> Read for Frames<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let length = frame.read(buffer)?;
                if length > 0 || buffer.is_empty() {
                    return Ok(length);
                }
            }
            if let Some(done) = self.frame.take() {
                self.file = Some(done.into_inner());
            }
            let Some(mut file) = self.file.take() else { return Ok(0) };
            if !skip_notes(&mut file)? {
                return Ok(0);
            }
            let frame = Frame::new(file).map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("zstd: {error}"))
            })?;
            self.frame = Some(Box::new(frame));
        }
    }
}

/// Passes over skippable frames; false at the end.
fn skip_notes(file: &mut BufReader<impl Read>) -> io::Result<bool> {
    loop {
        let start = file.fill_buf()?;
        if start.is_empty() {
            return Ok(false);
        }
        // The magic numbers 0x184D2A50 to 0x184D2A5F, little-endian.
        let notes =
            start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..4] == [0x2a, 0x4d, 0x18];
        if !notes {
            return Ok(true);
        }
        let mut header = [0; 8];
        file.read_exact(&mut header)?;
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        io::copy(&mut file.by_ref().take(u64::from(length)), &mut io::sink())?;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A zstd frame of one block that stands for so many zeros.
    fn zeros(count: u32) -> Vec<u8> {
        let mut frame = ZSTD.to_vec();
        // One segment, its size in four bytes; a last block of the kind "one byte over and over".
        frame.push(0b1010_0000);
        frame.extend(count.to_le_bytes());
        let most = 128 << 10;
        let (whole, rest) = (count / most, count % most);
        for index in 0..=whole {
            let (length, last) = if index == whole { (rest, 1) } else { (most, 0) };
            let header = last | 1 << 1 | length << 3;
            frame.extend(&header.to_le_bytes()[..3]);
            frame.push(0);
        }
        frame
    }

    fn length(packed: Vec<u8>, always: u64) -> io::Result<u64> {
        let taken = Arc::new(AtomicU64::new(0));
        let counted = Counted { inner: Cursor::new(packed), taken: Arc::clone(&taken) };
        let file = Some(BufReader::with_capacity(BUFFER, counted));
        let plain = Frames { file, frame: None };
        io::copy(&mut Bounded { inner: plain, given: 0, taken, always }, &mut io::sink())
    }

    #[test]
    fn few_bytes_do_not_stand_for_very_many() {
        let packed = zeros(4 << 20);
        assert!(packed.len() < 200, "{} bytes", packed.len());
        assert_eq!(length(packed.clone(), 4 << 20).unwrap(), 4 << 20);
        let error = length(packed, 1 << 20).unwrap_err();
        assert_eq!(error.to_string(), "it unpacks to more than 1100 times its size");
    }

    #[test]
    fn what_gzip_can_say_is_let_through() {
        use std::io::Write;
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        out.write_all(&vec![0; 8 << 20]).unwrap();
        let packed = out.finish().unwrap();
        let taken = packed.len() as u64;
        let inner = MultiGzDecoder::new(Cursor::new(packed));
        let taken = Arc::new(AtomicU64::new(taken));
        let mut bounded = Bounded { inner, given: 0, taken, always: 0 };
        assert_eq!(io::copy(&mut bounded, &mut io::sink()).unwrap(), 8 << 20);
    }
}
