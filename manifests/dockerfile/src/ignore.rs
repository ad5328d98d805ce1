//! `.dockerignore`: which paths of a context are not sent. The rules are those of moby's patternmatcher.

use crate::pattern::{Glob, InvalidPattern};
use crate::problem::{Gathered, Problems};

/// Patterns, of which the last one that matches a path or a folder above it decides.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    glob: Glob,
    /// `!`: what it matches is kept.
    keeps: bool,
    /// The text before the first character with a meaning.
    start: String,
}

impl Ignore {
    /// The names of the file with the patterns, the first that is there counts: beside the Dockerfile with its name in
    /// front, then in the context.
    pub fn file_names(dockerfile: &str) -> [String; 2] {
        [format!("{dockerfile}.dockerignore"), ".dockerignore".to_owned()]
    }

    /// Reads such a file: a pattern on each line, `#` at the start is a comment.
    pub fn read(text: &str, file: &str) -> Result<Self, Problems> {
        let mut problems = Gathered::new(file);
        let mut ignore = Self::default();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (index, line) in text.lines().enumerate() {
            if line.starts_with('#') {
                continue;
            }
            match Pattern::read(line) {
                Ok(pattern) => ignore.patterns.extend(pattern),
                Err(error) => problems.tell(index + 1, error.to_string()),
            }
        }
        problems.or(ignore)
    }

    /// The patterns of `--exclude`.
    pub fn of_patterns(patterns: &[String]) -> Result<Self, InvalidPattern> {
        let read = patterns.iter().filter_map(|pattern| Pattern::read(pattern).transpose());
        Ok(Self { patterns: read.collect::<Result<_, _>>()? })
    }

    /// Whether a path is left out. It is relative to the context's root, with `/` and without `.` and `..`.
    pub fn ignores(&self, path: &str) -> bool {
        let mut ignored = false;
        for pattern in &self.patterns {
            // What says the same as those before it need not be looked at.
            if pattern.keeps == ignored && pattern.matches_at_or_above(path) {
                ignored = !pattern.keeps;
            }
        }
        ignored
    }

    /// Whether something in a folder may be kept although the folder itself is left out, so that it has to be walked.
    pub fn may_keep_below(&self, folder: &str) -> bool {
        let folder = format!("{folder}/");
        let meets = |start: &str| folder.starts_with(start) || start.starts_with(&folder);
        self.patterns.iter().any(|pattern| pattern.keeps && meets(&pattern.start))
    }

    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }
}

impl Pattern {
    fn read(line: &str) -> Result<Option<Self>, InvalidPattern> {
        let line = line.trim();
        if line.is_empty() {
            return Ok(None);
        }
        let (keeps, text) = match line.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, line),
        };
        let wrong = |why| InvalidPattern { pattern: crate::problem::cut(line), why };
        if text.is_empty() {
            return Err(wrong("keeps nothing"));
        }
        let text = cleaned(text);
        // The context itself cannot be left out: such a pattern means nothing, as for Docker.
        if text.is_empty() {
            return Ok(None);
        }
        let meaning = text.find(['*', '?', '[', '\\']).unwrap_or(text.len());
        let start = text[..meaning].to_owned();
        Ok(Some(Self { glob: Glob::deep(&text)?, keeps, start }))
    }

    fn matches_at_or_above(&self, path: &str) -> bool {
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        above.chain([path]).any(|part| self.glob.matches(part))
    }
}

/// A path without `.`, `..`, doubled and outer slashes.
fn cleaned(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ignored(patterns: &[&str], path: &str) -> bool {
        Ignore::read(&patterns.join("\n"), ".dockerignore").unwrap().ignores(path)
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        assert!(ignored(&["*.md", "!README.md"], "a.md"));
        assert!(!ignored(&["*.md", "!README.md"], "README.md"));
        assert!(ignored(&["*.md", "!README*.md", "README-secret.md"], "README-secret.md"));
        assert!(!ignored(&["*.md", "README-secret.md", "!README*.md"], "README-secret.md"));
    }

    #[test]
    fn what_is_below_a_folder_goes_with_it() {
        assert!(ignored(&["target"], "target/release/x"));
        assert!(ignored(&["/target/"], "target"));
        assert!(!ignored(&["target"], "a/target"));
        assert!(ignored(&["**/target"], "a/b/target/x"));
        assert!(!ignored(&["target", "!target/keep"], "target/keep/x"));
        assert!(ignored(&["*"], "a/b"));
        assert!(!ignored(&["*", "!a/b"], "a/b"));
        assert!(ignored(&["./a/../b"], "b"));
        assert!(ignored(&["# no", "  a  "], "a"));
        assert!(!ignored(&[".", "/", ""], "a"));
    }

    #[test]
    fn folders_are_walked_where_something_in_them_is_kept() {
        let ignore = Ignore::read("*\n!a/b/*.c\n", ".dockerignore").unwrap();
        assert!(ignore.may_keep_below("a"));
        assert!(ignore.may_keep_below("a/b"));
        assert!(ignore.may_keep_below("a/b/c"));
        assert!(!ignore.may_keep_below("c"));
        let deep = Ignore::read("*\n!**/x\n", ".dockerignore").unwrap();
        assert!(deep.may_keep_below("c/d"));
    }

    #[test]
    fn what_has_no_meaning_is_told_with_its_line() {
        let problems = Ignore::read("a\n[\n!\n", "x.dockerignore").unwrap_err();
        let lines: Vec<usize> = problems.0.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [2, 3]);
    }

    /// The rules once more, as moby has them, without any short cut.
    fn slow(patterns: &[String], path: &str) -> bool {
        let mut ignored = false;
        for pattern in patterns {
            let (keeps, text) = match pattern.strip_prefix('!') {
                Some(rest) => (true, rest),
                None => (false, pattern.as_str()),
            };
            let glob = Glob::deep(&cleaned(text)).unwrap();
            let parts: Vec<&str> = path.split('/').collect();
            let matches = (1..=parts.len()).any(|count| glob.matches(&parts[..count].join("/")));
            if matches && !cleaned(text).is_empty() {
                ignored = !keeps;
            }
        }
        ignored
    }

    proptest! {
        #[test]
        fn short_cuts_change_nothing(
            patterns in prop::collection::vec("!?(a|b|\\*|\\*\\*|a\\*|\\?)(/(a|b|\\*|\\*\\*|\\?b)){0,3}", 0..5),
            path in "(a|b|ab)(/(a|b|ab)){0,3}",
        ) {
            let ignore = Ignore::of_patterns(&patterns).unwrap();
            prop_assert_eq!(ignore.ignores(&path), slow(&patterns, &path));
            // A folder that is passed over holds nothing that is kept.
            for (at, _) in path.match_indices('/') {
                let folder = &path[..at];
                if ignore.ignores(folder) && !ignore.may_keep_below(folder) {
                    prop_assert!(ignore.ignores(&path));
                }
            }
        }

        #[test]
        fn any_file_is_read_or_refused(text in "[a-c*?!#/\\[\\]\\\\.\n -]{0,60}", path in "[a-c/.*]{0,20}") {
            if let Ok(ignore) = Ignore::read(&text, ".dockerignore") {
                ignore.ignores(&path);
            }
        }
    }
}
