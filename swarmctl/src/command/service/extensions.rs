//! Flags of `service create` and `service update` that Docker's services do not have.

use super::flags::Scalar;
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
}

impl Extensions {
    /// Takes a canary away.
    pub(super) const NO_CANARY: &str = "none";

    /// Refuses what contradicts itself.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.canary.as_deref() == Some(Self::NO_CANARY) && self.canary_hold.is_some() {
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
        ]
    }
}
