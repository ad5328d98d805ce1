//! Requests about one service.

use swarm_proto::convert::{Fields, each};
use swarm_proto::wire;
use tonic::Status;

use super::{Write, invalid, plain_write};
use crate::core::{Command, CommandDone};

fn changed(done: CommandDone) -> Option<wire::ChangedServiceResponse> {
    match done {
        CommandDone::Deployed { revision, changed, warnings, changes, .. } => {
            Some(wire::ChangedServiceResponse { revision, changed, warnings, changes })
        }
        _ => None,
    }
}

impl Write for wire::UpdateServiceRequest {
    const METHOD: &'static str = "UpdateService";
    type Answer = wire::ChangedServiceResponse;

    fn request_id(&self) -> String {
        self.request_id.clone()
    }

    fn object(&self) -> String {
        format!("service {}", self.service)
    }

    fn command(self) -> Result<Command, Status> {
        let change = Fields("UpdateServiceRequest").required("change", self.change);
        let change = Box::new(change.map_err(|error| invalid(&error))?);
        Ok(Command::ChangeService { service: self.service, change })
    }

    fn answer(done: CommandDone) -> Option<Self::Answer> {
        changed(done)
    }
}

plain_write!(ScaleServiceRequest, "ScaleService", ScaleServiceResponse,
self: format!("service {} to {}", self.service, self.replicas) => Command::Scale {
    service: self.service,
    replicas: self.replicas,
},
done => match done {
    CommandDone::Scaled { previous } => Some(Self::Answer { previous }),
    _ => None,
});
plain_write!(RollBackServiceRequest, "RollBackService", ChangedServiceResponse,
    self: format!("service {}", self.service) => Command::RollBackService { service: self.service },
    done => changed(done));
plain_write!(PauseServiceRequest, "PauseService", PauseServiceResponse,
self: format!("{} service {}", if self.resume { "resume" } else { "pause" }, self.service) => {
    let service = self.service;
    if self.resume {
        Command::ResumeService { service }
    } else {
        Command::PauseService { service }
    }
});
plain_write!(PromoteServiceRequest, "PromoteService", PromoteServiceResponse,
    self: format!("service {}", self.service) => Command::PromoteService { service: self.service });
plain_write!(ListScalingRequest, "ListScaling", ListScalingResponse,
self: String::from("scaling") => Command::ListScaling,
done => match done {
    CommandDone::Scaling(reports) => Some(Self::Answer { services: each(&reports) }),
    _ => None,
});
plain_write!(RemoveServiceRequest, "RemoveService", RemoveServiceResponse,
    self: format!("service {}", self.service) => Command::RemoveService { service: self.service });
