//! Secrets and configs: those that the file declares, and which of them a service is given as files.

use std::path::PathBuf;

use swarm_proto::spec::{ContentBytes, ContentId, ContentKind, ContentSpec, FileMount, StackSpec};

use super::external::external;
use super::stack::{Declared, check_key, object_name};
use super::{Decoder, Fields, files, mounts};
use crate::build::{BuildGrant, BuildSecret};
use crate::keys::{CONFIG, EXTERNAL_CONTENT_NAME, GRANT, SECRET};
use crate::stack::ContentSource;
use crate::tree::{At, Data, Key, Node, shorten};

/// Both kinds, in the order of the documentation.
pub(super) const KINDS: [ContentKind; 2] = [ContentKind::Secret, ContentKind::Config];

/// The key of a kind in a file: `secrets` or `configs`.
pub(super) const fn plural(kind: ContentKind) -> &'static str {
    match kind {
        ContentKind::Secret => "secrets",
        ContentKind::Config => "configs",
    }
}

/// The contents of one kind that a stack's services use: read, and added to the stack.
pub(super) fn contents(
    d: &Decoder<'_>,
    kind: ContentKind,
    pairs: &[(Key, Node)],
    stack: &mut StackSpec,
) {
    let given = stack.services.values().flat_map(|service| &service.container.files);
    let used: Vec<String> =
        given.filter(|file| file.kind == kind).map(|file| file.source.clone()).collect();
    for (key, node) in pairs {
        check_key(d, key, kind.as_str());
        let is_used = used.contains(&key.text);
        let Some(declared) = declaration(d, kind, key, node) else { continue };
        let is_built_with = kind == ContentKind::Secret && give_builds(d, key, &declared);
        if !is_used && is_built_with {
            continue;
        }
        if !is_used {
            let message = format!("{kind} `{}` is not used by any service", key.text);
            d.problems.warn(key.at, message);
        } else if let Some(spec) = read(d, kind, key, declared) {
            stack.contents_mut(kind).insert(key.text.clone(), spec);
        }
    }
    if kind == ContentKind::Config {
        stack.configs.append(&mut d.found.borrow_mut().configs);
    }
    for service in stack.services.values_mut() {
        for file in service.container.files.iter_mut().filter(|file| file.kind == kind) {
            let contents = match kind {
                ContentKind::Secret => &stack.secrets,
                ContentKind::Config => &stack.configs,
            };
            file.digest = contents.get(&file.source).and_then(|content| content.digest.clone());
        }
    }
}

/// What a declaration says, before anything is read.
struct Declaration {
    spec: ContentSpec,
    /// Where the bytes come from, and where that is said; `None` for an external one.
    source: Option<(At, ContentSource)>,
}

fn declaration(d: &Decoder<'_>, kind: ContentKind, key: &Key, node: &Node) -> Option<Declaration> {
    let place = format!("{kind} `{}`", shorten(&key.text));
    let level = match kind {
        ContentKind::Secret => &SECRET,
        ContentKind::Config => &CONFIG,
    };
    let fields = d.fields(node, &place, level)?;
    let (external, old_name) = external(d, &fields, &EXTERNAL_CONTENT_NAME);
    let name = fields.get("name").and_then(|node| object_name(d, node)).or(old_name);
    let labels = fields.get("labels").map(|node| d.labels(node)).unwrap_or_default();
    let mut sources = sources(d, &fields);
    let words = match kind {
        ContentKind::Secret => "`file`, `environment` or `external: true`",
        ContentKind::Config => "`file`, `content`, `environment` or `external: true`",
    };
    if external && let Some((at, _)) = sources.first() {
        let message = format!("{place} is external: what is in it is not the file's to say");
        d.problems.error_hint(*at, message, "remove this, or `external`");
        return None;
    }
    if sources.len() > 1 {
        let message = format!("{place} says twice what is in it");
        d.problems.error_hint(sources[1].0, message, "leave one of them");
        return None;
    }
    if !external && sources.is_empty() {
        let message = format!("{place} does not say what is in it");
        d.problems.error_hint(key.at, message, format!("give it one of {words}"));
        return None;
    }
    let spec = ContentSpec { name, external, digest: None, labels };
    Some(Declaration { spec, source: sources.pop() })
}

