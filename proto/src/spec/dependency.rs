use serde::{Deserialize, Serialize};

use super::is_default;

/// How far another service must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DependencyCondition {
    /// A task of it has started once.
    #[default]
    Started,
    /// A task of it runs and is healthy, where its health is looked at.
    Healthy,
    /// Its tasks have ended with success.
    Completed,
}

/// A service of the stack that another one needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Dependency {
    /// Its key in the stack file.
    pub service: String,
    /// How far it must be before the first task of the other starts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub condition: DependencyCondition,
    /// The other's tasks are replaced whenever this one's are, because it was updated.
    #[serde(default, skip_serializing_if = "is_default")]
    pub restart: bool,
}

impl Dependency {
    /// Waits for a start only.
    pub fn started(service: impl Into<String>) -> Self {
        let condition = DependencyCondition::Started;
        Self { service: service.into(), condition, restart: false }
    }

    /// Whether it says more than cluster version 3 knew: the name of a service.
    pub(crate) fn is_later(&self) -> bool {
        self.condition != DependencyCondition::Started || self.restart
    }
}
