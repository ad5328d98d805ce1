//! Images without a registry: loaded on one host, run on all, saved, and removed.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::lab::{Lab, eventually};
use crate::leftovers::{becomes_as_before, look};

const WEB: &str = "
services:
  web:
    image: made-here:1
    command: sh -c 'cat /words && sleep 100000'
    stop_grace_period: 0s
    deploy:
      replicas: 3
      placement: {max_replicas_per_node: 1}
";

/// Runs a command of the machine's own, which must succeed.
#[track_caller]
fn made(program: &str, arguments: &[&str], folder: &Path) -> Vec<u8> {
    let output = Command::new(program).args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{program} {}: {output:?}", arguments.join(" "));
    output.stdout
}

/// An archive as `docker save` once wrote them, of busybox and a file; the image is in no registry.
fn archive(folder: &Path) -> String {
    let layer = folder.join("layer");
    for name in ["bin", "tmp", "proc", "sys", "dev", "etc"] {
        fs::create_dir_all(layer.join(name)).unwrap();
    }
    fs::copy("/bin/busybox", layer.join("bin/busybox")).unwrap();
    for name in ["sh", "cat", "sleep"] {
        std::os::unix::fs::symlink("busybox", layer.join("bin").join(name)).unwrap();
    }
    fs::write(layer.join("words"), "made here\n").unwrap();
    made("tar", &["--owner=0", "--group=0", "-C", "layer", "-cf", "layer.tar", "."], folder);
    let sum = made("sha256sum", &["layer.tar"], folder);
    let sum = String::from_utf8(sum).unwrap();
    let sum = sum.split_whitespace().next().unwrap();
    let config = format!(
        r#"{{"architecture":"{}","os":"linux","config":{{"Cmd":["sh"]}},
        "rootfs":{{"type":"layers","diff_ids":["sha256:{sum}"]}},
        "history":[{{"created_by":"a test"}}]}}"#,
        swarm_agent::image::architecture()
    );
    fs::write(folder.join("config.json"), config).unwrap();
    let manifest =
        r#"[{"Config":"config.json","RepoTags":["made-here:1"],"Layers":["layer.tar"]}]"#;
    fs::write(folder.join("manifest.json"), manifest).unwrap();
    made("tar", &["-cf", "image.tar", "manifest.json", "config.json", "layer.tar"], folder);
    folder.join("image.tar").into_os_string().into_string().unwrap()
}

/// The nodes that hold an image, and its digest.
fn holders(lab: &Lab, reference: &str) -> Option<(Vec<String>, String)> {
    let images = lab.json(&["image", "ls"]);
    let found = images.as_array().unwrap().iter().find(|image| image["reference"] == reference)?;
    let nodes = found["nodes"].as_array().unwrap().iter();
    let mut nodes: Vec<String> = nodes.filter_map(Value::as_str).map(str::to_owned).collect();
    nodes.sort();
    Some((nodes, found["digest"].as_str().unwrap().to_owned()))
}

