//! Requests about where images lie. They change nothing, but only the leader knows.

use swarm_proto::convert::{Fields, each};
use swarm_proto::id::NodeId;
use swarm_proto::wire;
use tonic::Status;

use super::{Write, invalid};
use crate::core::{Command, CommandDone, WantedImage};

impl Write for wire::FindImageRequest {
    const METHOD: &'static str = "FindImage";
    type Answer = wire::FindImageResponse;

    fn request_id(&self) -> String {
        self.request_id.clone()
    }

    fn object(&self) -> String {
        format!("image {}", self.reference)
    }

    fn command(self) -> Result<Command, Status> {
        let digest = Some(self.digest.as_str()).filter(|digest| !digest.is_empty());
        let digest = digest.map(|digest| Fields("FindImageRequest").text("digest", digest));
        let digest = digest.transpose().map_err(|error| invalid(&error))?;
        let asker = (self.asker != 0).then_some(NodeId(self.asker));
        Ok(Command::FindImage(WantedImage { reference: self.reference, digest, asker }))
    }

    fn answer(done: CommandDone) -> Option<Self::Answer> {
        let CommandDone::Found(found) = done else { return None };
        let digest = found.digest.map(|digest| digest.to_string()).unwrap_or_default();
        Some(Self::Answer { digest, local: found.local, holders: each(&found.holders) })
    }
}
