//! The typed decode: a tree becomes a [`Stack`], each wrong value an error at its place.

mod autoscale;
mod build;
mod canary;
mod container;
mod contents;
mod dependencies;
mod deploy;
mod environment;
mod external;
mod files;
mod health;
mod isolation;
mod job;
mod legacy;
mod limits;
mod logging;
mod mounts;
mod networks;
mod node_loss;
mod placement;
mod ports;
mod reservations;
mod resolver;
mod service;
mod stack;
mod update;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use environment::EnvFiles;
pub use stack::is_stack_name;
pub(crate) use stack::name_of_folder;

use crate::Environment;
use crate::keys::{self, Answer, Level};
use crate::nearest;
use crate::problem::Problems;
use crate::stack::{Found, Stack};
use crate::tree::{At, Data, Key, Node, shorten};
use crate::units::{parse_bytes, parse_duration};
use crate::yaml::{self, Kind};

/// Decodes a whole stack. What is wrong is told to `problems`.
pub(crate) fn stack(
    tree: &Node,
    environment: &Environment,
    folder: &Path,
    problems: &Problems,
) -> Option<Stack> {
    let (found, env_files) = (RefCell::default(), EnvFiles::default());
    let decoder = Decoder { problems, vars: &environment.vars, folder, found, env_files };
    let spec = stack::stack(&decoder, tree, environment.stack_name.as_deref())?;
    let Found { bytes: contents, sources, builds, .. } = decoder.found.into_inner();
    Some(Stack { spec, contents, sources, builds })
}

/// What every part of the decode needs.
pub(crate) struct Decoder<'a> {
    problems: &'a Problems,
    vars: &'a BTreeMap<String, String>,
    /// Relative paths start here.
    folder: &'a Path,
    /// What was read beside the stack file.
    found: RefCell<Found>,
    env_files: EnvFiles,
}

/// What a word says as an answer to whether, in any of the forms that compose has.
fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => Some(true),
        "false" | "no" | "off" | "n" => Some(false),
        _ => None,
    }
}

/// The pairs of a mapping whose keys are all known.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'n> {
    at: At,
    pairs: &'n [(Key, Node)],
}

impl<'n> Fields<'n> {
    /// The pairs of a mapping whose keys are answered elsewhere.
    fn of(node: &'n Node) -> Self {
        let pairs: &[(Key, Node)] = match &node.data {
            Data::Mapping(pairs) => pairs,
            _ => &[],
        };
        Self { at: node.at, pairs }
    }

    /// The value under a key; a null counts as left out.
    fn get(&self, key: &str) -> Option<&'n Node> {
        self.pair(key).map(|(_, node)| node).filter(|node| !node.is_null())
    }

    /// Where a key stands; the mapping itself when it is not there.
    fn key_at(&self, key: &str) -> At {
        self.pair(key).map_or(self.at, |(key, _)| key.at)
    }

    fn pair(&self, key: &str) -> Option<&'n (Key, Node)> {
        self.pairs.iter().find(|(found, _)| found.text == key)
    }
}

