//! Builds from a Dockerfile to an image of this host.

use std::time::Duration;

use serde_json::json;
use swarm_agent::build::BuildRequest;
use tokio_util::sync::CancellationToken;

use crate::builder::{archive, content, in_a_lab, in_layers, owner, request};
use crate::host::eventually;

const WHOLE: &str = r#"
FROM busybox:1 AS build
ARG GREETING=hello
WORKDIR /src
COPY words/ .
RUN cat first second > all && echo "$GREETING" >> all
RUN ["sh", "-c", "busybox chown 5:6 all"]

FROM busybox:1
ENV COLOUR=green
LABEL a=b
COPY --from=build /src/all /data/
COPY --chown=web --chmod=640 words/first /data/own
RUN echo "$COLOUR $(id -u)" > /data/who && busybox rm /code/app
USER web
EXPOSE 80
WORKDIR /data
ENTRYPOINT ["cat"]
CMD ["all"]
"#;

#[test]
fn a_dockerfile_becomes_an_image_of_this_host() {
    in_a_lab(async |lab| {
        let files = [("words/", ""), ("words/first", "one\n"), ("words/second", "two\n")];
        let told = lab.build(request(WHOLE), &files).await;
        let built = told.image();
        let image = lab.image("made:1", built).await;
        assert_eq!(content(&image, "data/all"), "one\ntwo\nhello\n");
        assert_eq!(owner(&image, "data/all"), (5, 6, 0o644), "as it was in its stage");
        assert_eq!(content(&image, "data/who"), "green 0\n");
        assert_eq!(owner(&image, "data/own"), (1000, 1000, 0o640));
        assert!(in_layers(&image, "src").is_none(), "stages leave nothing but what is copied");
        // A program's mounts leave nothing, and what was removed is hidden.
        let last = image.layers.last().unwrap();
        assert!(!last.join("proc").exists() && !last.join("etc").exists());
        assert!(
            !last.join("code/app").is_file() && last.join("code/app").symlink_metadata().is_ok()
        );
        assert_eq!(
            (image.config.user.as_str(), image.config.working_dir.as_str()),
            ("web", "/data")
        );
        assert_eq!(image.config.entrypoint, ["cat"]);
        let config = lab.config(built).await;
        assert_eq!(config["config"]["Labels"], json!({ "a": "b" }));
        assert_eq!(config["config"]["ExposedPorts"], json!({ "80/tcp": {} }));
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), image.layers.len());
        let history = config["history"].as_array().unwrap();
        let filled = history.iter().filter(|line| line.get("empty_layer").is_none()).count();
        // The base tells nothing of its own layer.
        assert_eq!(filled + 1, image.layers.len());
        let listed = lab.images.list();
        assert!(listed.iter().any(|one| one.reference == "docker.io/library/made:1"));
        // The registry knows nothing of it, and yet the name can be deployed.
        assert_eq!(lab.images.resolve("made:1").await.unwrap(), built.digest);
    });
}

#[test]
fn what_an_earlier_build_did_is_not_done_again() {
    in_a_lab(async |lab| {
        let text = "FROM busybox:1\nCOPY a /a\nRUN cat /a > /b\nCOPY c /c\nRUN cat /b /c > /d\n";
        let files = |a: &'static str, c: &'static str| [("a", a), ("c", c)];
        let first = lab.build(request(text), &files("A", "C")).await;
        assert_eq!(first.worked(), ["COPY", "RUN", "COPY", "RUN"]);
        let again = lab.build(request(text), &files("A", "C")).await;
        assert_eq!(again.worked(), [""; 0]);
        assert_eq!(again.image().digest, first.image().digest, "the same image, not a new one");
        let later = lab.build(request(text), &files("A", "D")).await;
        assert_eq!(later.worked(), ["COPY", "RUN"]);
        let image = lab.image("made:1", later.image()).await;
        assert_eq!(content(&image, "d"), "AD");
        let args = "FROM busybox:1\nARG X\nRUN echo $X > /x\n";
        let with = |x: &str| BuildRequest {
            build_args: [("X".to_owned(), x.to_owned())].into(),
            ..request(args)
        };
        assert_eq!(lab.build(with("1"), &[]).await.worked(), ["ARG", "RUN"]);
        assert_eq!(lab.build(with("1"), &[]).await.worked(), ["ARG"]);
        assert_eq!(lab.build(with("2"), &[]).await.worked(), ["ARG", "RUN"]);
        let fresh = BuildRequest { no_cache: true, ..request(text) };
        assert_eq!(lab.build(fresh, &files("A", "C")).await.worked().len(), 4);
    });
}

