//! `COPY` and `ADD`.

use super::Source;
use crate::lines::{Heredoc, heredoc};
use crate::mode::Mode;
use crate::pattern::Glob;
use crate::problem::cut;
use crate::words;

/// What is copied, as it is written.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Clone)]
pub(crate) struct Copied {
    /// `ADD`.
    pub(crate) is_add: bool,
    pub(crate) from: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) mode: Option<String>,
    pub(crate) link: bool,
    pub(crate) parents: bool,
    pub(crate) exclude: Vec<String>,
    /// Whether archives are unpacked.
    pub(crate) unpack: bool,
    pub(crate) sources: Vec<Given>,
    pub(crate) target: String,
}

/// One thing to copy.
#[derive(Debug, Clone)]
pub(crate) enum Given {
    Path(String),
    Heredoc(Heredoc),
}

impl Source<'_> {
    pub(super) fn copy(&mut self) -> Option<Copied> {
        let is_add = self.name == "ADD";
        let mut copied = Copied {
            is_add,
            from: if is_add { None } else { self.flag("from") },
            owner: self.flag("chown"),
            mode: self.flag("chmod"),
            link: self.switch("link").unwrap_or(false),
            parents: if is_add { false } else { self.switch("parents").unwrap_or(false) },
            exclude: self.flags("exclude"),
            unpack: if is_add { self.switch("unpack").unwrap_or(true) } else { false },
            sources: Vec::new(),
            target: String::new(),
        };
        self.check_copy_flags(&copied);
        let mut words = match words::json(self.rest) {
            None => words::bare(self.rest),
            Some(Ok(list)) => list,
            Some(Err(_)) => {
                self.hint("has a list that does not only hold strings", "put quotes around each");
                return None;
            }
        };
        copied.target = words.pop().unwrap_or_default();
        if words.is_empty() {
            self.hint("names no target", "write what is copied, and then where to");
            return None;
        }
        if heredoc(&copied.target).is_some() {
            self.hint("has a heredoc for a target", "write where to after the heredoc's name");
            return None;
        }
        copied.sources = self.sources(words);
        Some(copied)
    }

    fn sources(&mut self, words: Vec<String>) -> Vec<Given> {
        let mut heredocs = self.heredocs.iter();
        let mut sources = Vec::new();
        for word in words {
            if let Some(name) = heredoc(&word).filter(|_| !self.heredocs.is_empty()) {
                if name.name.contains('/') || name.name == ".." || name.name == "." {
                    let name = cut(&name.name);
                    self.tell(&format!("has a heredoc `{name}`, and no file can have that name"));
                }
                sources.extend(heredocs.next().cloned().map(Given::Heredoc));
                continue;
            }
            if let Some(why) = is_remote(&word) {
                self.hint(
                    &format!("takes `{}`, {why}, which is not fetched here", cut(&word)),
                    "fetch it with a `RUN`, or put it into the context before",
                );
            } else if !word.contains('$')
                && Glob::is_pattern(&word)
                && let Err(error) = Glob::new(&word)
            {
                self.tell(&format!("takes files by a pattern, and {error}"));
            }
            sources.push(Given::Path(word));
        }
        sources
    }

    fn check_copy_flags(&mut self, copied: &Copied) {
        for name in ["checksum", "keep-git-dir"] {
            if copied.is_add && self.flags.iter().any(|flag| flag.name == name) {
                self.flags.retain(|flag| flag.name != name);
                self.tell(&format!(
                    "has `--{name}`, which is for files from elsewhere; those are not fetched here"
                ));
            }
        }
        if copied.from.as_deref().is_some_and(|from| from.contains('$')) {
            self.hint(
                "has a variable in `--from`, where none is replaced",
                "begin a stage with `FROM $…` and copy from that one",
            );
        }
        let is_fixed = |mode: &&String| !mode.contains('$');
        if let Some(Err(error)) = copied.mode.as_ref().filter(is_fixed).map(|mode| Mode::new(mode))
        {
            self.tell(&format!("has `--chmod`, and {error}"));
        }
        for pattern in copied.exclude.iter().filter(|pattern| !pattern.contains('$')) {
            if let Err(error) = crate::Ignore::of_patterns(std::slice::from_ref(pattern)) {
                self.tell(&format!("has `--exclude`, and {error}"));
            }
        }
        if copied.is_add {
            self.no_more_flags(&["chown", "chmod", "link", "exclude", "unpack"]);
        } else {
            self.no_more_flags(&["from", "chown", "chmod", "link", "parents", "exclude"]);
        }
    }
}

/// What kind of thing elsewhere a source is; nothing for files at hand.
pub(crate) fn is_remote(source: &str) -> Option<&'static str> {
    let lower = source.get(..8.min(source.len())).unwrap_or_default().to_ascii_lowercase();
    let begins = |start: &str| lower.starts_with(start);
    if begins("git@") || begins("git://") || begins("ssh://") {
        return Some("a git repository");
    }
    if begins("http://") || begins("https://") {
        let bare = source.split(['#', '?']).next().unwrap_or_default();
        return Some(if bare.to_ascii_lowercase().ends_with(".git") {
            "a git repository"
        } else {
            "a URL"
        });
    }
    None
}

impl Copied {
    /// Whether some of it is a file of the context.
    pub(crate) fn uses_context(&self) -> bool {
        self.from.is_none() && self.sources.iter().any(|source| matches!(source, Given::Path(_)))
    }
}
