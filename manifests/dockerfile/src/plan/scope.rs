//! Arguments before the first `FROM`, and those that are always there.

use std::collections::{BTreeMap, BTreeSet};

use super::Planner;
use crate::expand::Expander;
use crate::instruction::{What, nearest};
use crate::problem::cut;

/// Build arguments for proxies need no `ARG`; either case is meant.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// The proxy variable in capitals that a build argument is.
pub(crate) fn is_proxy(name: &str) -> Option<&'static str> {
    PROXIES.into_iter().find(|proxy| proxy.eq_ignore_ascii_case(name))
}

impl Planner<'_> {
    /// Values for `FROM`, which stages get by an `ARG` without a default.
    pub(super) fn globals(&mut self) -> BTreeMap<String, String> {
        let mut values = self.platform_arguments();
        for name in values.clone().into_keys() {
            if let Some(value) = self.wishes.build_args.get(&name) {
                values.insert(name, value.clone());
            }
        }
        let dockerfile = self.dockerfile;
        for instruction in &dockerfile.globals {
            let What::Arg(args) = &instruction.what else { continue };
            for (name, default) in args {
                if let Some(value) = self.wishes.build_args.get(name) {
                    values.insert(name.clone(), value.clone());
                } else if let Some(default) = default {
                    let mut expander = Expander::new(dockerfile.escape, &values, &mut self.budget);
                    match expander.word(default) {
                        Ok(value) => drop(values.insert(name.clone(), value)),
                        Err(error) => {
                            let message = format!("gives `{}` a default that {error}", cut(name));
                            self.problems.tell(instruction.line, message);
                        }
                    }
                }
            }
        }
        values
    }

    /// What `BuildKit` sets by itself. What is built on is what is built for.
    fn platform_arguments(&self) -> BTreeMap<String, String> {
        let platform = &self.wishes.platform;
        let target = self.wishes.target.as_deref().unwrap_or("default");
        let mut values = BTreeMap::from([("TARGETSTAGE".to_owned(), target.to_owned())]);
        for side in ["BUILD", "TARGET"] {
            let pairs = [
                ("PLATFORM", platform.to_string()),
                ("OS", platform.os.clone()),
                ("ARCH", platform.architecture.clone()),
                ("VARIANT", platform.variant.clone().unwrap_or_default()),
            ];
            values.extend(pairs.map(|(name, value)| (format!("{side}{name}"), value)));
        }
        values
    }

    /// A build argument that no `ARG` asks for is mostly a mistake of writing.
    pub(super) fn warn_of_unused(&mut self) {
        let stages = self.dockerfile.stages.iter().flat_map(|stage| stage.instructions.iter());
        let instructions = self.dockerfile.globals.iter().chain(stages);
        let named: BTreeSet<&str> = instructions
            .filter_map(|instruction| match &instruction.what {
                What::Arg(args) => Some(args.iter().map(|(name, _)| name.as_str())),
                _ => None,
            })
            .flatten()
            .collect();
        let own = self.platform_arguments();
        let is_used =
            |name: &str| named.contains(name) || own.contains_key(name) || is_proxy(name).is_some();
        let names = self.wishes.build_args.keys().filter(|name| !is_used(name));
        let known: Vec<&str> = named.iter().copied().collect();
        let warned: Vec<String> = names
            .map(|name| {
                let hint = nearest(name, &known).map(|near| format!("; do you mean `{near}`?"));
                let name = cut(name);
                format!(
                    "is given the build argument `{name}`, which no `ARG` asks for{}",
                    hint.unwrap_or_default()
                )
            })
            .collect();
        for message in warned {
            self.warn(0, message);
        }
    }
}