#[test]
fn the_same_input_gives_the_same_digest_on_any_host() {
    static DIGESTS: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
    for _ in 0..2 {
        in_a_lab(async |lab| {
            let wish = BuildRequest {
                build_args: [("SOURCE_DATE_EPOCH".to_owned(), "1700000001".to_owned())].into(),
                ..request(WHOLE)
            };
            let files = [("words/", ""), ("words/first", "one\n"), ("words/second", "two\n")];
            let told = lab.build(wish, &files).await;
            let config = lab.config(told.image()).await;
            assert_eq!(config["created"], "2023-11-14T22:13:21Z");
            DIGESTS.lock().unwrap().push(told.image().digest.to_string());
        });
    }
    let digests = DIGESTS.lock().unwrap();
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn stages_that_do_not_need_each_other_are_built_at_once() {
    in_a_lab(async |lab| {
        // Each waits for the other by way of a cache that both have.
        let wait = "--mount=type=cache,target=/c";
        let meet = |own: &str, other: &str| {
            format!(
                "FROM busybox:1 AS {own}\nRUN {wait} echo > /c/{own}; n=0; until [ -e /c/{other} ] || \
                 [ $n -gt 400 ]; do sleep 0.05; n=$((n+1)); done; [ -e /c/{other} ] && echo {own} > /{own}\n"
            )
        };
        let last = "FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n";
        let text = [meet("a", "b"), meet("b", "a"), last.to_owned()].concat();
        let told = lab.build(request(&text), &[]).await;
        let image = lab.image("made:1", told.image()).await;
        assert_eq!((content(&image, "a"), content(&image, "b")), ("a\n".into(), "b\n".into()));
        assert_eq!(image.layers.len(), 2);
        // A stage that nobody needs is not built.
        let text = "FROM busybox:1 AS no\nRUN false\nFROM busybox:1\nRUN true\n";
        assert_eq!(lab.build(request(text), &[]).await.worked(), ["RUN"]);
    });
}

#[test]
fn a_build_that_fails_says_where_and_leaves_nothing() {
    in_a_lab(async |lab| {
        let text = "FROM busybox:1\nRUN echo before; echo why >&2; exit 3\nRUN echo never\n";
        let told = lab.build(request(text), &[]).await;
        let error = told.error();
        assert!(error.contains("Dockerfile:2") && error.contains("code 3"), "{error}");
        let mut output = told.output.clone();
        output.sort();
        assert_eq!(output, ["before", "why"]);
        for (text, reason) in [
            ("FROM busybox:1\nCOPY nothing /x\n", "`/nothing` is not there"),
            ("FROM busybox:1\nCOPY --chown=nobody a /x\n", "no such user"),
            ("FROM busybox:1\nRUN no-such-program\n", "code 127"),
            ("FROM busybox:1\nRUN [\"no-such-program\"]\n", "no-such-program"),
            ("FROM nothing:1\nRUN true\n", "nothing"),
            ("FROM busybox:1\nUSER nobody\nRUN true\n", "nobody"),
        ] {
            let error = lab.build(request(text), &[("a", "A")]).await.error();
            assert!(error.contains(reason), "{error}");
            eventually("the rests of a failure to go", || lab.rests().is_empty()).await;
        }
        assert!(lab.images.list().iter().all(|image| !image.reference.contains("made")));
    });
}

#[test]
fn a_cancelled_build_ends_its_programs() {
    in_a_lab(async |lab| {
        let text = "FROM busybox:1\nRUN --mount=type=tmpfs,target=/t --mount=type=bind,from=busybox:1,target=/b,rw \
                    sleep NUMBER & echo cancel me; wait\n";
        // Of this run alone.
        let number = (100_000 + std::process::id()).to_string();
        let text = text.replace("NUMBER", &number);
        let cancelled = CancellationToken::new();
        let told = tokio::time::timeout(
            Duration::from_mins(1),
            lab.build_until(request(&text), archive(&[]), cancelled),
        );
        let error = told.await.unwrap().error();
        assert!(error.contains("cancelled"), "{error}");
        let alive = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            line == format!("sleep\0{number}\0").into_bytes()
        });
        assert_eq!(alive.count(), 0);
    });
}
