//! The table of Docker's flags is whole, true, and what the documentation says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use expect_test::expect_file;
use swarmctl::swarm_flags::{Answer, EXTENSIONS, FLAGS, NODE_FLAGS, page};

/// What `docker service create` takes (API 1.51), short forms and the default's opposite left out.
const CREATE: &str = "name mode replicas replicas-max-per-node max-concurrent env env-file entrypoint user group workdir
    hostname tty read-only init mount network publish endpoint-mode host dns dns-option dns-search label container-label
    constraint placement-pref limit-cpu limit-memory limit-pids reserve-cpu reserve-memory generic-resource memory-swap
    memory-swappiness oom-score-adj cap-add cap-drop sysctl ulimit secret config health-cmd health-interval
    health-timeout health-retries health-start-period health-start-interval no-healthcheck restart-condition
    restart-delay restart-max-attempts restart-window stop-signal stop-grace-period log-driver log-opt no-resolve-image
    with-registry-auth isolation credential-spec detach quiet";
/// Those of which both an update's and a rollback's policy are made.
const POLICY: &str = "parallelism delay monitor failure-action max-failure-ratio order";
/// What `docker service update` takes beside, and the lists that it adds to and takes from.
const UPDATE: &str = "image args force rollback";
const LISTS: &str = "env label container-label constraint placement-pref mount network publish secret config host dns
    dns-search dns-option group sysctl ulimit generic-resource";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[test]
fn the_table_has_each_of_dockers_flags_once() {
    let mut wanted: BTreeSet<String> = CREATE.split_whitespace().map(str::to_owned).collect();
    wanted.extend(UPDATE.split_whitespace().map(str::to_owned));
    for part in POLICY.split_whitespace() {
        wanted.extend([format!("update-{part}"), format!("rollback-{part}")]);
    }
    for list in LISTS.split_whitespace() {
        wanted.extend([format!("{list}-add"), format!("{list}-rm")]);
    }
    let has: BTreeSet<String> = FLAGS.iter().map(|flag| flag.name.to_owned()).collect();
    assert_eq!(has.len(), FLAGS.len(), "a flag stands twice");
    assert_eq!(has, wanted);
}

/// The names of all tests in the sources.
fn tests() -> BTreeSet<String> {
    let mut folders: Vec<PathBuf> =
        ["proto", "manifests", "controller", "agent", "runtime", "swarmctl", "tests"]
            .iter()
            .map(|name| root().join(name))
            .collect();
    let mut names = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                tests_in(&std::fs::read_to_string(path).unwrap(), &mut names);
            }
        }
    }
    names
}

/// A function that an attribute makes a test: whatever other attributes stand between.
fn tests_in(text: &str, names: &mut BTreeSet<String>) {
    let mut is_test = false;
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(rest) =
            line.strip_prefix("fn ").or_else(|| line.strip_prefix("async fn ")).filter(|_| is_test)
        {
            let name = rest.split(['(', '<']).next().unwrap_or_default();
            names.insert(name.to_owned());
            is_test = false;
        }
    }
}

#[test]
fn each_flag_names_a_test_that_is_there() {
    let tests = tests();
    assert!(tests.len() > 500, "{} tests were found", tests.len());
    let nodes = NODE_FLAGS.iter().map(|flag| (flag.name, flag.test));
    let flags = FLAGS.iter().chain(EXTENSIONS).map(|flag| (flag.name, flag.test));
    let missing: Vec<_> = flags.chain(nodes).filter(|(_, test)| !tests.contains(*test)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}

#[test]
fn each_counterpart_is_there() {
    let help = |verb: &str| {
        let program = env!("CARGO_BIN_EXE_swarmctl");
        let output = Command::new(program).args(["service", verb, "--help"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let help = help("create") + &help("update");
    let keys = swarm_manifests::keys::entries();
    for flag in FLAGS.iter().chain(EXTENSIONS) {
        let (own, key) = match flag.answer {
            Answer::Flag { name, key } => (Some(name), key),
            Answer::Key(key) => (None, key),
            Answer::Refused(why) => {
                assert!(!why.is_empty(), "--{} is refused without a reason", flag.name);
                continue;
            }
        };
        if let Some(own) = own {
            let word = format!("--{own}");
            let is_there = help.split([' ', ',', '\n', ']']).any(|found| found == word);
            assert!(is_there, "swarmctl has no {word}");
        }
        let path = if key == "services.*" { key.to_owned() } else { format!("services.*.{key}") };
        let honoured = keys.iter().any(|entry| {
            (entry.path == path || entry.path.starts_with(&format!("{path}.")))
                && !entry.answer.is_refusal()
        });
        assert!(key.is_empty() || honoured, "no stack file says `{path}`");
        assert!(own.is_some() || !key.is_empty(), "--{} has no counterpart", flag.name);
    }
}

#[test]
fn each_verb_of_nodes_is_there() {
    let program = env!("CARGO_BIN_EXE_swarmctl");
    for flag in NODE_FLAGS {
        let output = Command::new(program).args(["node", flag.verb, "--help"]).output().unwrap();
        assert!(output.status.success(), "swarmctl node has no verb {}", flag.verb);
    }
}

#[test]
fn there_is_no_flag_for_quiet() {
    let program = env!("CARGO_BIN_EXE_swarmctl");
    let words = ["service", "create", "--name", "x", "--quiet", "app"];
    let output = Command::new(program).args(words).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--quiet"));
}

#[test]
fn the_page_is_made_of_the_table() {
    expect_file![root().join("docs/swarm-flags.md")].assert_eq(&page());
}
