//! The one table of what a stack file may say: every key of compose 3.0–3.13 and of the Compose Specification, and
//! this project's own below `x-swarm`, each with its answer.
//!
//! The decoder looks keys up here, and the report of a file, the page `docs/stack-files.md` and the JSON Schema are made
//! of it. There is one file for each level of a stack file and one entry for each key: `honoured(…)` is read by the
//! decoder, `adapted(…)` too, with a meaning of this project's own, `later(…)` and `never(…)` are refused, `hint(…)` has
//! no effect, and `inner(…)` shares the answer of the key above it.

mod attachment;
mod autoscale;
mod build;
mod canary;
mod deploy;
mod health;
mod job;
mod node_loss;
mod object;
mod page;
mod policy;
mod schema;
mod service;
mod stack;

pub use page::page;
pub use schema::schema;

pub(crate) use attachment::{
    BIND, DEVICE, GRANT, LOGGING, MOUNT, MOUNT_TMPFS, MOUNT_VOLUME, NETWORK_ATTACHMENT, PORT,
    ULIMIT,
};
pub(crate) use autoscale::{SCRAPE, X_SWARM_AUTOSCALE};
pub(crate) use build::{BUILD, BUILD_SECRET};
pub(crate) use canary::X_SWARM_CANARY;
pub(crate) use deploy::{
    DEPLOY, DEVICE_REQUEST, DISCRETE_RESOURCE, GENERIC_RESOURCE, LIMITS, PLACEMENT, PREFERENCE,
    RESERVATIONS, RESOURCES, RESTART_POLICY, ROLLBACK_CONFIG, UPDATE_CONFIG, X_SWARM_RESERVATIONS,
};
pub(crate) use health::{HEALTH_HTTP, HEALTH_TCP, HEALTHCHECK, X_SWARM_HEALTH};
pub(crate) use job::X_SWARM_JOB;
pub(crate) use object::{
    CONFIG, EXTERNAL_CONTENT_NAME, EXTERNAL_NAME, IPAM, IPAM_CONFIG, NETWORK, SECRET, VOLUME,
    X_SWARM_NETWORK, X_SWARM_VOLUME,
};
pub(crate) use policy::{X_SWARM_POLICY, X_SWARM_UPDATE};
pub(crate) use service::{
    AFFINITY, DEPENDENCY, ENV_FILE, HOOK, SERVICE, X_SWARM_PLACEMENT, X_SWARM_SERVICE,
};
pub(crate) use stack::{STACK, X_SWARM_STACK};

/// The keys that a mapping may have.
#[derive(Debug)]
pub struct Level {
    /// In the order of the documentation.
    pub keys: &'static [Key],
}

impl Level {
    /// The key of this name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// One key and what becomes of it.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// As it stands in the file.
    pub name: &'static str,
    /// What brought it: a version of the old schema (`3.2`), `spec` for the Compose Specification, `swarm` for this project.
    pub since: &'static str,
    /// What its value may look like.
    pub shape: Shape,
    /// What becomes of it.
    pub answer: Answer,
    /// Values of each form, as YAML on one line. A key that only holds further keys has none where it is honoured.
    pub examples: &'static [&'static str],
    /// Which meaning is kept where Docker Swarm and the Compose Specification differ; else empty.
    pub meaning: &'static str,
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It has the effect that compose gives it.
    Honoured,
    /// It has an effect, in a way of this project's own.
    Adapted(
        /// How.
        &'static str,
    ),
    /// It is refused until a later release.
    Later(
        /// What to do meanwhile; may be empty.
        &'static str,
    ),
    /// It is refused for good.
    Never {
        /// The reason.
        why: &'static str,
        /// What to do instead; may be empty.
        instead: &'static str,
    },
    /// It is read and has no effect, which is no loss.
    Hint(
        /// Why it has none.
        &'static str,
    ),
    /// As the key above it.
    Inner,
}

impl Answer {
    /// Whether a file with the key is refused.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Later(_) | Self::Never { .. })
    }
}

