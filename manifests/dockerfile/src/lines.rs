//! A file as logical lines: comments left out, continued lines joined, heredocs beside the line that names them.
//!
//! The rules are those of `BuildKit`'s parser (frontend/dockerfile/parser).

use crate::problem::{Gathered, cut};

/// A line that may stand on several lines of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Where it begins, counted from one.
    pub(crate) number: usize,
    /// Its text, without the continuation marks.
    pub(crate) text: String,
    /// What its heredocs hold, in the order in which it names them.
    pub(crate) heredocs: Vec<Heredoc>,
}

/// A part of the file that is taken as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heredoc {
    pub(crate) name: String,
    /// Whether variables in it are replaced: its name is not quoted.
    pub(crate) expand: bool,
    /// Whether tabs at the start of lines are left out: `<<-`.
    pub(crate) chomp: bool,
    pub(crate) content: String,
}

impl Heredoc {
    /// What is in it, without leading tabs where they do not count.
    pub(crate) fn chomped(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        let lines = self.content.split_inclusive('\n');
        lines.map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// The lines of a file, and what its first comments say of it.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) escape: char,
    pub(crate) lines: Vec<Line>,
}

/// Splits a whole file.
pub(crate) fn split(text: &str, problems: &mut Gathered) -> Lines {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut physical: Vec<&str> = text.split('\n').collect();
    if physical.last().is_some_and(|last| last.is_empty()) {
        physical.pop();
    }
    let escape = directives(&physical, problems);
    let mut reader = Reader { physical, next: 0, escape };
    let mut lines = Vec::new();
    while reader.next < reader.physical.len() {
        lines.extend(reader.line(problems));
    }
    Lines { escape, lines }
}

/// What the comments at the top ask for; the escape character.
fn directives(physical: &[&str], problems: &mut Gathered) -> char {
    let mut escape = None;
    let mut seen = Vec::new();
    for (index, line) in physical.iter().enumerate() {
        let Some((key, value)) = directive(line) else { break };
        if seen.contains(&key) {
            problems.tell(index + 1, format!("has a second directive `{key}`"));
        }
        match (key.as_str(), value) {
            ("escape", "\\") => escape = Some('\\'),
            ("escape", "`") => escape = Some('`'),
            ("escape", other) => problems.hint(
                index + 1,
                format!("sets the escape character `{}`", cut(other)),
                "it is a backslash or a backquote",
            ),
            ("syntax", image) if !is_known_syntax(image) => problems.hint(
                index + 1,
                format!("asks for the syntax of the image `{}`, which is not run here", cut(image)),
                "the syntax of `docker/dockerfile` is built in; leave the line out",
            ),
            _ => {}
        }
        seen.push(key);
    }
    escape.unwrap_or('\\')
}

fn directive(line: &str) -> Option<(String, &str)> {
    let (key, value) = line.trim_start().strip_prefix('#')?.split_once('=')?;
    let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
    let is_known = matches!(key.as_str(), "escape" | "syntax" | "check");
    (is_known && !value.is_empty()).then_some((key, value))
}

fn is_known_syntax(image: &str) -> bool {
    let image = image.strip_prefix("docker.io/").unwrap_or(image);
    let name = image.split(['@', ':']).next().unwrap_or_default();
    matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream")
}

struct Reader<'a> {
    physical: Vec<&'a str>,
    next: usize,
    escape: char,
}

impl<'a> Reader<'a> {
    /// The next logical line; nothing for a comment or an empty line.
    fn line(&mut self, problems: &mut Gathered) -> Option<Line> {
        let number = self.next + 1;
        let first = self.take()?.trim_start();
        if first.is_empty() || first.starts_with('#') {
            return None;
        }
        let (start, mut goes_on) = continued(first, self.escape);
        let mut text = start.to_owned();
        while goes_on {
            let Some(line) = self.take() else { break };
            let trimmed = line.trim_start();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            let (part, more) = continued(line, self.escape);
            text.push_str(part);
            goes_on = more;
        }
        if text.trim().is_empty() {
            return None;
        }
        let heredocs = self.heredocs(number, &text, problems);
        Some(Line { number, text, heredocs })
    }

    /// The next line of the file, without its end.
    fn take(&mut self) -> Option<&'a str> {
        let line = *self.physical.get(self.next)?;
        self.next += 1;
        Some(line.strip_suffix('\r').unwrap_or(line))
    }

    fn heredocs(&mut self, number: usize, text: &str, problems: &mut Gathered) -> Vec<Heredoc> {
        if !may_have_heredocs(text) {
            return Vec::new();
        }
        let mut found = named_in(text);
        for heredoc in &mut found {
            if !self.fill(heredoc) {
                let name = cut(&heredoc.name);
                problems.hint(
                    number,
                    format!("has a heredoc `{name}` that nothing ends"),
                    format!("end it with a line that is only `{name}`"),
                );
            }
        }
        found
    }

    /// Takes lines until the one that ends the heredoc; false, when there is none.
    fn fill(&mut self, heredoc: &mut Heredoc) -> bool {
        while self.next < self.physical.len() {
            let line = self.physical[self.next];
            self.next += 1;
            let bare = line.strip_suffix('\r').unwrap_or(line);
            let bare = if heredoc.chomp { bare.trim_start_matches('\t') } else { bare };
            if bare == heredoc.name {
                return true;
            }
            heredoc.content.push_str(line);
            heredoc.content.push('\n');
        }
        false
    }
}

