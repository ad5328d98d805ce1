//! Images that are built by the cluster itself, and run on all of its hosts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::{Lab, address, eventually};

/// Easy to find, wherever it is not to be.
const KEY: &str = "green-walrus-6053-lamp";

const DOCKERFILE: &str = r#"
FROM busybox AS made
ARG VERSION=0
COPY words.txt late*.txt /src/
RUN --mount=type=secret,id=key \
    md5sum </run/secrets/key >/src/sum && echo "v$VERSION" >/src/version
RUN <<END
set -e
grep 192.0.2.7 /etc/hosts || test $VERSION = 0
df -k /dev/shm | grep -w 8192 || test $VERSION = 0
test $(ulimit -n) = 1234 || test $VERSION = 0
mkdir /src/private
chmod 700 /src/private
END

FROM busybox
COPY --from=made --chown=1000:1001 /src /app
WORKDIR /app
USER 1000:1001
CMD ["sleep", "100000"]
"#;

const STACK: &str = r#"
services:
  app:
    build:
      context: app
      args: {VERSION: "2"}
      secrets: [key]
      labels: {team: shop}
      extra_hosts: ["mirror:192.0.2.7"]
      shm_size: 8m
      ulimits: {nofile: 1234}
    stop_grace_period: 1s
    deploy: {replicas: 3, placement: {max_replicas_per_node: 1}}
secrets:
  key: {file: key}
"#;

/// The files of a stack that builds, beside each other.
fn files(lab: &Lab) -> PathBuf {
    let folder = lab.settings().join("built");
    fs::create_dir_all(folder.join("app")).unwrap();
    fs::write(folder.join("stack.yml"), STACK).unwrap();
    fs::write(folder.join("key"), KEY).unwrap();
    fs::write(folder.join("app/Dockerfile"), DOCKERFILE).unwrap();
    fs::write(folder.join("app/words.txt"), "first words\n").unwrap();
    fs::write(folder.join("app/.dockerignore"), "late*\n!late.txt\n").unwrap();
    fs::write(folder.join("app/later.txt"), "not to be sent").unwrap();
    fs::write(folder.join("app/late.txt"), "sent\n").unwrap();
    folder
}

#[track_caller]
fn deploy(lab: &Lab, folder: &Path, more: &[&str]) -> String {
    let file = folder.join("stack.yml");
    let deploy = ["deploy", "-f", file.to_str().unwrap(), "--name", "built", "--timeout", "90s"];
    let said = lab.try_run(&[&deploy[..], more].concat());
    assert!(said.code == 0, "{said:#?}\n{}", lab.describe());
    said.stderr
}

/// What each of the three tasks says, which must be the same.
#[track_caller]
fn inside_all(lab: &Lab, script: &str) -> String {
    let tasks = eventually(30, "three tasks run", || {
        let tasks = lab.running("built_app");
        (tasks.len() == 3).then_some(tasks)
    });
    let said: Vec<String> = tasks.iter().map(|task| lab.inside(&task.id, script)).collect();
    assert!(said.iter().all(|one| *one == said[0]), "{said:#?}");
    said[0].clone()
}

