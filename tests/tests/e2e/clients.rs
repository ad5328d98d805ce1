//! Images from and for other programs: skopeo, buildah and umoci, by archives, OCI layouts, and Debian's registry.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use swarm_agent::image::architecture;

use crate::buildah::Buildah;
use crate::lab::{Lab, eventually, root};

/// The lab's registry, as its hosts see it.
const REGISTRY: &str = "10.77.0.254:5000";
/// Debian's registry on the one host of a lab.
const OWN_REGISTRY: &str = "localhost:5001";

const ONE_HOST: &[&str] = &["--hosts", "1", "--controllers", "1"];

const DOCKERFILE: &str = r#"
FROM busybox
RUN echo made > /words && chown 3:4 /words && chmod 4755 /words && ln /words /again
RUN rm /words && ln -s again /words && mkdir -m 1777 /open
ENV SAID="by hand"
USER 7:8
WORKDIR /open
CMD ["sleep", "100000"]
"#;

/// Runs skopeo on the machine, which must succeed.
#[track_caller]
fn skopeo(arguments: &[&str]) -> String {
    run("skopeo", &[&["--insecure-policy"], arguments].concat())
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {}: {output:?}", arguments.join(" "));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Runs skopeo on a lab's host, which must succeed.
#[track_caller]
fn skopeo_on(lab: &Lab, arguments: &[&str]) -> String {
    lab.exec("n1", &[&["skopeo", "--insecure-policy"], arguments].concat())
}

/// An image of the lab's registry in an archive, as skopeo names it.
#[track_caller]
pub(crate) fn pulled(lab: &Lab, image: &str, folder: &Path) -> String {
    let name = image.replace(':', "-");
    let archive = format!("docker-archive:{}/{name}.tar", folder.display());
    let to = format!("{archive}:docker.io/library/{image}");
    let from = format!("docker://{REGISTRY}/library/{image}");
    skopeo_on(lab, &["copy", "--quiet", "--src-tls-verify=false", &from, &to]);
    archive
}

/// The only manifest of an OCI layout.
fn manifest_of(layout: &Path) -> Value {
    let index = fs::read(layout.join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1, "{index:#}");
    index["manifests"][0].clone()
}

/// A stack with a sleeping service for each image; `name` is both service and key.
fn sleepers(images: &[(&str, String)]) -> String {
    let services: serde_json::Map<String, Value> = images
        .iter()
        .map(|(name, image)| {
            let service = json!({
                "image": image, "command": "sleep 100000", "stop_grace_period": "0s",
            });
            ((*name).to_owned(), service)
        })
        .collect();
    json!({ "services": services }).to_string()
}

/// Deploys them, and sees that all of them are busybox.
#[track_caller]
fn all_run(lab: &Lab, stack: &str, images: &[(&str, String)]) {
    eventually(20, "the leader hears of the images", || {
        let said = lab.try_deploy(stack, &sleepers(images));
        (said.code == 0).then_some(())
    });
    for (name, _) in images {
        let tasks = lab.running(&format!("{stack}_{name}."));
        assert_eq!(tasks.len(), 1, "{name}: {tasks:#?}");
        let said = lab.inside(&tasks[0].id, "head -n 1 /etc/passwd; stat -c %a /tmp");
        assert_eq!(said, "root:x:0:0:root:/root:/bin/sh\n1777", "{name}");
    }
}

/// The digest that a host holds under a name.
fn held(lab: &Lab, name: &str) -> String {
    let images = lab.json(&["image", "ls"]);
    let found = images.as_array().unwrap().iter().find(|image| image["reference"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {images:#}"))["digest"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn what_other_programs_archive_runs() {
    let lab = Lab::with("archives", ONE_HOST);
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name).display().to_string();
    let base = pulled(&lab, "busybox:latest", work.path());
    let gzip = ["copy", "--quiet", "--dest-compress", "--dest-compress-format"];
    let buildah = Buildah::new();
    buildah.pull(&base);

    skopeo(&["copy", "-q", &base, &format!("docker-archive:{}:made/docker:1", at("docker"))]);
    for form in ["gzip", "zstd"] {
        let to = format!("oci-archive:{}:docker.io/made/{form}:1", at(form));
        skopeo(&[&gzip[..], &[form, &base, &to]].concat());
    }
    for form in ["docker-archive", "oci-archive"] {
        let name = format!("docker.io/made/by-buildah-{form}:1");
        buildah.push("busybox", &format!("{form}:{}:{name}", at(form)));
    }
    // As people send them.
    run("gzip", &["-k", &at("docker")]);
    fs::rename(work.path().join("docker.gz"), work.path().join("packed")).unwrap();

    let named = |name: &str| (name.to_owned(), format!("docker.io/made/{name}:1"));
    let mut images = Vec::new();
    for (file, name) in [
        ("docker", "docker"),
        ("gzip", "gzip"),
        ("zstd", "zstd"),
        ("docker-archive", "by-buildah-docker-archive"),
        ("oci-archive", "by-buildah-oci-archive"),
    ] {
        lab.run(&["image", "load", &at(file)]);
        images.push(named(name));
        // An OCI archive has a manifest, which stays the same.
        if matches!(file, "gzip" | "zstd" | "oci-archive") {
            let layout = work.path().join(format!("{file}-layout"));
            fs::create_dir(&layout).unwrap();
            run("tar", &["-xf", &at(file), "-C", layout.to_str().unwrap()]);
            let digest = held(&lab, &format!("docker.io/made/{name}:1"));
            assert_eq!(manifest_of(&layout)["digest"], digest.as_str(), "{file}");
        }
    }
    let before = held(&lab, "docker.io/made/docker:1");
    lab.run(&["image", "load", &at("packed")]);
    assert_eq!(held(&lab, "docker.io/made/docker:1"), before);
    let images: Vec<(&str, String)> =
        images.iter().map(|(name, image)| (name.as_str(), image.clone())).collect();
    all_run(&lab, "loaded", &images);
    lab.run(&["stack", "rm", "loaded"]);
}

#[test]
fn what_we_save_other_programs_read_and_run() {
    let lab = Lab::with("saved", ONE_HOST);
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name).display().to_string();
    fs::create_dir(work.path().join("context")).unwrap();
    fs::write(work.path().join("context/Dockerfile"), DOCKERFILE).unwrap();
    lab.run(&["build", "-t", "made/saved:1", &at("context")]);
    lab.run(&["image", "save", "made/saved:1", "-f", &at("saved.tar")]);
    let digest = held(&lab, "docker.io/made/saved:1");

    for form in ["docker-archive", "oci-archive"] {
        let told = skopeo(&["inspect", &format!("{form}:{}", at("saved.tar"))]);
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!((&told["Os"], &told["Architecture"]), (&json!("linux"), &json!(architecture())));
        assert!(told["Env"].as_array().unwrap().contains(&json!("SAID=by hand")), "{told:#}");
    }
    // What has a manifest keeps its digest, there and back.
    let from = format!("oci-archive:{}", at("saved.tar"));
    skopeo(&["copy", "-q", "--preserve-digests", &from, &format!("oci:{}:x", at("layout"))]);
    assert_eq!(manifest_of(&work.path().join("layout"))["digest"], digest.as_str());
    let back = format!("oci-archive:{}:docker.io/made/back:1", at("back.tar"));
    skopeo(&["copy", "-q", "--preserve-digests", &format!("oci:{}:x", at("layout")), &back]);
    lab.run(&["image", "load", &at("back.tar")]);
    assert_eq!(held(&lab, "docker.io/made/back:1"), digest);

    run("umoci", &["unpack", "--image", &format!("{}:x", at("layout")), &at("bundle")]);
    let root = work.path().join("bundle/rootfs");
    let again = fs::metadata(root.join("again")).unwrap();
    assert_eq!((again.mode() & 0o7777, again.uid(), again.gid()), (0o4755, 3, 4));
    assert_eq!(fs::read_link(root.join("words")).unwrap(), Path::new("again"));
    assert_eq!(fs::metadata(root.join("open")).unwrap().mode() & 0o7777, 0o1777);
    let config = fs::read(work.path().join("bundle/config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["process"]["args"], json!(["sleep", "100000"]));
    assert_eq!(config["process"]["cwd"], "/open");

    for form in ["docker-archive", "oci-archive"] {
        let buildah = Buildah::new();
        let image = buildah.pull(&format!("{form}:{}", at("saved.tar")));
        let script = "cat /words; id -u; id -g; pwd; echo $SAID; stat -c %a /again";
        let said = buildah.run_in(&image, &["sh", "-c", script]);
        assert_eq!(said, "made\n7\n8\n/open\nby hand\n4755", "{form}");
    }
}

/// Debian's registry on the lab's host, with its storage in a folder.
struct OwnRegistry {
    child: Child,
}

impl OwnRegistry {
    fn start(lab: &Lab, folder: &Path) -> Self {
        let storage = folder.join("registry");
        let text = format!(
            "version: 0.1\n\
             log: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"{OWN_REGISTRY}\"}}\n",
            storage.display()
        );
        let file = folder.join("registry.yml");
        fs::write(&file, text).unwrap();
        let (name, file) = (lab.name(), file.to_str().unwrap());
        // The one that made the stand-in images: its package would bring a service.
        let program = root().join("target/tools/docker-registry/usr/bin/docker-registry");
        let program = program.to_str().unwrap();
        let serve = ["lab", "exec", "--name", name, "n1", "--", program, "serve", file];
        let child = lab
            .command(&serve)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { child };
        eventually(20, "the registry answers", || {
            lab.connect("n1", std::net::Ipv4Addr::LOCALHOST, 5001).ok()
        });
        registry
    }
}

impl Drop for OwnRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An index of an image for this machine and one for another, which comes first.
fn index(buildah: &Buildah, to: &str) {
    let other = if architecture() == "arm64" { "amd64" } else { "arm64" };
    buildah.run(&["manifest", "create", "many"]);
    for (architecture, image) in [(other, "localhost/other:1"), (architecture(), "busybox")] {
        let image = format!("containers-storage:{image}");
        buildah.run(&["manifest", "add", "--os", "linux", "--arch", architecture, "many", &image]);
    }
    buildah.push_index("many", to);
}

#[test]
fn what_is_pushed_into_debians_registry_runs() {
    let lab = Lab::with("registry", ONE_HOST);
    let work = tempfile::tempdir().unwrap();
    let registry = OwnRegistry::start(&lab, work.path());
    let base = pulled(&lab, "busybox:latest", work.path());
    let buildah = Buildah::new();
    let image = buildah.pull(&base);
    // Another image than that of this machine.
    buildah.derive(&image, "localhost/other:1");
    let many = format!("oci:{}:many", work.path().join("many").display());
    index(&buildah, &many);

    let push = |form: &[&str], from: &str, name: &str| {
        let to = format!("docker://{OWN_REGISTRY}/made/{name}:1");
        let copy = [&["copy", "--quiet", "--dest-tls-verify=false"], form, &[from, &to]].concat();
        skopeo_on(&lab, &copy);
        let raw = skopeo_on(&lab, &["inspect", "--raw", "--tls-verify=false", &to]);
        let raw: Value = serde_json::from_str(&raw).unwrap();
        raw["mediaType"].as_str().unwrap_or_default().to_owned()
    };
    let docker = "application/vnd.docker.distribution.manifest";
    assert_eq!(push(&["--format", "v2s2"], &base, "schema2"), format!("{docker}.v2+json"));
    assert!(
        push(&["--format", "oci"], &base, "oci").starts_with("application/vnd.oci.image.manifest")
    );
    assert!(push(&["--all"], &many, "many").contains("index"));
    let list = push(&["--all", "--format", "v2s2"], &many, "list");
    assert_eq!(list, format!("{docker}.list.v2+json"));

    let digest = |name: &str| {
        let image = format!("docker://{OWN_REGISTRY}/made/{name}:1");
        let format = ["inspect", "--tls-verify=false", "--format", "{{.Digest}}"];
        skopeo_on(&lab, &[&format[..], &[&image]].concat()).trim().to_owned()
    };
    let (oci, index) = (digest("oci"), digest("many"));
    let by_tag = ["schema2", "oci", "many", "list"];
    let mut images: Vec<(&str, String)> =
        by_tag.iter().map(|name| (*name, format!("{OWN_REGISTRY}/made/{name}:1"))).collect();
    images.push(("image-digest", format!("{OWN_REGISTRY}/made/oci@{oci}")));
    images.push(("index-digest", format!("{OWN_REGISTRY}/made/many@{index}")));
    all_run(&lab, "pushed", &images);
    // What a deploy pins is what the tag stands for, the index and not one of its images.
    for name in ["schema2", "many", "list"] {
        assert_eq!(held(&lab, &format!("{OWN_REGISTRY}/made/{name}:1")), digest(name));
    }
    lab.run(&["stack", "rm", "pushed"]);
    drop(registry);
}
