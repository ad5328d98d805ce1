//! Takes a layer's compression away, by what its first bytes say: media types are often wrong.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

const BUFFER: usize = 256 << 10;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Reads the plain tar stream of any source.
pub(crate) fn reader_of(source: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    reader("", source)
}

/// Reads the plain tar stream.
pub(crate) fn reader<S: Read + Send + 'static>(
    media_type: &str,
    source: S,
) -> io::Result<Box<dyn Read + Send>> {
    let mut file = BufReader::with_capacity(BUFFER, source);
    let start = file.fill_buf()?;
    if start.starts_with(GZIP) {
        return Ok(Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file))));
    }
    if start.starts_with(ZSTD) {
        return Ok(Box::new(Frames { file: Some(file), frame: None }));
    }
    if media_type.contains("encrypted") {
        let reason = format!("layers of type `{media_type}` are not supported");
        return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
    }
    Ok(Box::new(file))
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
