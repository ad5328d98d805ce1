//! Requests about one service.

use swarm_proto::convert::Fields;
use swarm_proto::wire;
use tonic::Status;

use super::{Write, invalid};
use crate::core::{Command, CommandDone};

fn changed(done: CommandDone) -> Option<wire::ChangedServiceResponse> {
    match done {
        CommandDone::Deployed { revision, changed, warnings, changes, .. } => {
            Some(wire::ChangedServiceResponse { revision, changed, warnings, changes })
        }
        _ => None,
    }
}

impl Write for wire::ScaleServiceRequest {
    const METHOD: &'static str = "ScaleService";
    type Answer = wire::ScaleServiceResponse;

    fn request_id(&self) -> String {
        self.request_id.clone()
    }

    fn object(&self) -> String {
        format!("service {} to {}", self.service, self.replicas)
    }

    fn command(self) -> Result<Command, Status> {
        Ok(Command::Scale { service: self.service, replicas: self.replicas })
    }

    fn answer(done: CommandDone) -> Option<Self::Answer> {
        match done {
            CommandDone::Scaled { previous } => Some(Self::Answer { previous }),
            _ => None,
        }
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

impl Write for wire::RollBackServiceRequest {
    const METHOD: &'static str = "RollBackService";
    type Answer = wire::ChangedServiceResponse;

    fn request_id(&self) -> String {
        self.request_id.clone()
    }

    fn object(&self) -> String {
        format!("service {}", self.service)
    }

    fn command(self) -> Result<Command, Status> {
        Ok(Command::RollBackService { service: self.service })
    }

    fn answer(done: CommandDone) -> Option<Self::Answer> {
        changed(done)
    }
}

impl Write for wire::PauseServiceRequest {
    const METHOD: &'static str = "PauseService";
    type Answer = wire::PauseServiceResponse;

    fn request_id(&self) -> String {
        self.request_id.clone()
    }

    fn object(&self) -> String {
        let what = if self.resume { "resume" } else { "pause" };
        format!("{what} service {}", self.service)
    }

    fn command(self) -> Result<Command, Status> {
        let service = self.service;
        Ok(if self.resume {
            Command::ResumeService { service }
        } else {
            Command::PauseService { service }
        })
    }

    fn answer(done: CommandDone) -> Option<Self::Answer> {
        matches!(done, CommandDone::Done).then(Self::Answer::default)
    }
}

impl Write for wire::RemoveServiceRequest {
    const METHOD: &'static str = "RemoveService";
    type Answer = wire::RemoveServiceResponse;

    fn request_id(&self) -> String {
        self.request_id.clone()
    }

    fn object(&self) -> String {
        format!("service {}", self.service)
    }

    fn command(self) -> Result<Command, Status> {
        Ok(Command::RemoveService { service: self.service })
    }

    fn answer(done: CommandDone) -> Option<Self::Answer> {
        matches!(done, CommandDone::Done).then(Self::Answer::default)
    }
}