#[test]
fn an_image_that_no_registry_has_runs_on_all_hosts() {
    const NAME: &str = "docker.io/library/made-here:1";
    let lab = Lab::up("images");
    let hosts = ["n1", "n2", "n3"];
    let before: Vec<Vec<String>> = hosts.iter().map(|host| look(&lab, host)).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = archive(folder.path());

    let said = lab.try_deploy("web", WEB);
    assert_eq!(said.code, 1, "nobody has it yet: {said:#?}");
    let said = lab.try_run(&["image", "load", &file, "--node", "n2"]);
    assert!(said.code == 0 && said.stderr.contains("on node n2"), "{said:#?}");
    let (nodes, digest) = holders(&lab, NAME).unwrap();
    assert_eq!(nodes, ["n2"]);
    // The leader hears of it in the node's session.
    eventually(10, "the deploy finds the image", || {
        let said = lab.try_deploy("web", WEB);
        (said.code == 0).then_some(())
    });
    let running = lab.running("web_web.");
    assert_eq!(running.len(), 3, "{running:#?}");
    for task in &running {
        assert_eq!(lab.inside(&task.name, "cat /words"), "made here");
    }
    assert_eq!(holders(&lab, NAME), Some((hosts.map(str::to_owned).to_vec(), digest.clone())));

    // What runs is not removed, whatever it is called.
    for image in ["made-here:1", digest.as_str()] {
        let said = lab.try_run(&["image", "rm", image]);
        assert!(said.code == 1 && said.stderr.contains("is in use"), "{said:#?}");
    }
    lab.run(&["image", "prune", "--older-than", "0s", "--all"]);
    assert_eq!(holders(&lab, NAME).unwrap().0, hosts);

    // Saved from any host, and loaded again once it is gone everywhere.
    let saved = folder.path().join("saved.tar").into_os_string().into_string().unwrap();
    lab.run(&["image", "save", "made-here:1", "-f", &saved]);
    let names = made("tar", &["-tf", &saved], folder.path());
    let names = String::from_utf8(names).unwrap();
    for name in ["oci-layout", "index.json", "manifest.json"] {
        assert!(names.lines().any(|line| line == name), "{names}");
    }
    let details = lab.json(&["image", "inspect", "made-here:1"]);
    assert_eq!(details["local_names"][0], NAME, "{details:#}");
    let history = lab.json(&["image", "history", "made-here:1"]);
    assert_eq!(history[0]["created_by"], "a test", "{history:#}");
    lab.run(&["stack", "rm", "web"]);
    eventually(30, "the image goes", || {
        let said = lab.try_run(&["image", "rm", "made-here:1"]);
        (said.code == 0 && holders(&lab, NAME).is_none()).then_some(())
    });
    lab.run(&["image", "load", &saved, "--node", "n3"]);
    assert_eq!(holders(&lab, NAME), Some((vec!["n3".to_owned()], digest.clone())));
    lab.run(&["image", "tag", "made-here:1", "again:2"]);
    lab.run(&["image", "rm", "made-here:1"]);
    assert_eq!(holders(&lab, NAME), None);
    assert_eq!(holders(&lab, "docker.io/library/again:2").unwrap().1, digest);
    lab.run(&["image", "rm", "again:2"]);

    for (host, before) in hosts.iter().zip(&before) {
        becomes_as_before(&lab, host, before);
        let left = lab.exec(host, &["ls", "/var/lib/swarm/agent/blobs/sha256"]);
        assert_eq!(left, "", "blobs on {host}");
    }
}

const IMPORTED: &str = "
services:
  web:
    image: imported:1
    stop_grace_period: 0s
    deploy:
      placement: {constraints: [node.hostname == n2]}
";

#[test]
fn a_file_system_becomes_an_image_that_runs() {
    const NAME: &str = "docker.io/library/imported:1";
    let lab = Lab::up("import");
    let before = look(&lab, "n2");
    let folder = tempfile::tempdir().unwrap();
    archive(folder.path());
    made("tar", &["-C", "layer", "-czf", "files.tar.gz", "."], folder.path());
    let file = folder.path().join("files.tar.gz").into_os_string().into_string().unwrap();
    let refused = [
        (["--change", "RUN make"], "`RUN` cannot be given so"),
        (["--platform", "linux/s390x"], "this node is linux/"),
    ];
    for (options, expected) in refused {
        let said = lab.try_run(&[&["image", "import", &file, "imported:1"], &options[..]].concat());
        assert!(said.code == 1 && said.stderr.contains(expected), "{said:#?}");
    }
    let run =
        r#"CMD ["sh", "-c", "echo $WHAT > /tmp/said; cat /words >> /tmp/said; sleep 100000"]"#;
    let changes = ["--change", run, "--change", "ENV WHAT=imported", "--message", "by a test"];
    let said = lab.try_run(
        &[&["image", "import", &file, "imported:1", "--node", "n2"], &changes[..]].concat(),
    );
    assert!(said.code == 0 && said.stderr.contains("on node n2"), "{said:#?}");
    let (nodes, digest) = holders(&lab, NAME).unwrap();
    assert_eq!((nodes, digest.as_str()), (vec!["n2".to_owned()], said.stdout.trim()));
    let history = lab.json(&["image", "history", "imported:1"]);
    assert_eq!(history.as_array().unwrap().len(), 1, "{history:#}");
    eventually(10, "the deploy finds the image", || {
        (lab.try_deploy("web", IMPORTED).code == 0).then_some(())
    });
    let running = lab.running("web_web.");
    assert_eq!(running.len(), 1, "{running:#?}");
    eventually(10, "the program has said it", || {
        (lab.inside(&running[0].name, "cat /tmp/said") == "imported\nmade here").then_some(())
    });
    lab.run(&["stack", "rm", "web"]);
    eventually(30, "the image goes", || {
        let said = lab.try_run(&["image", "rm", "imported:1"]);
        (said.code == 0 && holders(&lab, NAME).is_none()).then_some(())
    });
    becomes_as_before(&lab, "n2", &before);
    let left = lab.exec("n2", &["ls", "/var/lib/swarm/agent/blobs/sha256"]);
    assert_eq!(left, "", "blobs");
}
