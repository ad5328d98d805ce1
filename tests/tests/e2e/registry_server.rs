//! A registry in the cluster: an image that is pushed into one host's runs on all, every host's registry gives it out, and
//! what is deleted is gone.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::buildah::Buildah;
use crate::lab::{Lab, Said, eventually, root};

const PASSWORD: &str = "purple-otter-4417-lamp";
const HASH: &str = "$2b$05$wnubAZIo7FjDx.1ROQWgOOvuTUaWgo9IvqXYdXZn32oOcayx7n3G6";
/// Without TLS, and with it.
const PLAIN: &str = "10.77.0.1:5000";
const SECURE: &str = "10.77.0.2:5000";
/// The lab's own.
const SOURCE: &str = "docker://10.77.0.254:5000/library";
const ADA: &str = "ada:purple-otter-4417-lamp";

fn stack(image: &str) -> String {
    format!(
        "services:\n  app:\n    image: {image}\n    command: sleep 100000\n    \
         stop_grace_period: 0s\n    deploy:\n      replicas: 3\n      \
         placement: {{max_replicas_per_node: 1}}\n"
    )
}

fn shell(lab: &Lab, host: &str, script: &str) -> String {
    lab.exec(host, &["sh", "-ec", script])
}

/// Adds to the hosts' configurations, and starts their agents anew.
fn serve(lab: &Lab) {
    let accounts = format!("printf 'ada:%s\\nbob:%s\\n' '{HASH}' '{HASH}' >/etc/swarm/accounts");
    let table = "accounts = \"/etc/swarm/accounts\"\npull_only = [\"bob\"]\nlisten = ";
    let plain = format!("[registry_server]\n{table}\"{PLAIN}\"\ninsecure = true");
    let secure = format!(
        "[registry_server]\n{table}\"{SECURE}\"\n\
         tls = {{ certificate = \"/etc/swarm/r.pem\", key = \"/etc/swarm/r.key\" }}"
    );
    let make = "cd /etc/swarm; new='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'\n\
                openssl req -x509 $new -days 2 -subj /CN=authority -keyout a.key -out a.pem 2>/dev/null\n\
                openssl req $new -subj /CN=registry -keyout r.key -out r.csr 2>/dev/null\n\
                echo subjectAltName=IP:10.77.0.2 >r.ext\n\
                openssl x509 -req -in r.csr -CA a.pem -CAkey a.key -CAcreateserial -days 2 \
                -extfile r.ext -out r.pem 2>/dev/null\n\
                cat a.pem";
    let authority = shell(lab, "n2", make);
    let trust = format!("[registry.ca_files]\n\"{SECURE}\" = \"/etc/swarm/ca.pem\"");
    for (host, table) in [("n1", plain.as_str()), ("n2", &secure), ("n3", "")] {
        let script = format!(
            "{accounts}\ncat >/etc/swarm/ca.pem <<'END'\n{authority}END\n\
             cat >>/etc/swarm/agent.toml <<'END'\n{trust}\n{table}\nEND"
        );
        shell(lab, host, &script);
        let insecure = format!("s/^\\[registry\\]$/[registry]\\ninsecure = [\"{PLAIN}\"]/");
        lab.exec(host, &["sed", "-i", &insecure, "/etc/swarm/agent.toml"]);
        restart(lab, host);
    }
    for host in ["n1", "n2"] {
        listens(lab, host);
    }
}

/// `kill -9`, and what its host does then.
fn restart(lab: &Lab, host: &str) {
    let before = lab.program(host, "agent");
    lab.kill_program(host, "agent");
    eventually(20, "the agent is started again", || {
        let now = lab.program(host, "agent");
        (now.is_some() && now != before).then_some(())
    });
}

fn listens(lab: &Lab, host: &str) {
    let address = crate::lab::address(host);
    eventually(20, "the registry listens", || lab.connect(host, address, 5000).ok());
}

fn skopeo(lab: &Lab, host: &str, arguments: &[&str]) -> Said {
    lab.try_exec(host, &[&["skopeo", "--insecure-policy"], arguments].concat())
}

/// Copies an image of the lab's registry into another, on the first host.
fn push(lab: &Lab, login: &str, image: &str, to: &str) -> Said {
    let how = ["copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"];
    let from = format!("{SOURCE}/{image}");
    skopeo(lab, "n1", &[&how[..], &["--dest-creds", login, &from, to]].concat())
}

