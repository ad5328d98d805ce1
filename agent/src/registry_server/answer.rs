//! Answers with the headers that the distribution specification wants.

use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LINK, LOCATION};
use hyper::{Response, StatusCode};
use swarm_proto::id::Digest;

use super::body::{self, Body};

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const WARNING: HeaderName = HeaderName::from_static("warning");

/// An answer that grows.
pub(super) struct Answer(Response<Body>);

impl Answer {
    pub(super) fn new(status: StatusCode) -> Self {
        let mut response = Response::new(body::empty());
        *response.status_mut() = status;
        Self(response)
    }

    /// A header; a text that cannot be one is left out.
    #[must_use]
    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers_mut().insert(name, value);
        }
        self
    }

    #[must_use]
    pub(super) fn at(self, location: &str) -> Self {
        self.with(LOCATION, location)
    }

    /// What the content is.
    #[must_use]
    pub(super) fn of(self, digest: &Digest) -> Self {
        self.with(CONTENT_DIGEST, digest.as_str())
    }

    /// Something that a person should know, in the specification's form.
    #[must_use]
    pub(super) fn warning(self, message: &str) -> Self {
        let plain = |c: char| if c.is_ascii_graphic() && c != '"' && c != '\\' { c } else { ' ' };
        let text: String = message.chars().map(plain).take(512).collect();
        self.with(WARNING, &format!("299 - \"{text}\""))
    }

    /// Where the next page is.
    #[must_use]
    pub(super) fn next(self, path: Option<&str>) -> Self {
        match path {
            Some(path) => self.with(LINK, &format!("<{path}>; rel=\"next\"")),
            None => self,
        }
    }

    /// A body; of which only the length is told to who asks for no more.
    #[must_use]
    pub(super) fn body(self, (media_type, length): (&str, u64), body: Option<Body>) -> Self {
        let mut answer =
            self.with(CONTENT_TYPE, media_type).with(CONTENT_LENGTH, &length.to_string());
        if let Some(body) = body {
            *answer.0.body_mut() = body;
        }
        answer
    }

    pub(super) fn json(self, content: &serde_json::Value, is_head: bool) -> Self {
        let text = content.to_string();
        let length = text.len() as u64;
        self.body(("application/json", length), (!is_head).then(|| body::full(text)))
    }

    pub(super) fn response(self) -> Response<Body> {
        self.0
    }
}

/// A text as a part of a query.
pub(super) fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut coded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
            coded.push(char::from(byte));
        } else {
            let _ = write!(coded, "%{byte:02X}");
        }
    }
    coded
}
