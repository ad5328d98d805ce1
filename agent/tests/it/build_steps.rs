//! What single instructions do.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use swarm_agent::build::BuildRequest;
use swarm_proto::spec::ContentBytes;

use crate::builder::{archive, content, in_a_lab, in_layers, owner, request};

#[test]
fn run_has_mounts_that_stay_out_of_the_image() {
    in_a_lab(async |lab| {
        let text = r"
FROM busybox:1 AS tools
RUN echo tool > /tool

FROM busybox:1
RUN --mount=type=cache,target=/cache,uid=1000,mode=0750 echo $1 >> /cache/n; ls -ld /cache | cut -c1-10 2>/dev/null; wc -l < /cache/n
RUN --mount=type=bind,source=given,target=/given cat /given/file > /out; echo x > /given/file && exit 1 || true
RUN --mount=type=bind,from=tools,source=/,target=/other,rw cat /other/tool >> /out && echo changed > /other/tool
RUN --mount=type=bind,from=tools,target=/other cat /other/tool >> /out
RUN --mount=type=tmpfs,target=/memory echo x > /memory/x && cat /proc/mounts | while read a b c d; do [ $b = /memory ] && echo $c; done; true
RUN --mount=type=secret,id=word,mode=0440,uid=7 cat /run/secrets/word | wc -c && ls -ln /run/secrets/word
RUN --mount=type=secret,id=word,env=WORD echo ${#WORD} right
RUN --mount=type=secret,id=absent [ ! -e /run/secrets/absent ]
RUN <<EOF
echo one > /lines
echo two >> /lines
EOF
RUN <<EOF
#!/bin/cat
kept
EOF
";
        let secret = Arc::new(ContentBytes::new(b"swordfish".to_vec()));
        let wish = || BuildRequest {
            secrets: [("word".to_owned(), Arc::clone(&secret))].into(),
            ..request(text)
        };
        let files = [("given/", ""), ("given/file", "given\n")];
        let told = lab.build(wish(), &files).await;
        let image = lab.image("made:1", told.image()).await;
        assert_eq!(content(&image, "out"), "given\ntool\ntool\n");
        assert_eq!(content(&image, "lines"), "one\ntwo\n");
        for stub in ["cache", "given", "other", "memory", "run", "proc", "sys", "dev"] {
            assert!(in_layers(&image, stub).is_none(), "`{stub}` was left in a layer");
        }
        let has = |text: &str| told.output.iter().any(|line| line == text);
        assert!(has("tmpfs") && has("9") && has("9 right") && has("kept"), "{:?}", told.output);
        assert!(
            told.output.iter().any(|line| line.starts_with("-r--r----- ") && line.contains(" 7 "))
        );
        // Another step that has the same cache finds what is in it.
        let other = "FROM busybox:1\nRUN --mount=type=cache,target=/cache echo n >> /cache/n; wc -l < /cache/n\n";
        assert_eq!(lab.build(request(other), &[]).await.output, ["2"]);
        // The secret is nowhere on the disk.
        let config = lab.config(told.image()).await.to_string();
        assert!(!config.contains("swordfish"));
        assert!(!holds(lab.folder.path(), b"swordfish"));
        // It counts for nothing: another value changes no result.
        let changed = Arc::new(ContentBytes::new(b"different".to_vec()));
        let wish = BuildRequest { secrets: [("word".to_owned(), changed)].into(), ..wish() };
        assert_eq!(lab.build(wish, &files).await.worked(), [""; 0]);
        let needed = "FROM busybox:1\nRUN --mount=type=secret,id=absent,required=true true\n";
        assert!(lab.build(request(needed), &[]).await.error().contains("absent"));
    });
}

/// Whether any file below a folder holds these bytes.
fn holds(folder: &std::path::Path, bytes: &[u8]) -> bool {
    fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            return holds(&entry.path(), bytes);
        }
        kind.is_file()
            && fs::read(entry.path()).unwrap().windows(bytes.len()).any(|window| window == bytes)
    })
}

#[test]
fn a_program_has_the_network_that_it_asks_for() {
    in_a_lab(async |lab| {
        let ask = "echo -ne 'GET /v2/ HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 5 IP PORT";
        let text = format!(
            "FROM busybox:1\nRUN --network=none cat /proc/net/dev; {ask} || echo cut\n\
             RUN cat /proc/net/dev; {ask} || echo apart; cat /etc/resolv.conf\n\
             RUN --network=host {ask}\n"
        );
        let address = lab.registry.address;
        let text = text.replace("IP", &address.ip().to_string());
        let text = text.replace("PORT", &address.port().to_string());
        let told = lab.build(request(&text), &[]).await;
        told.image();
        let counted = told.output.iter().filter(|line| line.split_whitespace().count() > 10);
        let links = counted.filter_map(|line| line.trim().split_once(':'));
        let links: Vec<_> = links.map(|(name, _)| name).collect();
        assert_eq!(links, ["lo", "lo", "eth0"], "{:?}", told.output);
        // The host's loopback is not theirs.
        for words in ["cut", "apart", "nameserver 127.0.0.11"] {
            assert!(told.output.contains(&words.to_owned()), "{words}: {:?}", told.output);
        }
        assert_eq!(told.output.last().unwrap(), "{}", "the registry answered");
    });
}

