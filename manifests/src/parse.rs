//! YAML events to a tree with positions, within bounds of size, depth and growth.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag as YamlTag};

use crate::MAX_FILE_BYTES;
use crate::problem::Problems;
use crate::tree::{At, Data, Key, Node, Tag, Tags, shorten};
use crate::yaml::{self, Kind};

/// Deeper nesting is refused, so that no later step can overflow its stack.
const MAX_DEPTH: usize = 64;
/// More values than this, aliases written out, are refused.
const MAX_NODES: usize = 100_000;
/// A text counts as one more value for each so many bytes, or aliases of a long one would fill the memory.
const BYTES_OF_A_VALUE: usize = 16;

/// Why building stops: where and what, and what to do.
struct Stop {
    at: At,
    message: String,
    hint: Option<String>,
}

/// Reads the one document of a source. On an error, which is told to `problems`, there is no tree.
pub(crate) fn parse(
    source: usize,
    content: &[u8],
    tags: &Tags,
    problems: &Problems,
) -> Option<Node> {
    match read(source, content, tags, problems) {
        Ok(node) => Some(node),
        Err(Stop { at, message, hint: Some(hint) }) => {
            problems.error_hint(at, message, hint);
            None
        }
        Err(Stop { at, message, hint: None }) => {
            problems.error(at, message);
            None
        }
    }
}

