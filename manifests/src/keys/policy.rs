//! `x-swarm: update` and `x-swarm: rollback`.

use super::{Key, Level, Shape, honoured};

const PROGRESS_DEADLINE: Key = honoured("progress_deadline", "swarm", Shape::Duration, &["2m"]).meaning(
    "A slot whose new task does not run within this time has failed; ten minutes where nothing is said.",
);

/// What compose cannot say of `rollback_config`.
pub(crate) static X_SWARM_POLICY: Level = Level { keys: &[PROGRESS_DEADLINE] };

/// What compose cannot say of `update_config`.
pub(crate) static X_SWARM_UPDATE: Level = Level {
    keys: &[
        PROGRESS_DEADLINE,
        honoured("order", "swarm", Shape::Words(&["blue-green"]), &["blue-green"]).meaning(
            "In place of `update_config.order`: all new tasks run beside the old ones, then clients are led to them at once.",
        ),
        honoured("hold", "swarm", Shape::Duration, &["10m"]).meaning(
            "For so long the old tasks of a blue-green update stand by: a rollback leads back to them at once.",
        ),
    ],
};
