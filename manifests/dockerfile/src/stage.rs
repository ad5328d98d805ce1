//! One stage on its way: resolved steps, and the image's configuration as it grows.

mod configure;
mod copy;
mod run;
mod trigger;
mod variables;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::expand::{Budget, ExpandError, Expander};
use crate::image::{DEFAULT_PATH, History, Image};
use crate::instruction::{Instruction, What};
use crate::lines::first_word;
use crate::path;
use crate::plan::{Base, Plan, Shared};
use crate::problem::{Problem, Problems, cut};
use crate::step::{Action, From, Step, Workdir};

use variables::Variables;

/// How a stage ended, for those that begin with it.
#[derive(Debug, Clone)]
pub struct StageEnd {
    /// The image's configuration.
    pub image: Image,
    /// What variables stood for at the end, which stages that begin with this one inherit.
    variables: Variables,
    /// Build arguments that were declared; their values are among the variables.
    declared: Variables,
    budget: Budget,
}

impl std::convert::From<Image> for StageEnd {
    fn from(image: Image) -> Self {
        let (variables, declared) = (Variables::default(), Variables::default());
        Self { image, variables, declared, budget: Budget::default() }
    }
}

/// A stage on its way. It is its own: the plan may go, and threads may take it.
#[derive(Debug, Clone)]
pub struct StageRun {
    shared: Arc<Shared>,
    /// What names in `from=` mean, by the name as it is written.
    origins: BTreeMap<String, From>,
    /// What is still to come.
    queue: VecDeque<Queued>,
    image: Image,
    /// What variables stand for: the image's own, and build arguments.
    variables: Variables,
    /// The image's own variables.
    env: Variables,
    declared: Variables,
    has_cmd: bool,
    budget: Budget,
    warnings: Vec<Problem>,
}

#[derive(Debug, Clone)]
struct Queued {
    /// Whose trigger it is, if it is one.
    trigger_of: Option<String>,
    list: Arc<Vec<Instruction>>,
    index: usize,
}

/// Where an instruction stands, for what is wrong with it.
struct At<'a> {
    trigger_of: Option<&'a str>,
    instruction: &'a Instruction,
}

impl StageRun {
    /// Begins the stage at a place of the plan, with how its base ended. For an image, `StageEnd::from` its configuration.
    pub fn begin(plan: &Plan, place: usize, base: &StageEnd) -> Result<Self, Problems> {
        let stage = &plan.stages[place];
        let mut run = Self {
            shared: Arc::clone(&plan.shared),
            origins: stage.origins.clone(),
            queue: VecDeque::new(),
            image: base.image.clone(),
            variables: base.variables.clone(),
            env: Variables::default(),
            declared: base.declared.clone(),
            has_cmd: false,
            budget: base.budget.clone(),
            warnings: Vec::new(),
        };
        run.image.created = None;
        let env = &mut run.image.config.env;
        if !env.iter().any(|variable| variable.starts_with("PATH=")) {
            env.push(DEFAULT_PATH.to_owned());
        }
        for variable in env.iter() {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            run.variables.set(name, value);
            run.env.set(name, value);
        }
        let triggers = std::mem::take(&mut run.image.config.on_build);
        let label = match &stage.base {
            Base::Image(reference) => reference.clone(),
            Base::Scratch => "scratch".to_owned(),
            Base::Stage(other) => {
                let stage = &plan.stages[*other];
                stage.name.clone().unwrap_or_else(|| format!("stage {}", stage.index))
            }
        };
        run.queue_triggers(&triggers, &label, &stage.needs)?;
        for index in 0..stage.list.len() {
            run.queue.push_back(Queued { trigger_of: None, list: Arc::clone(&stage.list), index });
        }
        Ok(run)
    }

    /// Resolves the next instruction and does what touches no files; nothing at the end.
    pub fn next_step(&mut self) -> Result<Option<Step>, Problems> {
        let Some(queued) = self.queue.pop_front() else { return Ok(None) };
        let instruction = &queued.list[queued.index];
        let at = At { trigger_of: queued.trigger_of.as_deref(), instruction };
        match self.action(&at) {
            Ok(action) => {
                let line = if at.trigger_of.is_some() { 0 } else { instruction.line };
                Ok(Some(Step { line, text: instruction.text.clone(), action }))
            }
            Err(message) => Err(Problems(vec![self.problem(&at, &message)])),
        }
    }

