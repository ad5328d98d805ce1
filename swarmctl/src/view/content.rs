use std::collections::BTreeMap;

use serde::Serialize;
use swarm_proto::id::Timestamp;
use swarm_proto::object::Service;
use swarm_proto::spec::ContentKind;

use super::{View, age, bytes, time};
use crate::state::{NamedContent, State};

/// A secret or config, as `secret ls` and `config ls` show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContentView {
    /// `secret` or `config`.
    pub kind: String,
    /// Its full name.
    pub name: String,
    /// The stack that declared it; `null` for one that belongs to none.
    pub stack: Option<String>,
    /// The key in the stack's file.
    pub key: Option<String>,
    /// SHA-256 of what is in it; `null` for a secret.
    pub digest: Option<String>,
    /// Bytes; `null` for one of a stack.
    pub size: Option<u64>,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// When it was made; `null` for one of a stack.
    pub created_at: Option<String>,
    /// Full names of the services that are given it.
    pub used_by: Vec<String>,
    /// What is in a config that belongs to no stack, as far as it is text; only `inspect` says it.
    pub data: Option<String>,
    #[serde(skip)]
    at: Option<Timestamp>,
}

impl ContentView {
    /// Those that belong to no stack, and those of all stacks, by name.
    pub fn all(state: &State, kind: ContentKind) -> Vec<Self> {
        let named = state.named_contents.values().filter(|named| named.kind == kind);
        let mut views: Vec<Self> = named.map(|named| Self::of(state, named)).collect();
        for stack in state.stacks.values() {
            let name = &stack.spec.name;
            let own = stack.spec.contents(kind).iter().filter(|(_, spec)| !spec.external);
            views.extend(own.map(|(key, spec)| Self {
                kind: kind.to_string(),
                name: spec.full_name(name, key),
                stack: Some(name.clone()),
                key: Some(key.clone()),
                digest: spec.digest.as_ref().map(ToString::to_string),
                size: None,
                labels: spec.labels.clone(),
                created_at: None,
                used_by: users(state, kind, |service, source| {
                    service.stack == *name && source == key
                }),
                data: None,
                at: None,
            }));
        }
        views.sort_by(|a, b| (&a.name, &a.stack).cmp(&(&b.name, &b.stack)));
        views
    }

    fn of(state: &State, named: &NamedContent) -> Self {
        let kind = named.kind;
        let means = |service: &Service, source: &str| {
            let stack = state.stacks.get(&service.stack);
            let spec = stack.and_then(|stack| stack.spec.contents(kind).get(source));
            spec.is_some_and(|spec| {
                spec.external && spec.full_name(&service.stack, source) == named.name
            })
        };
        Self {
            kind: kind.to_string(),
            name: named.name.clone(),
            stack: None,
            key: None,
            digest: named.digest.clone(),
            size: Some(named.size),
            labels: named.labels.clone(),
            created_at: Some(time(named.created_at)),
            used_by: users(state, kind, means),
            data: None,
            at: Some(named.created_at),
        }
    }
}

/// Services that are given something under a key that means it.
fn users(state: &State, kind: ContentKind, means: impl Fn(&Service, &str) -> bool) -> Vec<String> {
    let is_given = |service: &&Service| {
        let mut files = service.spec.container.files.iter().filter(|file| file.kind == kind);
        files.any(|file| means(service, &file.source))
    };
    let mut names: Vec<String> =
        state.services.values().filter(is_given).map(Service::name).collect();
    names.sort();
    names
}

impl View for ContentView {
    const COLUMNS: &'static [&'static str] = &["NAME", "STACK", "SIZE", "CREATED", "USED BY"];
    const WIDE_COLUMNS: &'static [&'static str] = &["DIGEST", "LABELS"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.name.clone(),
            self.stack.clone().unwrap_or_default(),
            self.size.map(bytes).unwrap_or_default(),
            self.at.map(|at| age(at, now) + " ago").unwrap_or_default(),
            self.used_by.join(","),
        ]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        let labels: Vec<String> =
            self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        vec![self.digest.clone().unwrap_or_default(), labels.join(",")]
    }
}