/// What a value may look like.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// One text; numbers and truth values are taken as they are written.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A duration such as `1m30s`.
    Duration,
    /// A size such as `64m`.
    Bytes,
    /// One of these texts.
    Words(&'static [&'static str]),
    /// A mapping, or a list of `KEY=value`.
    Pairs,
    /// A mapping with these keys.
    Mapping(&'static Level),
    /// A mapping with names of the user's choice.
    Named(&'static Shape),
    /// A list.
    List(&'static Shape),
    /// Any of these forms.
    Either(&'static [Shape]),
    /// Anything: its inner keys are not this project's business.
    Any,
}

/// A list of texts.
const TEXTS: Shape = Shape::List(&Shape::Text);
/// One text, or a list of them.
const ONE_OR_MORE: Shape = Shape::Either(&[Shape::Text, TEXTS]);
/// Texts by name.
const TEXT_MAP: Shape = Shape::Named(&Shape::Text);
/// An external object: `true`, or its name in the old form.
const EXTERNAL: Shape = Shape::Either(&[Shape::Flag, Shape::Mapping(&object::EXTERNAL_NAME)]);
const EXTERNAL_CONTENT: Shape =
    Shape::Either(&[Shape::Flag, Shape::Mapping(&object::EXTERNAL_CONTENT_NAME)]);

type Examples = &'static [&'static str];

const fn key(
    name: &'static str,
    since: &'static str,
    shape: Shape,
    examples: Examples,
    answer: Answer,
) -> Key {
    Key { name, since, shape, answer, examples, meaning: "" }
}

const fn honoured(
    name: &'static str,
    since: &'static str,
    shape: Shape,
    examples: Examples,
) -> Key {
    key(name, since, shape, examples, Answer::Honoured)
}

const fn adapted(
    name: &'static str,
    since: &'static str,
    shape: Shape,
    examples: Examples,
    how: &'static str,
) -> Key {
    key(name, since, shape, examples, Answer::Adapted(how))
}

const fn later(
    name: &'static str,
    since: &'static str,
    shape: Shape,
    examples: Examples,
    meanwhile: &'static str,
) -> Key {
    key(name, since, shape, examples, Answer::Later(meanwhile))
}

const fn never(
    name: &'static str,
    since: &'static str,
    shape: Shape,
    examples: Examples,
    [why, instead]: [&'static str; 2],
) -> Key {
    key(name, since, shape, examples, Answer::Never { why, instead })
}

const fn hint(
    name: &'static str,
    since: &'static str,
    shape: Shape,
    examples: Examples,
    why: &'static str,
) -> Key {
    key(name, since, shape, examples, Answer::Hint(why))
}

const fn inner(name: &'static str, since: &'static str, shape: Shape) -> Key {
    key(name, since, shape, &[], Answer::Inner)
}

impl Key {
    /// Says which meaning is kept where Docker Swarm and the Compose Specification differ.
    const fn meaning(mut self, meaning: &'static str) -> Self {
        self.meaning = meaning;
        self
    }
}

/// A key with its place in a file.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Names from the top, `*` for a name of the user's choice, `[]` for an item of a list:
    /// `services.*.ports[].target`.
    pub path: String,
    /// The key.
    pub key: &'static Key,
    /// Its own answer, or that of the nearest key above that has one.
    pub answer: Answer,
}

/// Every key of the table, from the top down.
pub fn entries() -> Vec<Entry> {
    let mut entries = Vec::new();
    add(&mut entries, "", &STACK, Answer::Honoured);
    entries
}

fn add(entries: &mut Vec<Entry>, above: &str, level: &'static Level, answer: Answer) {
    for key in level.keys {
        let path = format!("{above}{}", key.name);
        let answer = if key.answer == Answer::Inner { answer } else { key.answer };
        entries.push(Entry { path: path.clone(), key, answer });
        add_shape(entries, &path, key.shape, answer);
    }
}

fn add_shape(entries: &mut Vec<Entry>, path: &str, shape: Shape, answer: Answer) {
    match shape {
        Shape::Mapping(level) => add(entries, &format!("{path}."), level, answer),
        Shape::Named(inner) => add_shape(entries, &format!("{path}.*"), *inner, answer),
        Shape::List(inner) => add_shape(entries, &format!("{path}[]"), *inner, answer),
        Shape::Either(forms) => {
            for form in forms {
                add_shape(entries, path, *form, answer);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_stands_once_and_has_an_answer_of_its_own_where_it_is_honoured() {
        let entries = entries();
        for (index, entry) in entries.iter().enumerate() {
            let Entry { path, key, answer } = entry;
            let again = entries[..index].iter().any(|other| other.path == *path);
            assert!(!again, "`{path}` stands twice");
            let refused =
                matches!(answer, Answer::Later(_) | Answer::Never { .. } | Answer::Hint(_));
            if key.answer == Answer::Inner {
                assert!(refused, "`{path}` is inner to a key that is honoured: give it its answer");
            } else {
                let holds_keys = matches!(key.shape, Shape::Mapping(_) | Shape::Named(_));
                assert!(!key.examples.is_empty() || holds_keys, "`{path}` has no example");
            }
        }
        assert!(entries.len() > 300, "{} keys", entries.len());
    }

    #[test]
    fn the_services_keys_are_all_there() {
        // 92 keys of the Compose Specification, `cgroupns_mode` and `volume_driver` of older files, `x-swarm`.
        assert_eq!(SERVICE.keys.len(), 95);
    }
}
