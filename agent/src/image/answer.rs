//! What registries answer, taken in only as far as it may be long: nobody's answer fills this host's memory, or keeps it
//! waiting without end.

use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde::Deserialize;
use tokio::time::timeout;

/// No manifest or index is larger: what the specification has registries take at least.
pub(super) const LARGEST_MANIFEST: usize = 4 << 20;
/// No token is longer.
pub(super) const LARGEST_TOKEN: usize = 256 << 10;
/// So much is read of what a registry says is wrong.
const LARGEST_ERROR: usize = 64 << 10;
/// A small answer that takes longer is given up, however steadily it comes.
const PATIENCE: Duration = Duration::from_mins(2);

/// Why one endpoint did not answer as hoped.
#[derive(Debug)]
pub(super) enum Failure {
    /// It does not have it.
    NotFound,
    /// It wants other credentials, or hides what it does not have.
    Denied,
    /// Perhaps later.
    Transient(String),
    /// It answered something that makes no sense.
    Broken(String),
}

impl Failure {
    /// The connection did not come about, or broke, or led on to where nobody goes.
    pub(super) fn of_connection(error: &reqwest::Error) -> Self {
        let reason = innermost(error);
        if error.is_redirect() { Self::Broken(reason) } else { Self::Transient(reason) }
    }
}

/// A small answer, whole. `what` is told where it is larger than `most` bytes.
pub(super) async fn small(answer: Response, what: &str, most: usize) -> Result<Vec<u8>, Failure> {
    let larger = || {
        let most = if most < 1 << 20 {
            format!("{} KiB", most >> 10)
        } else {
            format!("{} MiB", most >> 20)
        };
        Failure::Broken(format!("its {what} is larger than {most}"))
    };
    if answer.content_length().is_some_and(|told| told > most as u64) {
        return Err(larger());
    }
    let (bytes, is_whole) = begin_of(answer, most, what).await?;
    if is_whole { Ok(bytes) } else { Err(larger()) }
}

/// The first bytes of an answer, and whether that is all of it.
async fn begin_of(
    mut answer: Response,
    most: usize,
    what: &str,
) -> Result<(Vec<u8>, bool), Failure> {
    let reading = async {
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| Failure::of_connection(&e))? {
            let room = most - bytes.len();
            bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                return Ok((bytes, false));
            }
        }
        Ok((bytes, true))
    };
    let late =
        || Failure::Transient(format!("its {what} takes longer than {} s", PATIENCE.as_secs()));
    timeout(PATIENCE, reading).await.map_err(|_| late())?
}

#[derive(Deserialize)]
struct Envelope {
    errors: Vec<Told>,
}

#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What an answer means that is not the one hoped for.
pub(super) async fn refused(answer: Response) -> Failure {
    let status = answer.status();
    if status == StatusCode::UNAUTHORIZED {
        return Failure::Denied;
    }
    // What cannot be read to its end is not what decides.
    let read = begin_of(answer, LARGEST_ERROR, "reason").await;
    let body = read.map(|(body, _)| body).unwrap_or_default();
    meaning(status, &body)
}

/// What a status, and what came with it, mean.
fn meaning(status: StatusCode, body: &[u8]) -> Failure {
    let envelope: Option<Envelope> = serde_json::from_slice(body).ok();
    if let Some(envelope) = envelope.as_ref().filter(|_| status.is_client_error()) {
        let has = |wanted: &[&str]| envelope.errors.iter().any(|e| wanted.contains(&&*e.code));
        if has(&["MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND", "BLOB_UNKNOWN"]) {
            return Failure::NotFound;
        }
        if has(&["UNAUTHORIZED", "DENIED"]) {
            return Failure::Denied;
        }
    }
    let said = match &envelope {
        Some(envelope) => {
            let said = envelope.errors.iter().map(|told| format!("{} {}", told.code, told.message));
            said.collect::<Vec<_>>().join("; ")
        }
        None => String::from_utf8_lossy(body).into_owned(),
    };
    let said = match one_line(&said) {
        said if said.is_empty() => format!("status {}", status.as_u16()),
        said => format!("status {}: {said}", status.as_u16()),
    };
    match status {
        StatusCode::NOT_FOUND => Failure::NotFound,
        StatusCode::FORBIDDEN => Failure::Denied,
        status if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
            Failure::Transient(said)
        }
        _ => Failure::Broken(said),
    }
}

/// The cause at the bottom says it: "connection refused".
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut current = error;
    while let Some(source) = current.source() {
        current = source;
    }
    one_line(&current.to_string())
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_registries_say_is_told_apart() {
        let say = |code: u16, body: &str| {
            let status = StatusCode::from_u16(code).unwrap();
            match meaning(status, body.as_bytes()) {
                Failure::NotFound => "not found".to_owned(),
                Failure::Denied => "denied".to_owned(),
                Failure::Transient(why) => format!("later: {why}"),
                Failure::Broken(why) => format!("broken: {why}"),
            }
        };
        let told = |code: &str| format!(r#"{{"errors":[{{"code":"{code}","message":"so"}}]}}"#);
        let table = [
            (404, "", "not found"),
            (404, "<html>", "not found"),
            (400, &told("NAME_UNKNOWN"), "not found"),
            (403, "", "denied"),
            (400, &told("DENIED"), "denied"),
            (429, &told("TOOMANYREQUESTS"), "later: status 429: TOOMANYREQUESTS so"),
            (503, " come\nlater\u{7} ", "later: status 503: come later"),
            (400, &told("DIGEST_INVALID"), "broken: status 400: DIGEST_INVALID so"),
            (418, "", "broken: status 418"),
            (302, "", "broken: status 302"),
        ];
        for (code, body, expected) in table {
            assert_eq!(say(code, body), expected, "{code} {body}");
        }
        assert!(say(500, &"x".repeat(100_000)).len() < 400);
    }
}
