//! Keeps the incarnations of a cluster apart: a controller of an earlier one gets nothing from this controller, and learns
//! from it that it is to stop; one that meets a later one stops itself.

use swarm_proto::object::Incarnation;
use swarm_proto::transport::{Departure, tell_incarnation, told_incarnation};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use super::hub::{Hub, View};
use super::refusal::Refusal;

/// What a request of this controller says, once it knows its cluster.
pub fn stamp<T>(hub: &Hub, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(own) = own(&hub.view()) {
        tell_incarnation(request.metadata_mut(), own);
    }
    request
}

/// Refuses a controller of another incarnation.
pub fn check_controller(hub: &Hub, headers: &MetadataMap) -> Result<(), Status> {
    let Some((own, told)) = own(&hub.view()).zip(told_incarnation(headers)) else { return Ok(()) };
    if told > own {
        hub.dismissed(Departure::Superseded(told));
        return Err(earlier(own, told));
    }
    if told < own {
        return Err(Departure::Superseded(own).mark(earlier(told, own)));
    }
    Ok(())
}

/// Refuses an agent that has heard of a later incarnation. What an agent says makes no controller stop.
pub fn check_agent(hub: &Hub, headers: &MetadataMap) -> Result<(), Status> {
    let own = own(&hub.view()).unwrap_or_default();
    let Some(told) = told_incarnation(headers).filter(|told| *told > own) else { return Ok(()) };
    tracing::warn!(%own, %told, "refused an agent that has heard of a later incarnation");
    Err(earlier(own, told))
}

/// Which incarnation this controller belongs to; `None` while it has not been let in.
pub fn own(view: &View) -> Option<Incarnation> {
    view.state.cluster.as_ref().map(|cluster| cluster.incarnation)
}

fn earlier(earlier: Incarnation, later: Incarnation) -> Status {
    let why = format!(
        "a controller of the cluster's former incarnation {earlier} has nothing to say: it was restored from a backup, or forced anew, as {later}"
    );
    Refusal::conflict(why).hint("stop that controller, and join its host anew").into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use swarm_proto::object::{Cluster, Secret};

    use super::*;
    use crate::core::State;

    const EARLY: Incarnation = Incarnation { number: 2, mark: 1 };
    const OWN: Incarnation = Incarnation { number: 2, mark: 5 };
    const LATE: Incarnation = Incarnation { number: 3, mark: 0 };

    fn hub() -> Hub {
        let cluster = Cluster::new(String::from("c"), String::new(), Secret::default());
        let cluster = Some(Arc::new(Cluster { incarnation: OWN, ..cluster }));
        let hub = Hub::default();
        hub.applied(Arc::new(State { cluster, ..State::default() }), Vec::new());
        hub
    }

    fn headers(told: Incarnation) -> MetadataMap {
        let mut headers = MetadataMap::new();
        tell_incarnation(&mut headers, told);
        headers
    }

    #[test]
    fn the_later_of_two_controllers_stays() {
        let hub = hub();
        assert!(check_controller(&hub, stamp(&hub, ()).metadata()).is_ok(), "one of its own");
        assert!(check_controller(&hub, &MetadataMap::new()).is_ok(), "one that just joined");
        let refused = check_controller(&hub, &headers(EARLY)).unwrap_err();
        assert_eq!(Departure::told(&refused), Some(Departure::Superseded(OWN)));
        assert_eq!(hub.view().dismissed, None);
        let refused = check_controller(&hub, &headers(LATE)).unwrap_err();
        assert_eq!(Departure::told(&refused), None, "the later one goes on");
        assert_eq!(hub.view().dismissed, Some(Departure::Superseded(LATE)));
    }

    #[test]
    fn an_agent_that_knows_better_is_refused_and_believed_no_further() {
        let hub = hub();
        assert!(check_agent(&hub, &MetadataMap::new()).is_ok());
        assert!(check_agent(&hub, &headers(EARLY)).is_ok(), "it learns of this one");
        let refused = check_agent(&hub, &headers(LATE)).unwrap_err();
        assert!(refused.message().contains("former incarnation 2-0000000000000005"), "{refused}");
        assert_eq!(hub.view().dismissed, None);
    }

    #[test]
    fn who_knows_no_cluster_yet_says_nothing() {
        let hub = Hub::default();
        assert_eq!(told_incarnation(stamp(&hub, ()).metadata()), None);
        assert!(check_controller(&hub, &headers(LATE)).is_ok());
    }
}
