//! Triggers of a base: instructions that its `ONBUILD`s left.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Queued, StageRun};
use crate::dockerfile::{image_name, origins};
use crate::instruction::{self, What};
use crate::lines;
use crate::problem::{Gathered, Problems, cut};
use crate::step::From;

impl StageRun {
    /// Puts the triggers of a base before the stage's own instructions.
    pub(super) fn queue_triggers(
        &mut self,
        triggers: &[String],
        base: &str,
        needs: &BTreeSet<usize>,
    ) -> Result<(), Problems> {
        let mut problems = Gathered::new(base);
        for trigger in triggers {
            let Some(instruction) = read(trigger, &mut problems) else { continue };
            for name in origins(&instruction.what) {
                match self.origin(name, needs) {
                    Ok(origin) => drop(self.origins.insert(name.to_owned(), origin)),
                    Err(message) => problems.hint(
                        0,
                        format!("has a trigger, `{}`, that {message}", instruction.text),
                        "take files of that stage in this one as well, or begin with another image",
                    ),
                }
            }
            let list = Arc::new(vec![instruction]);
            self.queue.push_back(Queued { trigger_of: Some(base.to_owned()), list, index: 0 });
        }
        problems.or(())
    }

    /// A trigger may name stages of the file that it is used in, of which only those that are needed were built.
    fn origin(&self, name: &str, needs: &BTreeSet<usize>) -> Result<From, String> {
        if let Some(known) = self.origins.get(name) {
            return Ok(known.clone());
        }
        let lower = name.to_ascii_lowercase();
        let number = name.parse::<usize>().ok().or_else(|| self.shared.names.get(&lower).copied());
        if let Some(number) = number {
            let place = self.shared.places.get(&number).filter(|place| needs.contains(place));
            return place.map(|place| From::Stage(*place)).ok_or_else(|| {
                format!("takes files from the stage `{}`, which was not built before", cut(name))
            });
        }
        if lower == "scratch" {
            return Ok(From::Nothing);
        }
        image_name(name).map_err(|message| format!("takes files from an image, and {message}"))?;
        Ok(From::Image(name.to_owned()))
    }
}

/// One trigger, which is one instruction.
fn read(trigger: &str, problems: &mut Gathered) -> Option<instruction::Instruction> {
    let mut own = Gathered::new("");
    let lines = lines::split(trigger, &mut own);
    let instruction = match lines.lines.as_slice() {
        [line] => instruction::read(line, lines.escape, &mut own),
        _ => None,
    };
    let whys: Vec<String> = own.into_list().into_iter().map(|problem| problem.message).collect();
    match instruction {
        Some(instruction) if whys.is_empty() && !is_refused(&instruction.what) => Some(instruction),
        _ => {
            let why = if whys.is_empty() {
                "it is not one instruction that may be there".to_owned()
            } else {
                whys.join("; ")
            };
            problems
                .tell(0, format!("has a trigger that cannot be used, `{}`: {why}", cut(trigger)));
            None
        }
    }
}

fn is_refused(what: &What) -> bool {
    matches!(what, What::From(_) | What::Onbuild(_) | What::Maintainer(_))
}
