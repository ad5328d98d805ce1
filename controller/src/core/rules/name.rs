//! Names of objects that belong to no stack.

use std::fmt::Display;

use crate::core::command::Refusal;

/// Whether an object outside of stacks may have a name. Names are parts of commands, of stack files and of files' paths.
/// `most` is how many bytes the kind allows.
pub(super) fn check(kind: impl Display, name: &str, most: usize) -> Result<(), Refusal> {
    let is_letter = |c: u8| c.is_ascii_alphanumeric();
    let first = name.bytes().next().is_some_and(is_letter);
    let rest = name.bytes().all(|c| is_letter(c) || matches!(c, b'-' | b'_' | b'.'));
    if first && rest && name.len() <= most {
        return Ok(());
    }
    Err(Refusal::invalid(
        format!("`{name}` is not a valid {kind} name"),
        format!(
            "letters, digits, `-`, `_` and `.`, at most {most}, beginning with a letter or digit"
        ),
    ))
}
