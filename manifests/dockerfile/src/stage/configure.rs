//! Instructions that touch no files.

use super::{At, StageRun};
use crate::expand::Values;
use crate::instruction::{Command, What, is_signal, ports};
use crate::problem::cut;

impl StageRun {
    pub(super) fn configure(&mut self, what: &What, at: &At<'_>) -> Result<(), String> {
        match what {
            What::Arg(args) => self.arg(args, at),
            What::Env(pairs) => self.env(pairs, at),
            What::Label(pairs) => self.label(pairs, at),
            What::Cmd(command) => self.cmd(command),
            What::Entrypoint(command) => self.entrypoint(command),
            What::Shell(list) => {
                self.image.config.shell = Some(list.clone());
                self.history(format!("SHELL {}", shown(list)), false)
            }
            What::Expose(words) => self.expose(words, at),
            What::Volume(folders) => self.volume(folders, at),
            What::Healthcheck(health) => {
                self.image.config.healthcheck = Some(health.clone());
                self.history(at.instruction.text.clone(), false)
            }
            What::Maintainer(name) => {
                self.image.author.clone_from(name);
                self.history(format!("MAINTAINER {name}"), false)
            }
            What::Onbuild(trigger) => {
                self.image.config.on_build.push(trigger.text.clone());
                self.history(format!("ONBUILD {}", trigger.text), false)
            }
            What::Stopsignal(text) => self.stop_signal(text, at),
            What::User(text) => self.user(text, at),
            What::From(_) | What::Run(_) | What::Copy(_) | What::Workdir(_) => Ok(()),
        }
    }

    fn cmd(&mut self, command: &Command) -> Result<(), String> {
        self.has_cmd = true;
        let list = self.command(command);
        self.history(format!("CMD {}", shown(&list)), false)?;
        self.image.config.cmd = (!list.is_empty()).then_some(list);
        Ok(())
    }

    fn entrypoint(&mut self, command: &Command) -> Result<(), String> {
        let list = self.command(command);
        self.history(format!("ENTRYPOINT {}", shown(&list)), false)?;
        self.image.config.entrypoint = (!list.is_empty()).then_some(list);
        // The base's arguments were for its own program.
        if !self.has_cmd {
            self.image.config.cmd = None;
        }
        Ok(())
    }

    /// A value that comes with the build goes before a default, and that before the one of the global argument.
    fn arg(&mut self, args: &[(String, Option<String>)], at: &At<'_>) -> Result<(), String> {
        let mut shown = String::from("ARG");
        for (name, default) in args {
            let value = match (self.shared.build_args.get(name).cloned(), default) {
                (Some(given), _) => Some(given),
                (None, Some(default)) => Some(self.word(default, at)?),
                (None, None) => self.shared.globals.get(name).cloned(),
            };
            // Its value is among the variables.
            self.declared.set(name, "");
            shown.push(' ');
            shown.push_str(name);
            if let Some(value) = value {
                self.variables.set(name, &value);
                shown.push('=');
                shown.push_str(&value);
            }
        }
        self.history(shown, false)
    }

    fn env(&mut self, pairs: &[(String, String)], at: &At<'_>) -> Result<(), String> {
        // All of one instruction see what was before it.
        let pairs = self.pairs(pairs, at)?;
        let mut shown = String::from("ENV");
        for (name, value) in pairs {
            if name.contains('=') {
                return Err(format!("has the name `{}`", cut(&name)));
            }
            self.variables.set(&name, &value);
            self.env.set(&name, &value);
            shown.push(' ');
            shown.push_str(&name);
            shown.push('=');
            shown.push_str(&value);
        }
        let list = self.env.list().iter();
        self.image.config.env = list.map(|(name, value)| format!("{name}={value}")).collect();
        self.spend_env()?;
        self.history(shown, false)
    }

    fn label(&mut self, pairs: &[(String, String)], at: &At<'_>) -> Result<(), String> {
        let pairs = self.pairs(pairs, at)?;
        let mut shown = vec!["LABEL".to_owned()];
        for (name, value) in pairs {
            shown.push(format!("{name}={value}"));
            self.image.config.labels.insert(name, value);
        }
        self.history(shown.join(" "), false)
    }

    fn pairs(
        &mut self,
        pairs: &[(String, String)],
        at: &At<'_>,
    ) -> Result<Vec<(String, String)>, String> {
        let mut expanded = Vec::new();
        for (name, value) in pairs {
            let name = self.word(name, at)?;
            if name.is_empty() {
                return Err("has a name of which nothing is left".to_owned());
            }
            expanded.push((name, self.word(value, at)?));
        }
        Ok(expanded)
    }

    fn expose(&mut self, words: &[String], at: &At<'_>) -> Result<(), String> {
        let mut exposed = vec!["EXPOSE".to_owned()];
        for word in words {
            for word in self.expanded(at, |expander| expander.words(word))? {
                let ports = ports(&word)?;
                self.budget.spend(ports.range.len() * 8).map_err(|error| error.to_string())?;
                let named = ports.range.map(|port| format!("{port}/{}", ports.protocol));
                self.image.config.exposed_ports.extend(named);
                exposed.push(word);
            }
        }
        self.history(exposed.join(" "), false)
    }

    fn volume(&mut self, folders: &[String], at: &At<'_>) -> Result<(), String> {
        let mut volumes = Vec::new();
        for folder in folders {
            let folder = self.word(folder, at)?;
            if folder.is_empty() {
                return Err("has a folder of which nothing is left".to_owned());
            }
            volumes.push(folder);
        }
        self.image.config.volumes.extend(volumes.iter().cloned());
        self.history(format!("VOLUME {}", shown(&volumes)), false)
    }

    fn stop_signal(&mut self, text: &str, at: &At<'_>) -> Result<(), String> {
        let signal = self.word(text, at)?;
        if !is_signal(&signal) {
            return Err(format!("has `{}`, which is no signal", cut(&signal)));
        }
        self.history(format!("STOPSIGNAL {signal}"), false)?;
        self.image.config.stop_signal = signal;
        Ok(())
    }

    fn user(&mut self, text: &str, at: &At<'_>) -> Result<(), String> {
        let user = self.word(text, at)?;
        if user.is_empty() {
            return Err("has nothing left after it".to_owned());
        }
        self.history(format!("USER {user}"), false)?;
        self.image.config.user = user;
        Ok(())
    }

    /// A list, with the shell before what is none.
    fn command(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(list) => list.clone(),
            Command::Shell(text) => self.with_shell(text),
        }
    }

    pub(super) fn with_shell(&self, text: &str) -> Vec<String> {
        let shell = self.image.config.shell.clone().filter(|shell| !shell.is_empty());
        let mut list = shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
        list.push(text.to_owned());
        list
    }

    /// What the history says of build arguments before a command: `|1 NAME=value`.
    pub(super) fn shown_arguments(&self) -> String {
        let mut shown = Vec::new();
        let declared = self.declared.list();
        if !declared.is_empty() {
            shown.push(format!("|{}", declared.len()));
        }
        for (name, _) in declared {
            shown.push(format!("{name}={}", self.variables.value(name).unwrap_or_default()));
        }
        shown.push(String::new());
        shown.join(" ")
    }
}

/// A list as Go writes it: `["a" "b"]`.
fn shown(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", quoted.join(" "))
}
