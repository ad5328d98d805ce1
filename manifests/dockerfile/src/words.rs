//! An instruction's arguments: words, lists in JSON, and flags before them.

use serde_json::Value;

/// The strings of a list in JSON. Nothing, where the text is no list; an error, where it holds something else.
pub(crate) fn json(text: &str) -> Option<Result<Vec<String>, NotStrings>> {
    let text = text.trim();
    if !text.starts_with('[') {
        return None;
    }
    let values: Vec<Value> = serde_json::from_str(text).ok()?;
    let strings = values.into_iter().map(|value| match value {
        Value::String(text) => Ok(text),
        _ => Err(NotStrings),
    });
    Some(strings.collect())
}

/// A list in JSON that does not only hold strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotStrings;

/// Words with their quotes as they stand there: spaces within quotes, and what is escaped, belong to a word.
pub(crate) fn quoted(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        if quote.is_none() && c.is_whitespace() {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            continue;
        }
        if c == escape && quote != Some('\'') {
            // A mark at the end of the line escapes nothing.
            if let Some(next) = characters.next() {
                word.extend([c, next]);
            }
            continue;
        }
        word.push(c);
        match quote {
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Words between spaces, whatever quotes there are.
pub(crate) fn bare(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// A flag, `--name` or `--name=value`, without quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flag {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
}

/// The flags at the start, and what follows them. `--` alone ends them.
pub(crate) fn flags(text: &str, escape: char) -> (Vec<Flag>, &str) {
    let mut flags = Vec::new();
    let mut rest = text.trim_start();
    while let Some(after) = rest.strip_prefix("--") {
        let (word, more) = flag_word(after, escape);
        rest = more.trim_start();
        if word.is_empty() {
            break;
        }
        let flag = match word.split_once('=') {
            Some((name, value)) => Flag { name: name.to_owned(), value: Some(value.to_owned()) },
            None => Flag { name: word, value: None },
        };
        flags.push(flag);
    }
    (flags, rest)
}

/// Up to the next space that is neither quoted nor escaped; quotes are left out.
fn flag_word(text: &str, escape: char) -> (String, &str) {
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        if c == escape && quote != Some('\'') {
            word.extend(characters.next().map(|(_, next)| next));
            continue;
        }
        match quote {
            None if c.is_whitespace() => return (word, &text[at..]),
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => word.push(c),
        }
    }
    (word, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_a_word_together_and_stay() {
        let words = quoted(r#"a="b c" 'd "e' f\ g h\"#, '\\');
        assert_eq!(words, [r#"a="b c""#, r#"'d "e'"#, r"f\ g", "h"]);
    }

    #[test]
    fn a_list_holds_strings_alone() {
        assert_eq!(json(r#" ["a", "b c"] "#), Some(Ok(vec!["a".to_owned(), "b c".to_owned()])));
        assert_eq!(json(r#"["a", 1]"#), Some(Err(NotStrings)));
        assert_eq!(json("[ -e /x ]"), None);
        assert_eq!(json("['a']"), None);
    }

    #[test]
    fn flags_come_first_and_lose_their_quotes() {
        let (found, rest) = flags(r#"--link --chown="a b":c --x=\  -- --y z"#, '\\');
        let flag = |name: &str, value: Option<&str>| Flag {
            name: name.to_owned(),
            value: value.map(str::to_owned),
        };
        assert_eq!(found, [flag("link", None), flag("chown", Some("a b:c")), flag("x", Some(" "))]);
        assert_eq!(rest, "--y z");
    }
}