#[test]
fn a_stack_builds_its_image_once_and_all_hosts_run_it() {
    let lab = Lab::up("build");
    let folder = files(&lab);
    deploy(&lab, &folder, &[]);
    let sum = inside_all(&lab, "cat /app/sum | cut -d' ' -f1");
    assert_eq!(sum, md5(KEY), "the secret was read");
    let image = lab.json(&["image", "inspect", "built_app"]).to_string();
    assert!(image.contains(r#""team":"shop""#), "{image}");
    let script =
        "cat /app/version /app/words.txt; ls /app; stat -c '%n %a %u:%g' private; id -u; pwd";
    assert_eq!(
        inside_all(&lab, script),
        "v2\nfirst words\nlate.txt\nprivate\nsum\nversion\nwords.txt\nprivate 700 1000:1001\n1000\n/app"
    );

    // What was built once is not built again, and is no change.
    let before = lab.running("built_app");
    deploy(&lab, &folder, &[]);
    deploy(&lab, &folder, &["--build"]);
    assert_eq!(lab.running("built_app"), before);

    // Another content is another image.
    fs::write(folder.join("app/words.txt"), "second words\n").unwrap();
    deploy(&lab, &folder, &["--build"]);
    assert_eq!(inside_all(&lab, "cat words.txt"), "second words");

    // An instruction that fails: where it stands, what it said, and nothing is deployed.
    let before = lab.running("built_app");
    let broken = DOCKERFILE.replace("chmod 700", "echo told; chmod 7x0");
    fs::write(folder.join("app/Dockerfile"), broken).unwrap();
    let file = folder.join("stack.yml");
    let deploy = ["deploy", "--build", "-f", file.to_str().unwrap(), "--name", "built"];
    let said = lab.try_run(&deploy);
    assert_eq!(said.code, 1, "{said:#?}");
    for words in ["told", "Dockerfile", "RUN <<END"] {
        assert!(said.stderr.contains(words), "{words}: {said:#?}");
    }
    assert_eq!(lab.running("built_app"), before);

    // The secret is in no image, cache, log or state.
    for host in ["n1", "n2", "n3"] {
        let places = "/var/lib/swarm /run/swarm /etc/swarm /var/log";
        let script = format!("grep -rlaF -D skip {KEY} {places} 2>/dev/null; true");
        assert_eq!(lab.exec(host, &["sh", "-c", &script]), "", "on {host}");
    }
    lab.run(&["stack", "rm", "built"]);
}

/// What `md5sum` says of a text.
fn md5(text: &str) -> String {
    let script = "printf %s \"$1\" | md5sum | cut -d' ' -f1";
    let output = Command::new("sh").args(["-c", script, "sh", text]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn an_image_is_built_on_a_node_by_hand() {
    let lab = Lab::up("build-hand");
    let folder = files(&lab);
    let context = folder.join("app");
    let (context, key) = (context.to_str().unwrap(), folder.join("key"));
    let secret = format!("id=key,src={}", key.display());
    let build = ["build", "-t", "hand:1", "--secret", &secret, "--node", "n2", context];
    let digest = lab.run(&build);
    assert!(digest.trim().starts_with("sha256:"), "{digest}");
    // Everything is there already.
    assert_eq!(lab.run(&build), digest);
    let images = lab.json(&["image", "ls"]);
    assert!(images.to_string().contains("hand:1"), "{images}");
    lab.deploy("hand", "services: {app: {image: \"hand:1\", deploy: {mode: global}}}");
    let tasks = lab.running("hand_app");
    assert_eq!(tasks.len(), 3, "{tasks:#?}");
    assert_eq!(lab.inside(&tasks[0].id, "cat /app/version"), "v0");

    // What cannot be built is said before anything is sent.
    fs::write(folder.join("app/Dockerfile"), "FROM busybox\nCPOY a b\nRUN --mount=type=x true\n")
        .unwrap();
    let said = lab.try_run(&["build", context]);
    assert_eq!(said.code, 1, "{said:#?}");
    for words in ["CPOY", "do you mean `COPY`?", "type"] {
        assert!(said.stderr.contains(words), "{words}: {said:#?}");
    }

    // What builds left goes, and the image stays.
    let prune = ["builder", "prune", "--node", "n2"];
    let said = lab.try_run(&[&prune[..], &["--older-than", "1h"]].concat());
    assert!(said.code == 0 && said.stderr.contains("nothing to remove"), "{said:#?}");
    let said = lab.try_run(&prune);
    assert!(said.code == 0 && said.stderr.contains("caches of builds are gone"), "{said:#?}");
    let said = lab.try_run(&prune);
    assert!(said.code == 0 && said.stderr.contains("nothing to remove"), "{said:#?}");
    assert_eq!(lab.inside(&tasks[0].id, "cat /app/version"), "v0");
    lab.run(&["stack", "rm", "hand"]);
}

/// The agents' own port answers from elsewhere, and on the host's loopback as well.
const NETWORKS: &str = r"
FROM busybox
ARG ELSEWHERE
RUN ip -4 addr show | grep -q 'inet 198.19.255.' && grep -q 127.0.0.11 /etc/resolv.conf
RUN nc -w 5 $ELSEWHERE 2387 </dev/null
RUN ! nc -w 5 127.0.0.1 2387 </dev/null
RUN --network=host nc -w 5 127.0.0.1 2387 </dev/null
RUN --network=none ! nc -w 5 $ELSEWHERE 2387 </dev/null
";

#[test]
fn a_step_has_a_network_of_its_own_with_a_way_out() {
    let lab = Lab::up("build-network");
    let folder = lab.settings().join("networks");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("Dockerfile"), NETWORKS).unwrap();
    let elsewhere = format!("ELSEWHERE={}", address("n1"));
    let folder = folder.to_str().unwrap();
    lab.run(&["build", "-t", "networks:1", "--node", "n2", "--build-arg", &elsewhere, folder]);
    // Nothing of them is left once no step runs.
    let links = lab.exec("n2", &["ip", "-o", "link", "show"]);
    assert!(!links.contains("sw0"), "{links}");
    let doctor = lab.run(&["doctor"]);
    assert!(!doctor.contains("build"), "{doctor}");
}
