//! Buildah, in folders of its own: nothing of the machine's configuration or storage is used or changed. It runs
//! programs with nothing but `chroot`, so it needs neither control groups nor a network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::lab::Lab;

/// See the module.
pub(crate) struct Buildah {
    folder: tempfile::TempDir,
}

impl Buildah {
    /// One that has no image yet.
    pub(crate) fn new() -> Self {
        let buildah = Self { folder: tempfile::tempdir().unwrap() };
        for name in ["storage", "run", "tmp", "home"] {
            fs::create_dir(buildah.path(name)).unwrap();
        }
        let write = |name: &str, text: &str| fs::write(buildah.path(name), text).unwrap();
        write("policy.json", r#"{"default": [{"type": "insecureAcceptAnything"}]}"#);
        write("registries.conf", "unqualified-search-registries = [\"docker.io\"]\n");
        write("containers.conf", "");
        buildah
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn policy(&self) -> String {
        self.path("policy.json").display().to_string()
    }

    /// The words of a command, its environment first.
    fn words(&self, arguments: &[&str]) -> Vec<String> {
        let path = std::env::var("PATH").unwrap();
        let variable = |name: &str, file: &str| format!("{name}={}", self.path(file).display());
        let mut words = vec!["env".to_owned(), "-i".to_owned(), format!("PATH={path}")];
        words.push(variable("HOME", "home"));
        words.push(variable("TMPDIR", "tmp"));
        words.push(variable("CONTAINERS_REGISTRIES_CONF", "registries.conf"));
        words.push(variable("CONTAINERS_CONF", "containers.conf"));
        words.extend(["buildah", "--storage-driver", "vfs", "--root"].map(str::to_owned));
        words.push(self.path("storage").display().to_string());
        words.push(format!("--runroot={}", self.path("run").display()));
        words.extend(arguments.iter().map(|&word| word.to_owned()));
        words
    }

    fn output(&self, arguments: &[&str]) -> Output {
        let words = self.words(arguments);
        Command::new(&words[0]).args(&words[1..]).output().unwrap()
    }

    /// Runs a command of buildah's, which must succeed; what it said on standard output.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(output.status.success(), "buildah {}: {output:?}", arguments.join(" "));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Takes an image in, from where another program put it.
    #[track_caller]
    pub(crate) fn pull(&self, from: &str) -> String {
        self.run(&["pull", "--quiet", "--signature-policy", &self.policy(), from])
    }

    /// Takes an image from a registry in, as a program on a host of the lab.
    #[track_caller]
    pub(crate) fn pull_on(&self, lab: &Lab, host: &str, credentials: &str, image: &str) -> String {
        let (policy, from) = (self.policy(), format!("docker://{image}"));
        let pull = ["pull", "--quiet", "--tls-verify=false", "--creds", credentials];
        let words = self.words(&[&pull[..], &["--signature-policy", &policy, &from]].concat());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        lab.exec(host, &words).trim().to_owned()
    }

    /// Writes an image to a place that containers' tools have a name for.
    #[track_caller]
    pub(crate) fn push(&self, image: &str, to: &str) {
        self.run(&["push", "--quiet", "--signature-policy", &self.policy(), image, to]);
    }

    /// Writes all images of an index.
    #[track_caller]
    pub(crate) fn push_index(&self, index: &str, to: &str) {
        let push = ["manifest", "push", "--quiet", "--all", "--format", "oci"];
        self.run(&[&push[..], &["--signature-policy", &self.policy(), index, to]].concat());
    }

    /// Makes an image of another that differs from it in a label.
    #[track_caller]
    pub(crate) fn derive(&self, image: &str, name: &str) {
        let policy = self.policy();
        let container = self.run(&["from", "--pull-never", "--signature-policy", &policy, image]);
        self.run(&["config", "--label", "other=1", &container]);
        self.run(&["commit", "--quiet", "--rm", "--signature-policy", &policy, &container, name]);
    }

    /// Runs a command in a container of an image.
    #[track_caller]
    pub(crate) fn run_in(&self, image: &str, command: &[&str]) -> String {
        let policy = self.policy();
        let container = self.run(&["from", "--pull-never", "--signature-policy", &policy, image]);
        let said =
            self.run(&[&["run", "--isolation", "chroot", &container, "--"], command].concat());
        self.run(&["rm", &container]);
        said
    }

    /// Builds a folder's Dockerfile with these options, and writes the image to `to`; what it says last where it does not.
    pub(crate) fn build(&self, folder: &Path, options: &[String], to: &str) -> Result<(), String> {
        let policy = self.policy();
        let mut arguments = vec!["build", "--isolation", "chroot", "--format", "docker"];
        arguments.extend(["--pull-never", "--identity-label=false", "--signature-policy", &policy]);
        arguments.extend(["-t", to]);
        arguments.extend(options.iter().map(String::as_str));
        arguments.push(folder.to_str().unwrap());
        let output = self.output(&arguments);
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = said.lines().rev().take(3).collect();
        Err(last.into_iter().rev().collect::<Vec<_>>().join(" | "))
    }
}
