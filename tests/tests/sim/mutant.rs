//! Faults planted on purpose, to see that the simulation finds them.

use swarm_controller::core::planted::Fault;

/// A disk that lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiskMutant {
    /// It says that all is durable, and syncs nothing.
    SyncSkipped,
    /// It takes a torn record for whole.
    TornRecordTaken,
    /// It does not look at sums.
    FlippedBitUnseen,
    /// It does not sync what it reads at the start.
    StartUnsynced,
}

/// What is wrong in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// The disks lie.
    Disk(DiskMutant),
    /// The core has a fault.
    Core(Fault),
}

impl Mutant {
    pub(crate) fn all() -> Vec<Self> {
        let disks = [
            DiskMutant::SyncSkipped,
            DiskMutant::TornRecordTaken,
            DiskMutant::FlippedBitUnseen,
            DiskMutant::StartUnsynced,
        ];
        let built_in = cfg!(feature = "planted-faults");
        let core = Fault::ALL.into_iter().filter(|_| built_in).map(Self::Core);
        disks.map(Self::Disk).into_iter().chain(core).collect()
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Disk(mutant) => format!("{mutant:?}"),
            Self::Core(fault) => format!("{fault:?}"),
        }
    }

    /// The one that `SWARM_SIM_MUTANT` names.
    pub(crate) fn chosen() -> Option<Self> {
        let name = std::env::var("SWARM_SIM_MUTANT").ok()?;
        let chosen = Self::all().into_iter().find(|mutant| mutant.name() == name);
        Some(chosen.unwrap_or_else(|| panic!("there is no planted fault `{name}`")))
    }

    pub(crate) fn disk(self) -> Option<DiskMutant> {
        match self {
            Self::Disk(mutant) => Some(mutant),
            Self::Core(_) => None,
        }
    }
}
