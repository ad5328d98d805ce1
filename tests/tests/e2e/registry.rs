//! A registry that wants to know who asks: logins that the cluster keeps, pushes and pulls with them.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;

use crate::buildah::Buildah;
use crate::lab::{Lab, Said, address, eventually, root};

/// Easy to find, wherever it is not to be, and in the form in which it is sent with a request.
const PASSWORD: &str = "purple-otter-4417-lamp";
const SENT: &str = "YWRhOnB1cnBsZS1vdHRlci00NDE3LWxhbXA=";
/// What the registry knows of it.
const HASH: &str = "$2b$05$wnubAZIo7FjDx.1ROQWgOOvuTUaWgo9IvqXYdXZn32oOcayx7n3G6";
const PLACE: &str = "10.77.0.1:5001";
const NAME: &str = "10.77.0.1:5001/team/app:1";

const DOCKERFILE: &str = "FROM busybox\nRUN echo pushed >/words\nCMD [\"sleep\", \"100000\"]\n";

fn stack(image: &str) -> String {
    format!(
        "services:\n  app:\n    image: {image}\n    stop_grace_period: 0s\n    deploy:\n      \
         replicas: 3\n      placement: {{max_replicas_per_node: 1}}\n"
    )
}

/// Starts Debian's registry on the first host, without TLS and for one person.
fn serve(lab: &Lab) {
    let folder = lab.settings().join("registry");
    fs::create_dir_all(&folder).unwrap();
    let (shown, known) = (folder.display(), folder.join("htpasswd"));
    fs::write(&known, format!("ada:{HASH}\n")).unwrap();
    let config = format!(
        "version: 0.1\nlog:\n  accesslog:\n    disabled: true\n  level: error\nstorage:\n  \
         filesystem:\n    rootdirectory: {shown}/store\nhttp:\n  addr: {PLACE}\nauth:\n  \
         htpasswd:\n    realm: test\n    path: {shown}/htpasswd\n"
    );
    fs::write(folder.join("config.yml"), config).unwrap();
    let program = root().join("target/tools/docker-registry/usr/bin/docker-registry");
    let program = program.display();
    let script = format!("setsid {program} serve {shown}/config.yml >/dev/null 2>&1 &");
    lab.exec("n1", &["sh", "-c", &script]);
    eventually(20, "the registry listens", || lab.connect("n1", address("n1"), 5001).ok());
}

/// Lets all hosts speak to the registry without TLS, from their agents' next start on.
fn allow(lab: &Lab) {
    let line = format!("insecure = [\"{PLACE}\"]");
    let edit = format!("s/^\\[registry\\]$/[registry]\\n{line}/");
    for host in ["n1", "n2", "n3"] {
        lab.exec(host, &["sed", "-i", &edit, "/etc/swarm/agent.toml"]);
        let before = lab.program(host, "agent");
        lab.kill_program(host, "agent");
        eventually(20, "the agent is started again", || {
            let now = lab.program(host, "agent");
            (now.is_some() && now != before).then_some(())
        });
    }
}

