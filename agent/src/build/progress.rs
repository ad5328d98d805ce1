//! What a build tells while it goes on.

use tokio::sync::mpsc;

/// Something to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Worth a word, but nothing wrong.
    Warning(String),
    /// A step is begun.
    Begun {
        /// Its number in this build, from 1.
        step: u32,
        /// The stage: its name, or its number in the file.
        stage: String,
        /// The instruction.
        text: String,
    },
    /// A step's program wrote a line.
    Output {
        /// The step.
        step: u32,
        /// `stdout` or `stderr`.
        stream: &'static str,
        /// Without its end.
        line: Vec<u8>,
    },
    /// A step is done.
    Ended {
        /// The step.
        step: u32,
        /// Whether an earlier build had done it.
        cached: bool,
    },
}

/// Tells of one step. Nobody listening is fine.
#[derive(Debug, Clone)]
pub(super) struct Reporter {
    pub(super) to: mpsc::Sender<Progress>,
    pub(super) step: u32,
}

impl Reporter {
    pub(super) async fn tell(&self, progress: Progress) {
        let _ = self.to.send(progress).await;
    }

    pub(super) async fn output(&self, stream: &'static str, line: Vec<u8>) {
        self.tell(Progress::Output { step: self.step, stream, line }).await;
    }
}
