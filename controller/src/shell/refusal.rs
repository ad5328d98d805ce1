//! How a request is refused: one message in the form `what and why`, a blank line, `hint: what to do`.

use tonic::{Code, Status};

use crate::core::{Refusal as CoreRefusal, RefusalKind};

/// A refusal on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    code: Code,
    message: String,
    hint: Option<String>,
}

impl Refusal {
    /// The request itself is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { code: Code::InvalidArgument, message: message.into(), hint: None }
    }

    /// What it speaks of does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { code: Code::NotFound, message: message.into(), hint: None }
    }

    /// It does not fit how things are.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self { code: Code::FailedPrecondition, message: message.into(), hint: None }
    }

    /// The cluster cannot serve it now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { code: Code::Unavailable, message: message.into(), hint: None }
    }

    /// The caller has tried too often.
    pub fn exhausted(message: impl Into<String>) -> Self {
        Self { code: Code::ResourceExhausted, message: message.into(), hint: None }
    }

    /// The caller may not do it.
    pub fn denied(message: impl Into<String>) -> Self {
        Self { code: Code::PermissionDenied, message: message.into(), hint: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let text = match refusal.hint {
            Some(hint) => format!("{}\n\nhint: {hint}", refusal.message),
            None => refusal.message,
        };
        Self::new(refusal.code, text)
    }
}

impl From<CoreRefusal> for Refusal {
    fn from(refusal: CoreRefusal) -> Self {
        let code = match refusal.kind {
            RefusalKind::Invalid => Code::InvalidArgument,
            RefusalKind::Conflict => Code::FailedPrecondition,
            RefusalKind::NotFound => Code::NotFound,
            RefusalKind::Unavailable => Code::Unavailable,
            RefusalKind::Full => Code::ResourceExhausted,
        };
        Self { code, message: refusal.message, hint: refusal.hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_follows_a_blank_line() {
        let status = Status::from(Refusal::unavailable("no leader").hint("wait"));
        assert_eq!(status.message(), "no leader\n\nhint: wait");
        assert_eq!(status.code(), Code::Unavailable);
        let status = Status::from(Refusal::from(CoreRefusal::conflict("port taken", "")));
        assert_eq!(status.message(), "port taken");
        assert_eq!(status.code(), Code::FailedPrecondition);
    }
}
