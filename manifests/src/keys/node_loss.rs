//! What becomes of tasks whose node is lost or cut off.

use super::{Key, Shape, honoured};

pub(crate) const UNREACHABLE_AFTER: Key = honoured(
    "unreachable_after",
    "swarm",
    Shape::Duration,
    &["2m"],
)
.meaning(
    "So long after its node went down a task is left alone; without it, it is replaced at once.",
);

pub(crate) const ON_CUT_OFF: Key =
    honoured("on_cut_off", "swarm", Shape::Words(&["keep", "stop"]), &["stop"]).meaning(
        "`stop`: a host without the word of a leader for `unreachable_after` and the four seconds after which a node is down stops the task, also where its agent is dead. It runs elsewhere only once that, its grace period, a quarter more and five seconds have passed. It needs `order: stop-first`. A host that is suspended beyond that kills it when it wakes.",
    );
