//! Requests about the cluster's settings and moves of tasks.

use swarm_proto::convert::each;
use swarm_proto::object::RebalanceMode;
use swarm_proto::wire;
use tonic::Status;

use super::{Write, plain_write};
use crate::core::{Command, CommandDone};
use crate::shell::refusal::Refusal;

impl Write for wire::UpdateClusterRequest {
    const METHOD: &'static str = "UpdateCluster";
    type Answer = wire::UpdateClusterResponse;

    fn request_id(&self) -> String {
        self.request_id.clone()
    }

    fn object(&self) -> String {
        let mode = Option::<RebalanceMode>::from(self.rebalance()).map(|mode| format!("{mode}"));
        let moves = self.moves_per_minute.map(|moves| format!("{moves} moves per minute"));
        let changes: Vec<String> = mode.into_iter().chain(moves).collect();
        format!("rebalance {}", changes.join(", "))
    }

    fn command(self) -> Result<Command, Status> {
        let rebalance = wire::RebalanceMode::try_from(self.rebalance)
            .map_err(|_| Refusal::invalid("this way to rebalance is not known"))?;
        let (rebalance, moves_per_minute) = (rebalance.into(), self.moves_per_minute);
        Ok(Command::UpdateCluster { rebalance, moves_per_minute })
    }

    fn answer(done: CommandDone) -> Option<Self::Answer> {
        (done == CommandDone::Done).then(Self::Answer::default)
    }
}

plain_write!(RebalanceRequest, "Rebalance", RebalanceResponse,
self: format!("services {}", self.services.join(", ")) => Command::Rebalance {
    services: self.services,
},
done => match done {
    CommandDone::Moved(moves) => Some(Self::Answer { moves: each(&moves) }),
    _ => None,
});
