//! Bodies, a few bytes at a time: files as they are read, and requests as they come.

use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tokio_util::io::ReaderStream;

use super::refusal::{Code, Refusal};

/// Bytes of a file in memory for each request.
const CHUNK: usize = 256 << 10;
/// Who sends nothing for so long is given up.
const PATIENCE: Duration = Duration::from_mins(1);

/// What is answered.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn full(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never| match never {}).boxed_unsync()
}

/// So many bytes of a file from where it stands.
pub(super) fn file(file: tokio::fs::File, length: u64) -> Body {
    stream(ReaderStream::with_capacity(file.take(length), CHUNK).boxed())
}

pub(super) fn stream(bytes: BoxStream<'static, io::Result<Bytes>>) -> Body {
    StreamBody::new(bytes.map(|chunk| chunk.map(Frame::data))).boxed_unsync()
}

/// The next bytes of a request; `None` at its end.
pub(super) async fn next(body: &mut Incoming) -> Result<Option<Bytes>, Refusal> {
    let broken = |reason: &str| {
        let message = format!("the request breaks off: {reason}");
        Refusal::new(Code::BlobUploadInvalid, message)
    };
    loop {
        match timeout(PATIENCE, body.frame()).await {
            Ok(None) => return Ok(None),
            // Trailers say nothing here.
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Ok(Some(bytes)),
                Err(_) => {}
            },
            Ok(Some(Err(error))) => return Err(broken(&error.to_string())),
            Err(_) => return Err(broken("nothing came for a minute")),
        }
    }
}

/// A whole small request; `None`: it is larger.
pub(super) async fn whole(mut body: Incoming, most: usize) -> Result<Option<Vec<u8>>, Refusal> {
    let mut whole = Vec::new();
    while let Some(bytes) = next(&mut body).await? {
        if whole.len() + bytes.len() > most {
            return Ok(None);
        }
        whole.extend_from_slice(&bytes);
    }
    Ok(Some(whole))
}