/// The digest that somebody is told of an image.
fn inspected(lab: &Lab, host: &str, image: &str) -> String {
    let how = ["inspect", "--tls-verify=false", "--creds", ADA, "--format", "{{.Digest}}"];
    let said = skopeo(lab, host, &[&how[..], &[image]].concat());
    assert_eq!(said.code, 0, "{image}: {said:#?}");
    said.stdout.trim().to_owned()
}

/// A request to the first host's registry; answers with the status and what is said.
fn ask(lab: &Lab, method: &str, path: &str, body: Option<(&str, &str)>) -> (u16, String) {
    let data = body.map_or_else(String::new, |(media_type, text)| {
        format!("-H 'content-type: {media_type}' --data-binary '{text}'")
    });
    let script = format!(
        "curl -sS -u {ADA} -X {method} -w '\\n%{{http_code}}' {data} 'http://{PLAIN}{path}'"
    );
    let said = shell(lab, "n1", &script);
    let (said, status) = said.trim_end().rsplit_once('\n').unwrap_or(("", said.trim_end()));
    (status.parse().unwrap(), said.to_owned())
}

fn log_in(lab: &Lab, registry: &str) {
    let mut command = lab.command(&["login", registry, "-u", "ada", "--password-stdin"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut running = command.spawn().unwrap();
    writeln!(running.stdin.take().unwrap(), "{PASSWORD}").unwrap();
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// All three run it.
fn all_run(lab: &Lab, stack: &str) {
    let running = lab.running(&format!("{stack}_app."));
    assert_eq!(running.len(), 3, "{running:#?}");
    for task in &running {
        assert_eq!(lab.inside(&task.id, "echo here"), "here");
    }
}

/// Files that a host's registry has.
fn records(lab: &Lab, host: &str) -> String {
    let folder = "/var/lib/swarm/agent/registry";
    shell(lab, host, &format!("find {folder} -type f | sort"))
}

#[test]
fn what_is_pushed_into_one_host_runs_on_all() {
    let lab = Lab::up("registry-server");
    serve(&lab);
    let at = format!("docker://{PLAIN}/app:1");
    for login in ["ada:wrong", "eve:purple-otter-4417-lamp"] {
        let refused = push(&lab, login, "busybox:latest", &at);
        assert!(refused.code != 0 && refused.stderr.contains("unauthorized"), "{refused:#?}");
    }
    let refused = push(&lab, "bob:purple-otter-4417-lamp", "busybox:latest", &at);
    assert!(refused.code != 0 && refused.stderr.contains("denied"), "{refused:#?}");
    let pushed = push(&lab, ADA, "busybox:latest", &at);
    assert_eq!(pushed.code, 0, "{pushed:#?}");
    let digest = inspected(&lab, "n1", &at);

    // Another host's registry gives it out, although nobody there has it yet.
    let secure = format!("docker://{SECURE}/app:1");
    let told = eventually(20, "the leader hears of the image", || {
        let how = ["inspect", "--tls-verify=false", "--creds", ADA, "--format", "{{.Digest}}"];
        let said = skopeo(&lab, "n3", &[&how[..], &[&secure]].concat());
        (said.code == 0).then(|| said.stdout.trim().to_owned())
    });
    assert_eq!(told, digest);
    let copy = ["copy", "--quiet", "--src-tls-verify=false", "--src-creds", ADA];
    let copied = skopeo(&lab, "n3", &[&copy[..], &[&secure, "dir:/var/tmp/copied"]].concat());
    assert_eq!(copied.code, 0, "{copied:#?}");
    let sum = shell(&lab, "n3", "sha256sum </var/tmp/copied/manifest.json");
    assert_eq!(format!("sha256:{}", sum.split(' ').next().unwrap()), digest);
    assert_eq!(shell(&lab, "n2", "ls /var/lib/swarm/agent/blobs/sha256"), "", "nothing is kept");

    // By its name, on hosts that copy it from each other.
    lab.deploy("web", &stack("app:1"));
    all_run(&lab, "web");
    assert_eq!(inspected(&lab, "n3", &secure), digest);
    restart(&lab, "n1");
    listens(&lab, "n1");
    assert_eq!(inspected(&lab, "n3", &at), digest);
    lab.run(&["stack", "rm", "web"]);

    as_any_other_registry(&lab);
    podman_too(&lab);
    artifacts(&lab);
    gone(&lab, &digest);
    for host in ["n1", "n2", "n3"] {
        for program in ["controller", "agent"] {
            let log = format!("/var/lib/swarm-lab/{}/{host}/log/{program}.log", lab.name());
            let log = std::fs::read_to_string(log).unwrap();
            assert!(!log.contains(PASSWORD), "{program} of {host}");
        }
    }
}

/// Tasks name a host's registry as they name any, with and without TLS.
fn as_any_other_registry(lab: &Lab) {
    for (name, image, registry, host) in
        [("plain", "alpine:latest", PLAIN, "n1"), ("secure", "python:alpine", SECURE, "n2")]
    {
        let refused = lab.try_deploy(name, &stack(&format!("{registry}/{name}:1")));
        assert_eq!(refused.code, 1, "nobody is logged in: {refused:#?}");
        log_in(lab, registry);
        let pushed = push(lab, ADA, image, &format!("docker://{registry}/{name}:1"));
        assert_eq!(pushed.code, 0, "{pushed:#?}");
        // Only the registry has it: not one of the host's images under any name.
        taken_away(lab, &[&format!("{name}:1"), "--node", host]);
    }
    for (name, registry) in [("plain", PLAIN), ("secure", SECURE)] {
        let image = format!("{registry}/{name}:1");
        lab.deploy(name, &stack(&image));
        all_run(lab, name);
        lab.run(&["stack", "rm", name]);
        taken_away(lab, &[&image]);
    }
    // What the cluster itself pushes goes by its login.
    let copy = format!("{PLAIN}/team/copy:1");
    let pushed = lab.run(&["image", "push", "app:1", &copy, "--quiet"]);
    assert_eq!(pushed.trim(), inspected(lab, "n3", &format!("docker://{copy}")));
    let buildah = Buildah::new();
    let image = buildah.pull_on(lab, "n1", ADA, &copy);
    assert_eq!(buildah.run_in(&image, &["echo", "runs"]), "runs");
}

/// Takes an image off hosts, once no task has it any more.
fn taken_away(lab: &Lab, image: &[&str]) {
    eventually(30, "no task has the image any more", || {
        let said = lab.try_run(&[&["image", "rm"], image].concat());
        (said.code == 0 || said.stderr.contains("no node holds")).then_some(())
    });
}

/// Podman as a client: what it pushes runs on all hosts, and it takes what the cluster pushed. It may not run containers
/// beside these tests, for that takes limits above their own.
fn podman_too(lab: &Lab) {
    let tools = root().join("target/tools/podman/usr");
    let tools = tools.to_str().unwrap();
    let store = "/var/lib/swarm/podman";
    let settings = format!(
        "mkdir -p {store}\ncat >{store}/containers.conf <<'END'\n\
         [engine]\nlock_type = \"file\"\nevents_logger = \"none\"\ncgroup_manager = \"cgroupfs\"\n\
         static_dir = \"{store}/static\"\ntmp_dir = \"{store}/tmp\"\nvolume_path = \"{store}/volumes\"\n\
         conmon_path = [\"{tools}/bin/conmon\"]\nruntime = \"crun\"\n\
         [engine.runtimes]\ncrun = [\"{tools}/bin/crun\"]\n\
         [network]\nnetwork_config_dir = \"{store}/networks\"\nEND"
    );
    shell(lab, "n1", &settings);
    let podman = |arguments: &str| {
        let script = format!(
            "export CONTAINERS_CONF={store}/containers.conf \
             LD_LIBRARY_PATH={tools}/lib/x86_64-linux-gnu\n\
             {tools}/bin/podman --root {store}/root --runroot {store}/run --storage-driver vfs \
             {arguments}"
        );
        shell(lab, "n1", &script)
    };
    let source = SOURCE.trim_start_matches("docker://");
    podman(&format!("pull --quiet --tls-verify=false {source}/busybox:latest"));
    let to = format!("docker://{PLAIN}/podman:1");
    let how = format!("--quiet --tls-verify=false --creds {ADA}");
    podman(&format!("push {how} {source}/busybox:latest {to}"));
    lab.deploy("podman", &stack("podman:1"));
    all_run(lab, "podman");
    lab.run(&["stack", "rm", "podman"]);
    for image in [format!("{SECURE}/podman:1"), format!("{PLAIN}/team/copy:1")] {
        podman("rmi --all --force");
        podman(&format!("pull {how} {image}"));
        let digest = podman(&format!("image inspect --format '{{{{.Digest}}}}' {image}"));
        assert_eq!(digest.trim(), inspected(lab, "n3", &format!("docker://{image}")));
        let mounted = podman(&format!("image mount {image}"));
        shell(lab, "n1", &format!("test -x {}/bin/busybox", mounted.trim()));
        podman(&format!("image unmount {image}"));
    }
    podman("rmi --all --force");
    shell(lab, "n1", &format!("rm -r {store}"));
    taken_away(lab, &["podman:1"]);
}

/// What is no image is kept for who asks by what it is about.
fn artifacts(lab: &Lab) {
    let empty = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let octets = "application/octet-stream";
    let path = format!("/v2/app/blobs/uploads/?digest={empty}");
    assert_eq!(ask(lab, "POST", &path, Some((octets, "{}"))).0, 201);
    let subject = inspected(lab, "n1", &format!("docker://{PLAIN}/app:1"));
    let part = json!({
        "mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2,
    });
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let artifact = json!({
        "schemaVersion": 2,
        "mediaType": manifest,
        "artifactType": "application/vnd.example.sbom",
        "config": part,
        "layers": [part],
        "subject": { "mediaType": manifest, "digest": subject, "size": 1 },
    });
    let artifact = artifact.to_string();
    let (status, said) = ask(lab, "PUT", "/v2/app/manifests/sbom", Some((manifest, &artifact)));
    assert_eq!(status, 201, "{said}");
    let path = format!("/v2/app/referrers/{subject}?artifactType=application/vnd.example.sbom");
    let (status, said) = ask(lab, "GET", &path, None);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((status, said["manifests"].as_array().unwrap().len()), (200, 1), "{said:#}");
    assert_eq!(said["manifests"][0]["artifactType"], "application/vnd.example.sbom");
    let (_, tags) = ask(lab, "GET", "/v2/app/tags/list", None);
    assert_eq!(tags, r#"{"name":"app","tags":["1","sbom"]}"#);
    let images = lab.json(&["image", "ls"]);
    let names = images.as_array().unwrap().iter().map(|image| image["reference"].clone());
    assert!(!names.clone().any(|name| name == "docker.io/library/app:sbom"), "it runs nowhere");
}

/// What is deleted leaves no record, and no blob that is nobody's.
fn gone(lab: &Lab, digest: &str) {
    assert_eq!(ask(lab, "DELETE", "/v2/app/manifests/sbom", None).0, 202);
    let (_, catalog) = ask(lab, "GET", "/v2/_catalog", None);
    assert_eq!(catalog, r#"{"repositories":["app","plain","podman","team/copy"]}"#);
    for (host, scheme, registry, names) in [
        ("n1", "http", PLAIN, &["app", "plain", "podman", "team/copy"][..]),
        ("n2", "https", SECURE, &["secure"]),
    ] {
        let script = format!(
            "cd /var/lib/swarm/agent/registry/repositories\n\
             for folder in *; do\n\
             name=$(cat $folder/name)\n\
             for file in $folder/manifests/* $folder/blobs/*; do\n\
             kind=$(basename $(dirname $file)); hex=$(basename $file .json)\n\
             curl -sSkf -u {ADA} -X DELETE {scheme}://{registry}/v2/$name/$kind/sha256:$hex\n\
             done; done"
        );
        shell(lab, host, &script);
        assert_eq!(records(lab, host), "", "{names:?} on {host}");
    }
    assert_eq!(ask(lab, "GET", "/v2/_catalog", None).1, r#"{"repositories":[]}"#);
    // What a push named goes with it where nothing uses it; what was copied to others is theirs.
    taken_away(lab, &["app:1"]);
    for host in ["n1", "n2", "n3"] {
        eventually(30, &format!("{host} has nothing of `{digest}`"), || {
            let left = shell(lab, host, "cd /var/lib/swarm/agent; ls blobs/sha256 images");
            (left == "blobs/sha256:\n\nimages:\n").then_some(())
        });
    }
}
