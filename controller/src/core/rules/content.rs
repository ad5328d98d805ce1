//! Secrets and configs: the commands that add their bytes and names, and the rule that forgets what nothing uses.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::id::{Digest, Timestamp};
use swarm_proto::object::NamedContent;
use swarm_proto::spec::{
    ContainerSpec, ContentBytes, ContentId, ContentKind, ServiceSpec, StackSpec,
};

use super::command::Decision;
use super::{Observed, Plan, name};
use crate::core::command::{CommandDone, Refusal};
use crate::core::state::{Content, State, part_size, tasks_of};

/// How long a content is kept that nothing refers to: for the deploy that it was sent for, and for one that takes an
/// earlier version back.
pub(super) const KEPT: Duration = Duration::from_hours(1);
/// An announced content gets its whole time again once so much of it is gone.
const RENEWED_AFTER: Duration = Duration::from_mins(10);
/// The longest name of a secret or config, in bytes.
const LONGEST_NAME: usize = 64;
/// All contents together: the state travels as a whole, and lies in every controller's memory.
const MOST_BYTES: u64 = 256 << 20;

/// Forgets contents to which nothing has referred for some time.
pub fn plan(state: &State, _: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    for id in &state.index.unused_contents {
        let Some(content) = state.contents.get(id) else { continue };
        let at = content.needed_at.after(KEPT);
        if at <= now {
            plan.add(state, &[], vec![Action::RemoveContent(id.clone())]);
        } else {
            plan.wake(at);
        }
    }
    plan
}

/// Which contents are missing. Those that are there and unused are kept for a while from now.
pub(super) fn announce(state: &State, contents: &[ContentId], now: Timestamp) -> Decision {
    let missing = contents.iter().filter(|id| !state.has_content(id)).cloned().collect();
    let waits = |id: &ContentId| {
        let old = |content: &Content| now.since(content.needed_at) > RENEWED_AFTER;
        state.index.unused_contents.contains(id) && state.contents.get(id).is_some_and(old)
    };
    let kept: Vec<ContentId> = contents.iter().filter(|id| waits(id)).cloned().collect();
    let keep = (!kept.is_empty()).then_some(Action::KeepContents(kept));
    let mut decision = Decision::new(keep.into_iter().collect(), Vec::new());
    decision.done = CommandDone::Missing(missing);
    decision
}

/// Adds a part. The last one shows whether the whole is what its digest says.
pub(super) fn add_part(
    state: &State,
    id: &ContentId,
    size: u64,
    part: u32,
    data: &ContentBytes,
) -> Result<Decision, Refusal> {
    let kind = id.kind;
    if size > kind.most_bytes() {
        return Err(too_large(kind, size));
    }
    if part_size(size, part) != Some(data.size()) {
        return Err(Refusal::invalid(
            format!("part {part} of a {kind} of {size} bytes cannot have {} bytes", data.size()),
            "",
        ));
    }
    let empty = Content::default();
    let known = state.contents.get(id).unwrap_or(&empty);
    let index = usize::try_from(part).unwrap_or(usize::MAX);
    let is_there = known.parts.get(index).is_some_and(|there| **there == *data);
    if known.is_complete() && !known.parts.is_empty() || (is_there && known.size == size) {
        return Ok(Decision::new(Vec::new(), Vec::new()));
    }
    let follows = known.size == size && known.parts.len() == index;
    if part > 0 && !follows {
        return Err(Refusal::conflict(
            format!("part {part} of a {kind} does not follow what is there of it"),
            "send it again from the beginning",
        ));
    }
    check_room(state, kind, data.size())?;
    let before = known.parts.iter().take(index).map(|part| part.reveal());
    let is_last = part_size(size, part + 1).is_none();
    if is_last && Digest::of(before.chain([data.reveal()])) != id.digest {
        return Err(Refusal::invalid(
            format!("the bytes of a {kind} are not those of its digest"),
            "they changed on the way, or while they were read: try again",
        ));
    }
    let (content, data) = (id.clone(), data.clone());
    let action = Action::AddContentPart { content, size, part, data };
    Ok(Decision::new(vec![action], Vec::new()))
}

fn too_large(kind: ContentKind, size: u64) -> Refusal {
    Refusal::invalid(
        format!("a {kind} of {size} bytes is too large"),
        format!("a {kind} has at most {} bytes: put more into a volume", kind.most_bytes()),
    )
}

fn check_room(state: &State, kind: ContentKind, more: u64) -> Result<(), Refusal> {
    let held: u64 = state.contents.values().map(Content::held).sum();
    if held + more <= MOST_BYTES {
        return Ok(());
    }
    Err(Refusal::full(
        format!("there is no room for a further {kind}: all together have {MOST_BYTES} bytes"),
        "remove secrets, configs or stacks that are not needed; what is unused goes within an hour",
    ))
}

