//! A [`StackSpec`] as a stack file: every value resolved and in its long form, in one order, defaults left out. Reading
//! it again gives the same [`StackSpec`].
//!
//! Each struct of the specification is taken apart field by field, so that a new field does not compile before it is
//! written here. A key is one line: `pairs.put("user", user)`; what is `None`, `false` or empty is left out.

mod autoscale;
mod build;
mod container;
mod contents;
mod health;
mod isolation;
mod node_loss;
mod service;

use std::collections::BTreeMap;
use std::time::Duration;

use sha2::{Digest, Sha256};
use swarm_proto::spec::{
    ContentKind, MountSource, NetworkSpec, ServiceSpec, StackSpec, VolumeSpec,
};

use crate::stack::Stack;
use crate::tree::{Data, Node};
use crate::units::write_duration;
use crate::value::Value;
use crate::yaml::{self, Kind};

/// A stack as a file that means the same wherever it is read.
pub fn resolved(stack: &Stack) -> Value {
    // Their sources are written in their place.
    let StackSpec { name, services, networks, volumes, secrets: _, configs: _ } = &stack.spec;
    let mut pairs = Pairs::default();
    pairs.put("name", name);
    let of_service = |key: &String, spec: &ServiceSpec| {
        let mut own = Pairs::default();
        if let Some(one) = stack.builds.get(key) {
            own.put("build", &build::build(one));
            own.put("pull_policy", &one.always.then(|| Value::text("build")));
        }
        match service::service(spec) {
            Value::Map(rest) => Value::Map(own.0.into_iter().chain(rest).collect()),
            other => other,
        }
    };
    let of_services = services.iter().map(|(key, spec)| (key, of_service(key, spec)));
    pairs.put("services", &(!services.is_empty()).then(|| Value::map(of_services)));
    pairs.put("networks", &named(networks, network));
    pairs.put("volumes", &named(volumes, volume));
    pairs.put("secrets", &contents::contents(stack, ContentKind::Secret));
    pairs.put("configs", &contents::contents(stack, ContentKind::Config));
    pairs.into_value()
}

/// The SHA-256 of a service as [`resolved`] writes it, of what is in its secrets and configs, and of the names of external
/// networks and volumes, in hexadecimal digits: another one means that a deploy changes the service.
pub fn hash(service: &ServiceSpec) -> Result<String, String> {
    let mut text = yaml::to_string(&service::service(service))?;
    for digest in service.container.files.iter().filter_map(|file| file.digest.as_ref()) {
        text.push_str(digest.as_str());
    }
    let networks = service.networks.iter().filter_map(|network| network.external.as_deref());
    let volumes = service.container.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume { external, .. } => external.as_deref(),
        _ => None,
    });
    networks.chain(volumes).for_each(|name| text.push_str(name));
    Ok(format!("{:x}", Sha256::digest(text)))
}

/// A tree as it was read, without the places. Numbers that are not whole are written as the text that they become.
pub(crate) fn tree(node: &Node) -> Value {
    match &node.data {
        Data::Null => Value::Null,
        Data::Sequence(items) => Value::List(items.iter().map(tree).collect()),
        Data::Mapping(pairs) => {
            Value::map(pairs.iter().map(|(key, node)| (key.text.as_str(), tree(node))))
        }
        Data::Scalar { text, plain: false } => Value::text(text),
        Data::Scalar { text, plain: true } => match (yaml::kind(text), yaml::integer(text)) {
            (Kind::Bool, _) => Value::Flag(text.eq_ignore_ascii_case("true")),
            (_, Some(number)) => Value::Integer(number.into()),
            (Kind::Number, None) => Value::Text(yaml::canonical(text)),
            (Kind::Null | Kind::Text, None) => Value::text(text),
        },
    }
}

fn network(spec: &NetworkSpec) -> Value {
    let NetworkSpec { name, subnet, internal, labels, external } = spec;
    let subnet = subnet.map(|(first, length)| {
        let config = Value::map([("subnet", Value::text(format!("{first}/{length}")))]);
        Value::map([("config", Value::List(vec![config]))])
    });
    let mut pairs = Pairs::default();
    pairs.put("name", name);
    pairs.put("ipam", &subnet);
    pairs.put("internal", internal);
    pairs.put("external", external);
    pairs.put("labels", labels);
    pairs.into_value()
}

