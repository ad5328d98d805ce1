//! Refusals in the form of the distribution specification: a status, and JSON with a code and words.

use std::fmt;

use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::json;
use swarm_proto::failure::sentence;

use super::body::{self, Body};
use super::route::Verb;
use crate::image::{HostingError, ImageError, RepositoryError};

/// How somebody is asked who they are.
pub(super) const CHALLENGE: HeaderValue =
    HeaderValue::from_static("Basic realm=\"swarm\", charset=\"UTF-8\"");

/// The specification's codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    /// Not one of the specification's: the host's own trouble.
    Unknown,
}

impl Code {
    fn text(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unknown => "UNKNOWN",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::BlobUnknown
            | Self::BlobUploadUnknown
            | Self::ManifestUnknown
            | Self::NameUnknown => StatusCode::NOT_FOUND,
            // The manifest is what was asked for, and it cannot be had.
            Self::ManifestBlobUnknown
            | Self::BlobUploadInvalid
            | Self::DigestInvalid
            | Self::ManifestInvalid
            | Self::NameInvalid
            | Self::SizeInvalid => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Why a request is not carried out.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    code: Code,
    status: StatusCode,
    message: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(super) fn new(code: Code, message: impl fmt::Display) -> Self {
        let (status, message) = (code.status(), message.to_string());
        Self { code, status, message, headers: Vec::new() }
    }

    #[must_use]
    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    #[must_use]
    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    #[must_use]
    pub(super) fn not_found(self) -> Self {
        self.with_status(StatusCode::NOT_FOUND)
    }

    /// Nobody is let in without a name, or with a wrong one.
    pub(super) fn unauthorized(message: &str) -> Self {
        Self::new(Code::Unauthorized, message).with_header(WWW_AUTHENTICATE, CHALLENGE)
    }

    /// The resource does not know the method.
    pub(super) fn method(known: &[Verb]) -> Self {
        let names: Vec<&str> = known.iter().map(|verb| verb.name()).collect();
        let allowed = names.join(", ");
        let refusal = Self::new(Code::Unsupported, format!("only {allowed} can be used here"));
        match HeaderValue::from_str(&allowed) {
            Ok(allowed) => refusal.with_header(ALLOW, allowed),
            Err(_) => refusal,
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn code(&self) -> &'static str {
        self.code.text()
    }

    pub(super) fn response(self) -> Response<Body> {
        if self.code == Code::Unknown {
            tracing::warn!(error = self.message, "the registry cannot carry out a request");
        }
        let error = json!({ "code": self.code(), "message": self.message });
        let text = json!({ "errors": [error] }).to_string();
        let mut response = Response::new(body::full(text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(self.headers);
        response
    }
}

impl From<ImageError> for Refusal {
    fn from(error: ImageError) -> Self {
        let refusal = Self::new(Code::Unknown, sentence(&error));
        match error.inner() {
            ImageError::NoRoom { .. } => refusal.with_status(StatusCode::INSUFFICIENT_STORAGE),
            _ => refusal,
        }
    }
}

impl From<HostingError> for Refusal {
    fn from(error: HostingError) -> Self {
        match error {
            HostingError::Repository(error @ RepositoryError::TooMany { .. }) => {
                Self::new(Code::Denied, error)
            }
            HostingError::Repository(error) => Self::new(Code::Unknown, sentence(&error)),
            HostingError::Image(error) => error.into(),
        }
    }
}