/// Every place from which the bytes shall come.
fn sources(d: &Decoder<'_>, fields: &Fields<'_>) -> Vec<(At, ContentSource)> {
    let mut sources = Vec::new();
    if let Some(node) = fields.get("file")
        && let Some(text) = d.text(node, "file")
    {
        let path = PathBuf::from(mounts::host_path(d, text));
        sources.push((node.at, ContentSource::File(path)));
    }
    if let Some(node) = fields.get("environment")
        && let Some(text) = d.text(node, "environment")
    {
        sources.push((node.at, ContentSource::Environment(text.to_owned())));
    }
    if let Some(node) = fields.get("content")
        && let Some(text) = d.scalar(node, "content")
    {
        sources.push((node.at, ContentSource::Inline(text.to_owned())));
    }
    sources
}

/// Reads what a declaration speaks of, and says what is in it.
fn read(
    d: &Decoder<'_>,
    kind: ContentKind,
    key: &Key,
    declared: Declaration,
) -> Option<ContentSpec> {
    let Declaration { mut spec, source } = declared;
    let Some((at, source)) = source else { return Some(spec) };
    let bytes = bytes(d, kind, key, at, &source)?;
    spec.digest = Some(keep(d, kind, &key.text, source, bytes).digest);
    Some(spec)
}

/// What is in a content.
fn bytes(
    d: &Decoder<'_>,
    kind: ContentKind,
    key: &Key,
    at: At,
    source: &ContentSource,
) -> Option<ContentBytes> {
    let bytes = match source {
        ContentSource::File(path) => files::read(d, at, kind, path)?,
        ContentSource::Environment(name) => {
            let Some(value) = d.vars.get(name) else {
                let message = format!("the variable `{}` is not set", shorten(name));
                let hint = format!("{kind} `{}` is made of it", key.text);
                d.problems.error_hint(at, message, hint);
                return None;
            };
            ContentBytes::new(value.as_bytes().to_vec())
        }
        ContentSource::Inline(text) => ContentBytes::new(text.as_bytes().to_vec()),
    };
    if bytes.size() > kind.most_bytes() {
        files::refuse_size(d, at, kind, &key.text);
        return None;
    }
    Some(bytes)
}

/// Gives builds the secret that they ask for, and says whether any does.
fn give_builds(d: &Decoder<'_>, key: &Key, declared: &Declaration) -> bool {
    let mut found = d.found.take();
    let (asked, left) = found.build_grants.into_iter().partition(|grant| grant.key == key.text);
    found.build_grants = left;
    d.found.replace(found);
    let asked: Vec<BuildGrant> = asked;
    if asked.is_empty() {
        return false;
    }
    let Some((at, source)) = &declared.source else {
        let message = format!("secret `{}` is external: a build cannot read it", key.text);
        let hint = "the cluster gives no secret out again; give its `file` or `environment`";
        d.problems.error_hint(key.at, message, hint);
        return true;
    };
    let Some(bytes) = bytes(d, ContentKind::Secret, key, *at, source) else { return true };
    let mut found = d.found.borrow_mut();
    for BuildGrant { service, id, key } in asked {
        if let Some(build) = found.builds.get_mut(&service) {
            let (source, bytes) = (source.clone(), bytes.clone());
            build.secrets.push(BuildSecret { id, key, source, bytes });
        }
    }
    true
}

/// Notes the bytes of a content for the deploy.
pub(super) fn keep(
    d: &Decoder<'_>,
    kind: ContentKind,
    key: &str,
    source: ContentSource,
    bytes: ContentBytes,
) -> ContentId {
    let id = ContentId::of(kind, bytes.reveal());
    let mut found = d.found.borrow_mut();
    found.sources.insert((kind, key.to_owned()), source);
    found.bytes.insert(id.clone(), bytes);
    id
}

