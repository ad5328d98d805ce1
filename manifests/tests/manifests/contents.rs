//! Secrets and configs: their bytes beside the stack, and never in what is written.

use std::path::PathBuf;

use swarm_manifests::{ContentSource, hash, read, resolved, yaml};
use swarm_proto::spec::{ContentId, ContentKind};

use crate::{environment, folder};

#[test]
fn the_bytes_come_with_the_stack_and_are_not_written() {
    let files = [PathBuf::from("examples/contents.yml")];
    let (stack, warnings) = read(&files, &environment()).unwrap();
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.iter().any(|warning| warning.contains("it means 0440")), "{warnings:?}");
    let bytes = |kind, text: &str| {
        let id = ContentId::of(kind, text.as_bytes());
        stack.contents.get(&id).map(|bytes| bytes.reveal().to_vec())
    };
    for (kind, text) in [
        (ContentKind::Secret, "not really secret"),
        (ContentKind::Secret, "given"),
        (ContentKind::Config, "log: warn, costs $5\n"),
        (ContentKind::Config, "server { listen 80; }\n"),
        (ContentKind::Config, "#!/bin/sh\necho from a file\n"),
    ] {
        assert_eq!(bytes(kind, text).as_deref(), Some(text.as_bytes()), "{text}");
    }
    assert_eq!(stack.contents.len(), 5, "{:?}", stack.contents);
    let source = stack.sources.get(&(ContentKind::Secret, "token".to_owned()));
    assert_eq!(source, Some(&ContentSource::File(folder().join("examples/files/token"))));
    assert_eq!(stack.spec.secrets["outside"].digest, None);

    let text = yaml::to_string(&resolved(&stack)).unwrap();
    assert!(!text.contains("not really secret"), "{text}");
    assert!(text.contains("environment: FROM_OUTSIDE"), "{text}");
    let debug = format!("{stack:?}");
    assert!(!debug.contains("not really secret"), "{debug}");
}

#[test]
fn another_content_is_another_hash() {
    let files = [PathBuf::from("examples/contents.yml")];
    let web = |value: &str| {
        let mut environment = environment();
        environment.vars.insert("FROM_OUTSIDE".to_owned(), value.to_owned());
        let (stack, _) = read(&files, &environment).unwrap();
        hash(&stack.spec.services["web"]).unwrap()
    };
    assert_eq!(web("one"), web("one"));
    assert_ne!(web("one"), web("two"));
}
