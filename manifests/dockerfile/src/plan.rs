//! Which stages a build needs, and in what order.

mod platform;
mod scope;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::dockerfile::{Dockerfile, Stage, image_name, origins};
use crate::expand::{Budget, Expander};
use crate::instruction::{Instruction, What, nearest};
use crate::problem::{Gathered, Problem, Problems, cut};
use crate::step::From;

pub use platform::{InvalidPlatform, Platform};
pub(crate) use scope::is_proxy;

/// What the client asks for.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// The stage to build, by name or number; the last one, when none is named.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// The ids of secrets that come with the build. Where it is known, a required one that is missing is a problem.
    pub secrets: Option<BTreeSet<String>>,
    /// What is built on, and built for where the file does not say otherwise.
    pub platform: Platform,
}

/// A build, thought through.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The stages that are needed, each after those that it needs. The last one is the target.
    pub stages: Vec<PlannedStage>,
    /// What is worth a word.
    pub warnings: Vec<Problem>,
    pub(crate) shared: Arc<Shared>,
}

/// What all stages of a plan have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) file: String,
    pub(crate) escape: char,
    /// Values of arguments before the first `FROM`, and those of the platform.
    pub(crate) globals: BTreeMap<String, String>,
    pub(crate) build_args: BTreeMap<String, String>,
    /// Numbers of stages in the file, by name.
    pub(crate) names: BTreeMap<String, usize>,
    /// Places in the plan, by number in the file.
    pub(crate) places: BTreeMap<usize, usize>,
}

/// A stage that is needed.
#[derive(Debug, Clone)]
pub struct PlannedStage {
    /// Its number in the file, counted from zero.
    pub index: usize,
    /// Its name: `AS build`.
    pub name: Option<String>,
    /// The line of its `FROM`.
    pub line: usize,
    /// What it begins with.
    pub base: Base,
    /// What it is built for.
    pub platform: Platform,
    /// Places in the plan's list of stages that must be there before: its base, and those that files are taken from.
    /// Stages that do not need one another may be built at the same time.
    pub needs: BTreeSet<usize>,
    /// Images that files are taken from.
    pub images: BTreeSet<String>,
    /// Whether it takes files of the context. Triggers of a base image are not known yet.
    pub uses_context: bool,
    /// How many instructions it has, those of triggers not counted.
    pub instructions: usize,
    pub(crate) list: Arc<Vec<Instruction>>,
    /// What names in `from=` mean.
    pub(crate) origins: BTreeMap<String, From>,
}

/// What a stage begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An image: its reference, as written.
    Image(String),
    /// Another stage: its place in the plan's list.
    Stage(usize),
}

impl Plan {
    /// Whether any stage takes files of the context, as far as that is known before base images are.
    pub fn uses_context(&self) -> bool {
        self.stages.iter().any(|stage| stage.uses_context)
    }
}

/// Thinks a build through. What is wrong with stages that are not needed does not matter.
pub fn plan(dockerfile: &Dockerfile, wishes: &Wishes) -> Result<Plan, Problems> {
    let mut planner = Planner {
        dockerfile,
        wishes,
        problems: Gathered::new(&dockerfile.file),
        warnings: dockerfile.warnings().to_vec(),
        budget: Budget::default(),
        globals: BTreeMap::new(),
        bases: BTreeMap::new(),
    };
    planner.globals = planner.globals();
    let Some(target) = planner.target() else {
        return Err(Problems(planner.problems.into_list()));
    };
    planner.find_stages(target);
    planner.warn_of_unused();
    planner.finish()
}

struct Planner<'a> {
    dockerfile: &'a Dockerfile,
    wishes: &'a Wishes,
    problems: Gathered,
    warnings: Vec<Problem>,
    budget: Budget,
    globals: BTreeMap<String, String>,
    /// What stages that are needed begin with, by number in the file; `Base::Stage` holds such a number, too.
    bases: BTreeMap<usize, StageBase>,
}

/// What a stage begins with, and the platform that its `FROM` names.
type StageBase = (Base, Option<Platform>);

