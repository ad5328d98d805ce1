//! Requests about runs of jobs, and one-off tasks.

use swarm_proto::wire;
use tonic::Status;

use super::Write;
use crate::core::{Command, CommandDone};

impl Write for wire::RunJobRequest {
    const METHOD: &'static str = "RunJob";
    type Answer = wire::RunJobResponse;

    fn request_id(&self) -> String {
        self.request_id.clone()
    }

    fn object(&self) -> String {
        format!("service {}", self.service)
    }

    fn command(self) -> Result<Command, Status> {
        Ok(Command::RunJob { service: self.service })
    }

    fn answer(done: CommandDone) -> Option<Self::Answer> {
        match done {
            CommandDone::RunStarted { run } => Some(Self::Answer { run }),
            _ => None,
        }
    }
}

impl Write for wire::RunOneOffRequest {
    const METHOD: &'static str = "RunOneOff";
    type Answer = wire::RunJobResponse;

    fn request_id(&self) -> String {
        self.request_id.clone()
    }

    fn object(&self) -> String {
        format!("service {}", self.service)
    }

    fn command(self) -> Result<Command, Status> {
        let command = (!self.command.is_empty()).then_some(self.command);
        Ok(Command::RunOneOff { service: self.service, command })
    }

    fn answer(done: CommandDone) -> Option<Self::Answer> {
        wire::RunJobRequest::answer(done)
    }
}

impl Write for wire::StopRunsRequest {
    const METHOD: &'static str = "StopRuns";
    type Answer = wire::StopRunsResponse;

    fn request_id(&self) -> String {
        self.request_id.clone()
    }

    fn object(&self) -> String {
        match self.run {
            Some(run) => format!("run {run} of service {}", self.service),
            None => format!("service {}", self.service),
        }
    }

    fn command(self) -> Result<Command, Status> {
        Ok(Command::StopRuns { service: self.service, run: self.run })
    }

    fn answer(done: CommandDone) -> Option<Self::Answer> {
        (done == CommandDone::Done).then(Self::Answer::default)
    }
}
