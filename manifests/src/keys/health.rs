//! How a service's health is looked at.

use super::{Level, ONE_OR_MORE, Shape, honoured};

pub(crate) static HEALTHCHECK: Level = Level {
    keys: &[
        honoured(
            "test",
            "3.0",
            ONE_OR_MORE,
            &["curl -f localhost || exit 1", "[CMD, check]", "[CMD-SHELL, check]", "[NONE]"],
        ),
        honoured("interval", "3.0", Shape::Duration, &["10s"]),
        honoured("timeout", "3.0", Shape::Duration, &["5s"]),
        honoured("retries", "3.0", Shape::Integer, &["5"]),
        honoured("start_period", "3.4", Shape::Duration, &["1m"]),
        honoured("start_interval", "3.12", Shape::Duration, &["1s"]),
        honoured("disable", "3.0", Shape::Flag, &["true"])
            .meaning("Docker's: it turns the image's own check off, and excludes `test`."),
    ],
};

pub(crate) static X_SWARM_HEALTH: Level = Level {
    keys: &[
        honoured("http", "swarm", Shape::Mapping(&HEALTH_HTTP), &[])
            .meaning("A GET request to the task's own address, from its network."),
        honoured("tcp", "swarm", Shape::Mapping(&HEALTH_TCP), &[])
            .meaning("A connection to the task's own address, from its network."),
    ],
};

pub(crate) static HEALTH_HTTP: Level = Level {
    keys: &[
        honoured("port", "swarm", Shape::Integer, &["8080"]),
        honoured("path", "swarm", Shape::Text, &["/health"]).meaning("`/` when left out."),
        honoured("status", "swarm", Shape::Text, &["204", "200-299"])
            .meaning("200 to 399 when left out."),
    ],
};

pub(crate) static HEALTH_TCP: Level =
    Level { keys: &[honoured("port", "swarm", Shape::Integer, &["5432"])] };
