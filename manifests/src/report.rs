//! What becomes of each key that a file uses.

use std::collections::BTreeMap;

use crate::decode::is_own;
use crate::keys::{Answer, Key, Level, STACK, Shape};
use crate::load::Taken;
use crate::problem::{ManifestError, Problems};
use crate::tree::{At, Data, Node, shorten};

/// What becomes of one key of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUse {
    /// Names from the top: `services.web.ports[0].target`.
    pub path: String,
    /// The file as the user named it.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// What becomes of it.
    pub outcome: KeyOutcome,
}

/// What becomes of a key, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyOutcome {
    /// It has its effect.
    Honoured,
    /// It has an effect of this project's own: how.
    Adapted(String),
    /// It has no effect, which is no loss: why.
    NoEffect(String),
    /// The file is refused for it: why.
    Refused(String),
}

/// What becomes of each key that files use, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The keys.
    pub keys: Vec<KeyUse>,
    /// Errors that are about no key.
    pub errors: Vec<ManifestError>,
}

impl Report {
    /// Whether the files are refused.
    pub fn is_refused(&self) -> bool {
        let refused = |key: &KeyUse| matches!(key.outcome, KeyOutcome::Refused(_));
        !self.errors.is_empty() || self.keys.iter().any(refused)
    }
}

/// The report of a tree whose decode told its errors to `problems`.
pub(crate) fn report(tree: &Node, taken: Vec<Taken>, problems: Problems) -> Report {
    let mut walk = Walk { problems: &problems, keys: Vec::new(), places: BTreeMap::new() };
    walk.level(tree, "", &STACK);
    for Taken { above, level, pair } in taken {
        let data = Data::Mapping(vec![pair]);
        walk.level(&Node { at: At::default(), data }, &above, level);
    }
    let Walk { mut keys, places, .. } = walk;
    let mut errors = Vec::new();
    for (at, error) in problems.into_placed_errors() {
        // An error deep in a value belongs to the last key before it.
        let first = (at.source, 0, 0);
        let owners = places.range(first..=(at.source, at.line, at.column)).next_back();
        match owners.filter(|_| error.line > 0) {
            Some((_, owners)) => refuse(&mut keys, owners, &error),
            None => errors.push(error),
        }
    }
    Report { keys, errors }
}

/// A key that is refused for many reasons says the first ones: aliases may repeat a key a thousand times.
const LONGEST_REASON: usize = 2000;

fn refuse(keys: &mut [KeyUse], owners: &[usize], error: &ManifestError) {
    let why = match &error.hint {
        Some(hint) => format!("{}; {hint}", error.message),
        None => error.message.clone(),
    };
    for owner in owners {
        match &mut keys[*owner].outcome {
            KeyOutcome::Refused(known) if known.len() >= LONGEST_REASON => {}
            KeyOutcome::Refused(known) if *known != why => known.extend(["; ", &why]),
            outcome => *outcome = KeyOutcome::Refused(why.clone()),
        }
    }
}

struct Walk<'p> {
    problems: &'p Problems,
    keys: Vec<KeyUse>,
    /// Source, line and column of everything, and the keys that it belongs to: several where an alias repeats it.
    places: BTreeMap<(usize, usize, usize), Vec<usize>>,
}

impl Walk<'_> {
    fn level(&mut self, node: &Node, above: &str, level: &'static Level) {
        let Data::Mapping(pairs) = &node.data else { return };
        for (key, value) in pairs {
            let known = level.key(&key.text);
            if known.is_none() && is_own(&key.text) {
                continue;
            }
            let path = format!("{above}{}", shorten(&key.text));
            let place = self.keys.len();
            self.keys.push(KeyUse {
                path: path.clone(),
                file: self.problems.file(key.at),
                line: key.at.line,
                column: key.at.column,
                outcome: known.map_or(KeyOutcome::Honoured, |known| outcome(known, value)),
            });
            self.mark(key.at, place);
            match known {
                Some(known) if !known.answer.is_refusal() => {
                    self.shape(value, &path, known.shape, place);
                }
                _ => self.mark_all(value, place),
            }
        }
    }

    fn shape(&mut self, node: &Node, path: &str, shape: Shape, owner: usize) {
        self.mark(node.at, owner);
        match (shape, &node.data) {
            (Shape::Mapping(level), Data::Mapping(_)) => {
                self.level(node, &format!("{path}."), level);
            }
            (Shape::Named(inner), Data::Mapping(pairs)) => {
                for (key, value) in pairs {
                    self.mark(key.at, owner);
                    self.shape(value, &format!("{path}.{}", shorten(&key.text)), *inner, owner);
                }
            }
            (Shape::List(inner), Data::Sequence(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.shape(item, &format!("{path}[{index}]"), *inner, owner);
                }
            }
            (Shape::Either(forms), _) => match forms.iter().find(|form| fits(**form, node)) {
                Some(form) => self.shape(node, path, *form, owner),
                None => self.mark_all(node, owner),
            },
            _ => self.mark_all(node, owner),
        }
    }

    fn mark_all(&mut self, node: &Node, owner: usize) {
        self.mark(node.at, owner);
        match &node.data {
            Data::Mapping(pairs) => {
                for (key, value) in pairs {
                    self.mark(key.at, owner);
                    self.mark_all(value, owner);
                }
            }
            Data::Sequence(items) => items.iter().for_each(|item| self.mark_all(item, owner)),
            Data::Null | Data::Scalar { .. } => {}
        }
    }

    fn mark(&mut self, at: At, owner: usize) {
        let owners = self.places.entry((at.source, at.line, at.column)).or_default();
        if owners.last() != Some(&owner) {
            owners.push(owner);
        }
    }
}

fn outcome(key: &Key, value: &Node) -> KeyOutcome {
    match key.answer {
        Answer::Adapted(how) if !value.is_null() => KeyOutcome::Adapted(how.to_owned()),
        Answer::Hint(why) if !value.is_null() => KeyOutcome::NoEffect(why.to_owned()),
        // What is refused has an error of the decode, unless it asks for nothing.
        _ => KeyOutcome::Honoured,
    }
}

fn fits(shape: Shape, node: &Node) -> bool {
    match &node.data {
        Data::Mapping(_) => matches!(shape, Shape::Mapping(_) | Shape::Named(_) | Shape::Pairs),
        Data::Sequence(_) => matches!(shape, Shape::List(_) | Shape::Pairs),
        Data::Null | Data::Scalar { .. } => {
            !matches!(shape, Shape::Mapping(_) | Shape::Named(_) | Shape::List(_))
        }
    }
}