/// `swarmctl login`, with the password in standard input.
fn log_in(lab: &Lab, password: &str) -> Said {
    let mut command = lab.command(&["login", PLACE, "-u", "ada", "--password-stdin"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().unwrap();
    writeln!(running.stdin.take().unwrap(), "{password}").unwrap();
    let output = running.wait_with_output().unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The nodes that hold an image.
fn holders(lab: &Lab, reference: &str) -> Vec<String> {
    let images = lab.json(&["image", "ls"]);
    let mut found = images.as_array().unwrap().iter();
    let found = found.find(|image| image["reference"] == reference);
    let nodes = found.and_then(|image| image["nodes"].as_array().cloned()).unwrap_or_default();
    let mut nodes: Vec<String> =
        nodes.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    nodes.sort();
    nodes
}

#[test]
fn the_cluster_pushes_to_a_private_registry_and_pulls_from_it() {
    let lab = Lab::up("registry");
    serve(&lab);
    let said = lab.try_deploy("web", &stack(NAME));
    assert_eq!(said.code, 1, "it has no TLS: {said:#?}");
    assert!(said.stderr.contains("`insecure`"), "{said:#?}");
    allow(&lab);

    // Before anybody is logged in.
    let refused = eventually(20, "the registry is asked", || {
        let said = lab.try_deploy("web", &stack(NAME));
        said.stderr.contains("access is denied").then_some(said)
    });
    assert!(refused.code == 1 && refused.stderr.contains(&format!("`swarmctl login {PLACE}`")));
    let said = log_in(&lab, "not-this-one");
    assert!(said.code == 1 && said.stderr.contains("refuses this name"), "{said:#?}");
    assert_eq!(lab.json(&["login", "--list"]), serde_json::json!([]));

    // Built on one host and pushed from there.
    let folder = lab.settings().join("app");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("Dockerfile"), DOCKERFILE).unwrap();
    let folder = folder.to_str().unwrap().to_owned();
    let built = lab.run(&["build", "-t", NAME, "--node", "n2", &folder]);
    let said = lab.try_run(&["image", "push", NAME]);
    assert!(said.code == 1 && said.stderr.contains("swarmctl login"), "{said:#?}");
    let said = log_in(&lab, PASSWORD);
    assert!(said.code == 0 && said.stderr.contains("logged in"), "{said:#?}");
    let said = lab.try_run(&["image", "push", NAME]);
    assert!(said.code == 0 && said.stderr.contains(": sent, "), "{said:#?}");
    assert_eq!(said.stdout, built, "the digest stays");
    let said = lab.try_run(&["image", "push", NAME, &format!("{PLACE}/team/other:2"), "--quiet"]);
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (0, built.as_str(), ""));
    let (ada, image) = (format!("ada:{PASSWORD}"), format!("docker://{NAME}"));
    let inspect = ["skopeo", "inspect", "--tls-verify=false", "--creds", &ada, &image];
    let inspected: Value = serde_json::from_str(&lab.exec("n1", &inspect)).unwrap();
    assert_eq!(inspected["Digest"], built.trim(), "{inspected:#}");
    let buildah = Buildah::new();
    let image = buildah.pull_on(&lab, "n1", &ada, NAME);
    assert_eq!(buildah.run_in(&image, &["cat", "/words"]), "pushed");

    // Gone from all hosts, it comes back from the registry.
    lab.run(&["image", "rm", NAME]);
    assert!(holders(&lab, NAME).is_empty());
    let said = lab.try_run(&["image", "pull", NAME, "--all"]);
    assert_eq!((said.code, said.stdout.as_str()), (0, built.as_str()), "{said:#?}");
    assert!(said.stderr.contains("node n3: 2 of 2 layers are ready"), "{said:#?}");
    assert_eq!(holders(&lab, NAME), ["n1", "n2", "n3"]);
    let said = lab.try_run(&["image", "pull", &format!("{PLACE}/team/absent:1"), "--node", "n2"]);
    assert!(said.code == 1 && said.stderr.contains("does not have it"), "{said:#?}");
    lab.deploy("web", &stack(NAME));
    let running = lab.running("web_app.");
    assert_eq!(running.len(), 3, "{running:#?}");
    for task in &running {
        assert_eq!(lab.inside(&task.name, "cat /words"), "pushed");
    }
    assert_eq!(holders(&lab, NAME), ["n1", "n2", "n3"]);

    no_password_is_seen(&lab);
    lab.run(&["logout", PLACE]);
    let said = lab.try_run(&["logout", PLACE]);
    assert!(said.code == 1 && said.stderr.contains("no login"), "{said:#?}");
    let other = format!("{PLACE}/team/other:2");
    let said = lab.try_deploy("other", &stack(&other));
    assert!(said.code == 1 && said.stderr.contains("access is denied"), "{said:#?}");
    lab.run(&["stack", "rm", "web"]);
}

/// The password is in nothing that is shown or kept, on no host.
fn no_password_is_seen(lab: &Lab) {
    let listed = lab.json(&["login", "--list"]);
    assert_eq!((&listed[0]["registry"], &listed[0]["user"]), (&PLACE.into(), &"ada".into()));
    let shown = [
        &["login", "--list", "-o", "json"][..],
        &["stack", "ls", "-o", "json"],
        &["node", "inspect", "n1"],
        &["service", "inspect", "web_app"],
        &["image", "inspect", NAME],
        &["secret", "ls", "-o", "json"],
        &["cluster", "status", "-o", "json"],
    ];
    for arguments in shown {
        let said = lab.run(arguments);
        assert!(!said.contains(PASSWORD) && !said.contains(SENT), "{arguments:?}: {said}");
    }
    for host in ["n1", "n2", "n3"] {
        let places = "/var/lib/swarm /run/swarm /etc/swarm /var/log";
        let script =
            format!("grep -rlaF -D skip -e {PASSWORD} -e {SENT} {places} 2>/dev/null; true");
        assert_eq!(lab.exec(host, &["sh", "-c", &script]), "", "on {host}");
        for program in ["controller", "agent"] {
            let log = format!("/var/lib/swarm-lab/{}/{host}/log/{program}.log", lab.name());
            let log = fs::read_to_string(log).unwrap();
            assert!(!log.contains(PASSWORD) && !log.contains(SENT), "{program} of {host}");
        }
    }
    let audited = ["n1", "n2", "n3"].iter().any(|host| {
        let log = format!("/var/lib/swarm-lab/{}/{host}/log/controller.log", lab.name());
        fs::read_to_string(log).unwrap().contains("LogIn")
    });
    assert!(audited, "the login is in the audit log");
}
