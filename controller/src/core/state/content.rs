//! Writes of secrets and configs.
//!
//! Bytes are kept once for each content, in parts; files of specs and named objects refer to them by digest. What
//! nothing refers to stays for some time, for a deploy that follows, and is then forgotten by a rule.

use std::sync::Arc;

use imbl::Vector;
use swarm_proto::entry::{Action, ObjectId};
use swarm_proto::id::Timestamp;
use swarm_proto::object::NamedContent;
use swarm_proto::spec::{ContainerSpec, ContentBytes, ContentId, ContentKind};

use super::{Event, State, Stored, Versions};

/// A content, as far as it has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    /// Bytes of the whole.
    pub size: u64,
    /// The parts that are there, from the first, shared between clones of the state.
    pub parts: Vector<Arc<ContentBytes>>,
    /// When it was known last to be needed: begun, announced, or let go by the last that referred to it.
    pub needed_at: Timestamp,
}

impl Content {
    /// Whether all parts are there.
    pub fn is_complete(&self) -> bool {
        u64::try_from(self.parts.len()).is_ok_and(|parts| parts == parts_of(self.size))
    }

    /// The whole; `None` while parts are missing.
    pub fn bytes(&self) -> Option<ContentBytes> {
        self.is_complete().then(|| ContentBytes::join(self.parts.iter().map(AsRef::as_ref)))
    }

    /// How many bytes are there.
    pub fn held(&self) -> u64 {
        self.parts.iter().map(|part| part.size()).sum()
    }
}

/// How many parts a content of this many bytes has.
fn parts_of(size: u64) -> u64 {
    size.div_ceil(ContentBytes::PART).max(1)
}

/// How many bytes a part has; `None` for one that the content does not have.
pub(crate) fn part_size(size: u64, part: u32) -> Option<u64> {
    let part = u64::from(part);
    (part < parts_of(size)).then(|| (size - part * ContentBytes::PART).min(ContentBytes::PART))
}

impl State {
    pub(super) fn act_content(&mut self, action: &Action, events: &mut Vec<Event>) -> Option<()> {
        match action {
            Action::AddContentPart { content, size, part, data } => {
                self.add_content_part(content, *size, *part, data)
            }
            Action::KeepContents(contents) => {
                for id in contents {
                    if let Some(content) = self.contents.get_mut(id) {
                        content.needed_at = self.clock;
                    }
                }
                self.mix(self.clock.0);
                Some(())
            }
            Action::RemoveContent(id) => {
                if self.index.content_uses.contains_key(id) {
                    return None;
                }
                let removed = self.contents.remove(id)?;
                self.judge_content(id);
                self.mix(removed.size);
                Some(())
            }
            Action::AddNamedContent(named) => self.add_named_content(named, events),
            Action::RemoveNamedContent { kind, name } => {
                self.remove_named_content(*kind, name, events)
            }
            _ => None,
        }
    }

    fn add_content_part(
        &mut self,
        id: &ContentId,
        size: u64,
        part: u32,
        data: &ContentBytes,
    ) -> Option<()> {
        if part_size(size, part) != Some(data.size()) {
            return None;
        }
        let known = self.contents.get(id).cloned().unwrap_or_default();
        let begins = part == 0 && !known.is_complete();
        let follows = known.size == size && u32::try_from(known.parts.len()) == Ok(part);
        let mut new = match (begins, follows) {
            (true, _) => Content { size, ..Content::default() },
            (false, true) if !known.is_complete() => known,
            _ => return None,
        };
        new.parts.push_back(Arc::new(data.clone()));
        new.needed_at = self.clock;
        self.contents.insert(id.clone(), new);
        self.judge_content(id);
        self.mix(size);
        self.mix(u64::from(part));
        Some(())
    }

    fn add_named_content(&mut self, named: &NamedContent, events: &mut Vec<Event>) -> Option<()> {
        let key = (named.kind, named.name.clone());
        if self.named_contents.contains_key(&key) || !self.has_content(&named.content()) {
            return None;
        }
        let object = Arc::new(named.clone());
        let versions = Versions { spec: 1, desired: 1, status: 1 };
        self.named_contents.insert(key, Stored { object: Arc::clone(&object), versions });
        self.index.named_content(named, true);
        self.judge_content(&named.content());
        self.mix(named.size);
        events.push(Event::NamedContent(object));
        Some(())
    }

    fn remove_named_content(
        &mut self,
        kind: ContentKind,
        name: &str,
        events: &mut Vec<Event>,
    ) -> Option<()> {
        let removed = self.named_contents.remove(&(kind, name.to_owned()))?;
        self.index.named_content(&removed, false);
        self.judge_content(&removed.content());
        self.mix(removed.size);
        let object = ObjectId::named_content(kind, name);
        events.push(Event::Removed { object, name: name.to_owned(), stack: String::new() });
        Some(())
    }

    /// Whether all bytes of a content are there.
    pub(crate) fn has_content(&self, id: &ContentId) -> bool {
        self.contents.get(id).is_some_and(Content::is_complete)
    }

    /// A named secret or config.
    pub(crate) fn find_named_content(
        &self,
        kind: ContentKind,
        name: &str,
    ) -> Option<&Stored<NamedContent>> {
        self.named_contents.get(&(kind, name.to_owned()))
    }

    /// Whether all files of a container can be made: nothing runs without its secrets.
    pub(crate) fn has_contents_of(&self, container: &ContainerSpec) -> bool {
        let has = |content: Option<ContentId>| content.is_some_and(|id| self.has_content(&id));
        container.files.iter().all(|file| has(file.content()))
    }

    /// Looks again at whether something refers to the contents of a container's files.
    pub(super) fn judge_contents_of(&mut self, container: &ContainerSpec) {
        for content in container.contents() {
            self.judge_content(&content);
        }
    }

    /// Looks again at whether something refers to a content. From when nothing does, the time counts for which it is
    /// kept.
    fn judge_content(&mut self, id: &ContentId) {
        let used = self.index.content_uses.contains_key(id);
        match self.contents.get_mut(id) {
            Some(content) if !used => {
                if self.index.unused_contents.insert(id.clone()).is_none() {
                    content.needed_at = self.clock;
                }
            }
            _ => drop(self.index.unused_contents.remove(id)),
        }
    }

    /// Finds what nothing refers to; part of building the indexes.
    pub(super) fn index_contents(&mut self) {
        for named in self.named_contents.values() {
            self.index.named_content(named, true);
        }
        let uses = &self.index.content_uses;
        let unused = self.contents.keys().filter(|id| !uses.contains_key(*id)).cloned();
        self.index.unused_contents = unused.collect();
    }
}
