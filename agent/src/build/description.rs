//! When a finished image and its parts came to be.

use swarm_dockerfile::Image;
use swarm_proto::id::Timestamp;

/// When each line of a history came to be: with the layer that was made last. An image whose layers all come from
/// earlier builds is so the same image again.
#[derive(Debug)]
pub(super) struct Dates {
    /// What every date is, where the client says so.
    fixed: Option<u64>,
    last: Option<String>,
    /// For each line of the history.
    lines: Vec<Option<String>>,
}

impl Dates {
    pub(super) fn begin(base: &Image, epoch: Option<u64>) -> Self {
        let last = epoch.map_or_else(|| base.created.clone(), |epoch| Some(date(epoch)));
        let lines = base.history.iter().map(|line| line.created.clone()).collect();
        Self { fixed: epoch, last, lines }
    }

    /// A layer was made, now or by an earlier build.
    pub(super) fn layer(&mut self, made_at: Timestamp) {
        self.last = Some(date(self.fixed.unwrap_or(made_at.0 / 1000)));
    }

    /// The history has grown.
    pub(super) fn told(&mut self, image: &Image) {
        self.lines.resize(image.history.len(), self.last.clone());
    }

    /// Fills dates in.
    pub(super) fn fill(self, image: &mut Image) {
        for (line, date) in image.history.iter_mut().zip(self.lines) {
            line.created = date;
        }
        image.created = self.last;
    }
}

/// As RFC 3339 has it, in UTC.
fn date(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}
