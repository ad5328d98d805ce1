//! Two streams between a person and an agent, carried by the controller that was asked. Nothing waits in it but a few
//! messages each way: who is slow slows down the other.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Messages on their way, in each direction.
pub const QUEUE: usize = 8;
/// How long the first message may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What comes back from an agent.
pub type Answers<O> = ReceiverStream<Result<O, Status>>;

/// Where answers go.
pub type Sender<O> = mpsc::Sender<Result<O, Status>>;

/// Answers a person by what `work` sends. Answers at once, refusals come in the stream: so a person's request, which must
/// not be sent twice, begins only when it is known to have arrived. When the person is gone, the work is given up.
pub fn answer<O, W>(work: impl FnOnce(Sender<O>) -> W) -> Answers<O>
where
    O: Send + 'static,
    W: Future<Output = Result<(), Status>> + Send + 'static,
{
    let (sender, outputs) = mpsc::channel(QUEUE);
    let work = work(sender.clone());
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = work => ended,
            () = sender.closed() => return,
        };
        if let Err(refusal) = ended {
            // An error means that nobody listens any more.
            let _ = sender.send(Err(refusal)).await;
        }
    });
    ReceiverStream::new(outputs)
}

/// The first message, which says what is asked for; `None` where nothing more comes.
pub async fn first<I>(input: &mut Streaming<I>) -> Result<Option<I>, Status> {
    let first = tokio::time::timeout(PATIENCE, input.message()).await;
    first.map_err(|_| Status::deadline_exceeded("nothing was asked for"))?
}

/// Carries messages both ways until the agent's end. When the person is gone, the agent's streams are dropped, which it
/// takes for the end.
pub async fn carry<I, O>(
    mut input: Streaming<I>,
    forward: mpsc::Sender<I>,
    mut outputs: Streaming<O>,
    sender: &Sender<O>,
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
