//! A build as a person follows it, on standard error.

use std::collections::BTreeMap;

use swarm_proto::wire::build_output::Output;

use crate::output;

/// What was begun and is not done.
#[derive(Debug, Default)]
pub(super) struct Progress {
    steps: BTreeMap<u32, String>,
}

impl Progress {
    pub(super) fn show(&mut self, said: &Output) {
        if let Some(line) = self.line(said) {
            output::talk(&line);
        }
    }

    fn line(&mut self, said: &Output) -> Option<String> {
        match said {
            Output::Started(started) => Some(format!("building on {}", started.node)),
            Output::Begun(begun) => {
                let shown = format!("[{}] {}", begun.stage, begun.text);
                self.steps.insert(begun.step, shown.clone());
                Some(format!("#{} {shown}", begun.step))
            }
            Output::Line(line) => {
                let text = String::from_utf8_lossy(&line.line);
                Some(format!("#{} {}", line.step, printable(&text)))
            }
            Output::Ended(ended) => {
                self.steps.remove(&ended.step)?;
                let how = if ended.cached { "as before" } else { "done" };
                Some(format!("#{} {how}", ended.step))
            }
            Output::Warning(text) => {
                output::warn(text);
                None
            }
            Output::Done(_) => None,
        }
    }
}

/// A line that cannot move the cursor or change the terminal; what a program overwrote with returns is left out.
fn printable(text: &str) -> String {
    let last = text.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    last.chars().filter(|c| !c.is_control() || *c == '\t').collect()
}

#[cfg(test)]
mod tests {
    use swarm_proto::wire;

    use super::*;

    #[test]
    fn steps_are_told_with_their_numbers() {
        let mut progress = Progress::default();
        let mut line = |said: Output| progress.line(&said);
        let begun = |step, text: &str| {
            Output::Begun(wire::BuildStepBegun {
                step,
                stage: "build".to_owned(),
                text: text.to_owned(),
            })
        };
        assert_eq!(line(begun(1, "RUN make")).unwrap(), "#1 [build] RUN make");
        let bytes = b"10%\r20%\x1b[31m\r".to_vec();
        let said = Output::Line(wire::BuildStepOutput { step: 1, is_error: false, line: bytes });
        assert_eq!(line(said).unwrap(), "#1 20%[31m");
        let ended = |cached| Output::Ended(wire::BuildStepEnded { step: 1, cached });
        assert_eq!(line(ended(true)).unwrap(), "#1 as before");
        assert_eq!(line(ended(true)), None);
    }
}
