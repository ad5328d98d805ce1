use std::fmt::Write as _;

use serde::Serialize;

/// What `doctor` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DoctorView {
    /// Whether no quorum confirmed what the cluster says.
    pub stale: bool,
    /// Controllers that answered.
    pub controllers: usize,
    /// Hosts that answered.
    pub hosts: usize,
    /// Every difference.
    pub differences: Vec<DifferenceView>,
}

/// One difference between what is wished, what the controllers hold and what a host holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DifferenceView {
    /// The node; empty for the cluster as a whole.
    pub node: String,
    /// What kind of thing differs: `controller`, `service`, `node`, `host`, `task`, `network`, `volume`, `namespace`,
    /// `link`, `address`, `rules`, `cgroup`, `mount`, `container` or `folder`.
    pub kind: String,
    /// Which.
    pub object: String,
    /// How, one sentence.
    pub problem: String,
    /// What to do.
    pub hint: String,
}

impl DoctorView {
    /// For people: each difference with its hint, then how much was looked at.
    pub fn words(&self) -> String {
        let mut text = String::new();
        for found in &self.differences {
            let DifferenceView { node, kind, object, problem, hint } = found;
            let is_whole = node.is_empty() || node == object;
            let place = if is_whole { String::new() } else { format!("{node}: ") };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{place}{kind} `{object}` {problem}\n  hint: {hint}");
        }
        let count = match self.differences.len() {
            0 => String::from("no difference"),
            1 => String::from("1 difference"),
            more => format!("{more} differences"),
        };
        text + &format!(
            "{count} between {} controllers and {} hosts\n",
            self.controllers, self.hosts
        )
    }
}
