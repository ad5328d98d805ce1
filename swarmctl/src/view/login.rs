use serde::Serialize;
use swarm_proto::id::Timestamp;
use swarm_proto::wire;

use super::{View, age, time};

/// A login of the cluster at a registry, as `login --list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoginView {
    /// The registry.
    pub registry: String,
    /// The name.
    pub user: String,
    /// When it was kept.
    pub updated_at: String,
    #[serde(skip)]
    updated_time: Timestamp,
}

impl LoginView {
    /// The view of one login.
    pub fn of(login: wire::ShownLogin) -> Self {
        let updated_time = Timestamp(login.updated_at);
        let updated_at = time(updated_time);
        Self { registry: login.registry, user: login.user, updated_at, updated_time }
    }
}

impl View for LoginView {
    const COLUMNS: &'static [&'static str] = &["REGISTRY", "NAME", "KEPT"];
    const WIDE_COLUMNS: &'static [&'static str] = &[];

    fn name(&self) -> String {
        self.registry.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let kept = format!("{} ago", age(self.updated_time, now));
        vec![self.registry.clone(), self.user.clone(), kept]
    }

    fn wide_cells(&self, _: Timestamp) -> Vec<String> {
        Vec::new()
    }
}
