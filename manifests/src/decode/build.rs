//! `build`: how a service's image is made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use swarm_proto::spec::{ContentKind, NetworkMode};

use super::stack::Declared;
use super::{Decoder, Fields, contents, limits, mounts, resolver};
use crate::build::{Build, BuildGrant, BuildSteps, Recipe};
use crate::image::ImageReference;
use crate::keys::{BUILD, BUILD_SECRET};
use crate::tree::{At, Data, Key, Node, shorten};

/// What an image is built by where nothing is said.
const DOCKERFILE: &str = "Dockerfile";

/// Reads `build` of a service, and notes it for the deploy.
pub(super) fn build(d: &Decoder<'_>, key: &Key, fields: &Fields<'_>, declared: &Declared<'_>) {
    let Some(node) = fields.get("build") else { return };
    let found = match &node.data {
        Data::Scalar { text, .. } => {
            context(d, node.at, text).map(|context| of_context(&context, DOCKERFILE))
        }
        _ => long(d, key, node, declared),
    };
    let always = fields.get("pull_policy").is_some_and(|node| node.text() == Some("build"));
    if let Some(build) = found {
        d.found.borrow_mut().builds.insert(key.text.clone(), Build { always, ..build });
    }
}

/// The short form, and what every other one begins with.
fn of_context(context: &Path, dockerfile: &str) -> Build {
    Build {
        context: context.to_owned(),
        recipe: Recipe::File(context.join(dockerfile)),
        args: BTreeMap::new(),
        target: None,
        secrets: Vec::new(),
        always: false,
        tags: Vec::new(),
        no_cache: false,
        pull: false,
        labels: BTreeMap::new(),
        steps: BuildSteps::default(),
    }
}

fn long(d: &Decoder<'_>, key: &Key, node: &Node, declared: &Declared<'_>) -> Option<Build> {
    let fields = d.fields(node, "`build`", &BUILD)?;
    let text = |name: &str| Some((fields.get(name)?.at, d.text(fields.get(name)?, name)?));
    let (at, folder) = text("context").unwrap_or((fields.at, "."));
    let context = context(d, at, folder)?;
    let flag =
        |name: &str| fields.get(name).and_then(|node| d.boolean(node, name)).unwrap_or(false);
    let mut build = of_context(&context, text("dockerfile").map_or(DOCKERFILE, |(_, path)| path));
    if let Some((at, inline)) = text("dockerfile_inline") {
        if fields.get("dockerfile").is_some() {
            let message = "`build` says twice what is carried out";
            d.problems.error_hint(at, message, "leave `dockerfile` or `dockerfile_inline`");
        }
        build.recipe = Recipe::Inline(inline.to_owned());
    }
    build.args = args(d, &fields);
    build.tags = fields.get("tags").map(|node| tags(d, node)).unwrap_or_default();
    build.target = text("target").map(|(_, target)| target.to_owned());
    (build.no_cache, build.pull) = (flag("no_cache"), flag("pull"));
    build.labels = fields.get("labels").map(|node| d.labels(node)).unwrap_or_default();
    build.steps = steps(d, &fields);
    if let Some(node) = fields.get("secrets") {
        let items = d.list(node, "secrets").unwrap_or_default();
        let grants = items.iter().filter_map(|item| grant(d, key, item, declared));
        let grants: Vec<BuildGrant> = grants.collect();
        d.found.borrow_mut().build_grants.extend(grants);
    }
    Some(build)
}

/// What every `RUN` has.
fn steps(d: &Decoder<'_>, fields: &Fields<'_>) -> BuildSteps {
    let hosts = fields.get("extra_hosts").map(|node| resolver::extra_hosts(d, node));
    let (extra_hosts, extra_hosts_v6) = hosts.unwrap_or_default();
    BuildSteps {
        extra_hosts,
        extra_hosts_v6,
        shm_size: fields.get("shm_size").and_then(|node| limits::shm_size(d, node)),
        ulimits: fields.get("ulimits").map(|node| limits::ulimits(d, node)).unwrap_or_default(),
        network: fields.get("network").and_then(|node| network(d, node)).unwrap_or_default(),
    }
}

fn network(d: &Decoder<'_>, node: &Node) -> Option<NetworkMode> {
    match d.text(node, "network")? {
        "default" => Some(NetworkMode::Own),
        "host" => Some(NetworkMode::Host),
        "none" => Some(NetworkMode::None),
        other => {
            let message = format!("a build cannot be on the network `{}`", shorten(other));
            let hint = "`default` has a way out; `host` and `none` are known as well";
            d.problems.error_hint(node.at, message, hint);
            None
        }
    }
}

/// A folder beside the stack file.
fn context(d: &Decoder<'_>, at: At, text: &str) -> Option<PathBuf> {
    let is_repository = Path::new(text).extension().is_some_and(|ending| ending == "git");
    let is_remote = text.contains("://") || text.starts_with("git@") || is_repository;
    if is_remote {
        let message = format!("`{}` is not a folder: repositories are not fetched", shorten(text));
        d.problems.error_hint(at, message, "check it out, and name the folder");
        return None;
    }
    Some(PathBuf::from(mounts::host_path(d, text)))
}

/// One without a value has the client's; where that has none, the Dockerfile's own counts.
fn args(d: &Decoder<'_>, fields: &Fields<'_>) -> BTreeMap<String, String> {
    let pairs = fields.get("args").and_then(|node| d.assignments(node, "args"));
    let value = |key: &Key, value: Option<String>| value.or_else(|| d.vars.get(&key.text).cloned());
    let pairs = pairs.unwrap_or_default().into_iter();
    pairs.filter_map(|(key, given)| Some((key.text.clone(), value(&key, given)?))).collect()
}

/// More names of the image, in full.
fn tags(d: &Decoder<'_>, node: &Node) -> Vec<String> {
    let items = d.list(node, "tags").unwrap_or_default();
    let name = |item: &Node| match d.text(item, "tags")?.parse::<ImageReference>() {
        Ok(image) if image.digest.is_none() => Some(image.name()),
        Ok(_) => {
            d.expected(item, "a tag of a build", "a name without a digest", "");
            None
        }
        Err(error) => {
            d.problems.error(item.at, format!("image is not valid: {error}"));
            None
        }
    };
    items.iter().filter_map(name).collect()
}

fn grant(d: &Decoder<'_>, key: &Key, item: &Node, declared: &Declared<'_>) -> Option<BuildGrant> {
    let secret = ContentKind::Secret;
    let (source, id) = if let Data::Mapping(_) = &item.data {
        let fields = d.fields(item, "a secret of a build", &BUILD_SECRET)?;
        let Some(node) = fields.get("source") else {
            let hint = "it is a key of the top-level `secrets`";
            d.problems.error_hint(item.at, "a secret needs `source`", hint);
            return None;
        };
        let source = contents::source(d, secret, node.at, d.text(node, "source")?, declared)?;
        let id = fields.get("target").and_then(|node| d.text(node, "target"));
        (source.clone(), id.map_or(source, str::to_owned))
    } else {
        let source = contents::source(d, secret, item.at, d.text(item, "secret")?, declared)?;
        (source.clone(), source)
    };
    Some(BuildGrant { service: key.text.clone(), id, key: source })
}
