//! Reads Dockerfiles. Nothing here touches a file, a network or a clock.
//!
//! [`read`] takes the text apart and finds every problem that can be seen in it. [`plan()`] says which stages a build needs.
//! For each of them an engine makes a [`StageRun`] from its base's configuration, and carries out one [`Step`] after
//! another: every variable in them is replaced, and what touches no file is already done in the image's configuration.
//!
//! ```text
//! let dockerfile = read(&text, "Dockerfile")?;
//! let plan = plan(&dockerfile, &wishes)?;
//! for (place, stage) in plan.stages.iter().enumerate() {     // or those at once that do not need one another
//!     let base: StageEnd = match &stage.base {
//!         Base::Scratch => Image::scratch(&stage.platform).into(),
//!         Base::Image(reference) => pulled(reference).into(),  // an `Image`, from its JSON
//!         Base::Stage(other) => ends[*other].clone(),
//!     };
//!     let mut run = StageRun::begin(&plan, place, &base)?;
//!     while let Some(step) = run.next_step()? {
//!         carry_out(&step.action);                             // a layer for each of Run, Copy, Workdir
//!         // or `run.made_no_layer()`, when it changed nothing
//!     }
//!     ends.push(run.finish());                                 // `.image` is the configuration; layers are the engine's
//! }
//! ```

mod change;
mod dockerfile;
mod expand;
mod ignore;
mod image;
mod instruction;
mod lines;
mod mode;
mod path;
mod pattern;
mod plan;
mod problem;
mod stage;
mod step;
mod substitute;
mod words;

pub use change::change;
pub use dockerfile::{Dockerfile, read};
pub use ignore::Ignore;
pub use image::{DEFAULT_PATH, Healthcheck, History, Image, ImageConfig, Rootfs};
pub use mode::{InvalidMode, Mode};
pub use pattern::{Glob, InvalidPattern};
pub use plan::{Base, InvalidPlatform, Plan, PlannedStage, Platform, Wishes, plan};
pub use problem::{Problem, Problems};
pub use stage::{StageEnd, StageRun};
pub use step::{Action, Copy, From, Mount, Network, Run, Script, Sharing, Source, Step, Workdir};
