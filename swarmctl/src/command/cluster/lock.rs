//! `cluster lock` and `cluster unlock`: whether the disk of a controller says nothing without a person.

use swarm_proto::wire;
use swarm_proto::wire::local_client::LocalClient;

use crate::command::Call;
use crate::connect::{self, Client, request_id};
use crate::failure::Failure;
use crate::hidden;
use crate::output;

/// Locks the cluster: after a start each controller waits for the unlock key, which is printed once
///
/// Each controller keeps the key of its log and snapshots wrapped under the unlock key, which is on no disk. Without it a
/// controller that was stopped cannot be started again: keep it where the hosts are not.
#[derive(Debug, clap::Args)]
pub(crate) struct Lock {
    /// Change the unlock key of a locked cluster
    #[arg(long, conflicts_with = "off")]
    rotate: bool,
    /// Take the lock off
    #[arg(long)]
    off: bool,
}

pub(super) async fn lock(lock: &Lock, call: &Call) -> Result<(), Failure> {
    let Lock { rotate, off } = *lock;
    let request = wire::SetLockRequest { request_id: request_id()?, rotate, off };
    let ask = async |mut client: Client| client.set_lock(request.clone()).await;
    let answer = call.cluster.call(ask).await?;
    if off {
        output::talk("the cluster is not locked any more: its controllers start by themselves");
        return Ok(());
    }
    output::data(&answer.unlock_key);
    output::talk(if rotate {
        "this is the unlock key now; it is not shown again. Controllers that are away ask for the one before"
    } else {
        "this is the unlock key; it is not shown again. After a start each controller waits for \
         `swarmctl cluster unlock` on its host"
    });
    Ok(())
}

/// Reads the key from standard input: an argument could be seen by everybody on the host.
pub(super) async fn unlock(call: &Call) -> Result<(), Failure> {
    let channel = call.cluster.local().await?;
    let key = hidden::read_line("unlock key:").await?;
    if key.reveal().is_empty() {
        return Err(Failure::refused("no unlock key came on standard input")
            .hint("`swarmctl cluster lock` printed it: give it in one line"));
    }
    let request = wire::UnlockRequest { unlock_key: key.reveal().to_owned() };
    let asked = LocalClient::new(channel).unlock(request).await;
    asked.map_err(|status| connect::refusal(&status))?;
    output::talk("this controller is unlocked and starts");
    Ok(())
}
