//! Differences between what this host was told and what it holds, as `swarmctl doctor` names them.

use swarm_proto::wire;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What kind of thing differs: `link`, `cgroup`, …
    pub kind: &'static str,
    /// Which, for a person.
    pub object: String,
    /// How, one sentence.
    pub problem: String,
    /// What to do.
    pub hint: &'static str,
}

/// What helps when something that a network or task needs is gone.
const REPLACE: &str = "restart the agent, which puts it in place again; if that does not help, drain the node and activate it again";

/// What helps when something of a kind belongs to nobody.
fn removal(kind: &str) -> &'static str {
    match kind {
        "cgroup" => "remove it with `rmdir`, once no process is in it",
        "mount" => "unmount it with `umount`",
        "address" => "take it away with `ip address del` in the task's namespace",
        _ => "restart the agent: it removes what no network or task owns when it starts",
    }
}

impl Difference {
    /// Something that should be there is not.
    pub fn lacking(
        kind: &'static str,
        object: impl Into<String>,
        problem: impl Into<String>,
    ) -> Self {
        Self { kind, object: object.into(), problem: problem.into(), hint: REPLACE }
    }

    /// Something is there that nobody owns.
    pub fn stray(
        kind: &'static str,
        object: impl Into<String>,
        problem: impl Into<String>,
    ) -> Self {
        Self { kind, object: object.into(), problem: problem.into(), hint: removal(kind) }
    }

    /// Something could not be looked at.
    pub fn unseen(what: &str, error: &dyn std::error::Error) -> Self {
        let problem = format!("could not be looked at: {}", swarm_proto::failure::sentence(error));
        let hint = "see the agent's log";
        Self { kind: "host", object: what.to_owned(), problem, hint }
    }
}

impl From<Difference> for wire::Difference {
    fn from(found: Difference) -> Self {
        let Difference { kind, object, problem, hint } = found;
        Self { kind: kind.to_owned(), object, problem, hint: hint.to_owned() }
    }
}
