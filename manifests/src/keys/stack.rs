//! The top level.

use super::object::{CONFIG, NETWORK, SECRET, VOLUME};
use super::service::SERVICE;
use super::{Key, Level, ONE_OR_MORE, Shape, TEXTS, adapted, honoured, inner, never};

pub(crate) static STACK: Level = Level {
    keys: &[
        adapted("version", "3.0", Shape::Text, &["\"3.8\""], "every version is read alike"),
        honoured("name", "spec", Shape::Text, &["shop"]),
        honoured("services", "3.0", Shape::Named(&Shape::Mapping(&SERVICE)), &[]),
        honoured("networks", "3.0", Shape::Named(&Shape::Mapping(&NETWORK)), &[]),
        honoured("volumes", "3.0", Shape::Named(&Shape::Mapping(&VOLUME)), &[]),
        honoured("secrets", "3.1", Shape::Named(&Shape::Mapping(&SECRET)), &[]),
        honoured("configs", "3.3", Shape::Named(&Shape::Mapping(&CONFIG)), &[]),
        honoured(
            "include",
            "spec",
            Shape::List(&Shape::Either(&[Shape::Text, Shape::Mapping(&INCLUDE)])),
            &["[included.yml]", "[{path: included.yml}]"],
        ),
        never(
            "models",
            "spec",
            Shape::Named(&Shape::Mapping(&MODEL)),
            &["{small: {model: ai/smollm2}}"],
            ["there is no Docker Model Runner", "run the model's server as a service"],
        ),
        X_SWARM,
    ],
};

const X_SWARM: Key = honoured("x-swarm", "swarm", Shape::Mapping(&X_SWARM_STACK), &["{}"]);

/// What compose cannot say of a stack.
pub(crate) static X_SWARM_STACK: Level = Level { keys: &[] };

static INCLUDE: Level = Level {
    keys: &[
        honoured("path", "spec", ONE_OR_MORE, &["included.yml", "[included.yml]"]),
        honoured("env_file", "spec", ONE_OR_MORE, &["included.env", "[included.env]"]),
        honoured("project_directory", "spec", Shape::Text, &["../projects"]),
    ],
};

static MODEL: Level = Level {
    keys: &[
        inner("name", "spec", Shape::Text),
        inner("model", "spec", Shape::Text),
        inner("context_size", "spec", Shape::Integer),
        inner("runtime_flags", "spec", TEXTS),
    ],
};