impl Decoder<'_> {
    /// The pairs of a mapping, each key answered as the table has it. Unknown keys are errors; `x-` keys are the
    /// user's own.
    fn fields<'n>(&self, node: &'n Node, place: &str, level: &Level) -> Option<Fields<'n>> {
        let pairs = self.pairs(node, place)?;
        for (key, value) in pairs {
            match level.key(&key.text) {
                Some(known) => self.answer(key.at, known, value),
                None if is_own(&key.text) => {}
                None => self.unknown(key, place, level),
            }
        }
        Some(Fields { at: node.at, pairs })
    }

    /// Says what becomes of a key that is not simply honoured.
    fn answer(&self, at: At, key: &keys::Key, value: &Node) {
        let name = key.name;
        match key.answer {
            Answer::Hint(why) if !value.is_null() => {
                self.problems.warn(at, format!("`{name}` has no effect: {why}"));
            }
            Answer::Later(meanwhile) if !is_off(value) => self.later(at, name, meanwhile),
            Answer::Never { why, instead } if !is_off(value) => {
                let instead = if instead.is_empty() { "remove it" } else { instead };
                let message = format!("`{name}` cannot be honoured: {why}");
                self.problems.error_hint(at, message, instead);
            }
            _ => {}
        }
    }

    fn unknown(&self, key: &Key, place: &str, level: &Level) {
        let name = key.text.as_str();
        let message = format!("unknown key `{}` in {place}", shorten(name));
        // Also what is refused may have been meant, but is not offered.
        let words = level.keys.iter().map(|key| key.name);
        let hint = if let Some(word) = self.nearest(name, words) {
            format!("did you mean `{word}`?")
        } else {
            let read = level.keys.iter().filter(|key| !key.answer.is_refusal());
            self.hint(name, read.map(|key| key.name))
        };
        self.problems.error_hint(key.at, message, hint);
    }

    /// The pairs of a mapping with keys of the user's choice.
    fn pairs<'n>(&self, node: &'n Node, place: &str) -> Option<&'n [(Key, Node)]> {
        match &node.data {
            Data::Mapping(pairs) => Some(pairs),
            Data::Null => Some(&[]),
            _ => {
                self.expected(node, place, "a mapping", "write `key: value` lines below it");
                None
            }
        }
    }

    /// The known word that a wrong one probably meant.
    fn nearest<'w>(
        &self,
        wrong: &str,
        known: impl IntoIterator<Item = &'w str>,
    ) -> Option<&'w str> {
        if self.problems.is_full() { None } else { nearest::nearest(wrong, known) }
    }

    /// `did you mean …?`, else what there is.
    fn hint<'w>(&self, wrong: &str, known: impl IntoIterator<Item = &'w str> + Clone) -> String {
        if self.problems.is_full() { String::new() } else { nearest::hint(wrong, known) }
    }

    /// Says that a feature is not there yet.
    fn later(&self, at: At, name: &str, hint: &str) {
        let hint = if hint.is_empty() { "remove it for now" } else { hint };
        self.problems.error_hint(at, format!("`{name}` is not supported yet"), hint);
    }

    fn expected(&self, node: &Node, name: &str, wanted: &str, hint: &str) {
        let name = if name.contains([' ', '`']) { name.to_owned() } else { format!("`{name}`") };
        let message = format!("{name} must be {wanted}, found {}", node.found());
        if hint.is_empty() {
            self.problems.error(node.at, message);
        } else {
            self.problems.error_hint(node.at, message, hint);
        }
    }

    /// Any scalar as it was written.
    fn scalar<'n>(&self, node: &'n Node, name: &str) -> Option<&'n str> {
        if let Data::Scalar { text, .. } = &node.data {
            return Some(text);
        }
        self.expected(node, name, "a text", "");
        None
    }

    /// A text; a bare number or truth value is an error, for it would be written differently by some readers.
    fn text<'n>(&self, node: &'n Node, name: &str) -> Option<&'n str> {
        match &node.data {
            Data::Scalar { text, plain: true } if yaml::kind(text) != Kind::Text => {
                self.expected(node, name, "a text", &format!("put it in quotes: \"{text}\""));
                None
            }
            _ => self.scalar(node, name),
        }
    }

    /// A text of a closed set, matched to what it means.
    fn word<T: Copy>(&self, node: &Node, name: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.scalar(node, name)?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*meaning);
        }
        let listed = words.iter().map(|(word, _)| *word);
        let wanted: Vec<String> = listed.clone().map(|word| format!("`{word}`")).collect();
        let wanted = match wanted.as_slice() {
            [one] => one.clone(),
            [most @ .., last] => format!("{} or {last}", most.join(", ")),
            [] => String::new(),
        };
        let hint = self.nearest(text, listed).map(|word| format!("did you mean `{word}`?"));
        self.expected(node, name, &wanted, hint.as_deref().unwrap_or_default());
        None
    }

    fn boolean(&self, node: &Node, name: &str) -> Option<bool> {
        let found = match &node.data {
            Data::Scalar { text, .. } => truth(text),
            _ => None,
        };
        if found.is_none() {
            self.expected(node, name, "`true` or `false`", "");
        }
        found
    }

    /// A whole number in a range; quotes do not matter, since variables are often quoted.
    fn integer(&self, node: &Node, name: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let number = match &node.data {
            Data::Scalar { text, .. } => yaml::integer(text),
            _ => None,
        };
        match number {
            Some(number) if range.contains(&number) => Some(number),
            Some(_) => {
                let wanted = if *range.end() == i64::MAX || *range.end() == i64::from(u32::MAX) {
                    format!("at least {}", range.start())
                } else {
                    format!("{} to {}", range.start(), range.end())
                };
                self.expected(node, name, &wanted, "");
                None
            }
            None => {
                self.expected(node, name, "a whole number", "");
                None
            }
        }
    }

    fn count(&self, node: &Node, name: &str, most: u32) -> Option<u32> {
        let number = self.integer(node, name, 0..=i64::from(most))?;
        u32::try_from(number).ok()
    }

    fn duration(&self, node: &Node, name: &str) -> Option<Duration> {
        let found = match &node.data {
            Data::Scalar { text, .. } => parse_duration(text),
            _ => None,
        };
        if found.is_none() {
            let hint = match &node.data {
                Data::Scalar { text, .. } if yaml::kind(text) == Kind::Number => {
                    format!("add a unit: `{text}s`")
                }
                _ => "units are `ms`, `s`, `m`, `h` and `d`".to_owned(),
            };
            self.expected(node, name, "a duration such as `1m30s`", &hint);
        }
        found
    }

    fn bytes(&self, node: &Node, name: &str) -> Option<u64> {
        let found = match &node.data {
            Data::Scalar { text, .. } => parse_bytes(text),
            _ => None,
        };
        if found.is_none() {
            let hint = "units are `b`, `k`, `m` and `g`, powers of 1024";
            self.expected(node, name, "a size such as `64m`", hint);
        }
        found
    }

    fn list<'n>(&self, node: &'n Node, name: &str) -> Option<&'n [Node]> {
        match &node.data {
            Data::Sequence(items) => Some(items),
            Data::Null => Some(&[]),
            _ => {
                self.expected(
                    node,
                    name,
                    "a list",
                    "write each item on a line of its own after `- `",
                );
                None
            }
        }
    }

    /// A list of texts.
    fn texts(&self, node: &Node, name: &str) -> Option<Vec<String>> {
        let items = self.list(node, name)?;
        Some(items.iter().filter_map(|item| self.scalar(item, name)).map(str::to_owned).collect())
    }

    /// One text, or a list of them.
    fn one_or_more(&self, node: &Node, name: &str) -> Option<Vec<(At, String)>> {
        match &node.data {
            Data::Scalar { text, .. } => Some(vec![(node.at, text.clone())]),
            Data::Sequence(items) => Some(
                items
                    .iter()
                    .filter_map(|item| Some((item.at, self.text(item, name)?.to_owned())))
                    .collect(),
            ),
            _ => {
                self.expected(node, name, "a text or a list of texts", "");
                None
            }
        }
    }

    /// A mapping, or a list of `KEY=value`. A key without a value has none.
    fn assignments(&self, node: &Node, name: &str) -> Option<Vec<(Key, Option<String>)>> {
        match &node.data {
            Data::Mapping(pairs) => {
                let value = |node: &Node| {
                    if node.is_null() {
                        return Some(None);
                    }
                    self.scalar(node, name).map(|text| Some(self.text_of(node, text)))
                };
                Some(
                    pairs
                        .iter()
                        .filter_map(|(key, node)| Some((key.clone(), value(node)?)))
                        .collect(),
                )
            }
            Data::Sequence(items) => {
                Some(items.iter().filter_map(|item| self.assignment(item, name)).collect())
            }
            _ => {
                self.expected(node, name, "a mapping or a list of `KEY=value`", "");
                None
            }
        }
    }

    /// The text that a scalar becomes where compose takes numbers as well.
    fn text_of(&self, node: &Node, text: &str) -> String {
        if !matches!(node.data, Data::Scalar { plain: true, .. }) {
            return text.to_owned();
        }
        let canonical = yaml::canonical(text);
        if canonical != text {
            let message = format!(
                "`{}` without quotes is read as `{canonical}`; put it in quotes to keep it",
                shorten(text)
            );
            self.problems.warn(node.at, message);
        }
        canonical
    }

    fn assignment(&self, item: &Node, name: &str) -> Option<(Key, Option<String>)> {
        let Data::Scalar { text, .. } = &item.data else {
            let hint = "either `KEY: value` lines without `-`, or `- KEY=value` lines";
            self.expected(item, &format!("an item of `{name}`"), "`KEY=value`", hint);
            return None;
        };
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text.as_str(), None),
        };
        if key.is_empty() {
            self.expected(item, &format!("an item of `{name}`"), "`KEY=value`", "");
            return None;
        }
        Some((Key { text: key.to_owned(), at: item.at }, value))
    }

    /// Labels: assignments in which no value is an empty one.
    fn labels(&self, node: &Node) -> BTreeMap<String, String> {
        let pairs = self.assignments(node, "labels").unwrap_or_default();
        pairs.into_iter().map(|(key, value)| (key.text, value.unwrap_or_default())).collect()
    }
}

/// Whether a text is a name that may stand in a task's name and in DNS.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.len() <= 63
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c))
}

/// Whether a key is the user's own, for anchors and other programs.
pub(crate) fn is_own(key: &str) -> bool {
    key.starts_with("x-") && !key.starts_with("x-swarm")
}

/// Whether a value asks for nothing: empty, or `false`.
fn is_off(node: &Node) -> bool {
    match &node.data {
        Data::Mapping(pairs) => pairs.is_empty(),
        Data::Sequence(items) => items.is_empty(),
        Data::Scalar { text, .. } => text == "false",
        Data::Null => true,
    }
}
