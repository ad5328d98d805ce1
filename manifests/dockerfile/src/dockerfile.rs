//! A whole file: global arguments, then stages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::instruction::{self, Begun, Instruction, What};
use crate::lines::{self, first_word};
use crate::problem::{Gathered, Problem, Problems, cut};
use crate::step::From;

/// Larger files are refused: a Dockerfile is written by people.
const MAX_FILE_BYTES: usize = 1 << 20;
/// More instructions are no file that somebody wants.
const MOST_INSTRUCTIONS: usize = 10_000;
const MOST_STAGES: usize = 500;

/// A Dockerfile without a mistake that shows in its text alone.
#[derive(Debug, Clone)]
pub struct Dockerfile {
    pub(crate) file: String,
    pub(crate) escape: char,
    /// `ARG` before the first `FROM`.
    pub(crate) globals: Vec<Instruction>,
    pub(crate) stages: Vec<Stage>,
    /// Numbers of stages by their names.
    pub(crate) names: BTreeMap<String, usize>,
    warnings: Vec<Problem>,
}

/// A stage as it is written.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub(crate) line: usize,
    pub(crate) begun: Begun,
    pub(crate) instructions: Arc<Vec<Instruction>>,
}

/// Reads a Dockerfile. `file` is its name in messages. All that is wrong with it is found.
pub fn read(text: &str, file: &str) -> Result<Dockerfile, Problems> {
    let mut problems = Gathered::new(file);
    if text.len() > MAX_FILE_BYTES {
        problems.tell(0, "is larger than 1 MiB");
        return Err(Problems(problems.into_list()));
    }
    for (index, line) in text.split('\n').enumerate() {
        if line.contains('\0') {
            problems
                .tell(index + 1, "has a character of the code zero, which no program can be given");
        }
    }
    let lines = lines::split(text, &mut problems);
    if lines.lines.len() > MOST_INSTRUCTIONS {
        problems.tell(0, format!("has more than {MOST_INSTRUCTIONS} instructions"));
        return Err(Problems(problems.into_list()));
    }
    let mut builder = Builder::new(file, lines.escape);
    for line in &lines.lines {
        if let Some(instruction) = instruction::read(line, lines.escape, &mut problems) {
            builder.add(instruction, &mut problems);
        } else {
            builder.misread();
        }
    }
    let dockerfile = builder.finish(&mut problems);
    problems.or(dockerfile)
}

impl Dockerfile {
    /// Its name in messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The names of its stages, in order, where they have one.
    pub fn stage_names(&self) -> impl Iterator<Item = Option<&str>> {
        self.stages.iter().map(|stage| stage.begun.name.as_deref())
    }

    /// The ids of secrets that its instructions name, as they are written: a variable is not replaced.
    pub fn secrets(&self) -> BTreeSet<String> {
        let instructions = self.stages.iter().flat_map(|stage| stage.instructions.iter());
        let whats = instructions.map(|instruction| match &instruction.what {
            What::Onbuild(trigger) => &trigger.instruction.what,
            what => what,
        });
        let named = whats.filter_map(|what| match what {
            What::Run(ran) => Some(ran.named_secrets.iter().cloned()),
            _ => None,
        });
        named.flatten().collect()
    }

    /// What is worth a word without being wrong.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// What `--from=` means in a stage: stages by their number in the file. An error says what it cannot mean.
    pub(crate) fn origin(&self, stage: usize, name: &str) -> Result<From, String> {
        if let Ok(number) = name.parse::<usize>() {
            return if number < stage {
                Ok(From::Stage(number))
            } else {
                Err(format!("takes files from the stage {number}, and only {stage} are before it"))
            };
        }
        let lower = name.to_ascii_lowercase();
        match self.names.get(&lower) {
            Some(number) if *number < stage => Ok(From::Stage(*number)),
            Some(number) if *number == stage => {
                Err(format!("takes files from its own stage, `{lower}`"))
            }
            Some(_) => Err(format!("takes files from the stage `{lower}`, which comes later")),
            None if lower == "scratch" => Ok(From::Nothing),
            None => Ok(From::Image(name.to_owned())),
        }
    }
}

/// The names that an instruction takes files from.
pub(crate) fn origins(what: &What) -> Vec<&str> {
    match what {
        What::Copy(copied) => copied.from.iter().map(String::as_str).collect(),
        What::Run(ran) => ran.from.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    }
}

/// What is wrong with names whatever they mean.
fn check_origins(instruction: &Instruction, problems: &mut Gathered) {
    for name in origins(&instruction.what) {
        if let Err(message) = image_name(name) {
            let (word, _) = first_word(&instruction.text);
            problems.tell(
                instruction.line,
                format!("`{word}` takes files from an image, and {message}"),
            );
        }
    }
}

struct Builder {
    dockerfile: Dockerfile,
    instructions: Vec<Instruction>,
    /// Whether an instruction that cannot be read may have been what the rest needs.
    has_misread: bool,
    told_of_no_from: bool,
}

impl Builder {
    fn new(file: &str, escape: char) -> Self {
        let dockerfile = Dockerfile {
            file: cut(file),
            escape,
            globals: Vec::new(),
            stages: Vec::new(),
            names: BTreeMap::new(),
            warnings: Vec::new(),
        };
        Self { dockerfile, instructions: Vec::new(), has_misread: false, told_of_no_from: false }
    }

