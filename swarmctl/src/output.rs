//! Where words go: data to standard output, talk to standard error.
#![expect(clippy::print_stderr, reason = "the one place that prints")]

use std::io::{IsTerminal, Write};

/// The form of data on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Columns for people
    #[default]
    Table,
    /// More columns
    Wide,
    /// One stable shape for each object
    Json,
    /// The same shape as YAML
    Yaml,
    /// Only names, one a line
    Name,
}

/// Prints data. A reader that went away (`| head`) is no failure.
pub fn data(text: &str) {
    let mut out = std::io::stdout().lock();
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let _ = write!(out, "{text}{end}").and_then(|()| out.flush());
}

/// Prints bytes of data as they are.
pub fn raw(bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush())
}

/// Prints bytes of a program's errors as they are. With nobody to read them there is nobody to tell.
pub fn raw_error(bytes: &[u8]) {
    let _ = std::io::stderr().lock().write_all(bytes);
}

/// Says something to the person at the terminal.
pub fn talk(text: &str) {
    eprintln!("{text}");
}

/// Says what works but is worth a word.
pub fn warn(text: &str) {
    let word = if colours() { "\u{1b}[33mwarning\u{1b}[0m" } else { "warning" };
    eprintln!("{word}: {text}");
}

/// Says why a command ends.
pub fn error(text: &str) {
    let word = if colours() { "\u{1b}[31merror\u{1b}[0m" } else { "error" };
    eprintln!("{word}: {text}");
}

/// Whether progress may be drawn: standard error is a terminal that moves its cursor.
pub fn draws() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether standard error may be coloured.
pub fn colours() -> bool {
    draws() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
