//! What an operator hands to a machine that shall join.

use std::fmt;
use std::io::{self, BufRead as _};
use std::str::FromStr;

use crate::object::Secret;

/// `SWTKN-1-<SHA-256 of the root certificate>-<secret>`: tells the machine which cluster to trust, and the cluster that
/// the machine may join. Only `Display` shows the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    digest: String,
    secret: Secret,
}

/// A join token as a command line gives it: the text itself, or with `-` the first line of standard input, which nobody
/// else on the host sees.
pub fn token_argument(given: &str) -> io::Result<String> {
    if given != "-" {
        return Ok(given.to_owned());
    }
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// Why a text is no join token. Never shows the text, which may hold most of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a join token: {reason}")]
pub struct ParseTokenError {
    /// What is wrong with it.
    pub reason: &'static str,
}

impl JoinToken {
    /// A token of the cluster with this root certificate digest (64 hexadecimal digits) and secret.
    pub fn new(digest: &str, secret: &Secret) -> Result<Self, ParseTokenError> {
        let hex = |text: &str| text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        let refuse = |reason| Err(ParseTokenError { reason });
        if digest.len() != 64 || !hex(digest) {
            return refuse("its third part must be 64 hexadecimal digits");
        }
        if !(16..=128).contains(&secret.reveal().len()) || !hex(secret.reveal()) {
            return refuse("its last part must be 16 to 128 hexadecimal digits");
        }
        Ok(Self { digest: digest.to_owned(), secret: secret.clone() })
    }

    /// The SHA-256 of the root certificate's DER form, 64 hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What the cluster compares.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SWTKN-1-{}-{}", self.digest, self.secret.reveal())
    }
}

impl FromStr for JoinToken {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        let refuse = |reason| ParseTokenError { reason };
        let rest = text.trim().strip_prefix("SWTKN-");
        let rest = rest.ok_or(refuse("it must start with `SWTKN-1-`"))?;
        let rest = rest.strip_prefix("1-");
        let rest = rest.ok_or(refuse("its version is not 1, the only one known here"))?;
        let (digest, secret) =
            rest.split_once('-').ok_or(refuse("it must have four parts joined by `-`"))?;
        Self::new(digest, &Secret::new(secret.to_owned()))
    }
}
