//! `x-swarm: autoscale`.

use super::{Key, Level, Shape, honoured};

pub(super) const AUTOSCALE: Key =
    honoured("autoscale", "swarm", Shape::Mapping(&X_SWARM_AUTOSCALE), &[]).meaning(
        "The number of tasks follows what is measured of them, between `min` and `max`: as many as would each have the \
         target, the most of all targets, and a tenth more or less is as it should be. `replicas` says where it begins; a \
         deploy keeps the number, unless `replicas` is another than before and not where it would begin without. Nothing \
         is scaled during an update.",
    );

pub(crate) static X_SWARM_AUTOSCALE: Level = Level {
    keys: &[
        honoured("min", "swarm", Shape::Integer, &["2"])
            .meaning(
                "The fewest tasks; 1 where nothing is said. With 0, which needs `requests`, none is left once nobody connected \
                 and no connection was open for `stabilisation`. The first connection to its virtual address or published \
                 ports, from anywhere, makes the first task at once and waits until that serves, a minute at most: \
                 until its health check passes or, without one, until anything in it listens (ten seconds at most). Without `replicas` it begins with one task. Datagrams wake it as well, but \
                 do not wait. A connection that began within the last five seconds before ends with the last task.",
            ),
        honoured("max", "swarm", Shape::Integer, &["10"]).meaning("The most tasks."),
        honoured("cpu", "swarm", Shape::Text, &["70%", "70"]).meaning(
            "How much of its reservation of CPUs, or else of its limit, a task should use on average.",
        ),
        honoured("memory", "swarm", Shape::Text, &["80%", "80"]).meaning("The same of memory."),
        honoured("requests", "swarm", Shape::Number, &["100", "0.5"]).meaning(
            "How many new connections a second a task should have on average, from its virtual address, published ports and \
             others that know its own; many requests in one connection count once, and flows of datagrams as connections.",
        ),
        honoured("scrape", "swarm", Shape::Mapping(&SCRAPE), &[]),
        honoured("stabilisation", "swarm", Shape::Duration, &["5m"]).meaning(
            "For so long fewer tasks must have been wanted all the time before there are fewer; five minutes where nothing \
             is said. A new leader of the controllers measures anew. There are more at once.",
        ),
        honoured("cool_down", "swarm", Shape::Duration, &["30s"]).meaning(
            "The least time between two changes, those by hand and by deploys as well; half a minute where nothing is said.",
        ),
    ],
};

pub(crate) static SCRAPE: Level = Level {
    keys: &[
        honoured("port", "swarm", Shape::Integer, &["9090"]).meaning(
            "Where the task's own agent asks it over HTTP, from the task's network, about every five seconds.",
        ),
        honoured("path", "swarm", Shape::Text, &["/metrics"])
            .meaning("`/metrics` where nothing is said."),
        honoured("metric", "swarm", Shape::Text, &["queue_length"])
            .meaning("A metric in Prometheus's text format; all its series are summed."),
        honoured("target", "swarm", Shape::Number, &["100", "0.5"])
            .meaning("How much of it one task should have."),
    ],
};
