//! Which stages a build needs, and in what order.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::problem::Problem;

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

/// A system and a processor, in Go's words.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v7`.
    pub variant: Option<String>,
}

/// A build, thought through.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The stages that are needed, each after those that it needs. The last one is the target.
    pub stages: Vec<PlannedStage>,
    /// What is worth a word.
    pub warnings: Vec<Problem>,
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
    /// Whether it takes files of the context.
    pub uses_context: bool,
    /// How many instructions it has, those of triggers not counted.
    pub instructions: usize,
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