pub(super) fn create(
    state: &State,
    id: &ContentId,
    name: &str,
    labels: &BTreeMap<String, String>,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let kind = id.kind;
    name::check(kind, name, LONGEST_NAME)?;
    if state.find_named_content(kind, name).is_some() {
        return Err(Refusal::conflict(
            format!("{kind} `{name}` exists already"),
            format!("a {kind} never changes: choose another name, or remove it first"),
        ));
    }
    let Some(content) = state.contents.get(id).filter(|content| content.is_complete()) else {
        return Err(absent(kind, name));
    };
    let named = NamedContent {
        kind,
        name: name.to_owned(),
        digest: id.digest.clone(),
        size: content.size,
        labels: labels.clone(),
        created_at: now,
    };
    let read = vec![(ObjectId::named_content(kind, name), Counter::Spec)];
    Ok(Decision::new(vec![Action::AddNamedContent(Box::new(named))], read))
}

fn absent(kind: ContentKind, name: &str) -> Refusal {
    Refusal::conflict(
        format!("the bytes of {kind} `{name}` are not in the cluster"),
        "try again: `swarmctl` sends them first",
    )
}

pub(super) fn remove(state: &State, kind: ContentKind, name: &str) -> Result<Decision, Refusal> {
    let Some(named) = state.find_named_content(kind, name) else {
        return Err(Refusal::not_found(
            format!("there is no {kind} `{name}`"),
            format!(
                "`swarmctl {kind} ls` lists them; those of a stack go when it no longer uses them"
            ),
        ));
    };
    if let Some(service) = user(state, named) {
        return Err(Refusal::conflict(
            format!("{kind} `{name}` is in use by service `{service}`"),
            format!("deploy its stack without the {kind}, or remove the stack, first"),
        ));
    }
    let read = vec![(ObjectId::named_content(kind, name), Counter::Spec)];
    let action = Action::RemoveNamedContent { kind, name: name.to_owned() };
    Ok(Decision::new(vec![action], read))
}

/// The full name of a service that uses a named secret or config, or whose tasks still do.
fn user(state: &State, named: &NamedContent) -> Option<String> {
    let mut services = state.services.values();
    let found = services.find(|service| {
        let stack = state.stacks.get(&service.stack).map(|stack| &stack.spec);
        let tasks = tasks_of(state, service.id).filter(|task| !task.status.state.is_terminal());
        let specs = tasks.filter_map(|task| state.task_spec(task));
        uses(stack, &service.spec.container, named)
            || specs.into_iter().any(|spec| uses(stack, &spec.container, named))
    });
    found.map(|service| service.name())
}

/// Whether a container's files are of a named content. A key that its stack no longer has may have meant it.
fn uses(stack: Option<&StackSpec>, container: &ContainerSpec, named: &NamedContent) -> bool {
    container.files.iter().filter(|file| file.content() == Some(named.content())).any(|file| {
        let spec = stack.and_then(|stack| {
            let spec = stack.contents(file.kind).get(&file.source)?;
            Some((spec.external, spec.full_name(&stack.name, &file.source)))
        });
        spec.is_none_or(|(external, name)| external && name == named.name)
    })
}

/// The spec of a stack in which each file says what is in it. Refuses when something is missing for that.
pub(super) fn resolved<'a>(
    state: &State,
    spec: &'a StackSpec,
) -> Result<Cow<'a, StackSpec>, Refusal> {
    let has_files = |service: &ServiceSpec| !service.container.files.is_empty();
    let plain = spec.secrets.is_empty() && spec.configs.is_empty();
    if plain && !spec.services.values().any(has_files) {
        return Ok(Cow::Borrowed(spec));
    }
    let mut resolved = spec.clone();
    for kind in [ContentKind::Secret, ContentKind::Config] {
        look_up(state, &mut resolved, kind)?;
    }
    let StackSpec { services, secrets, configs, .. } = &mut resolved;
    for (key, service) in services {
        for file in &mut service.container.files {
            let (kind, source) = (file.kind, &file.source);
            let declared = match kind {
                ContentKind::Secret => secrets.get(source),
                ContentKind::Config => configs.get(source),
            };
            let Some(declared) = declared else {
                return Err(Refusal::invalid(
                    format!(
                        "service `{key}` uses {kind} `{source}`, which the stack does not define"
                    ),
                    format!("define it under `{kind}s:`"),
                ));
            };
            file.digest.clone_from(&declared.digest);
        }
    }
    Ok(Cow::Owned(resolved))
}

/// Finds what external ones stand for now, and that the bytes of all are there.
fn look_up(state: &State, spec: &mut StackSpec, kind: ContentKind) -> Result<(), Refusal> {
    let stack = spec.name.clone();
    for (key, content) in spec.contents_mut(kind) {
        let name = content.full_name(&stack, key);
        if content.external {
            let Some(named) = state.find_named_content(kind, &name) else {
                return Err(Refusal::not_found(
                    format!("there is no {kind} `{name}`, which the stack calls external"),
                    format!("make it first: `swarmctl {kind} create {name} FILE`"),
                ));
            };
            content.digest = Some(named.digest.clone());
        }
        let Some(digest) = content.digest.clone() else {
            return Err(Refusal::invalid(format!("{kind} `{key}` does not say what is in it"), ""));
        };
        if !state.has_content(&ContentId { kind, digest }) {
            return Err(absent(kind, &name));
        }
    }
    Ok(())
}
