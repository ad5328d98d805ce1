//! Requests about runs of jobs, and one-off tasks.

use swarm_proto::wire;
use tonic::Status;

use super::{Write, plain_write};
use crate::core::{Command, CommandDone};

fn begun(done: &CommandDone) -> Option<wire::RunJobResponse> {
    match done {
        CommandDone::RunStarted { run } => Some(wire::RunJobResponse { run: *run }),
        _ => None,
    }
}

plain_write!(RunJobRequest, "RunJob", RunJobResponse,
    self: format!("service {}", self.service) => Command::RunJob { service: self.service },
    done => begun(&done));
plain_write!(RunOneOffRequest, "RunOneOff", RunJobResponse,
self: format!("service {}", self.service) => Command::RunOneOff {
    service: self.service,
    command: (!self.command.is_empty()).then_some(self.command),
},
done => begun(&done));
plain_write!(StopRunsRequest, "StopRuns", StopRunsResponse,
self: match self.run {
    Some(run) => format!("run {run} of service {}", self.service),
    None => format!("service {}", self.service),
} => Command::StopRuns { service: self.service, run: self.run });
