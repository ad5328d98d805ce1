//! Two streams between a person and an agent, carried by the controller that was asked. Nothing waits in it but a few
//! messages each way: who is slow slows down the other.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Messages on their way, in each direction.
pub const QUEUE: usize = 8;

/// What comes back from an agent.
pub type Answers<O> = ReceiverStream<Result<O, Status>>;

/// Carries messages both ways until the agent's end. When the person is gone, the agent's streams are dropped, which it
/// takes for the end.
pub async fn carry<I, O>(
    mut input: Streaming<I>,
    forward: mpsc::Sender<I>,
    mut outputs: Streaming<O>,
    sender: &mpsc::Sender<Result<O, Status>>,
    failed: impl Fn(Status) -> Status,
) -> Result<(), Status> {
    let up = async {
        while let Ok(Some(message)) = input.message().await {
            if forward.send(message).await.is_err() {
                // The agent reads no more; what it says ends this.
                std::future::pending::<()>().await;
            }
        }
    };
    let down = async {
        loop {
            let message = match outputs.message().await {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(()),
                Err(status) => return Err(failed(status)),
            };
            if sender.send(Ok(message)).await.is_err() {
                return Ok(());
            }
        }
    };
    tokio::select! {
        () = up => Ok(()),
        ended = down => ended,
    }
}
