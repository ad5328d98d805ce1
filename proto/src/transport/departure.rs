//! How a refusal says that its caller's host is no controller, or no member, any more.

use tonic::Status;

use crate::object::Incarnation;

/// The header of a refusal that says how the caller ended.
const HEADER: &str = "swarm-departure";
const DEMOTED: &str = "demoted";
const REMOVED: &str = "removed";
/// Before the incarnation.
const SUPERSEDED: &str = "superseded ";

/// How a controller came to be none any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// Its node goes on with only an agent.
    Demoted,
    /// Its node is no member of the cluster any more.
    Removed,
    /// Its cluster was restored or forced anew, and is this incarnation now.
    Superseded(Incarnation),
}

impl Departure {
    /// Says so in a refusal, for the caller's program.
    pub fn mark(self, mut status: Status) -> Status {
        let text = match self {
            Self::Demoted => String::from(DEMOTED),
            Self::Removed => String::from(REMOVED),
            Self::Superseded(by) => format!("{SUPERSEDED}{by}"),
        };
        let text = text.try_into().expect("words and digits may stand in a header");
        status.metadata_mut().insert(HEADER, text);
        status
    }

    /// What a refusal says of this controller.
    pub fn told(status: &Status) -> Option<Self> {
        match status.metadata().get(HEADER)?.to_str().ok()? {
            DEMOTED => Some(Self::Demoted),
            REMOVED => Some(Self::Removed),
            text => text.strip_prefix(SUPERSEDED)?.parse().ok().map(Self::Superseded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_what_it_means() {
        let plain = Status::permission_denied("no");
        assert_eq!(Departure::told(&plain), None);
        let by = Incarnation { number: 2, mark: 10 };
        for departure in [Departure::Demoted, Departure::Removed, Departure::Superseded(by)] {
            assert_eq!(Departure::told(&departure.mark(plain.clone())), Some(departure));
        }
    }
}
