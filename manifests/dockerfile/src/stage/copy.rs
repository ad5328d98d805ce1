//! `COPY` and `ADD`, resolved.

use super::{At, StageRun};
use crate::instruction::{Copied, Given, is_remote};
use crate::mode::Mode;
use crate::path;
use crate::pattern::Glob;
use crate::problem::cut;
use crate::step::{Copy, From, Source};

impl StageRun {
    pub(super) fn copy(&mut self, copied: &Copied, at: &At<'_>) -> Result<Copy, String> {
        let owner = copied.owner.as_ref().map(|owner| self.word(owner, at)).transpose()?;
        let mode = copied.mode.as_ref().map(|mode| self.word(mode, at)).transpose()?;
        let mode = mode.filter(|mode| !mode.is_empty()).map(|mode| Mode::new(&mode)).transpose();
        let mut exclude = Vec::new();
        for pattern in &copied.exclude {
            exclude.push(self.word(pattern, at)?);
        }
        crate::Ignore::of_patterns(&exclude)
            .map_err(|error| format!("has `--exclude`, and {error}"))?;
        let sources = self.sources(copied, at)?;
        let written = self.word(&copied.target, at)?;
        let into_folder = sources.len() > 1
            || matches!(written.as_str(), "" | "." | "..")
            || ["/", "/.", "/.."].into_iter().any(|end| written.ends_with(end));
        let target = path::absolute(&self.image.config.working_dir, &written);
        let from = match &copied.from {
            None => From::Context,
            Some(name) => {
                let known = self.origins.get(name).cloned();
                known.ok_or_else(|| {
                    format!("takes files from `{}`, which is not known", cut(name))
                })?
            }
        };
        let copy = Copy {
            from,
            sources,
            target,
            into_folder,
            owner: owner.filter(|owner| !owner.is_empty()),
            mode: mode.map_err(|error| format!("has `--chmod`, and {error}"))?,
            link: copied.link,
            parents: copied.parents,
            exclude,
            unpack: copied.unpack,
        };
        self.history(shown(copied, &copy), true)?;
        Ok(copy)
    }

    fn sources(&mut self, copied: &Copied, at: &At<'_>) -> Result<Vec<Source>, String> {
        let mut sources = Vec::new();
        for given in &copied.sources {
            sources.push(match given {
                Given::Path(text) => {
                    let text = self.word(text, at)?;
                    Source::Path(self.source_path(&text, copied.parents, at)?)
                }
                Given::Heredoc(heredoc) => {
                    let content = heredoc.chomped();
                    let content = if heredoc.expand {
                        self.expanded(at, |expander| expander.heredoc(&content))?
                    } else {
                        content
                    };
                    Source::File { name: heredoc.name.clone(), content }
                }
            });
        }
        Ok(sources)
    }

    fn source_path(&mut self, text: &str, parents: bool, at: &At<'_>) -> Result<String, String> {
        if let Some(why) = is_remote(text) {
            return Err(format!("takes `{}`, {why}, which is not fetched here", cut(text)));
        }
        if Glob::is_pattern(text) {
            Glob::new(text).map_err(|error| format!("takes files by a pattern, and {error}"))?;
        }
        if text.split('/').any(|part| part == "..") {
            let text = cut(text);
            self.warn(
                at,
                format!("takes `{text}`, and `..` never leads out of where files are taken from"),
            );
        }
        let below = |text: &str| path::absolute("/", text)[1..].to_owned();
        Ok(match text.split_once("/./").filter(|_| parents) {
            Some((above, kept)) if !below(above).is_empty() => {
                format!("{}/./{}", below(above), below(kept))
            }
            _ => below(text),
        })
    }
}

/// What the history says of it.
fn shown(copied: &Copied, copy: &Copy) -> String {
    let mut words = vec![if copied.is_add { "ADD" } else { "COPY" }.to_owned()];
    words.extend(copied.from.iter().map(|from| format!("--from={from}")));
    if copy.parents {
        words.push("--parents".to_owned());
    }
    words.extend(copy.owner.iter().map(|owner| format!("--chown={owner}")));
    words.extend(copy.mode.iter().map(|mode| format!("--chmod={mode}")));
    words.extend(copy.sources.iter().map(|source| match source {
        Source::Path(path) if path.is_empty() => ".".to_owned(),
        Source::Path(path) => path.clone(),
        Source::File { name, .. } => format!("<<{name}"),
    }));
    let end = if copy.into_folder && copy.target != "/" { "/" } else { "" };
    words.push(format!("{}{end}", copy.target));
    words.join(" ")
}
