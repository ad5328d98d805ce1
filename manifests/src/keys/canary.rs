//! `x-swarm: canary`.

use super::{Key, Level, Shape, honoured};

const SIZE: Shape = Shape::Either(&[Shape::Text, Shape::Mapping(&X_SWARM_CANARY)]);

pub(super) const CANARY: Key = honoured(
    "canary",
    "swarm",
    SIZE,
    &["1", "20%", "{replicas: 2}"],
)
.meaning(
    "An update exchanges so many slots, then holds until `swarmctl promote` or `swarmctl service rollback`. One slot at \
     least stays as it was.",
);

pub(crate) static X_SWARM_CANARY: Level = Level {
    keys: &[
        honoured("replicas", "swarm", Shape::Text, &["2", "20%"]).meaning(
            "A number of slots, or a percentage of them, rounded up; 1 where nothing is said.",
        ),
        honoured("hold", "swarm", Shape::Duration, &["10m"])
            .meaning("After so long the update goes on by itself, once all of the canary runs."),
    ],
};
