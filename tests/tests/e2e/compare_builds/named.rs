//! What is different for a reason, and what buildah 1.28 cannot build.

/// Who does what the reference of Dockerfiles and `BuildKit` do.
pub(super) enum Side {
    /// We do, and buildah does not.
    Ours,
    /// Nothing is said of it, or both ways are.
    Either,
}

/// A difference that stays.
pub(super) struct Named {
    /// Its name; [`ANY`] for what is met in many.
    pub(super) example: &'static str,
    /// A path, or a part of the configuration.
    pub(super) place: &'static str,
    pub(super) right: Side,
    pub(super) reason: &'static str,
}

/// An example that buildah refuses.
pub(super) struct Lack {
    pub(super) example: &'static str,
    /// Part of what it says then.
    pub(super) said: &'static str,
    pub(super) reason: &'static str,
}

/// Stands for every example.
pub(super) const ANY: &str = "*";

const fn ours(example: &'static str, place: &'static str, reason: &'static str) -> Named {
    Named { example, place, right: Side::Ours, reason }
}

const fn either(example: &'static str, place: &'static str, reason: &'static str) -> Named {
    Named { example, place, right: Side::Either, reason }
}

const fn lack(example: &'static str, said: &'static str, reason: &'static str) -> Lack {
    Lack { example, said, reason }
}

const MOUNTED: &str = "buildah leaves what it mounted over when it ran a program";
const VOLUME: &str = "buildah makes folders of volumes; BuildKit only writes them down";
const DROPPED: &str = "buildah drops what a program writes into a volume; BuildKit keeps it";
const HARD_LINK: &str =
    "a second name of a file from an earlier step: overlayfs, BuildKit's too, copies one of them";
const NO_FOLDER: &str = "an image from nothing begins in `/`, as with BuildKit";
const RANGE: &str = "a range of ports is each of them, as with BuildKit";

pub(super) const NAMED: &[Named] = &[
    ours(ANY, "/etc/hostname", MOUNTED),
    ours(ANY, "/etc/hosts", MOUNTED),
    ours(ANY, "/etc/resolv.conf", MOUNTED),
    ours(ANY, "/run", MOUNTED),
    ours(
        "add-archives",
        "/here",
        "a folder into which an archive is unpacked stays as it is, as with BuildKit",
    ),
    either("copy-stage", "/out/run", HARD_LINK),
    either("copy-stage", "/through/door", HARD_LINK),
    either("copy-stage", "/usr/local/bin/run", HARD_LINK),
    ours("env", "config.Env", "a variable that is set again keeps its place, as with BuildKit"),
    ours("escape-plain", "/a\\b.txt", "with another escape, a backslash is a letter"),
    ours("escape-plain", "/ab.txt", "with another escape, a backslash is a letter"),
    ours("escape-plain", "config.Env", "with another escape, a backslash is a letter"),
    ours("expose-volume", "/data/file", DROPPED),
    ours("expose-volume", "/more", VOLUME),
    ours("expose-volume", "/var/with space", VOLUME),
    ours("expose-volume", "config.ExposedPorts", RANGE),
    ours("inherit", "/v", VOLUME),
    ours("mount-cache", "/var/cache", MOUNTED),
    ours("mounts-plain", "/var/cache", MOUNTED),
    ours("scratch", "/dev", MOUNTED),
    ours("scratch", "/etc", MOUNTED),
    ours("scratch", "/proc", MOUNTED),
    ours("scratch", "/sys", MOUNTED),
    ours("scratch", "config.WorkingDir", NO_FOLDER),
    ours("scratch-only", "config.WorkingDir", NO_FOLDER),
    ours("secret-plain", "/run/secrets", MOUNTED),
    ours("shell", "config.Cmd", "`SHELL` is for the shell form of `CMD`, too"),
    ours("volume-write", "/data/later", DROPPED),
    ours("volumes", "/more", VOLUME),
    ours("volumes", "config.ExposedPorts", RANGE),
];

const NO_HEREDOC: &str = "it has no heredocs";

pub(super) const LACKS: &[Lack] = &[
    lack("add-archive", "ADD only supports", "it has no `ADD --unpack`"),
    lack(
        "arg-and-env",
        "exit status 1",
        "an `ARG` of a stage is not there in one that begins with it",
    ),
    lack("copy-flags", "COPY only supports", "it has no symbolic `--chmod` and no `--link`"),
    lack("copy-parents", "COPY only supports", "it has no `COPY --parents` and no `--exclude`"),
    lack("escape", "exit status 1", "it loses backslashes where another escape is set"),
    lack("expansion", "substitution", "it has no `${x##y}`, `${x%y}` and `${x/y/z}`"),
    lack("healthcheck", "start-interval", "it has no `--start-interval`"),
    lack("heredoc-copy", "<<one.conf", NO_HEREDOC),
    lack("heredoc-run", "Unknown instruction", NO_HEREDOC),
    lack("heredoc-script", "Unknown instruction", NO_HEREDOC),
    lack("mount-bind", "must be an absolute path", "its mounts want whole paths"),
    lack("mount-secret", "secret should have syntax", "it has no secrets in variables"),
    lack("mount-tmpfs", "invalid mount option", "its `tmpfs` has no `size`"),
    lack("network", "RUN only supports", "it has no `RUN --network`"),
    lack("onbuild", "Unknown instruction", NO_HEREDOC),
    lack("proxy", "exit status 1", "a proxy is not set in capitals and small letters"),
    lack("target", "was not found", "stages' names are not the same in capitals and small letters"),
];
