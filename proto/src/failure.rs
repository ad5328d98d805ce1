//! How an error is told in one line.

use std::error::Error;

/// An error with its causes, `could not do this: for that`. What an error repeats of its cause is said once.
pub fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let next = cause.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        source = cause.source();
    }
    text
}
