//! Bad input: one clear message with place, reason and hint, the exit code of the contract, and nothing changed.
//!
//! Each `bad/NAME.yml` has a golden `bad/NAME.txt` beside it; `UPDATE_EXPECT=1` writes them anew.

use std::collections::BTreeSet;
use std::path::Path;

use expect_test::expect_file;

use crate::lab::{Lab, Said, root};

/// The deployments that are refused; without the ending.
const FILES: [&str; 14] = [
    "yaml-error",
    "unknown-key",
    "wrong-type",
    "undefined-network",
    "undefined-volume",
    "port-out-of-range",
    "port-taken",
    "port-reserved",
    "port-twice",
    "no-image-key",
    "no-such-image",
    "registry-down",
    "impossible-constraint-syntax",
    "empty",
];

/// Commands that are refused: a name for the golden, and the arguments.
const COMMANDS: [(&str, &[&str]); 8] = [
    ("no-such-file", &["deploy", "-f", "no/such/stack.yml"]),
    ("no-such-service", &["service", "scale", "nobody_home=3"]),
    ("no-such-stack", &["stack", "rm", "nobody"]),
    ("no-such-node", &["node", "drain", "n9"]),
    ("no-such-volume", &["volume", "rm", "nothing"]),
    ("unreachable-controller", &["--host", "unix:///no/such/controller.sock", "ps"]),
    ("no-such-context", &["--context", "elsewhere", "ps"]),
    ("bad-scale", &["service", "scale", "good_web=many"]),
];

fn render(arguments: &[&str], said: &Said) -> String {
    let (out, talk) = (&said.stdout, without_digests(&said.stderr));
    format!("$ {}\n{out}{talk}exit code {}\n", arguments.join(" "), said.code)
}

/// Digests differ from run to run.
fn without_digests(text: &str) -> String {
    let is_digest = |word: &str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    let plain = words.map(|word| {
        let end = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).len();
        if is_digest(&word[..end]) { format!("DIGEST{}", &word[end..]) } else { word.to_owned() }
    });
    plain.collect()
}

fn check(golden: &str, arguments: &[&str], said: &Said) {
    assert!(matches!(said.code, 1 | 2), "{golden}: {said:#?}");
    assert!(said.stdout.is_empty(), "{golden}: {said:#?}");
    let path = root().join(format!("tests/tests/e2e/bad/{golden}.txt"));
    expect_file![path].assert_eq(&render(arguments, said));
}

#[test]
fn bad_input_is_refused_with_a_clear_word_and_changes_nothing() {
    let lab = Lab::with("bad", &["--hosts", "1", "--controllers", "1"]);
    lab.deploy(
        "good",
        "services:\n  web:\n    image: busybox\n    command: httpd -f -p 80\n    ports: [\"7001:80\"]\n",
    );
    let look = || {
        (
            lab.tasks(),
            lab.json(&["stack", "ls"]),
            lab.json(&["service", "ls"]),
            lab.json(&["volume", "ls"]),
        )
    };
    let before = look();
    for name in FILES {
        let file = format!("tests/tests/e2e/bad/{name}.yml");
        let arguments = ["deploy", "-f", &file, "--name", "bad", "--timeout", "20s"];
        check(name, &[&["swarmctl"], &arguments[..]].concat(), &lab.try_run(&arguments));
    }
    for (name, arguments) in COMMANDS {
        check(name, &[&["swarmctl"], arguments].concat(), &lab.try_run(arguments));
    }
    assert_eq!(look(), before);
    check_strangers(&lab);
    assert_eq!(look(), before);
}

/// Who has no right to be here.
fn check_strangers(lab: &Lab) {
    let arguments = ["swarmctl", "--host", "10.77.0.1:2377", "ps"];
    check("no-certificate", &arguments, &lab.try_exec("n1", &arguments));

    let script = "printf 'state_dir = \"/run/stranger\"\\nadvertise_address = \"10.77.0.1\"\\n' > /run/stranger.toml; \
        swarm-agent --config /run/stranger.toml join --token \"$1\" 10.77.0.1:2377";
    let token = lab.exec("n1", &["swarm-controller", "token", "agent"]);
    let (head, secret) = token.trim().rsplit_once('-').unwrap();
    let wrong_secret = format!("{head}-{}", "0".repeat(secret.len()));
    let other_cluster = format!("SWTKN-1-{}-{secret}", "0".repeat(64));
    for (name, token) in [
        ("wrong-secret", wrong_secret.as_str()),
        ("other-cluster", other_cluster.as_str()),
        ("no-token", "hello"),
    ] {
        let said = lab.try_exec("n1", &["sh", "-c", script, "sh", token]);
        assert!(!said.stderr.contains(secret), "a token is a secret: {said:#?}");
        check(name, &["swarm-agent", "join", "--token", "TOKEN", "10.77.0.1:2377"], &said);
    }
    assert_eq!(lab.try_exec("n1", &["test", "-e", "/run/stranger/identity/node.crt"]).code, 1);
}

#[test]
fn every_bad_file_is_tried() {
    let folder = root().join("tests/tests/e2e/bad");
    let names = |ending: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(&folder).unwrap().flatten();
        entries
            .filter_map(|entry| {
                let path = entry.path();
                let fits = path.extension().is_some_and(|found| found == ending);
                fits.then(|| Path::new(path.file_stem().unwrap()).display().to_string())
            })
            .collect()
    };
    assert_eq!(names("yml"), FILES.map(str::to_owned).into());
    let mut goldens: BTreeSet<String> = FILES.map(str::to_owned).into();
    goldens.extend(COMMANDS.map(|(name, _)| name.to_owned()));
    goldens
        .extend(["no-certificate", "wrong-secret", "other-cluster", "no-token"].map(str::to_owned));
    assert_eq!(names("txt"), goldens);
}
