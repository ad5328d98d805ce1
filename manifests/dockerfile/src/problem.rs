//! What is wrong with a Dockerfile, each thing at its line.

use std::fmt;

use serde::Serialize;

/// No more problems than these are told of one file.
const MOST: usize = 50;
/// No more characters than these of anything that comes from the file are quoted.
const LONGEST: usize = 200;

/// One thing that is wrong, or worth a word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file's name, as it was given; for a trigger of a base image, that image's name.
    pub file: String,
    /// Its line, counted from one; zero where it is about no line.
    pub line: usize,
    /// What is wrong, and why.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.file)?;
        if self.line > 0 {
            write!(f, " line {}", self.line)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong, in the order of the lines. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// Gathers what is wrong while a file is read.
#[derive(Debug, Clone)]
pub(crate) struct Gathered {
    file: String,
    found: Vec<Problem>,
    unlisted: usize,
}

impl Gathered {
    pub(crate) fn new(file: &str) -> Self {
        Self { file: cut(file), found: Vec::new(), unlisted: 0 }
    }

    pub(crate) fn tell(&mut self, line: usize, message: impl Into<String>) {
        self.push(line, message.into(), None);
    }

    pub(crate) fn hint(
        &mut self,
        line: usize,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.push(line, message.into(), Some(hint.into()));
    }

    fn push(&mut self, line: usize, message: String, hint: Option<String>) {
        let problem = Problem { file: self.file.clone(), line, message, hint };
        if self.found.contains(&problem) {
            return;
        }
        if self.found.len() < MOST {
            self.found.push(problem);
        } else {
            self.unlisted += 1;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// What was gathered, by line.
    pub(crate) fn into_list(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|problem| problem.line);
        if self.unlisted > 0 {
            let message = format!("has {} more problems", self.unlisted);
            self.found.push(Problem { file: self.file, line: 0, message, hint: None });
        }
        self.found
    }

    /// The value, or all that is wrong.
    pub(crate) fn or<T>(self, value: T) -> Result<T, Problems> {
        if self.is_empty() { Ok(value) } else { Err(Problems(self.into_list())) }
    }
}

/// A text of the file as messages quote it: on one line, and no longer than makes sense to read.
pub(crate) fn cut(text: &str) -> String {
    let mut short: String =
        text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}
