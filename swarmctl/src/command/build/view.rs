//! What a build would do, and what it made.

use serde::Serialize;
use swarm_dockerfile::{Base, Plan};

use super::context::Found;
use crate::failure::Failure;
use crate::output::Format;
use crate::view;

/// A build that was thought through, as `build --check` prints it.
#[derive(Debug, Serialize)]
pub(super) struct PlanView {
    file: String,
    stages: Vec<StageView>,
    context: Option<ContextView>,
}

#[derive(Debug, Serialize)]
struct StageView {
    /// Its name, or its number in the file.
    name: String,
    line: usize,
    /// An image, a stage, or `scratch`.
    base: String,
    platform: String,
    instructions: usize,
    /// Stages that are built before.
    needs: Vec<String>,
    /// Images that files are taken from.
    images: Vec<String>,
}

/// What would be sent.
#[derive(Debug, Serialize)]
struct ContextView {
    entries: usize,
    bytes: u64,
}

impl PlanView {
    pub(super) fn new(file: &str, plan: &Plan, context: &Found) -> Self {
        let name = |place: usize| {
            let stage = &plan.stages[place];
            stage.name.clone().unwrap_or_else(|| stage.index.to_string())
        };
        let stages = plan.stages.iter().enumerate().map(|(place, stage)| StageView {
            name: name(place),
            line: stage.line,
            base: match &stage.base {
                Base::Scratch => "scratch".to_owned(),
                Base::Image(reference) => reference.clone(),
                Base::Stage(other) => format!("stage {}", name(*other)),
            },
            platform: stage.platform.to_string(),
            instructions: stage.instructions,
            needs: stage.needs.iter().map(|need| name(*need)).collect(),
            images: stage.images.iter().cloned().collect(),
        });
        let context = ContextView { entries: context.count(), bytes: context.bytes() };
        let context = plan.uses_context().then_some(context);
        Self { file: file.to_owned(), stages: stages.collect(), context }
    }

    pub(super) fn text(&self, format: Format) -> Result<String, Failure> {
        match format {
            Format::Json => view::json(self),
            Format::Yaml => view::yaml(self),
            Format::Name => {
                let names: Vec<&str> =
                    self.stages.iter().map(|stage| stage.name.as_str()).collect();
                Ok(names.join("\n"))
            }
            Format::Table | Format::Wide => Ok(self.words()),
        }
    }

    fn words(&self) -> String {
        let mut lines = vec![format!("`{}` can be built", self.file)];
        lines.extend(self.stages.iter().map(StageView::words));
        lines.push(match &self.context {
            Some(ContextView { entries, bytes }) => {
                format!("  the context: {entries} files and folders, {bytes} bytes")
            }
            None => "  nothing of the context".to_owned(),
        });
        lines.join("\n")
    }
}

impl StageView {
    fn words(&self) -> String {
        let Self { name, base, instructions, platform, .. } = self;
        let mut parts =
            vec![format!("  stage {name} from {base}: {instructions} instructions, {platform}")];
        for (word, names) in [("after", &self.needs), ("takes files of", &self.images)] {
            if !names.is_empty() {
                parts.push(format!("{word} {}", names.join(", ")));
            }
        }
        parts.join(", ")
    }
}

/// An image that was built.
#[derive(Debug, Serialize)]
pub(super) struct BuiltView<'a> {
    pub(super) digest: &'a str,
    pub(super) size: u64,
    pub(super) names: &'a [String],
}

impl BuiltView<'_> {
    pub(super) fn text(&self, format: Format) -> Result<String, Failure> {
        match format {
            Format::Json => view::json(self),
            Format::Yaml => view::yaml(self),
            Format::Table | Format::Wide | Format::Name => Ok(self.digest.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use swarm_dockerfile::{Ignore, Platform, Wishes, plan, read};

    use super::*;
    use crate::command::build::context::Context;

    #[test]
    fn a_check_says_what_would_be_built() {
        let text = "FROM busybox AS tools\nRUN true\nFROM tools\nCOPY --from=tools /a /a\nCOPY --from=other/image:1 /b /c\nCOPY . /x\n";
        let wishes = Wishes { platform: Platform::linux("amd64"), ..Wishes::default() };
        let plan = plan(&read(text, "Dockerfile").unwrap(), &wishes).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x"), "four").unwrap();
        let context = Context { folder: folder.path().to_owned(), ignore: Ignore::default() };
        let view = PlanView::new("Dockerfile", &plan, &context.found().unwrap());
        let lines = [
            "`Dockerfile` can be built",
            "  stage tools from busybox: 1 instructions, linux/amd64",
            "  stage 1 from stage tools: 3 instructions, linux/amd64, after tools, takes files of other/image:1",
            "  the context: 1 files and folders, 4 bytes",
        ];
        assert_eq!(view.text(Format::Table).unwrap(), lines.join("\n"));
        assert_eq!(view.text(Format::Name).unwrap(), "tools\n1");
        let json = view.text(Format::Json).unwrap();
        assert!(json.contains("\"entries\": 1") && json.contains("\"stage tools\""), "{json}");
    }
}
