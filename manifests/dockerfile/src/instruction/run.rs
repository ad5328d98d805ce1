//! `RUN`.

use super::mount::{NoVariables, mount};
use super::{Command, Source};
use crate::lines::Heredoc;
use crate::problem::cut;
use crate::step::Network;

/// What is run, as it is written.
#[derive(Debug, Clone)]
pub(crate) struct Ran {
    pub(crate) command: Command,
    pub(crate) heredocs: Vec<Heredoc>,
    pub(crate) mounts: Vec<String>,
    /// The names in `from=` of the mounts.
    pub(crate) from: Vec<String>,
    pub(crate) uses_context: bool,
    /// Secrets that the mounts need.
    pub(crate) secrets: Vec<String>,
    /// All secrets that the mounts name, as they are written.
    pub(crate) named_secrets: Vec<String>,
    pub(crate) network: Network,
}

impl Source<'_> {
    pub(super) fn run(&mut self) -> Option<Ran> {
        let mounts = self.flags("mount");
        let network = self.network();
        self.no_privileges();
        self.no_more_flags(&["mount", "network"]);
        let mut ran = Ran {
            command: self.command()?,
            heredocs: self.heredocs.to_vec(),
            mounts,
            from: Vec::new(),
            uses_context: false,
            secrets: Vec::new(),
            named_secrets: Vec::new(),
            network,
        };
        if matches!(&ran.command, Command::Exec(list) if list.is_empty()) {
            self.tell("has an empty list");
            return None;
        }
        for text in ran.mounts.clone() {
            self.mount(&text, &mut ran);
        }
        Some(ran)
    }

    fn mount(&mut self, text: &str, ran: &mut Ran) {
        match mount(text, "/", &mut NoVariables) {
            Ok(mounted) => {
                ran.uses_context |= mounted.uses_context();
                ran.named_secrets.extend(mounted.secret().map(|(id, _)| id.to_owned()));
                let needed = mounted.secret().filter(|(_, required)| *required);
                ran.secrets.extend(needed.map(|(id, _)| id.to_owned()));
                ran.from.extend(mounted.from);
            }
            Err(error) => self.tell(&format!("has `--mount`, which {error}")),
        }
    }

    fn network(&mut self) -> Network {
        match self.flag("network").as_deref() {
            None | Some("default") => Network::Default,
            Some("none") => Network::None,
            Some("host") => Network::Host,
            Some(other) => {
                let message = format!("has `--network={}`", cut(other));
                self.hint(&message, "it is `default`, `none` or `host`");
                Network::Default
            }
        }
    }

    /// What would let a build out of its container.
    fn no_privileges(&mut self) {
        match self.flag("security").as_deref() {
            None | Some("sandbox") => {}
            Some(_) => self.tell(
                "asks for `--security=insecure`; a build never has more rights than a container",
            ),
        }
        if self.flags.iter().any(|flag| flag.name == "device") {
            self.flags.retain(|flag| flag.name != "device");
            self.tell("asks for `--device`; a build has no devices of the host");
        }
    }
}
