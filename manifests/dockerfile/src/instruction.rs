//! Instructions as they are written, before their variables are replaced.

mod copy;
mod health;
mod mount;
mod ports;
mod run;
mod signal;

use crate::lines::{Heredoc, Line, first_word};
use crate::problem::{Gathered, cut};
use crate::words::{self, Flag};

pub(crate) use copy::{Copied, Given, is_remote};
pub(crate) use health::Health;
pub(crate) use mount::{Mounted, Replace, mount};
pub(crate) use ports::ports;
pub(crate) use run::Ran;
pub(crate) use signal::is_signal;

/// Every instruction there is.
const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// One instruction at its line.
#[derive(Debug, Clone)]
pub(crate) struct Instruction {
    pub(crate) line: usize,
    /// As it stands in the file, on one line.
    pub(crate) text: String,
    pub(crate) what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    From(Begun),
    /// Names, with their defaults.
    Arg(Vec<(String, Option<String>)>),
    Env(Vec<(String, String)>),
    Label(Vec<(String, String)>),
    Copy(Copied),
    Run(Box<Ran>),
    Cmd(Command),
    Entrypoint(Command),
    Shell(Vec<String>),
    Expose(Vec<String>),
    Healthcheck(Health),
    Maintainer(String),
    Onbuild(Trigger),
    Stopsignal(String),
    User(String),
    Volume(Vec<String>),
    Workdir(String),
}

/// `FROM`.
#[derive(Debug, Clone)]
pub(crate) struct Begun {
    pub(crate) image: String,
    /// In lower case.
    pub(crate) name: Option<String>,
    pub(crate) platform: Option<String>,
}

/// A command of the shell, or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Shell(String),
    Exec(Vec<String>),
}

/// `ONBUILD`: the text that an image keeps, and what it says.
#[derive(Debug, Clone)]
pub(crate) struct Trigger {
    pub(crate) text: String,
    pub(crate) instruction: Box<Instruction>,
}

/// What is read of one line.
pub(crate) struct Source<'a> {
    pub(crate) name: &'static str,
    pub(crate) line: usize,
    pub(crate) flags: Vec<Flag>,
    /// What follows the flags.
    pub(crate) rest: &'a str,
    pub(crate) heredocs: &'a [Heredoc],
    pub(crate) escape: char,
    pub(crate) problems: &'a mut Gathered,
}

/// Reads one line. Nothing, when it means nothing; then that was told.
pub(crate) fn read(line: &Line, escape: char, problems: &mut Gathered) -> Option<Instruction> {
    read_text(&line.text, line, escape, false, problems)
}

fn read_text(
    text: &str,
    line: &Line,
    escape: char,
    in_trigger: bool,
    problems: &mut Gathered,
) -> Option<Instruction> {
    let (word, rest) = first_word(text);
    let Some(name) = NAMES.iter().find(|name| name.eq_ignore_ascii_case(word)) else {
        unknown(word, line.number, problems);
        return None;
    };
    if in_trigger && matches!(*name, "ONBUILD" | "FROM" | "MAINTAINER") {
        problems
            .tell(line.number, format!("has `{name}` after `ONBUILD`, where it is not allowed"));
        return None;
    }
    let (flags, rest) = match *name {
        // Only these have flags; what else begins with `--` is an argument.
        "ADD" | "COPY" | "FROM" | "HEALTHCHECK" | "RUN" => words::flags(rest, escape),
        _ => (Vec::new(), rest),
    };
    let heredocs = &line.heredocs;
    let mut source = Source { name, line: line.number, flags, rest, heredocs, escape, problems };
    let what = match *name {
        "ONBUILD" => onbuild(line, escape, rest, source.problems),
        _ => source.read(),
    }?;
    Some(Instruction { line: line.number, text: shown(name, text), what })
}

fn unknown(word: &str, line: usize, problems: &mut Gathered) {
    let message = format!("has no instruction that is known: `{}`", cut(word));
    match nearest(word, &NAMES) {
        Some(name) => problems.hint(line, message, format!("do you mean `{name}`?")),
        None => problems.hint(
            line,
            message,
            "a long command goes on after a `\\` at the end of the line",
        ),
    }
}

/// The known word that is written most alike.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    let lower = word.to_lowercase();
    let rated =
        known.iter().map(|name| (strsim::damerau_levenshtein(&name.to_lowercase(), &lower), *name));
    let (distance, name) = rated.min()?;
    (distance <= 1 + name.len() / 4).then_some(name)
}

