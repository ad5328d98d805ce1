//! The YAML tree with the place of every key and value.

/// A place in a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