fn read(source: usize, content: &[u8], tags: &Tags, problems: &Problems) -> Result<Node, Stop> {
    let start = At { source, line: 1, column: 1, width: 1 };
    let stop = |at, message: &str, hint: &str| {
        Err(Stop { at, message: message.to_owned(), hint: Some(hint.to_owned()) })
    };
    if content.len() > MAX_FILE_BYTES {
        return stop(start, "the file is larger than 1 MiB", "split it into several stacks");
    }
    let text = match std::str::from_utf8(content) {
        Ok(text) => text,
        Err(error) => {
            let good = String::from_utf8_lossy(&content[..error.valid_up_to()]).into_owned();
            let at = end_of(source, &good);
            return stop(at, "the file is not UTF-8 text", "save it with the encoding UTF-8");
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(place) = text.find(|c: char| c.is_control() && !"\t\n\r\u{85}".contains(c)) {
        let at = end_of(source, &text[..place]);
        return stop(
            at,
            "the file has a control character here",
            "remove it, or write it as an escape such as `\\e` in double quotes",
        );
    }
    let (anchors, open) = (HashMap::new(), Vec::new());
    Builder { source, tags, problems, anchors, open, nodes: 0, root: None }.build(text)
}

fn end_of(source: usize, text: &str) -> At {
    let line = text.matches('\n').count() + 1;
    let column = text.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    At { source, line, column, width: 1 }
}

/// A sequence or mapping whose end has not come yet.
struct Open {
    node: Node,
    anchor: usize,
    key: Option<Key>,
    /// The keys so far, with their lines.
    keys: HashMap<String, usize>,
    /// Values of `<<`, merged at the end, where the mapping's own keys are known.
    merges: Vec<Node>,
    size: usize,
}

struct Builder<'a> {
    source: usize,
    tags: &'a Tags,
    problems: &'a Problems,
    anchors: HashMap<usize, (Node, usize)>,
    open: Vec<Open>,
    nodes: usize,
    root: Option<Node>,
}

impl Builder<'_> {
    fn build(mut self, text: &str) -> Result<Node, Stop> {
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| self.syntax(&error))?;
            self.event(event, span)?;
        }
        let start = At { source: self.source, line: 1, column: 1, width: 1 };
        self.root.ok_or_else(|| Stop {
            at: start,
            message: "the file is empty".to_owned(),
            hint: Some("a stack file starts with `services:`".to_owned()),
        })
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        let at = self.at(span);
        match event {
            Event::DocumentStart(_) if self.root.is_some() => Err(self.stop(
                at,
                "a second document starts here",
                "a stack is one document; give several files with `-f a.yml -f b.yml`",
            )),
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor).cloned() else {
                    return Err(self.stop(
                        at,
                        "this alias stands inside of its own anchor",
                        "a value cannot contain itself",
                    ));
                };
                self.grow(size, at)?;
                self.place(node, size, at)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let data = self.scalar(&text, plain, tag.as_deref(), at)?;
                let size = 1 + text.len() / BYTES_OF_A_VALUE;
                self.grow(size, at)?;
                let node = Node { at, data };
                self.remember(anchor, &node, size)?;
                self.place(node, size, at)
            }
            Event::SequenceStart(anchor, tag) => {
                self.collection(Data::Sequence(Vec::new()), anchor, tag.as_deref(), at)
            }
            Event::MappingStart(anchor, tag) => {
                self.collection(Data::Mapping(Vec::new()), anchor, tag.as_deref(), at)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(at),
            _ => Ok(()),
        }
    }

    fn scalar(&self, text: &str, plain: bool, tag: Option<&YamlTag>, at: At) -> Result<Data, Stop> {
        let tag = self.note(tag, at);
        let core = tag.filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix.as_str());
        let plain = match (tag, core) {
            (None, _) => plain,
            (_, Some("str")) => return Ok(Data::Scalar { text: text.to_owned(), plain: false }),
            (_, Some("int" | "float" | "bool" | "null")) => true,
            (Some(tag), _) => return Err(self.unknown_tag(tag, at)),
        };
        if plain && yaml::kind(text) == Kind::Null {
            return Ok(Data::Null);
        }
        Ok(Data::Scalar { text: text.to_owned(), plain })
    }

    fn collection(
        &mut self,
        data: Data,
        anchor: usize,
        tag: Option<&YamlTag>,
        at: At,
    ) -> Result<(), Stop> {
        if let Some(tag) = self.note(tag, at)
            && !(tag.is_yaml_core_schema() && ["map", "seq"].contains(&tag.suffix.as_str()))
        {
            return Err(self.unknown_tag(tag, at));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(self.stop(
                at,
                "the nesting is deeper than 64 levels",
                "check the brackets and the indentation",
            ));
        }
        self.grow(1, at)?;
        let node = Node { at, data };
        self.open.push(Open {
            node,
            anchor,
            key: None,
            keys: HashMap::new(),
            merges: Vec::new(),
            size: 1,
        });
        Ok(())
    }

    fn close(&mut self, at: At) -> Result<(), Stop> {
        let Some(Open { mut node, anchor, mut keys, merges, size, .. }) = self.open.pop() else {
            return Ok(());
        };
        for merged in merges {
            self.merge(&mut node, &mut keys, merged)?;
        }
        self.remember(anchor, &node, size)?;
        self.place(node, size, at)
    }

    /// Puts a finished value where it belongs.
    fn place(&mut self, node: Node, size: usize, at: At) -> Result<(), Stop> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.size += size;
        match &mut open.node.data {
            Data::Sequence(items) => items.push(node),
            Data::Mapping(pairs) => match open.key.take() {
                None => {
                    let stop = |message: &str| Stop { at, message: message.to_owned(), hint: None };
                    open.key = Some(key(node, at).map_err(stop)?);
                }
                Some(key) if key.text == "<<" => open.merges.push(node),
                Some(key) => match open.keys.entry(key.text.clone()) {
                    Entry::Occupied(known) => {
                        let message = format!("key `{}` is given twice", shorten(&key.text));
                        let hint = format!("it was given first at line {}", known.get());
                        self.problems.error_hint(key.at, message, hint);
                    }
                    Entry::Vacant(place) => {
                        place.insert(key.at.line);
                        pairs.push((key, node));
                    }
                },
            },
            Data::Null | Data::Scalar { .. } => {}
        }
        Ok(())
    }

    /// Adds the pairs of a merged mapping that the mapping itself does not have.
    fn merge(
        &self,
        node: &mut Node,
        keys: &mut HashMap<String, usize>,
        merged: Node,
    ) -> Result<(), Stop> {
        let at = merged.at;
        let parts = match merged.data {
            Data::Sequence(items) => items,
            data => vec![Node { at, data }],
        };
        let Data::Mapping(pairs) = &mut node.data else { return Ok(()) };
        for part in parts {
            let Data::Mapping(new) = part.data else {
                return Err(self.stop(
                    part.at,
                    "`<<` merges a mapping or a list of mappings",
                    "point it at an anchor of a mapping: `<<: *name`",
                ));
            };
            for (key, value) in new {
                if let Entry::Vacant(place) = keys.entry(key.text.clone()) {
                    place.insert(key.at.line);
                    pairs.push((key, value));
                }
            }
        }
        Ok(())
    }

    fn remember(&mut self, anchor: usize, node: &Node, size: usize) -> Result<(), Stop> {
        if anchor > 0 {
            self.grow(size, node.at)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok(())
    }

    fn grow(&mut self, size: usize, at: At) -> Result<(), Stop> {
        self.nodes += size;
        if self.nodes > MAX_NODES {
            return Err(self.stop(
                at,
                "the file holds more than 100,000 values, aliases written out",
                "use fewer aliases inside of aliases",
            ));
        }
        Ok(())
    }

    fn at(&self, span: Span) -> At {
        let (start, end) = (span.start, span.end);
        let width =
            if start.line() == end.line() { end.col().saturating_sub(start.col()) } else { 1 };
        At { source: self.source, line: start.line(), column: start.col() + 1, width: width.max(1) }
    }

    #[expect(clippy::unused_self, reason = "reads as part of the builder")]
    fn stop(&self, at: At, message: &str, hint: &str) -> Stop {
        Stop { at, message: message.to_owned(), hint: Some(hint.to_owned()) }
    }

    /// Keeps a tag that is for the merge, and returns any other.
    fn note<'t>(&self, tag: Option<&'t YamlTag>, at: At) -> Option<&'t YamlTag> {
        let own = tag.filter(|tag| tag.handle == "!").map(|tag| tag.suffix.as_str());
        let own = match own {
            Some("reset") => Tag::Reset,
            Some("override") => Tag::Override,
            _ => return tag,
        };
        self.tags.set(at, own);
        None
    }

    fn unknown_tag(&self, tag: &YamlTag, at: At) -> Stop {
        let name = format!("{}{}", tag.handle, tag.suffix);
        let message = format!("tag `{}` is not supported", shorten(&name));
        self.stop(at, &message, "remove the tag; `!reset` and `!override` are known")
    }

    fn syntax(&self, error: &saphyr_parser::ScanError) -> Stop {
        let mark = error.marker();
        let at = At { source: self.source, line: mark.line(), column: mark.col() + 1, width: 1 };
        let info = error.info();
        let hint = if info.contains("tab") {
            Some("indent with spaces, never with tabs")
        } else if info.contains("mapping values are not allowed") {
            Some("check the indentation, and put a text that holds `: ` in quotes")
        } else if info.contains("anchor") {
            Some("define it before with `&name`")
        } else if info.contains("quote") {
            Some("close the quotes that were opened")
        } else {
            Some("check the indentation, brackets and quotes here and on the line before")
        };
        Stop { at, message: format!("not valid YAML: {info}"), hint: hint.map(str::to_owned) }
    }
}

fn key(node: Node, at: At) -> Result<Key, &'static str> {
    match node.data {
        Data::Scalar { text, .. } => Ok(Key { text, at }),
        Data::Null => Err("a key is missing before `:`"),
        Data::Sequence(_) | Data::Mapping(_) => {
            Err("a key must be a text, found a list or a mapping")
        }
    }
}
