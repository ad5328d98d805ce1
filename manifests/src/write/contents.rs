//! Secrets and configs. No bytes of a secret are written: only where they come from.

use std::collections::BTreeMap;

use swarm_proto::spec::{ContentKind, ContentSpec, FileMount};

use super::{Pairs, text};
use crate::stack::{ContentSource, Stack};
use crate::value::Value;

/// The secrets or configs of a stack by their keys.
pub(super) fn contents(stack: &Stack, kind: ContentKind) -> Option<Value> {
    let contents = stack.spec.contents(kind);
    let of_spec = contents.iter().map(|(key, spec)| {
        let source = stack.sources.get(&(kind, key.clone()));
        (key, content(spec, source))
    });
    let builds = stack.builds.values().filter(|_| kind == ContentKind::Secret);
    let of_builds = builds.flat_map(|build| &build.secrets);
    let of_builds = of_builds
        .map(|secret| (&secret.key, content(&ContentSpec::default(), Some(&secret.source))));
    // A secret of both is the service's, which may have a name and labels.
    let written: BTreeMap<&String, Value> = of_builds.chain(of_spec).collect();
    (!written.is_empty()).then(|| Value::map(written))
}

fn content(spec: &ContentSpec, source: Option<&ContentSource>) -> Value {
    // The digest is that of the bytes, which the source gives.
    let ContentSpec { name, external, digest: _, labels } = spec;
    let mut pairs = Pairs::default();
    pairs.put("name", name);
    pairs.put("external", external);
    match source {
        Some(ContentSource::File(path)) => pairs.put("file", &path.display().to_string()),
        Some(ContentSource::Environment(name)) => pairs.put("environment", name),
        Some(ContentSource::Inline(content)) => pairs.put("content", content),
        None => {}
    }
    pairs.put("labels", labels);
    pairs.into_value()
}

/// The secrets or configs that a container is given.
pub(super) fn files(files: &[FileMount], kind: ContentKind) -> Option<Value> {
    let of_kind: Vec<Value> = files.iter().filter(|file| file.kind == kind).map(file).collect();
    (!of_kind.is_empty()).then_some(Value::List(of_kind))
}

fn file(file: &FileMount) -> Value {
    let FileMount { kind: _, source, digest: _, target, uid, gid, mode } = file;
    let mut pairs = Pairs::default();
    pairs.put("source", source);
    pairs.put("target", target);
    // As texts, which every reader of compose takes for what they are.
    pairs.put("uid", &(*uid != 0).then(|| text(&uid.to_string())));
    pairs.put("gid", &(*gid != 0).then(|| text(&gid.to_string())));
    pairs.put("mode", &(*mode != FileMount::MODE).then(|| text(&format!("0{mode:o}"))));
    pairs.into_value()
}