/// The secrets or configs that a service is given, each with its place.
pub(super) fn grants(
    d: &Decoder<'_>,
    kind: ContentKind,
    fields: &Fields<'_>,
    declared: &Declared<'_>,
) -> Vec<(At, FileMount)> {
    let name = plural(kind);
    let Some(node) = fields.get(name) else { return Vec::new() };
    let items = d.list(node, name).unwrap_or_default();
    items.iter().filter_map(|item| Some((item.at, grant(d, kind, item, declared)?))).collect()
}

fn grant(
    d: &Decoder<'_>,
    kind: ContentKind,
    item: &Node,
    declared: &Declared<'_>,
) -> Option<FileMount> {
    let Data::Mapping(_) = &item.data else {
        let source = source(d, kind, item.at, d.text(item, kind.as_str())?, declared)?;
        return Some(FileMount {
            kind,
            target: default_target(kind, &source),
            source,
            digest: None,
            uid: 0,
            gid: 0,
            mode: FileMount::MODE,
        });
    };
    let fields = d.fields(item, &format!("a {kind} of a service"), &GRANT)?;
    let Some(node) = fields.get("source") else {
        let hint = format!("it is a key of the top-level `{}`", plural(kind));
        d.problems.error_hint(item.at, format!("a {kind} needs `source`"), hint);
        return None;
    };
    let source = source(d, kind, node.at, d.text(node, "source")?, declared)?;
    let target = match fields.get("target") {
        Some(node) => {
            let text = d.text(node, "target")?;
            let absolute =
                if text.starts_with('/') { text.to_owned() } else { default_target(kind, text) };
            mounts::target_path(d, node.at, &absolute)?
        }
        None => default_target(kind, &source),
    };
    let id = |key| fields.get(key).and_then(|node| number(d, node, key)).unwrap_or(0);
    let mode = fields.get("mode").and_then(|node| mode(d, node));
    let mode = mode.unwrap_or(FileMount::MODE);
    Some(FileMount { kind, source, digest: None, target, uid: id("uid"), gid: id("gid"), mode })
}

/// Where a file lies whose target is no absolute path.
fn default_target(kind: ContentKind, name: &str) -> String {
    match kind {
        ContentKind::Secret => format!("/run/secrets/{name}"),
        ContentKind::Config => format!("/{name}"),
    }
}

/// The key of a secret or config that the file declares.
pub(super) fn source(
    d: &Decoder<'_>,
    kind: ContentKind,
    at: At,
    name: &str,
    declared: &Declared<'_>,
) -> Option<String> {
    let known = declared.contents(kind);
    if known.contains_key(name) {
        return Some(name.to_owned());
    }
    let hint = match d.nearest(name, known.keys().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("declare it under the top-level `{}:`", plural(kind)),
    };
    d.problems.error_hint(at, format!("{kind} `{}` is not defined", shorten(name)), hint);
    None
}

/// A user's or group's number; names are the image's own, which the workstation does not know.
fn number(d: &Decoder<'_>, node: &Node, key: &str) -> Option<u32> {
    let found = match &node.data {
        Data::Scalar { text, .. } => text.parse().ok(),
        _ => None,
    };
    if found.is_none() {
        d.expected(node, key, "a number, 0 to 4294967295", "names of users are not looked up");
    }
    found
}

/// Permissions: octal with a leading zero or in quotes, as every reader of compose has it.
fn mode(d: &Decoder<'_>, node: &Node) -> Option<u32> {
    let Data::Scalar { text, plain } = &node.data else {
        d.expected(node, "mode", "permissions such as `0440`", "");
        return None;
    };
    let octal = text.strip_prefix("0o").or_else(|| text.strip_prefix('0').filter(|_| *plain));
    let found = match octal {
        Some("") => Some(0),
        Some(digits) => u32::from_str_radix(digits, 8).ok(),
        None if !plain => u32::from_str_radix(text, 8).ok(),
        None => text.parse().ok(),
    };
    let found = found.filter(|mode| *mode <= 0o7777);
    match found {
        None => d.expected(node, "mode", "permissions such as `0440`", "at most `07777`"),
        Some(mode) if *plain && octal.is_none() => {
            let message = format!("`mode: {text}` is a decimal number: it means 0{mode:o}");
            d.problems.warn(node.at, message);
        }
        Some(_) => {}
    }
    found
}
