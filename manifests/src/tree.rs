//! The YAML tree with the place of every key and value.

use std::cell::RefCell;
use std::collections::HashMap;

/// A place in a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct At {
    /// Which source.
    pub(crate) source: usize,
    /// Counted from 1.
    pub(crate) line: usize,
    /// In characters, counted from 1.
    pub(crate) column: usize,
    /// How many characters, at least 1, within the line.
    pub(crate) width: usize,
}

/// A key of a mapping.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) at: At,
}

/// A value.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) data: Data,
}

/// What a value's tag tells the merge of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag {
    /// `!reset`: what lies below goes, and nothing takes its place.
    Reset,
    /// `!override`: this value replaces what lies below, whatever the rule.
    Override,
}

/// The tags of all sources by the place of their values: few values have one, so they stand beside the tree.
#[derive(Debug, Default)]
pub(crate) struct Tags(RefCell<HashMap<At, Tag>>);

impl Tags {
    pub(crate) fn set(&self, at: At, tag: Tag) {
        self.0.borrow_mut().insert(at, tag);
    }

    pub(crate) fn of(&self, node: &Node) -> Option<Tag> {
        self.0.borrow().get(&node.at).copied()
    }

    /// Takes out what is marked with `!reset` and had nothing below it.
    pub(crate) fn settle(&self, node: &mut Node) {
        if self.0.borrow().is_empty() {
            return;
        }
        match &mut node.data {
            Data::Sequence(items) => {
                items.retain(|item| self.of(item) != Some(Tag::Reset));
                for item in items {
                    self.settle(item);
                }
            }
            Data::Mapping(pairs) => {
                pairs.retain(|(_, value)| self.of(value) != Some(Tag::Reset));
                for (_, value) in pairs {
                    self.settle(value);
                }
            }
            Data::Null | Data::Scalar { .. } => {}
        }
    }
}

/// What a value is.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    /// Nothing, `~` or `null`.
    Null,
    /// A scalar: its text, and whether it stood there without quotes, so that it may be a number or a truth value.
    Scalar { text: String, plain: bool },
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping in the order of the file.
    Mapping(Vec<(Key, Node)>),
}

impl Node {
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.data, Data::Null)
    }

    /// The value under a key of a mapping.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.data {
            Data::Mapping(pairs) => {
                pairs.iter().find(|(found, _)| found.text == key).map(|(_, node)| node)
            }
            _ => None,
        }
    }

    /// Takes a pair out of a mapping.
    pub(crate) fn take(&mut self, key: &str) -> Option<(Key, Node)> {
        let Data::Mapping(pairs) = &mut self.data else { return None };
        let place = pairs.iter().position(|(found, _)| found.text == key)?;
        Some(pairs.remove(place))
    }

    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The pairs of a mapping; none of anything else.
    pub(crate) fn pairs(&self) -> &[(Key, Node)] {
        match &self.data {
            Data::Mapping(pairs) => pairs,
            _ => &[],
        }
    }

    /// How large it is: its values, and one more for each 16 bytes of a text.
    pub(crate) fn weight(&self) -> usize {
        match &self.data {
            Data::Null => 1,
            Data::Scalar { text, .. } => 1 + text.len() / 16,
            Data::Sequence(items) => 1 + items.iter().map(Node::weight).sum::<usize>(),
            Data::Mapping(pairs) => {
                let pair = |(key, node): &(Key, Node)| 1 + key.text.len() / 16 + node.weight();
                1 + pairs.iter().map(pair).sum::<usize>()
            }
        }
    }

    /// Whether two values are the same, wherever they stand.
    pub(crate) fn same(&self, other: &Node) -> bool {
        match (&self.data, &other.data) {
            (Data::Null, Data::Null) => true,
            (Data::Scalar { text: a, .. }, Data::Scalar { text: b, .. }) => a == b,
            (Data::Sequence(a), Data::Sequence(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b))
            }
            (Data::Mapping(a), Data::Mapping(b)) => {
                a.len() == b.len()
                    && a.iter().zip(b).all(|((a, x), (b, y))| a.text == b.text && x.same(y))
            }
            _ => false,
        }
    }

    /// What it is, in words: "a list", "the number `3`".
    pub(crate) fn found(&self) -> String {
        match &self.data {
            Data::Null => "nothing".to_owned(),
            Data::Sequence(_) => "a list".to_owned(),
            Data::Mapping(_) => "a mapping".to_owned(),
            Data::Scalar { text, plain } => {
                let kind = if *plain { crate::yaml::kind(text) } else { crate::yaml::Kind::Text };
                format!("{} `{}`", kind.words(), shorten(text))
            }
        }
    }
}

/// A text cut to what fits into a message.
pub(crate) fn shorten(text: &str) -> String {
    const MOST: usize = 60;
    let line = text.lines().next().unwrap_or_default();
    let cut: String = line.chars().take(MOST).collect();
    if cut.len() == text.len() { cut } else { format!("{cut}…") }
}
