//! A container's environment: `env_file` below, `environment` on top.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Decoder, Fields, container, mounts};
use crate::MAX_FILE_BYTES;
use crate::keys::ENV_FILE;
use crate::tree::{At, Data, Node, shorten};

/// Variables by name; `None` takes one of the image's away.
pub(super) fn environment(
    d: &Decoder<'_>,
    fields: &Fields<'_>,
) -> BTreeMap<String, Option<String>> {
    let mut found = BTreeMap::new();
    if let Some(node) = fields.get("env_file") {
        for (at, path) in env_files(d, node) {
            read_file(d, at, &path, &mut found);
        }
    }
    let Some(node) = fields.get("environment") else { return found };
    for (key, value) in d.assignments(node, "environment").unwrap_or_default() {
        if key.text.is_empty() || key.text.contains(['=', '\0']) {
            let message = format!("`{}` cannot be a variable's name", shorten(&key.text));
            d.problems.error_hint(key.at, message, "a name holds no `=`");
            continue;
        }
        if let Some(value) = &value {
            container::check_template(d, key.at, value);
        }
        let value = value.or_else(|| d.vars.get(&key.text).cloned());
        found.insert(key.text, value);
    }
    found
}

fn env_files(d: &Decoder<'_>, node: &Node) -> Vec<(At, String)> {
    let Data::Sequence(items) = &node.data else {
        return d.one_or_more(node, "env_file").unwrap_or_default();
    };
    let file = |item: &Node| match &item.data {
        Data::Mapping(_) => {
            d.fields(item, "an environment file", &ENV_FILE);
            None
        }
        _ => Some((item.at, d.text(item, "env_file")?.to_owned())),
    };
    items.iter().filter_map(file).collect()
}

fn read_file(d: &Decoder<'_>, at: At, path: &str, found: &mut BTreeMap<String, Option<String>>) {
    let refused = |why: &str| {
        let message = format!("env_file `{}` {why}", shorten(path));
        let hint = format!("it is looked for from `{}`", d.folder.display());
        d.problems.error_hint(at, message, hint);
    };
    let path = mounts::host_path(d, path);
    let path = Path::new(&path);
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => return refused("is not a file"),
        Ok(metadata) if metadata.len() > MAX_FILE_BYTES as u64 => {
            return refused("is larger than 1 MiB");
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return refused("does not exist");
        }
        Ok(_) | Err(_) => {}
    }
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return refused(&format!("cannot be read: {error}")),
    };
    for (index, line) in text.lines().enumerate() {
        match parse_line(line) {
            Ok(Some((key, value))) => {
                let value = value.or_else(|| d.vars.get(key).cloned());
                found.insert(key.to_owned(), value);
            }
            Ok(None) => {}
            Err(why) => refused(&format!("line {}: {why}", index + 1)),
        }
    }
}

/// One line: empty, a comment, `KEY=value` or `KEY`.
fn parse_line(line: &str) -> Result<Option<(&str, Option<String>)>, &'static str> {
    let line = line.trim();
    let line = line.strip_prefix("export ").map_or(line, str::trim_start);
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (key, value) = match line.split_once('=') {
        Some((key, value)) => (key.trim_end(), Some(value.trim_start())),
        None => (line, None),
    };
    if key.is_empty() || key.contains(char::is_whitespace) {
        return Err("is not `KEY=value`");
    }
    value.map(parse_value).transpose().map(|value| Some((key, value)))
}

fn parse_value(text: &str) -> Result<String, &'static str> {
    let Some(quote @ ('"' | '\'')) = text.chars().next() else {
        return Ok(text.split(" #").next().unwrap_or_default().trim_end().to_owned());
    };
    let mut value = String::new();
    let mut rest = text[1..].chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' if quote == '"' => match rest.next() {
                Some('n') => value.push('\n'),
                Some('r') => value.push('\r'),
                Some('t') => value.push('\t'),
                Some(c @ ('"' | '\\' | '$')) => value.push(c),
                Some(c) => value.extend(['\\', c]),
                None => return Err("has a quote that is never closed"),
            },
            c if c == quote => {
                let after = rest.as_str().trim_start();
                let is_end = after.is_empty() || after.starts_with('#');
                return if is_end { Ok(value) } else { Err("has text after the closing quote") };
            }
            c => value.push(c),
        }
    }
    Err("has a quote that is never closed")
}

#[cfg(test)]
mod tests {
    use super::parse_line;

    #[test]
    fn lines_of_a_file() {
        let table = [
            ("A=1", Ok(Some(("A", Some("1"))))),
            ("  export A = b c # d", Ok(Some(("A", Some("b c"))))),
            ("A=\"x\\ny # z\" # c", Ok(Some(("A", Some("x\ny # z"))))),
            ("A='$x'", Ok(Some(("A", Some("$x"))))),
            ("A=", Ok(Some(("A", Some(""))))),
            ("A", Ok(Some(("A", None)))),
            ("# A=1", Ok(None)),
            ("", Ok(None)),
            ("A=\"x", Err("has a quote that is never closed")),
            ("a b=1", Err("is not `KEY=value`")),
        ];
        for (line, expected) in table {
            let expected = expected.map(|pair| {
                pair.map(|(key, value): (&str, Option<&str>)| (key, value.map(str::to_owned)))
            });
            assert_eq!(parse_line(line), expected, "{line}");
        }
    }
}
