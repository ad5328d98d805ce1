use serde::Serialize;
use swarm_manifests::{KeyOutcome, KeyUse};
use swarm_proto::id::Timestamp;

use super::View;

/// What becomes of a key of a stack file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyView {
    /// Names from the top: `services.web.ports[0].target`.
    pub key: String,
    /// The file as the user named it.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// `honoured`, `adapted`, `no effect` or `refused`.
    pub answer: &'static str,
    /// How it is adapted, or why it has no effect or is refused.
    pub why: Option<String>,
}

const REFUSED: &str = "refused";

impl KeyView {
    /// One key of a report.
    pub fn of(key: &KeyUse) -> Self {
        let (answer, why) = match &key.outcome {
            KeyOutcome::Honoured => ("honoured", None),
            KeyOutcome::Adapted(how) => ("adapted", Some(how.clone())),
            KeyOutcome::NoEffect(why) => ("no effect", Some(why.clone())),
            KeyOutcome::Refused(why) => (REFUSED, Some(why.clone())),
        };
        let KeyUse { path, file, line, column, .. } = key;
        Self { key: path.clone(), file: file.clone(), line: *line, column: *column, answer, why }
    }

    /// Whether the file is refused for it.
    pub fn is_refused(&self) -> bool {
        self.answer == REFUSED
    }
}

impl View for KeyView {
    const COLUMNS: &'static [&'static str] = &["KEY", "PLACE", "ANSWER", "WHY"];
    const WIDE_COLUMNS: &'static [&'static str] = &[];

    fn name(&self) -> String {
        self.key.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let Self { key, file, line, column, answer, why } = self;
        let place = format!("{file}:{line}:{column}");
        vec![key.clone(), place, (*answer).to_owned(), why.clone().unwrap_or_default()]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        Vec::new()
    }
}