#[test]
fn a_program_is_confined() {
    in_a_lab(async |lab| {
        let text = "FROM busybox:1\nRUN cat /proc/self/status; busybox mount -t tmpfs x /tmp || echo no mount; \
                    echo 1 > /proc/sys/kernel/sysrq || echo no sysctl; busybox ps\n";
        let told = lab.build(request(text), &[]).await;
        told.image();
        let has = |text: &str| told.output.iter().any(|line| line.contains(text));
        assert!(has("Seccomp:\t2") && has("CapEff:\t00000000a80425fb"), "{:?}", told.output);
        assert!(has("no mount") && has("no sysctl"));
        assert!(has("busybox ps") || has("{busybox}") || has(" ps"), "only its own processes");
    });
}

#[test]
fn copies_have_patterns_exceptions_and_parents() {
    in_a_lab(async |lab| {
        let text = r#"
FROM busybox:1
COPY src/*.txt /texts/
COPY --exclude=*.md --exclude=sub/deep src /all/
COPY --parents src/./sub/deep/file src/a.txt /kept/
COPY nothing*.here /none/
COPY <<EOF <<"OTHER" /docs/
hello
EOF
$raw
OTHER
ADD packed.tar /unpacked/
COPY packed.tar /packed/
"#;
        let mut header = tar::Header::new_gnu();
        let mut packed = tar::Builder::new(Vec::new());
        header.set_mode(0o600);
        header.set_uid(42);
        header.set_gid(43);
        header.set_size(2);
        packed.append_data(&mut header, "in/side", &b"x\n"[..]).unwrap();
        let packed = String::from_utf8(packed.into_inner().unwrap()).unwrap();
        let files = [
            ("src/", ""),
            ("src/a.txt", "a"),
            ("src/b.txt", "b"),
            ("src/c.md", "c"),
            ("src/sub/", ""),
            ("src/sub/deep/", ""),
            ("src/sub/deep/file", "f"),
            ("src/sub/x", "x"),
            ("packed.tar", &packed),
        ];
        let told = lab.build(request(text), &files).await;
        let image = lab.image("made:1", told.image()).await;
        let there = |path: &str| in_layers(&image, path).is_some();
        assert!(there("texts/a.txt") && there("texts/b.txt") && !there("texts/c.md"));
        assert!(there("all/a.txt") && there("all/sub/x"));
        assert!(!there("all/c.md") && !there("all/sub/deep"));
        assert!(there("kept/sub/deep/file") && there("kept/src/a.txt"));
        assert_eq!(content(&image, "docs/EOF"), "hello\n");
        assert_eq!(content(&image, "docs/OTHER"), "$raw\n");
        assert_eq!(owner(&image, "unpacked/in/side"), (42, 43, 0o600));
        assert_eq!(owner(&image, "packed/packed.tar"), (0, 0, 0o644));
    });
}

#[test]
fn nothing_leads_out_of_the_context_or_the_image() {
    in_a_lab(async |lab| {
        let outside = lab.folder.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "of the host").unwrap();
        let away = format!("->{}", outside.display());
        let up = format!("->../../../../../../../..{}", outside.display());
        let files =
            [("away", away.as_str()), ("up", &up), ("file", "evil"), ("d/", ""), ("d/l", &away)];
        for source in ["away/secret", "up/secret", "away", "../outside/secret"] {
            let text = format!("FROM busybox:1\nCOPY {source} /stolen\n");
            let told = lab.build(request(&text), &files).await;
            assert!(told.error().contains("is not there"), "{source}: {}", told.error());
        }
        // A link in the image at the target, and one of a program's mount.
        let text = format!(
            "FROM busybox:1\nRUN busybox ln -s {0} /way && busybox ln -s ../../../../..{0} /back\n\
             COPY file /way/secret\nCOPY file /back/secret\nCOPY d /d\n",
            outside.display()
        );
        let told = lab.build(request(&text), &files).await;
        let image = lab.image("made:1", told.image()).await;
        assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "of the host");
        assert_eq!(fs::metadata(outside.join("secret")).unwrap().nlink(), 1);
        let inside = outside.strip_prefix("/").unwrap().join("secret");
        assert_eq!(content(&image, inside.to_str().unwrap()), "evil");
        assert!(in_layers(&image, "d/l").unwrap().is_symlink(), "links are copied as they are");
        let text = "FROM busybox:1 AS a\nRUN busybox ln -s / /root-link\nFROM busybox:1\n\
                    RUN --mount=type=bind,from=a,source=/root-link,target=/m ls /m/code > /seen\n";
        let told = lab.build(request(text), &files).await;
        let image = lab.image("made:1", told.image()).await;
        assert_eq!(content(&image, "seen"), "app\n");
    });
}

#[test]
fn a_context_that_leads_out_is_kept_in() {
    in_a_lab(async |lab| {
        let outside = lab.folder.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let away = format!("->{}", outside.display());
        let context = lab.builder.context().unwrap();
        let files = archive(&[("way", &away), ("way/file", "evil")]);
        let unpacked = tokio::task::spawn_blocking(move || {
            let done = context.unpack(std::io::Cursor::new(files));
            drop(context);
            done
        });
        unpacked.await.unwrap().unwrap_err();
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    });
}
