//! What is wrong with a file, and how it is told: place, line with caret, reason, hint.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt;
use std::rc::Rc;

use crate::Source;
use crate::tree::At;

/// More errors than this are not listed: the first ones are the cause.
const MOST_ERRORS: usize = 50;
/// Files that name each other are read up to this number.
const MOST_SOURCES: usize = 4096;
/// All files together are at most this large.
const MOST_BYTES: usize = 16 << 20;
/// Longer messages and hints are cut: names of the user's choice may be long.
const LONGEST_MESSAGE: usize = 2000;
/// Longer lines are shown cut.
const LONGEST_LINE: usize = 160;

/// One error and its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ManifestError {
    /// The file as the user named it.
    pub file: String,
    /// The line, counted from 1; 0 when the error is about the whole file.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// How many characters the caret underlines.
    pub width: usize,
    /// The text of the line, of a long one the part around the column.
    pub text: String,
    /// What is wrong, and what was expected.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl ManifestError {
    pub(crate) fn of_file(file: &str, message: &str, hint: Option<&str>) -> Self {
        Self {
            file: file.to_owned(),
            line: 0,
            column: 0,
            width: 0,
            text: String::new(),
            message: format!("`{file}` {message}"),
            hint: hint.map(str::to_owned),
        }
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            f.write_str(&self.message)?;
        } else {
            write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
            write_place(f, self)?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\n\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

fn write_place(f: &mut fmt::Formatter<'_>, error: &ManifestError) -> fmt::Result {
    let number = error.line.to_string();
    let margin = " ".repeat(number.len());
    let visible = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    let shown: String = error.text.chars().map(visible).collect();
    let length = error.text.chars().count();
    let before = error.column.saturating_sub(1 + left_out(error.column)).min(length);
    let width = error.width.clamp(1, (length - before).max(1));
    write!(f, "\n{margin} |\n{number} | {}", shown.trim_end())?;
    write!(f, "\n{margin} | {}{}", " ".repeat(before), "^".repeat(width))
}

/// How many characters of a line are left out before what is shown.
fn left_out(column: usize) -> usize {
    let before = column.saturating_sub(1);
    if before > LONGEST_LINE { before - LONGEST_LINE / 2 } else { 0 }
}

fn cut(mut message: String) -> String {
    if let Some((end, _)) = message.char_indices().nth(LONGEST_MESSAGE) {
        message.truncate(end);
        message.push('…');
    }
    message
}

/// Everything that is wrong, in the order of the files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ManifestErrors(pub Vec<ManifestError>);

impl fmt::Display for ManifestErrors {
    /// The first without a prefix, each further one after `error: `, so that a caller may write `error: {errors}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\nerror: ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

/// Something that works but is worth a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The file as the user named it.
    pub file: String,
    /// The line, counted from 1; 0 when it is about no place in a file.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// What is worth a word.
    pub message: String,
}

impl Warning {
    /// One about no place in a file.
    pub(crate) fn of_files(message: String) -> Self {
        Self { file: String::new(), line: 0, column: 0, message }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return f.write_str(&self.message);
        }
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// Gathers errors and warnings while the sources are read.
#[derive(Debug)]
pub(crate) struct Problems {
    sources: RefCell<Vec<Rc<Source>>>,
    errors: RefCell<Vec<(At, ManifestError)>>,
    warnings: RefCell<Vec<Warning>>,
    unlisted: Cell<usize>,
    /// The length of the sources that were added.
    bytes: Cell<usize>,
    /// Places of which nothing more is said.
    settled: RefCell<HashSet<At>>,
}

impl Problems {
    pub(crate) fn new(sources: &[Source]) -> Self {
        Self {
            sources: RefCell::new(sources.iter().cloned().map(Rc::new).collect()),
            errors: RefCell::default(),
            warnings: RefCell::default(),
            unlisted: Cell::new(0),
            bytes: Cell::new(0),
            settled: RefCell::default(),
        }
    }

    /// The same sources, and what is told is not kept.
    pub(crate) fn unheard(&self) -> Self {
        Self { sources: self.sources.clone(), ..Self::new(&[]) }
    }

    /// Adds a file that another one names; its number, or nothing once there are too many.
    pub(crate) fn add_source(&self, source: Source) -> Option<usize> {
        let mut sources = self.sources.borrow_mut();
        let bytes = self.bytes.get() + source.content.len();
        if sources.len() >= MOST_SOURCES || bytes > MOST_BYTES {
            return None;
        }
        self.bytes.set(bytes);
        sources.push(Rc::new(source));
        Some(sources.len() - 1)
    }

    /// A source by its number.
    pub(crate) fn source(&self, index: usize) -> Option<Rc<Source>> {
        self.sources.borrow().get(index).cloned()
    }

    /// A place in words: `web.yml` line 3.
    pub(crate) fn place(&self, at: At) -> String {
        format!("`{}` line {}", self.file(at), at.line)
    }

    pub(crate) fn error(&self, at: At, message: impl Into<String>) {
        self.push(at, message.into(), None);
    }

    pub(crate) fn error_hint(&self, at: At, message: impl Into<String>, hint: impl Into<String>) {
        self.push(at, message.into(), Some(hint.into()));
    }

    /// Tells an error that is about no place in a source.
    pub(crate) fn of_no_place(&self, error: ManifestError) {
        self.errors.borrow_mut().push((At::default(), error));
    }

    /// Says no more of a place: what is wrong there was said, and more would only be a consequence.
    pub(crate) fn settle(&self, at: At) {
        self.settled.borrow_mut().insert(at);
    }

    /// How many errors there are.
    pub(crate) fn count(&self) -> usize {
        self.errors.borrow().len() + self.unlisted.get()
    }

    pub(crate) fn warn(&self, at: At, message: impl Into<String>) {
        let warning = Warning {
            file: self.file(at),
            line: at.line,
            column: at.column,
            message: cut(message.into()),
        };
        let mut warnings = self.warnings.borrow_mut();
        if warnings.len() < MOST_ERRORS && !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.errors.borrow().is_empty()
    }

    pub(crate) fn take_warnings(&mut self) -> Vec<Warning> {
        self.warnings.take()
    }

    /// Whether further errors are only counted, so that nothing costly need be found out for them.
    pub(crate) fn is_full(&self) -> bool {
        self.errors.borrow().len() >= MOST_ERRORS
    }

    /// The errors in the order of the files.
    pub(crate) fn into_errors(self) -> ManifestErrors {
        ManifestErrors(self.into_placed_errors().into_iter().map(|(_, error)| error).collect())
    }

    /// The errors in the order of the files, with their places.
    pub(crate) fn into_placed_errors(self) -> Vec<(At, ManifestError)> {
        let mut errors = self.errors.into_inner();
        errors.sort_by_key(|(at, _)| (at.source, at.line, at.column));
        if self.unlisted.get() > 0 {
            let file = errors.first().map(|(_, error)| error.file.clone()).unwrap_or_default();
            let message = format!("has {} more errors", self.unlisted.get());
            errors.push((At::default(), ManifestError::of_file(&file, &message, None)));
        }
        errors
    }

    /// The name of the file of a place.
    pub(crate) fn file(&self, at: At) -> String {
        self.source(at.source).map(|source| source.name.clone()).unwrap_or_default()
    }

    fn push(&self, at: At, message: String, hint: Option<String>) {
        if self.settled.borrow().contains(&at) {
            return;
        }
        if self.is_full() {
            self.unlisted.set(self.unlisted.get() + 1);
            return;
        }
        let (message, hint) = (cut(message), hint.map(cut));
        let says = |(place, known): &(At, ManifestError)| {
            *place == at && known.message == message && known.hint == hint
        };
        // Looked for before the line is, which takes as long as its file is.
        if self.errors.borrow().iter().any(says) {
            return;
        }
        let (file, text) = (self.file(at), self.line(at));
        let At { line, column, width, .. } = at;
        let error = ManifestError { file, line, column, width, text, message, hint };
        self.errors.borrow_mut().push((at, error));
    }

    fn line(&self, at: At) -> String {
        let Some(source) = self.source(at.source) else { return String::new() };
        let text = String::from_utf8_lossy(&source.content);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let line = text.lines().nth(at.line.saturating_sub(1)).unwrap_or_default();
        line.chars().skip(left_out(at.column)).take(LONGEST_LINE).collect()
    }
}
