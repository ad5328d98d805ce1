//! Requests about secrets and configs.

use std::mem::take;

use swarm_proto::convert::{Fields, each};
use swarm_proto::spec::{ContentBytes, ContentKind};
use swarm_proto::wire;
use tonic::Status;

use super::{Write, invalid};
use crate::core::{Command, CommandDone};

/// What a request speaks of, for the log. A digest is not named: a short secret could be guessed by it.
fn kind(number: i32) -> &'static str {
    let kind = wire::ContentKind::try_from(number).ok().and_then(Option::<ContentKind>::from);
    kind.map_or("content", ContentKind::as_str)
}

impl Write for wire::AnnounceContentsRequest {
    const METHOD: &'static str = "AnnounceContents";
    type Answer = wire::AnnounceContentsResponse;

    fn request_id(&self) -> String {
        self.request_id.clone()
    }

    fn object(&self) -> String {
        format!("{} secrets and configs", self.contents.len())
    }

    fn command(self) -> Result<Command, Status> {
        let contents = Fields("AnnounceContentsRequest").list("contents", self.contents);
        Ok(Command::AnnounceContents { contents: contents.map_err(|error| invalid(&error))? })
    }

    fn answer(done: CommandDone) -> Option<Self::Answer> {
        match done {
            CommandDone::Missing(missing) => Some(Self::Answer { missing: each(&missing) }),
            _ => None,
        }
    }
}

impl Write for wire::AddContentRequest {
    const METHOD: &'static str = "AddContent";
    type Answer = wire::AddContentResponse;

    fn request_id(&self) -> String {
        self.request_id.clone()
    }

    fn object(&self) -> String {
        let kind = kind(self.content.as_ref().map_or(0, |content| content.kind));
        format!("part {} of a {kind} of {} bytes", self.part, self.size)
    }

    fn command(mut self) -> Result<Command, Status> {
        let content = Fields("AddContentRequest").required("content", self.content.take());
        Ok(Command::AddContentPart {
            content: content.map_err(|error| invalid(&error))?,
            size: self.size,
            part: self.part,
            data: ContentBytes::new(take(&mut self.data)),
        })
    }

    fn answer(done: CommandDone) -> Option<Self::Answer> {
        (done == CommandDone::Done).then(Self::Answer::default)
    }
}

impl Write for wire::CreateNamedContentRequest {
    const METHOD: &'static str = "CreateNamedContent";
    type Answer = wire::CreateNamedContentResponse;

    fn request_id(&self) -> String {
        self.request_id.clone()
    }

    fn object(&self) -> String {
        let kind = kind(self.content.as_ref().map_or(0, |content| content.kind));
        format!("{kind} {}", self.name)
    }

    fn command(self) -> Result<Command, Status> {
        let content = Fields("CreateNamedContentRequest").required("content", self.content);
        let content = content.map_err(|error| invalid(&error))?;
        Ok(Command::CreateNamedContent { content, name: self.name, labels: self.labels })
    }

    fn answer(done: CommandDone) -> Option<Self::Answer> {
        (done == CommandDone::Done).then(Self::Answer::default)
    }
}

impl Write for wire::RemoveNamedContentRequest {
    const METHOD: &'static str = "RemoveNamedContent";
    type Answer = wire::RemoveNamedContentResponse;

    fn request_id(&self) -> String {
        self.request_id.clone()
    }

    fn object(&self) -> String {
        format!("{} {}", kind(self.kind), self.name)
    }

    fn command(self) -> Result<Command, Status> {
        let at = Fields("RemoveNamedContentRequest");
        let kind = at.enumeration::<wire::ContentKind, _>("kind", self.kind);
        let kind = kind.map_err(|error| invalid(&error))?;
        Ok(Command::RemoveNamedContent { kind, name: self.name })
    }

    fn answer(done: CommandDone) -> Option<Self::Answer> {
        (done == CommandDone::Done).then(Self::Answer::default)
    }
}