fn volume(spec: &VolumeSpec) -> Value {
    let VolumeSpec { name, labels, external } = spec;
    let mut pairs = Pairs::default();
    pairs.put("name", name);
    pairs.put("external", external);
    pairs.put("labels", labels);
    pairs.into_value()
}

/// Objects by their keys in the file.
fn named<T>(objects: &BTreeMap<String, T>, write: fn(&T) -> Value) -> Option<Value> {
    let pairs = objects.iter().map(|(key, object)| (key, write(object)));
    (!objects.is_empty()).then(|| Value::map(pairs))
}

/// The keys of a mapping that have something to say.
#[derive(Debug, Default)]
struct Pairs(Vec<(String, Value)>);

impl Pairs {
    fn put(&mut self, key: &str, value: &impl Written) {
        if let Some(value) = value.written() {
            self.0.push((key.to_owned(), value));
        }
    }

    /// The mapping; nothing where it would be empty.
    fn into_value(self) -> Value {
        if self.0.is_empty() { Value::Null } else { Value::Map(self.0) }
    }

    /// The mapping, unless it would be empty.
    fn into_some(self) -> Option<Value> {
        (!self.0.is_empty()).then_some(Value::Map(self.0))
    }
}

/// How a field's value is written; `None` leaves the key out.
trait Written {
    fn written(&self) -> Option<Value>;
}

impl Written for Value {
    fn written(&self) -> Option<Value> {
        Some(self.clone())
    }
}

impl<T: Written> Written for Option<T> {
    fn written(&self) -> Option<Value> {
        self.as_ref()?.written()
    }
}

impl Written for bool {
    fn written(&self) -> Option<Value> {
        self.then_some(Value::Flag(true))
    }
}

impl Written for String {
    fn written(&self) -> Option<Value> {
        Some(text(self))
    }
}

impl Written for Duration {
    fn written(&self) -> Option<Value> {
        Some(Value::text(write_duration(*self)))
    }
}

macro_rules! written_numbers {
    ($($number:ty),*) => {$(
        impl Written for $number {
            fn written(&self) -> Option<Value> {
                Some(Value::Integer(i128::from(*self)))
            }
        }
    )*};
}

written_numbers!(u8, u16, u32, u64, i32);

impl Written for Vec<String> {
    fn written(&self) -> Option<Value> {
        (!self.is_empty()).then(|| list(self))
    }
}

impl Written for BTreeMap<String, String> {
    fn written(&self) -> Option<Value> {
        assignments(self.iter().map(|(key, value)| (key, Some(value.clone()))).collect())
    }
}

impl Written for BTreeMap<String, Option<String>> {
    fn written(&self) -> Option<Value> {
        assignments(self.iter().map(|(key, value)| (key, value.clone())).collect())
    }
}

/// A text that is read again: a dollar sign stands for itself.
fn text(text: &str) -> Value {
    Value::text(text.replace('$', "$$"))
}

/// A list that is read again, also an empty one.
fn list(texts: &[String]) -> Value {
    Value::List(texts.iter().map(|item| text(item)).collect())
}

/// A mapping, or a list where a key would be taken for YAML's own.
fn assignments(pairs: Vec<(&String, Option<String>)>) -> Option<Value> {
    const MERGE: &str = "<<";
    if pairs.iter().any(|(key, _)| *key == MERGE) {
        let item = |(key, value): (&String, Option<String>)| match value {
            Some(value) => text(&format!("{key}={value}")),
            None => text(key),
        };
        return Some(Value::List(pairs.into_iter().map(item).collect()));
    }
    let value = |value: Option<String>| value.map_or(Value::Null, |value| text(&value));
    let is_empty = pairs.is_empty();
    let pairs = pairs.into_iter().map(|(key, of_key)| (key, value(of_key)));
    (!is_empty).then(|| Value::map(pairs))
}
