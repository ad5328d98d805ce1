//! `x-swarm: job` of a service.

use super::{Level, Shape, honoured};

pub(crate) static X_SWARM_JOB: Level = Level {
    keys: &[
        honoured("total", "swarm", Shape::Integer, &["10"])
            .meaning("How often a task must complete; `deploy.replicas` where nothing is said."),
        honoured("parallelism", "swarm", Shape::Integer, &["2"])
            .meaning("How many tasks at a time; `deploy.replicas` where nothing is said."),
        honoured("schedule", "swarm", Shape::Text, &["0 3 * * mon-fri", "\"@every 90s\""])
            .meaning(
                "Cron with five fields, `@hourly` and the like, or `@every` with a period. Without it a job runs when \
                 it is deployed. A time that the clocks leave out runs when they jump, one that comes twice runs once; \
                 an hour that begins with `*` counts hours as they pass.",
            ),
        honoured("time_zone", "swarm", Shape::Text, &["Europe/Berlin"])
            .meaning("A name of the IANA database; UTC where nothing is said."),
        honoured("missed", "swarm", Shape::Words(&["skip", "run-once", "run-all"]), &["run-once"])
            .meaning(
                "What becomes of times at which no controller could start a run for a minute: `skip` where nothing is \
                 said; `run-all` makes up for the hundred last.",
            ),
        honoured("concurrency", "swarm", Shape::Words(&["allow", "forbid", "replace"]), &["replace"])
            .meaning("What happens when a run is due while another one is not over: `forbid` where nothing is said."),
        honoured("history", "swarm", Shape::Integer, &["3"])
            .meaning("How many finished runs are kept with their tasks, 1 to 100; ten where nothing is said."),
    ],
};