impl Planner<'_> {
    /// The number of the stage that is wished.
    fn target(&mut self) -> Option<usize> {
        let stages = &self.dockerfile.stages;
        let Some(name) = &self.wishes.target else { return stages.len().checked_sub(1) };
        let by_number = name.parse::<usize>().ok().filter(|number| *number < stages.len());
        let by_name = self.dockerfile.names.get(&name.to_ascii_lowercase()).copied();
        let found = by_name.or(by_number);
        if found.is_none() {
            let message = format!("has no stage `{}`, which is the target", cut(name));
            let names: Vec<&str> = self.dockerfile.names.keys().map(String::as_str).collect();
            let hint = match nearest(name, &names) {
                Some(near) => format!("do you mean `{near}`?"),
                None if names.is_empty() => {
                    "no stage of it has a name: `FROM … AS NAME`".to_owned()
                }
                None => format!("it has {}", cut(&names.join(", "))),
            };
            self.problems.hint(0, message, hint);
        }
        found
    }

    /// From the target back to all that it needs: stages only ever need earlier ones.
    fn find_stages(&mut self, target: usize) {
        let mut needed = BTreeSet::from([target]);
        for number in (0..=target).rev() {
            if !needed.contains(&number) {
                continue;
            }
            let stage = &self.dockerfile.stages[number];
            let Some(base) = self.base(number, stage) else { continue };
            if let Base::Stage(other) = &base.0 {
                needed.insert(*other);
            }
            self.bases.insert(number, base);
            let dockerfile = self.dockerfile;
            for instruction in instructions(dockerfile, number, self.bases.get(&number)) {
                for name in origins(&instruction.what) {
                    match self.dockerfile.origin(number, name) {
                        Ok(From::Stage(other)) => drop(needed.insert(other)),
                        Ok(_) => {}
                        Err(message) => self.problems.tell(instruction.line, message),
                    }
                }
                self.check_secrets(instruction);
            }
        }
    }

    fn base(&mut self, number: usize, stage: &Stage) -> Option<StageBase> {
        let image = self.expanded(stage.line, &stage.begun.image)?;
        let platform = match &stage.begun.platform {
            None => None,
            Some(text) => {
                let text = self.expanded(stage.line, text)?;
                match text.parse::<Platform>() {
                    Ok(platform) => Some(platform),
                    Err(error) => {
                        self.problems.tell(stage.line, format!("has `--platform`, and {error}"));
                        return None;
                    }
                }
            }
        };
        let earlier = self.dockerfile.names.get(&image.to_ascii_lowercase());
        let base = match earlier.filter(|earlier| **earlier < number) {
            Some(earlier) => Base::Stage(*earlier),
            None if image == "scratch" => Base::Scratch,
            None => {
                if let Err(message) = image_name(&image) {
                    let message = format!("begins a stage with an image, and {message}");
                    self.problems.tell(stage.line, message);
                    return None;
                }
                Base::Image(image)
            }
        };
        Some((base, platform))
    }

    /// A text of a `FROM` with the global arguments in it.
    fn expanded(&mut self, line: usize, text: &str) -> Option<String> {
        let mut expander = Expander::new(self.dockerfile.escape, &self.globals, &mut self.budget);
        let result = expander.word(text);
        let unset = expander.unset;
        match result {
            Ok(text) if text.is_empty() => {
                let names: Vec<&str> = unset.iter().map(String::as_str).collect();
                let message = format!(
                    "has a `FROM` of which nothing is left: {} is not set",
                    cut(&names.join(", "))
                );
                let hint = "only an `ARG` before the first `FROM` counts there: `ARG NAME=default`";
                self.problems.hint(line, message, hint);
                None
            }
            Ok(text) => {
                for name in unset {
                    self.warn(
                        line,
                        format!(
                            "has `{}` in a `FROM`, and no `ARG` before the first one sets it",
                            cut(&name)
                        ),
                    );
                }
                Some(text)
            }
            Err(error) => {
                self.problems.tell(line, format!("has a `FROM` that {error}"));
                None
            }
        }
    }

    fn check_secrets(&mut self, instruction: &Instruction) {
        let (What::Run(ran), Some(given)) = (&instruction.what, &self.wishes.secrets) else {
            return;
        };
        for id in ran.secrets.iter().filter(|id| !given.contains(*id)) {
            let id = cut(id);
            let message = format!("needs the secret `{id}`, which does not come with the build");
            self.problems.hint(
                instruction.line,
                message,
                format!("give it: `--secret id={id},src=FILE`"),
            );
        }
    }

    fn warn(&mut self, line: usize, message: String) {
        let file = self.dockerfile.file.clone();
        self.warnings.push(Problem { file, line, message, hint: None });
    }

    fn finish(mut self) -> Result<Plan, Problems> {
        if !self.problems.is_empty() {
            return Err(Problems(self.problems.into_list()));
        }
        let numbers: Vec<usize> = self.bases.keys().copied().collect();
        let places: BTreeMap<usize, usize> =
            numbers.iter().enumerate().map(|(place, number)| (*number, place)).collect();
        let mut stages: Vec<PlannedStage> = Vec::new();
        for number in numbers {
            let stage = self.stage(number, &places, &stages);
            stages.push(stage);
        }
        self.warnings.sort_by_key(|warning| warning.line);
        let shared = Shared {
            file: self.dockerfile.file.clone(),
            escape: self.dockerfile.escape,
            globals: self.globals,
            build_args: self.wishes.build_args.clone(),
            names: self.dockerfile.names.clone(),
            places,
        };
        Ok(Plan { stages, warnings: self.warnings, shared: Arc::new(shared) })
    }

    fn stage(
        &self,
        number: usize,
        places: &BTreeMap<usize, usize>,
        before: &[PlannedStage],
    ) -> PlannedStage {
        let stage = &self.dockerfile.stages[number];
        let (base, platform) = self.bases[&number].clone();
        let mut planned = PlannedStage {
            index: number,
            name: stage.begun.name.clone(),
            line: stage.line,
            base: Base::Scratch,
            platform: self.wishes.platform.clone(),
            needs: BTreeSet::new(),
            images: BTreeSet::new(),
            uses_context: false,
            instructions: stage.instructions.len(),
            list: Arc::clone(&stage.instructions),
            origins: BTreeMap::new(),
        };
        planned.base = match base {
            Base::Stage(other) => {
                let place = places[&other];
                planned.needs.insert(place);
                planned.platform = before[place].platform.clone();
                Base::Stage(place)
            }
            base => base,
        };
        if let Some(platform) = platform {
            planned.platform = platform;
        }
        for instruction in instructions(self.dockerfile, number, self.bases.get(&number)) {
            planned.uses_context |= uses_context(&instruction.what);
            for name in origins(&instruction.what) {
                let origin = match self.dockerfile.origin(number, name) {
                    Ok(From::Stage(other)) => {
                        planned.needs.insert(places[&other]);
                        From::Stage(places[&other])
                    }
                    Ok(From::Image(image)) => {
                        planned.images.insert(image.clone());
                        From::Image(image)
                    }
                    Ok(other) => other,
                    // Such a file was refused before.
                    Err(_) => continue,
                };
                planned.origins.insert(name.to_owned(), origin);
            }
        }
        planned
    }
}

/// A stage's instructions, after those that its base, when that is a stage, has for it.
fn instructions<'a>(
    dockerfile: &'a Dockerfile,
    number: usize,
    base: Option<&StageBase>,
) -> impl Iterator<Item = &'a Instruction> + use<'a> {
    let base = match base {
        Some((Base::Stage(base), _)) => Some(&dockerfile.stages[*base]),
        _ => None,
    };
    let of_base = base.into_iter().flat_map(|base| base.instructions.iter());
    let triggers = of_base.filter_map(|instruction| match &instruction.what {
        What::Onbuild(trigger) => Some(&*trigger.instruction),
        _ => None,
    });
    triggers.chain(dockerfile.stages[number].instructions.iter())
}

/// Whether an instruction takes files of the context.
fn uses_context(what: &What) -> bool {
    match what {
        What::Copy(copied) => copied.uses_context(),
        What::Run(ran) => ran.uses_context,
        _ => false,
    }
}
