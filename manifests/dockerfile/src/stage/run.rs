//! `RUN`, resolved.

use super::{At, StageRun};
use crate::expand::{ExpandError, Expander};
use crate::instruction::{Command, Mounted, Ran, mount};
use crate::lines::heredoc;
use crate::plan::is_proxy;
use crate::problem::cut;
use crate::step::{From, Mount, Run, Script};

/// Where a script from a heredoc is mounted.
const SCRIPTS: &str = "/dev/pipes";

impl StageRun {
    pub(super) fn run(&mut self, ran: &Ran, at: &At<'_>) -> Result<Run, String> {
        let workdir = crate::path::absolute("/", &self.image.config.working_dir);
        let mut mounts = Vec::new();
        for text in &ran.mounts {
            mounts.push(self.mount(text, &workdir, at)?);
        }
        let (arguments, script) = self.arguments(ran);
        let env = self.variables.list().to_vec();
        self.spend_env()?;
        self.history(format!("RUN {}{}", self.shown_arguments(), arguments.join(" ")), true)?;
        Ok(Run {
            arguments,
            env,
            hidden_env: self.proxies(),
            user: self.image.config.user.clone(),
            workdir,
            mounts,
            network: ran.network,
            script,
        })
    }

    /// A heredoc alone is the command, or the program when it says what runs it. Otherwise the shell reads heredocs.
    fn arguments(&self, ran: &Ran) -> (Vec<String>, Option<Script>) {
        let text = match &ran.command {
            Command::Exec(list) => return (list.clone(), None),
            Command::Shell(text) => text,
        };
        let Some(first) = ran.heredocs.first() else { return (self.with_shell(text), None) };
        if heredoc(text.trim()).is_some() {
            let content = first.chomped();
            if !content.starts_with("#!") {
                return (self.with_shell(&content), None);
            }
            let name = first.name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            let path = format!("{SCRIPTS}/{name}");
            return (self.with_shell(&path), Some(Script { path, content }));
        }
        let mut whole = text.clone();
        for heredoc in &ran.heredocs {
            whole.push('\n');
            whole.push_str(&heredoc.content);
            whole.push_str(&heredoc.name);
        }
        (self.with_shell(&whole), None)
    }

    fn mount(&mut self, text: &str, workdir: &str, at: &At<'_>) -> Result<Mount, String> {
        let read =
            self.expanded(at, |expander| Ok(mount(text, workdir, &mut Replaced(expander))))?;
        let Mounted { mut mount, from } =
            read.map_err(|error| format!("has `--mount`, which {error}"))?;
        let Some(name) = from else { return Ok(mount) };
        let origin = self.origins.get(&name).cloned();
        let origin = origin
            .ok_or_else(|| format!("mounts files from `{}`, which is not known", cut(&name)))?;
        match &mut mount {
            Mount::Bind { from, .. } => *from = origin,
            Mount::Cache { from, .. } => {
                *from = Some(origin).filter(|origin| *origin != From::Nothing);
            }
            Mount::Tmpfs { .. } | Mount::Secret { .. } => {}
        }
        Ok(mount)
    }

    /// Build arguments for proxies, in both cases of writing.
    fn proxies(&self) -> Vec<(String, String)> {
        let given = self.shared.build_args.iter();
        let named = given.filter_map(|(name, value)| Some((is_proxy(name)?, value)));
        let both = named
            .flat_map(|(name, value)| [(name.to_owned(), value), (name.to_lowercase(), value)]);
        both.map(|(name, value)| (name, value.clone())).collect()
    }
}

/// Replaces variables in the values of a mount.
struct Replaced<'e, 'a>(&'e mut Expander<'a>);

impl crate::instruction::Replace for Replaced<'_, '_> {
    fn replace(&mut self, text: &str) -> Result<String, ExpandError> {
        self.0.word(text)
    }

    fn is_final(&self, _: &str) -> bool {
        true
    }
}