    /// How many instructions are still to come.
    pub fn remaining(&self) -> usize {
        self.queue.len()
    }

    /// The image's configuration as it is now.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Says that the last step changed no file, so that no layer belongs to its line of history.
    pub fn made_no_layer(&mut self) {
        if let Some(last) = self.image.history.last_mut() {
            last.empty_layer = true;
        }
    }

    /// What is worth a word, since it was last asked.
    pub fn take_warnings(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.warnings)
    }

    /// The stage as it is now, once there are no more steps.
    pub fn finish(self) -> StageEnd {
        let Self { image, variables, declared, budget, .. } = self;
        StageEnd { image, variables, declared, budget }
    }

    fn action(&mut self, at: &At<'_>) -> Result<Action, String> {
        match &at.instruction.what {
            What::Run(ran) => Ok(Action::Run(Box::new(self.run(ran, at)?))),
            What::Copy(copied) => Ok(Action::Copy(Box::new(self.copy(copied, at)?))),
            What::Workdir(path) => self.workdir(path, at),
            // No instruction within a stage.
            What::From(_) => Ok(Action::Configure),
            other => {
                self.configure(other, at)?;
                Ok(Action::Configure)
            }
        }
    }

    fn workdir(&mut self, path: &str, at: &At<'_>) -> Result<Action, String> {
        let path = self.word(path, at)?;
        if path.is_empty() {
            return Err("has nothing left after it".to_owned());
        }
        let path = path::absolute(&self.image.config.working_dir, &path);
        self.image.config.working_dir.clone_from(&path);
        let is_root = path == "/";
        self.history(format!("WORKDIR {path}"), !is_root)?;
        if is_root {
            return Ok(Action::Configure);
        }
        Ok(Action::Workdir(Workdir { path, user: self.image.config.user.clone() }))
    }

    /// Variables are copied with each command, so they count each time, though little.
    fn spend_env(&mut self) -> Result<(), String> {
        let list = self.variables.list();
        let bytes: usize = list.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.budget.spend(bytes / 8).map_err(|error| error.to_string())
    }

    /// Adds a line of history.
    fn history(&mut self, created_by: String, has_layer: bool) -> Result<(), String> {
        self.budget.spend(created_by.len()).map_err(|error| error.to_string())?;
        self.image.history.push(History {
            created_by,
            empty_layer: !has_layer,
            ..History::default()
        });
        Ok(())
    }

    /// One text with its variables replaced.
    fn word(&mut self, text: &str, at: &At<'_>) -> Result<String, String> {
        self.expanded(at, |expander| expander.word(text))
    }

    fn expanded<T>(
        &mut self,
        at: &At<'_>,
        expand: impl FnOnce(&mut Expander<'_>) -> Result<T, ExpandError>,
    ) -> Result<T, String> {
        let escape = if at.trigger_of.is_some() { '\\' } else { self.shared.escape };
        let mut expander = Expander::new(escape, &self.variables, &mut self.budget);
        let result = expand(&mut expander);
        let unset = expander.unset;
        for name in unset {
            let name = cut(&name);
            self.warn(at, format!("uses the variable `{name}`, which is not set and so empty"));
        }
        result.map_err(|error| error.to_string())
    }

    fn warn(&mut self, at: &At<'_>, message: String) {
        let problem = Problem { message, ..self.problem(at, "") };
        if !self.warnings.contains(&problem) && self.warnings.len() < 100 {
            self.warnings.push(problem);
        }
    }

    fn problem(&self, at: &At<'_>, message: &str) -> Problem {
        let message = message.to_owned();
        match at.trigger_of {
            None => {
                let file = self.shared.file.clone();
                let (name, _) = first_word(&at.instruction.text);
                let message = format!("`{name}` {message}");
                Problem { file, line: at.instruction.line, message, hint: None }
            }
            Some(base) => {
                let text = &at.instruction.text;
                let message = format!("has a trigger, `{text}`, that {message}");
                Problem { file: cut(base), line: 0, message, hint: None }
            }
        }
    }
}
