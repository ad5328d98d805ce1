//! What an engine carries out: one resolved instruction after another.
//!
//! Everything here that is serialised is what the result depends on, so its JSON with the digest of what it is applied to
//! (and of the files that it takes) is a key for a cache. What must not be in one is not serialised.

use serde::Serialize;

use crate::mode::Mode;

/// One instruction with every variable replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its line in the Dockerfile; zero for a trigger of the base image.
    pub line: usize,
    /// How it is shown to people: the instruction as written, on one line. No secret is in it, for none can be in a
    /// Dockerfile, but values of build arguments are not filled in either.
    pub text: String,
    /// What touches files.
    pub action: Action,
}

/// What an instruction does to files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing: only the image's configuration changed, and that was done already.
    Configure,
    /// A program runs in a container.
    Run(Box<Run>),
    /// Files are put into the image.
    Copy(Box<Copy>),
    /// A folder is made, with those above it, where it is missing.
    Workdir(Workdir),
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    /// The program and its arguments; the shell is already in front of a command that is no list.
    pub arguments: Vec<String>,
    /// Variables, in the order in which they came to be: the image's own, then build arguments that the stage declared.
    pub env: Vec<(String, String)>,
    /// Build arguments for proxies (`HTTP_PROXY`, …). They are given to the program like `env`, before it, but belong in no
    /// cache key, history or image.
    #[serde(skip)]
    pub hidden_env: Vec<(String, String)>,
    /// The user, with a group after a colon, by name or number; empty is root. Names are those of the image's
    /// `/etc/passwd` and `/etc/group`.
    pub user: String,
    /// Where the program starts: absolute.
    pub workdir: String,
    /// What is mounted for it, in the order in which it is mounted. Nothing of it stays in the image.
    pub mounts: Vec<Mount>,
    /// Its network.
    pub network: Network,
    /// A script from a heredoc that begins with `#!`: it is mounted, read only and executable, where `arguments` look
    /// for it. Nothing of it stays in the image.
    pub script: Option<Script>,
}

/// A heredoc that is run itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Script {
    /// Absolute: `/dev/pipes/EOF`.
    pub path: String,
    /// What is in it.
    pub content: String,
}

/// `RUN --network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// What the builder gives: the way outside.
    #[default]
    Default,
    /// Loopback alone.
    None,
    /// The host's own. The engine may refuse it.
    Host,
}

/// `RUN --mount`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Mount {
    /// Files of the context, a stage or an image.
    Bind {
        /// Absolute.
        target: String,
        /// Whose files.
        from: From,
        /// Which file or folder there, absolute below its root; `/` is all.
        source: String,
        /// Whether it may be written; what is written is lost.
        writable: bool,
    },
    /// A folder that later builds on this host find again.
    Cache {
        /// Absolute.
        target: String,
        /// Its name; the target's, when none is given.
        id: String,
        /// What it begins with the first time; an empty folder when nothing.
        from: Option<From>,
        /// Which folder of `from`; absolute below its root.
        source: String,
        /// Whether it may be written.
        read_only: bool,
        /// Who may have it at the same time.
        sharing: Sharing,
        /// The owner of the new folder.
        uid: u32,
        /// The group of the new folder.
        gid: u32,
        /// The permissions of the new folder.
        mode: u32,
    },
    /// A file system in memory.
    Tmpfs {
        /// Absolute.
        target: String,
        /// Its most bytes.
        size: Option<u64>,
    },
    /// Bytes that the client gave with this build. They belong in no layer, log, history or cache key.
    Secret {
        /// Which one.
        id: String,
        /// Where the file is: absolute. Nothing, where it is only a variable.
        target: Option<String>,
        /// The variable that has its value.
        env: Option<String>,
        /// Whether the build fails without it; else the mount is left out.
        required: bool,
        /// The file's owner.
        uid: u32,
        /// The file's group.
        gid: u32,
        /// The file's permissions.
        mode: u32,
    },
}

/// Who may have a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// Everybody.
    #[default]
    Shared,
    /// One at a time: others get an empty one of their own.
    Private,
    /// One at a time: others wait.
    Locked,
}

/// Whose files are taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// What the client sent, without what is ignored.
    Context,
    /// The files of a stage: its place in the plan's list.
    Stage(usize),
    /// The files of an image: its reference.
    Image(String),
    /// No files: `scratch`.
    Nothing,
}

/// `COPY` and `ADD`.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copy {
    /// Whose files the paths of `sources` are.
    pub from: From,
    /// What is copied, in order. At least one.
    pub sources: Vec<Source>,
    /// Where to: absolute and without `.` and `..`. It may go over symbolic links of the image.
    pub target: String,
    /// Whether the target is a folder even where it is not there yet: it ended with `/`, or there are several sources.
    pub into_folder: bool,
    /// `--chown`: a user, with a group after a colon, by name or number. Without it files belong to 0:0.
    pub owner: Option<String>,
    /// `--chmod`. Without it files keep the permissions that they have.
    pub mode: Option<Mode>,
    /// `--link`: the files do not depend on what is there before, so links of the image are not followed, and the layer
    /// is the same on every base.
    pub link: bool,
    /// `--parents`: folders above the sources are kept; from a `./` in a source on.
    pub parents: bool,
    /// `--exclude`: patterns as in `.dockerignore`, for paths below each source.
    pub exclude: Vec<String>,
    /// Whether a local archive (tar, also gzip, bzip2, xz or zstd) is unpacked into the target: `ADD` does.
    pub unpack: bool,
}

/// What `COPY` and `ADD` take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Below the root of the context, stage or image; without `.` and `..` (but for the `./` of `--parents`), and without
    /// a leading `/`; empty is all. It may be a pattern (see [`crate::Glob`]). Of a folder the content is copied.
    Path(String),
    /// A heredoc: a file of that name, with the permissions 0644.
    File {
        /// Its name, with no folder.
        name: String,
        /// What is in it.
        content: String,
    },
}

/// `WORKDIR`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Workdir {
    /// Absolute and without `.` and `..`.
    pub path: String,
    /// To whom new folders belong: the image's user at that point; empty is root.
    pub user: String,
}