/// An instruction as it is shown: its name in capitals, on one line.
fn shown(name: &str, text: &str) -> String {
    let (_, rest) = first_word(text);
    let words: Vec<&str> = rest.split_whitespace().collect();
    cut(format!("{name} {}", words.join(" ")).trim_end())
}

fn onbuild(line: &Line, escape: char, rest: &str, problems: &mut Gathered) -> Option<What> {
    if rest.is_empty() {
        problems.tell(line.number, "has `ONBUILD` with no instruction after it");
        return None;
    }
    let instruction = read_text(rest, line, escape, true, problems)?;
    let mut text = rest.to_owned();
    for heredoc in &line.heredocs {
        text.push('\n');
        text.push_str(&heredoc.content);
        text.push_str(&heredoc.name);
    }
    Some(What::Onbuild(Trigger { text, instruction: Box::new(instruction) }))
}

impl Source<'_> {
    fn read(&mut self) -> Option<What> {
        if self.rest.is_empty() {
            self.tell("needs something after it");
            return None;
        }
        match self.name {
            "FROM" => self.from(),
            "ARG" => self.arg(),
            "ENV" => Some(What::Env(self.pairs()?)),
            "LABEL" => Some(What::Label(self.pairs()?)),
            "ADD" | "COPY" => self.copy().map(What::Copy),
            "RUN" => self.run().map(|run| What::Run(Box::new(run))),
            "CMD" => self.command().map(What::Cmd),
            "ENTRYPOINT" => self.command().map(What::Entrypoint),
            "SHELL" => self.shell(),
            "EXPOSE" => Some(self.expose()),
            "HEALTHCHECK" => self.health().map(What::Healthcheck),
            "MAINTAINER" => Some(What::Maintainer(self.rest.to_owned())),
            "STOPSIGNAL" => self.stop_signal(),
            "USER" => Some(What::User(self.rest.to_owned())),
            "VOLUME" => self.volume(),
            _ => Some(What::Workdir(self.rest.to_owned())),
        }
    }

    /// Tells what is wrong with this instruction.
    pub(crate) fn tell(&mut self, message: &str) {
        self.problems.tell(self.line, format!("`{}` {message}", self.name));
    }

    pub(crate) fn hint(&mut self, message: &str, hint: &str) {
        self.problems.hint(self.line, format!("`{}` {message}", self.name), hint);
    }

    /// Takes a flag that may be given once; its value, which it needs.
    pub(crate) fn flag(&mut self, name: &str) -> Option<String> {
        let values = self.flags(name);
        if values.len() > 1 {
            self.tell(&format!("has `--{name}` more than once"));
        }
        values.into_iter().next()
    }

    /// Takes a flag that may be given several times.
    pub(crate) fn flags(&mut self, name: &str) -> Vec<String> {
        let (taken, others): (Vec<Flag>, Vec<Flag>) =
            std::mem::take(&mut self.flags).into_iter().partition(|flag| flag.name == name);
        self.flags = others;
        let mut values = Vec::new();
        for flag in taken {
            match flag.value {
                Some(value) if !value.is_empty() => values.push(value),
                _ => self.tell(&format!("has `--{name}` without a value: `--{name}=…`")),
            }
        }
        values
    }

    /// Takes a flag that is on or off.
    pub(crate) fn switch(&mut self, name: &str) -> Option<bool> {
        let at = self.flags.iter().position(|flag| flag.name == name)?;
        let flag = self.flags.remove(at);
        if self.flags.iter().any(|flag| flag.name == name) {
            self.tell(&format!("has `--{name}` more than once"));
            self.flags.retain(|flag| flag.name != name);
        }
        match flag.value.as_deref() {
            None | Some("true") => Some(true),
            Some("false") => Some(false),
            Some(other) => {
                let other = cut(other);
                self.tell(&format!("has `--{name}={other}`, which is neither true nor false"));
                None
            }
        }
    }

    /// Tells of the flags that nobody took.
    pub(crate) fn no_more_flags(&mut self, known: &[&str]) {
        for flag in std::mem::take(&mut self.flags) {
            let message = format!("has a flag that is not known: `--{}`", cut(&flag.name));
            match nearest(&flag.name, known) {
                Some(name) => self.hint(&message, &format!("do you mean `--{name}`?")),
                None => self.tell(&message),
            }
        }
    }

    fn from(&mut self) -> Option<What> {
        let platform = self.flag("platform");
        self.no_more_flags(&["platform"]);
        let words = words::bare(self.rest);
        let (image, name) = match words.as_slice() {
            [image] => (image, None),
            [image, word, name] if word.eq_ignore_ascii_case("as") => (image, Some(name)),
            _ => {
                self.hint("is not understood", "write `FROM IMAGE` or `FROM IMAGE AS NAME`");
                return None;
            }
        };
        let name = name.map(|name| name.to_ascii_lowercase());
        if let Some(name) = name.as_deref().filter(|name| !is_stage_name(name)) {
            let message = format!("gives the stage the name `{}`", cut(name));
            self.hint(
                &message,
                "a name begins with a letter and goes on with letters, digits, `.`, `-` and `_`",
            );
            return None;
        }
        if name.as_deref() == Some("scratch") {
            self.tell("gives the stage the name `scratch`, which stands for no image");
        }
        Some(What::From(Begun { image: image.clone(), name, platform }))
    }

    fn arg(&mut self) -> Option<What> {
        let mut args = Vec::new();
        for word in words::quoted(self.rest, self.escape) {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word, None),
            };
            if !is_variable(&name) {
                self.tell(&format!("names a variable `{}`", cut(&name)));
                return None;
            }
            args.push((name, value));
        }
        Some(What::Arg(args))
    }

    /// `name=value …`, or in the old form `name value` up to the end of the line.
    fn pairs(&mut self) -> Option<Vec<(String, String)>> {
        let words = words::quoted(self.rest, self.escape);
        if words.first().is_some_and(|word| !word.contains('=')) {
            let (name, value) = first_word(self.rest);
            if value.is_empty() {
                let name = cut(name);
                self.hint(&format!("gives `{name}` no value"), "write `name=value`");
                return None;
            }
            return Some(vec![(name.to_owned(), value.to_owned())]);
        }
        let mut pairs = Vec::new();
        for word in words {
            match word.split_once('=') {
                Some((name, value)) if !name.is_empty() => {
                    pairs.push((name.to_owned(), value.to_owned()));
                }
                _ => {
                    let message = format!("has `{}`, which is no `name=value`", cut(&word));
                    self.hint(&message, "a value with spaces stands in quotes");
                    return None;
                }
            }
        }
        Some(pairs)
    }

    /// A list in JSON, or a command of the shell.
    pub(crate) fn command(&mut self) -> Option<Command> {
        match words::json(self.rest) {
            None => Some(Command::Shell(self.rest.to_owned())),
            Some(Ok(list)) => Some(Command::Exec(list)),
            Some(Err(_)) => {
                self.hint("has a list that does not only hold strings", "put quotes around each");
                None
            }
        }
    }

    fn shell(&mut self) -> Option<What> {
        match self.command()? {
            Command::Exec(list) if !list.is_empty() => Some(What::Shell(list)),
            _ => {
                self.hint("needs a list", r#"write `SHELL ["/bin/sh", "-c"]`"#);
                None
            }
        }
    }

    fn volume(&mut self) -> Option<What> {
        let folders = match self.command()? {
            Command::Exec(list) => list,
            Command::Shell(text) => words::bare(&text),
        };
        if folders.is_empty() || folders.iter().any(String::is_empty) {
            self.tell("names no folder");
            return None;
        }
        Some(What::Volume(folders))
    }

    fn expose(&mut self) -> What {
        let words = words::bare(self.rest);
        for word in words.iter().filter(|word| !word.contains(['$', '"', '\''])) {
            if let Err(why) = ports(word) {
                self.tell(&why);
            }
        }
        What::Expose(words)
    }

    fn stop_signal(&mut self) -> Option<What> {
        if !self.rest.contains(['$', '"', '\'']) && !is_signal(self.rest) {
            let message = format!("has `{}`, which is no signal", cut(self.rest));
            self.hint(&message, "write a name such as SIGTERM, or a number");
            return None;
        }
        Some(What::Stopsignal(self.rest.to_owned()))
    }
}

/// Names of stages, in lower case.
fn is_stage_name(name: &str) -> bool {
    let follows = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(follows)
}

/// Names of build arguments.
pub(crate) fn is_variable(name: &str) -> bool {
    let follows = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(follows)
}
