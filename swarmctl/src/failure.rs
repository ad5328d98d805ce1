//! How a command ends badly: one message, a hint where there is one, and the exit code of the contract.

use std::fmt;

use swarm_proto::failure::sentence;

/// Why a command ends, as the user reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What and why, with subject and place; lower case, without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The exit code.
    pub code: Code,
}

/// Exit codes other than success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Refused or failed.
    Refused = 1,
    /// Used wrongly.
    Usage = 2,
    /// Not converged in time.
    NotConverged = 3,
}

impl Failure {
    /// Something was refused or failed.
    pub fn refused(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, code: Code::Refused }
    }

    /// The command was called wrongly.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, code: Code::Usage }
    }

    /// The time was over before the cluster was as wished.
    pub fn not_converged(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, code: Code::NotConverged }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An error with its causes, in one line.
    pub fn because(message: impl fmt::Display, error: &dyn std::error::Error) -> Self {
        Self::refused(format!("{message}: {}", sentence(error)))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}