    fn misread(&mut self) {
        self.has_misread = true;
    }

    fn add(&mut self, instruction: Instruction, problems: &mut Gathered) {
        if let What::From(begun) = instruction.what {
            self.begin(instruction.line, begun, problems);
            return;
        }
        if self.dockerfile.stages.is_empty() {
            if matches!(instruction.what, What::Arg(_)) {
                self.dockerfile.globals.push(instruction);
            } else if !self.told_of_no_from && !self.has_misread {
                self.told_of_no_from = true;
                problems.hint(
                    instruction.line,
                    "has an instruction before the first `FROM`, where only `ARG` may be",
                    "begin with `FROM IMAGE`, or with `FROM scratch`",
                );
            }
            return;
        }
        check_origins(&instruction, problems);
        self.warn(&instruction);
        self.instructions.push(instruction);
    }

    fn begin(&mut self, line: usize, begun: Begun, problems: &mut Gathered) {
        self.close();
        let number = self.dockerfile.stages.len();
        if let Some(name) = &begun.name {
            if self.dockerfile.names.contains_key(name) {
                problems.tell(line, format!("gives a second stage the name `{}`", cut(name)));
            }
            self.dockerfile.names.insert(name.clone(), number);
        }
        if number == MOST_STAGES {
            problems.tell(line, format!("has more than {MOST_STAGES} stages"));
        }
        self.dockerfile.stages.push(Stage { line, begun, instructions: Arc::default() });
    }

    fn close(&mut self) {
        let instructions = std::mem::take(&mut self.instructions);
        if let Some(stage) = self.dockerfile.stages.last_mut() {
            stage.instructions = Arc::new(instructions);
        }
    }

    /// What names in `from=` mean shows once all stages are known.
    fn finish(mut self, problems: &mut Gathered) -> Dockerfile {
        self.close();
        if self.dockerfile.stages.is_empty() && problems.is_empty() {
            problems.hint(0, "has no `FROM`", "begin with `FROM IMAGE`, or with `FROM scratch`");
        }
        for (number, stage) in self.dockerfile.stages.iter().enumerate() {
            for instruction in stage.instructions.iter() {
                for name in origins(&instruction.what) {
                    if let Err(message) = self.dockerfile.origin(number, name) {
                        let (word, _) = first_word(&instruction.text);
                        let message = format!("`{word}` {message}");
                        let hint = "a stage takes files of those before it";
                        problems.hint(instruction.line, message, hint);
                    }
                }
            }
        }
        self.dockerfile
    }

    fn warn(&mut self, instruction: &Instruction) {
        let message = match &instruction.what {
            What::Maintainer(_) => "`MAINTAINER` is old: `LABEL org.opencontainers.image.authors=…` says it".to_owned(),
            What::Cmd(command) | What::Entrypoint(command) => match command {
                instruction::Command::Shell(text) if text.starts_with('[') => {
                    "what looks like a list is none, so the shell gets it: strings stand in double quotes".to_owned()
                }
                _ => return,
            },
            What::Arg(args) => {
                let names = args.iter().map(|(name, _)| name);
                let Some(name) = names.into_iter().find(|name| is_secret(name)) else { return };
                told_secret(name)
            }
            What::Env(pairs) => {
                let names = pairs.iter().map(|(name, _)| name);
                let Some(name) = names.into_iter().find(|name| is_secret(name)) else { return };
                told_secret(name)
            }
            _ => return,
        };
        let hint = None;
        let file = self.dockerfile.file.clone();
        self.dockerfile.warnings.push(Problem { file, line: instruction.line, message, hint });
    }
}

fn told_secret(name: &str) -> String {
    format!(
        "`{}` sounds like a secret, and whoever has the image can read it: `RUN --mount=type=secret` keeps it out",
        cut(name)
    )
}

/// Whether a variable's name says that its value is nobody's business.
fn is_secret(name: &str) -> bool {
    const WORDS: [&str; 10] = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "passwd",
        "password",
        "pword",
        "secret",
        "token",
    ];
    let lower = name.to_ascii_lowercase();
    let has = |word: &&str| lower.split('_').any(|part| part == *word);
    WORDS.iter().any(has) && !has(&"public")
}

/// What can be seen of a name of an image without asking anybody. An error says what is wrong with it.
pub(crate) fn image_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("its name is empty".to_owned());
    }
    let name_part = name.split('@').next().unwrap_or_default();
    let strange = name.chars().find(|c| !(c.is_ascii_alphanumeric() || "._-/:@+".contains(*c)));
    if let Some(c) = strange.filter(|c| *c != '$') {
        return Err(format!("its name `{}` has the character `{}`", cut(name), c.escape_default()));
    }
    if name.contains('$') {
        return Ok(());
    }
    let repository = name_part.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
    let repository = repository.map_or(name_part, |(repository, _)| repository);
    // The first part may be a host, which has no case.
    let path = repository.split_once('/').filter(|(host, _)| host.contains(['.', ':']));
    let path = path.map_or(repository, |(_, path)| path);
    if path.is_empty() || path.starts_with(['/', '-', '.', ':']) || path.ends_with(['/', ':']) {
        return Err(format!("`{}` is no name of one", cut(name)));
    }
    if path.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(format!(
            "its name `{}` has capital letters, which only tags may have",
            cut(name)
        ));
    }
    Ok(())
}
