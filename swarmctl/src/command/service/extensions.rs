//! Flags of `service create` and `service update` that Docker's services do not have.

use serde_json::{Map, Value};

use super::flags::Scalar;
use super::piece::{put_missing, scalar, text};
use crate::failure::Failure;

/// What a stack file says under `x-swarm`.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Beyond Docker's services")]
pub(super) struct Extensions {
    /// From -1000 to 1000: tasks that fit nowhere take the place of those of lower priority
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<String>,
    /// Whether its tasks may be stopped for those of higher priority: `allow` or `never`
    #[arg(long, value_name = "WHETHER")]
    preemption: Option<String>,
    /// How long tasks wait for a lost node before they are replaced
    #[arg(long, value_name = "DURATION")]
    unreachable_after: Option<String>,
    /// What a host without the word of a leader does with the tasks: `keep` or `stop`
    #[arg(long, value_name = "ACTION")]
    on_cut_off: Option<String>,
    /// How many tasks an update exchanges before it holds: `2` or `20%`; `none` takes that away
    #[arg(long, value_name = "N")]
    canary: Option<String>,
    /// After so long it goes on without `swarmctl promote`
    #[arg(long, value_name = "DURATION")]
    canary_hold: Option<String>,
    /// `none` scales the service by what is measured no more
    #[arg(long, value_name = "none", value_parser = [NONE])]
    autoscale: Option<String>,
    /// The fewest tasks; with 0 a connection makes the first one again
    #[arg(long, value_name = "N")]
    autoscale_min: Option<String>,
    /// The most tasks
    #[arg(long, value_name = "N")]
    autoscale_max: Option<String>,
    /// How much of its reservation or limit of CPUs a task should use: `70%`
    #[arg(long, value_name = "PERCENT")]
    autoscale_cpu: Option<String>,
    /// The same of memory
    #[arg(long, value_name = "PERCENT")]
    autoscale_memory: Option<String>,
    /// How many new connections a second a task should have
    #[arg(long, value_name = "N")]
    autoscale_requests: Option<String>,
    /// A number that tasks tell, and how much of it one should have: `port=9090,metric=queue_length,target=100`
    #[arg(long, value_name = "KEY=VALUE,…")]
    autoscale_scrape: Option<String>,
    /// How long fewer tasks must have been wanted before there are fewer
    #[arg(long, value_name = "DURATION")]
    autoscale_stabilisation: Option<String>,
    /// The least time between two changes
    #[arg(long, value_name = "DURATION")]
    autoscale_cool_down: Option<String>,
}

/// Takes a canary, or scaling, away.
pub(super) const NONE: &str = "none";
/// Where a stack file says how a service is scaled.
const AUTOSCALE: &str = "/x-swarm/autoscale";

impl Extensions {
    /// Refuses what contradicts itself.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let scales = self
            .scalars()
            .into_iter()
            .any(|(name, _, value)| value.is_some() && name.strip_prefix("autoscale-").is_some());
        if self.autoscale.is_some() && (scales || self.autoscale_scrape.is_some()) {
            return Err(Failure::usage("`--autoscale none` leaves nothing that could scale")
                .hint("leave the other `--autoscale-…` out"));
        }
        if self.canary.as_deref() == Some(NONE) && self.canary_hold.is_some() {
            return Err(Failure::usage("`--canary none` leaves nothing that could hold")
                .hint("leave `--canary-hold` out"));
        }
        Ok(())
    }

    /// As those of [`super::flags::Flags`].
    pub(super) fn scalars(&self) -> Vec<Scalar<'_>> {
        vec![
            ("priority", "/x-swarm/priority", &self.priority),
            ("preemption", "/x-swarm/preemption", &self.preemption),
            ("unreachable-after", "/x-swarm/unreachable_after", &self.unreachable_after),
            ("on-cut-off", "/x-swarm/on_cut_off", &self.on_cut_off),
            ("canary", "/x-swarm/canary/replicas", &self.canary),
            ("canary-hold", "/x-swarm/canary/hold", &self.canary_hold),
            ("autoscale", AUTOSCALE, &self.autoscale),
            ("autoscale-min", "/x-swarm/autoscale/min", &self.autoscale_min),
            ("autoscale-max", "/x-swarm/autoscale/max", &self.autoscale_max),
            ("autoscale-cpu", "/x-swarm/autoscale/cpu", &self.autoscale_cpu),
            ("autoscale-memory", "/x-swarm/autoscale/memory", &self.autoscale_memory),
            ("autoscale-requests", "/x-swarm/autoscale/requests", &self.autoscale_requests),
            (
                "autoscale-stabilisation",
                "/x-swarm/autoscale/stabilisation",
                &self.autoscale_stabilisation,
            ),
            ("autoscale-cool-down", "/x-swarm/autoscale/cool_down", &self.autoscale_cool_down),
        ]
    }

    /// What `--autoscale-scrape` stands for.
    pub(super) fn scrape(&self) -> Option<Map<String, Value>> {
        let pairs = self.autoscale_scrape.as_deref()?.split(',');
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Some(pairs.map(|(key, value)| (key.to_owned(), scalar(value))).collect())
    }

    /// A change of some parts is read as a whole, so what it does not say stands for nothing: those parts are not taken.
    pub(super) fn complete(service: &mut Map<String, Value>) {
        let Some(Value::Object(autoscale)) =
            service.get("x-swarm").and_then(|x| x.get("autoscale"))
        else {
            return;
        };
        let says = |key: &str| autoscale.get(key).is_some();
        let (cpu, memory) = (says("cpu"), says("memory"));
        let least = autoscale.get("min").and_then(Value::as_u64).unwrap_or(1).max(1);
        put_missing(service, "/x-swarm/autoscale/max", least.into());
        put_missing(service, "/x-swarm/autoscale/requests", 1.into());
        if cpu {
            put_missing(service, "/deploy/resources/reservations/cpus", text("1"));
        }
        if memory {
            put_missing(service, "/deploy/resources/reservations/memory", text("1g"));
        }
    }
}
