//! What becomes of a service by what is wanted of it now, was wanted lately, and was done last. Pure.

use swarm_proto::id::Timestamp;
use swarm_proto::spec::Autoscale;

use super::usage::Recent;

/// A service as scaling looks at it.
#[derive(Debug, Clone)]
pub struct Sight<'a> {
    /// Cluster time.
    pub now: Timestamp,
    /// How many tasks it shall have.
    pub replicas: u32,
    /// How many it should have by what is measured now, within its bounds; `None` where nothing is.
    pub wanted: Option<u32>,
    /// Running tasks of which something is not known.
    pub unmeasured: u32,
    /// How many it should have had lately.
    pub recent: Option<&'a Recent>,
    /// When it was scaled last.
    pub scaled_at: Option<Timestamp>,
    /// Whether its tasks are being exchanged.
    pub is_updating: bool,
    /// Whether connections wait for it.
    pub is_demanded: bool,
}

/// Why a service is not scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Its tasks are being exchanged.
    Updating,
    /// It has no task, and a connection makes the first one.
    AtZero,
    /// Nothing is measured.
    NoMeasurement,
    /// So many running tasks are not measured whole: they may have much to do.
    Unmeasured(u32),
    /// Fewer tasks are wanted, but not for long enough until then.
    Stabilising(Timestamp),
    /// It was scaled not long ago.
    CoolingDown(Timestamp),
}

impl Held {
    /// When that is over, where time alone ends it.
    pub fn until(self) -> Option<Timestamp> {
        match self {
            Self::Stabilising(until) | Self::CoolingDown(until) => Some(until),
            Self::Updating | Self::AtZero | Self::NoMeasurement | Self::Unmeasured(_) => None,
        }
    }

    /// For a person.
    pub(super) fn words(self, now: Timestamp) -> String {
        let left = |until: Timestamp| until.since(now).as_millis().div_ceil(1_000);
        match self {
            Self::Updating => "update under way".to_owned(),
            Self::AtZero => "at zero, wakes on connection".to_owned(),
            Self::NoMeasurement => "no measurement".to_owned(),
            Self::Unmeasured(1) => "no measurement of 1 task".to_owned(),
            Self::Unmeasured(tasks) => format!("no measurement of {tasks} tasks"),
            Self::Stabilising(until) => format!("stabilising, {} s left", left(until)),
            Self::CoolingDown(until) => format!("cool-down, {} s left", left(until)),
        }
    }
}

/// What becomes of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// How many tasks it shall have from now on; `None` leaves it as it is.
    pub replicas: Option<u32>,
    /// Why, although another number is wanted or might be.
    pub held: Option<Held>,
}

impl Verdict {
    fn held(held: Held) -> Self {
        Self { replicas: None, held: Some(held) }
    }
}

/// Decides about a service.
pub fn decide(autoscale: &Autoscale, sight: &Sight<'_>) -> Verdict {
    let Sight { now, replicas, .. } = *sight;
    if replicas == 0 && autoscale.min == 0 {
        // Somebody waits: neither an update nor a cool-down does.
        let first = sight.is_demanded.then(|| autoscale.first());
        return Verdict { replicas: first, held: first.is_none().then_some(Held::AtZero) };
    }
    if sight.is_updating {
        return Verdict::held(Held::Updating);
    }
    let Some(wanted) = sight.wanted else { return Verdict::held(Held::NoMeasurement) };
    let wanted = autoscale.bound(wanted);
    if wanted == replicas {
        let unmeasured = Some(sight.unmeasured).filter(|tasks| *tasks > 0);
        return Verdict { replicas: None, held: unmeasured.map(Held::Unmeasured) };
    }
    let mut to = wanted;
    if wanted < replicas {
        // As many as were wanted at any time of the stabilisation, all of which must have been seen.
        let (highest, until) = match sight.recent {
            Some(recent) => recent.look(replicas, autoscale.stabilisation, now),
            None => (replicas, now.after(autoscale.stabilisation)),
        };
        to = autoscale.bound(highest.max(wanted));
        if to >= replicas {
            return Verdict::held(Held::Stabilising(until));
        }
    }
    let cool = sight.scaled_at.map(|at| at.after(autoscale.cool_down));
    match cool.filter(|until| *until > now) {
        Some(until) => Verdict::held(Held::CoolingDown(until)),
        None => Verdict { replicas: Some(to), held: None },
    }
}
