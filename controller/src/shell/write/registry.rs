//! Requests about logins at registries.

use swarm_proto::convert::Fields;
use swarm_proto::wire;
use tonic::Status;

use super::{Write, invalid};
use crate::core::{Command, CommandDone};

impl Write for wire::LogInRequest {
    const METHOD: &'static str = "LogIn";
    type Answer = wire::LogInResponse;

    fn request_id(&self) -> String {
        self.request_id.clone()
    }

    fn object(&self) -> String {
        match &self.login {
            Some(login) => format!("registry {} as {}", login.registry, login.user),
            None => String::from("a registry"),
        }
    }

    fn command(self) -> Result<Command, Status> {
        let login = Fields("LogInRequest").required("login", self.login);
        Ok(Command::LogIn { login: Box::new(login.map_err(|error| invalid(&error))?) })
    }

    fn answer(done: CommandDone) -> Option<Self::Answer> {
        (done == CommandDone::Done).then(Self::Answer::default)
    }
}

impl Write for wire::LogOutRequest {
    const METHOD: &'static str = "LogOut";
    type Answer = wire::LogOutResponse;

    fn request_id(&self) -> String {
        self.request_id.clone()
    }

    fn object(&self) -> String {
        format!("registry {}", self.registry)
    }

    fn command(self) -> Result<Command, Status> {
        let registry = Fields("LogOutRequest").text("registry", &self.registry);
        Ok(Command::LogOut { registry: registry.map_err(|error| invalid(&error))? })
    }

    fn answer(done: CommandDone) -> Option<Self::Answer> {
        (done == CommandDone::Done).then(Self::Answer::default)
    }
}