/// A line without its continuation mark, and whether it had one. A mark that is itself escaped is none.
fn continued(line: &str, escape: char) -> (&str, bool) {
    let Some(rest) = line.trim_end_matches([' ', '\t']).strip_suffix(escape) else {
        return (line, false);
    };
    if rest.ends_with(escape) { (line, false) } else { (rest, true) }
}

/// Only these instructions have heredocs, and no list in JSON has.
fn may_have_heredocs(text: &str) -> bool {
    if !text.contains("<<") {
        return false;
    }
    let (mut keyword, mut rest) = first_word(text);
    if keyword.eq_ignore_ascii_case("onbuild") {
        (keyword, rest) = first_word(rest);
    }
    let has = ["add", "copy", "run"].iter().any(|known| keyword.eq_ignore_ascii_case(known));
    has && crate::words::json(rest).is_none()
}

/// The first word, and what follows it.
pub(crate) fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// The heredocs that a line names, still empty.
fn named_in(text: &str) -> Vec<Heredoc> {
    raw_words(text).iter().filter_map(|word| heredoc(word)).collect()
}

/// What a word such as `<<-"EOF"` or `3<<EOF` names.
pub(crate) fn heredoc(word: &str) -> Option<Heredoc> {
    let word = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (chomp, word) = match word.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, word),
    };
    if word.is_empty() || word.contains('<') {
        return None;
    }
    let name = unquoted(word)?;
    if name.is_empty() {
        return None;
    }
    Some(Heredoc { expand: name == word, name, chomp, content: String::new() })
}

/// Words as they stand there, with their quotes.
fn raw_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        if quote.is_none() && c.is_whitespace() {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            continue;
        }
        word.push(c);
        match (c, quote) {
            ('\\', None | Some('"')) => word.extend(characters.next()),
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            _ => {}
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// A word without its quotes; nothing, where one is not closed, or where there are several words.
fn unquoted(word: &str) -> Option<String> {
    let mut text = String::new();
    let mut quote = None;
    let mut characters = word.chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            (c, None) if c.is_whitespace() => return None,
            ('\\', None) => text.extend(characters.next()),
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (c, _) => text.push(c),
        }
    }
    quote.is_none().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(usize, String)> {
        let mut problems = Gathered::new("Dockerfile");
        let read = split(text, &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        read.lines.into_iter().map(|line| (line.number, line.text)).collect()
    }

    #[test]
    fn continued_lines_are_one_without_comments_and_empty_lines() {
        let read = lines("\u{feff}# a comment\nRUN a \\  \n  # inside\n\n  b\r\nUSER x\\\\\n");
        assert_eq!(read, [(2, "RUN a   b".to_owned()), (6, "USER x\\\\".to_owned())]);
    }

    #[test]
    fn a_backquote_escapes_when_the_file_says_so() {
        assert_eq!(lines("# escape=`\nRUN a `\nb\n"), [(2, "RUN a b".to_owned())]);
    }

    #[test]
    fn heredocs_are_found_by_their_names() {
        let found: Vec<_> = named_in("RUN 3<<EOF cat <<-'A B' \"<<no\" $((1<<2)) <<<x <<\\C")
            .into_iter()
            .map(|heredoc| (heredoc.name, heredoc.expand, heredoc.chomp))
            .collect();
        let expected = [("EOF", true, false), ("A B", false, true), ("C", false, false)];
        assert_eq!(found, expected.map(|(name, expand, chomp)| (name.to_owned(), expand, chomp)));
    }

    #[test]
    fn several_heredocs_follow_one_another() {
        let mut problems = Gathered::new("Dockerfile");
        let read = split("COPY <<a <<-b /x/\n1\na\n\t2\n\tb\nRUN x\n", &mut problems);
        assert_eq!(read.lines.len(), 2);
        let held: Vec<_> = read.lines[0].heredocs.iter().map(Heredoc::chomped).collect();
        assert_eq!(held, ["1\n", "2\n"]);
    }

    #[test]
    fn a_heredoc_without_an_end_is_told_with_its_name() {
        let mut problems = Gathered::new("Dockerfile");
        split("RUN <<EOF\nfoo\n EOF\n", &mut problems);
        let problem = problems.into_list().remove(0);
        assert_eq!((problem.line, problem.message.contains("`EOF`")), (1, true));
    }
}
