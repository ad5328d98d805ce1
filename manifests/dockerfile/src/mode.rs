//! Permissions for `--chmod`: octal, or symbolic as those of `chmod(1)`.

use std::fmt;

use serde::{Serialize, Serializer};

/// Permissions, or changes of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mode {
    text: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// All twelve bits.
    Octal(u32),
    /// One change after another.
    Symbolic(Vec<Change>),
}

/// `u+rwX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    /// For whom: bits of `u` (4), `g` (2) and `o` (1).
    who: u32,
    operator: char,
    /// `r` (4), `w` (2), `x` (1).
    bits: u32,
    /// `X`: `x` for folders, and for what somebody may run already.
    runnable: bool,
    /// `s`.
    set_id: bool,
    /// `t`.
    sticky: bool,
}

/// A text that is no permissions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no permissions, such as 0644 or u=rwX,go=rX")]
pub struct InvalidMode(pub String);

impl Mode {
    /// Reads `0644` or `u=rwX,go=rX`.
    pub fn new(text: &str) -> Result<Self, InvalidMode> {
        let invalid = || InvalidMode(crate::problem::cut(text));
        let is_octal = !text.is_empty() && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        let kind = if is_octal {
            let bits = u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o7777);
            Kind::Octal(bits.ok_or_else(invalid)?)
        } else {
            let changes: Option<Vec<_>> = text.split(',').map(changes).collect();
            Kind::Symbolic(changes.ok_or_else(invalid)?.concat())
        };
        Ok(Self { text: text.to_owned(), kind })
    }

    /// The permissions (twelve bits) of a file or folder that had others.
    pub fn apply(&self, mode: u32, is_folder: bool) -> u32 {
        match &self.kind {
            Kind::Octal(bits) => *bits,
            Kind::Symbolic(changes) => {
                changes.iter().fold(mode & 0o7777, |mode, change| change.apply(mode, is_folder))
            }
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// One clause: whose, and one or more operators with what they change.
fn changes(clause: &str) -> Option<Vec<Change>> {
    let at = clause.find(['+', '-', '='])?;
    let (names, mut rest) = clause.split_at(at);
    let mut who = 0;
    for name in names.chars() {
        who |= match name {
            'u' => 4,
            'g' => 2,
            'o' => 1,
            'a' => 7,
            _ => return None,
        };
    }
    let who = if names.is_empty() { 7 } else { who };
    let mut changes = Vec::new();
    while let Some(operator) = rest.chars().next() {
        let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |end| end + 1);
        let mut change =
            Change { who, operator, bits: 0, runnable: false, set_id: false, sticky: false };
        for letter in rest[1..end].chars() {
            match letter {
                'r' => change.bits |= 4,
                'w' => change.bits |= 2,
                'x' => change.bits |= 1,
                'X' => change.runnable = true,
                's' => change.set_id = true,
                't' => change.sticky = true,
                _ => return None,
            }
        }
        changes.push(change);
        rest = &rest[end..];
    }
    Some(changes)
}

impl Change {
    fn apply(self, mode: u32, is_folder: bool) -> u32 {
        let mut bits = self.bits;
        if self.runnable && (is_folder || mode & 0o111 != 0) {
            bits |= 1;
        }
        let (mut mask, mut new) = (0, 0);
        for (one, shift) in [(4, 6), (2, 3), (1, 0)] {
            if self.who & one != 0 {
                mask |= 7 << shift;
                new |= bits << shift;
            }
        }
        for (one, bit) in [(4, 0o4000), (2, 0o2000)] {
            if self.who & one != 0 {
                // As GNU chmod: `=` leaves a folder's set-id bits where it does not name them.
                mask |= if is_folder && !self.set_id { 0 } else { bit };
                new |= if self.set_id { bit } else { 0 };
            }
        }
        if self.who == 7 {
            mask |= 0o1000;
            new |= if self.sticky { 0o1000 } else { 0 };
        }
        match self.operator {
            '+' => mode | new,
            '-' => mode & !new,
            _ => mode & !mask | new,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_those_of_chmod() {
        for (text, before, is_folder, expected) in [
            ("644", 0o777, false, 0o644),
            ("04755", 0, false, 0o4755),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o700, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("g+w-x", 0o755, false, 0o765),
            ("u+s", 0o755, false, 0o4755),
            ("u-s", 0o4755, false, 0o755),
            ("+t", 0o777, true, 0o1777),
            ("o=", 0o777, false, 0o770),
            ("ug=rw,o=r", 0o4777, false, 0o664),
        ] {
            let mode = Mode::new(text).unwrap();
            assert_eq!(mode.apply(before, is_folder), expected, "{text} on {before:o}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in ["", "8", "10000", "u", "u=q", "x+r", "u=r,", "rw", "77777777777777"] {
            assert!(Mode::new(text).is_err(), "{text}");
        }
    }
}
