//! Secrets and configs: what is sent before a deploy, and the commands about those that belong to no stack.

use std::collections::BTreeMap;

use expect_test::expect;
use swarm_proto::spec::{ContentKind, ContentSpec, FileMount};
use swarmctl::state::{NamedContent, State};

use crate::fake::Fake;
use crate::objects::{ago, state};

const STACK: &str = "\
name: counter
services:
  web:
    image: counter-web:1
    secrets: [key]
    configs: [page]
    volumes: ['./conf:/conf:ro']
secrets: {key: {file: ./key}}
configs: {page: {content: hidden}}
";

fn named(kind: ContentKind, name: &str) -> ((ContentKind, String), NamedContent) {
    let is_config = kind == ContentKind::Config;
    let named = NamedContent {
        kind,
        name: name.to_owned(),
        digest: is_config.then(|| format!("sha256:{}", "a".repeat(64))),
        size: 2_048,
        labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        created_at: ago(300),
    };
    ((kind, name.to_owned()), named)
}

/// A state in which a service uses a secret of its stack's and one that belongs to none.
fn with_contents() -> State {
    let mut state = state();
    state.named_contents =
        [named(ContentKind::Secret, "token"), named(ContentKind::Config, "page")].into();
    let stack = state.stacks.get_mut("counter").unwrap();
    let external = ContentSpec { external: true, ..ContentSpec::default() };
    let own = ContentSpec::default();
    stack.spec.secrets = [("token".to_owned(), external), ("own".to_owned(), own)].into();
    let file = |source: &str| FileMount {
        kind: ContentKind::Secret,
        source: source.to_owned(),
        digest: None,
        target: format!("/run/secrets/{source}"),
        uid: 0,
        gid: 0,
        mode: FileMount::MODE,
    };
    let web = state.services.values_mut().find(|service| service.key == "web").unwrap();
    web.spec.container.files = vec![file("token"), file("own")];
    state
}

#[tokio::test]
async fn a_deploy_sends_first_what_the_cluster_lacks() {
    let fake = Fake::start(state()).await;
    let folder = fake.folder.path();
    std::fs::write(folder.join("with.yml"), STACK).unwrap();
    std::fs::write(folder.join("key"), "k".repeat(300_000)).unwrap();
    std::fs::write(folder.join("conf"), "of the workstation").unwrap();
    let said = fake.run(&["deploy", "-f", "with.yml", "--detach"]).await;
    assert!(said.transcript().contains("exit code 0"), "{}", said.transcript());
    let mut seen = fake.script.seen.lock().unwrap().clone();
    assert!(seen.pop().unwrap().starts_with("deploy counter "));
    seen.sort();
    assert_eq!(
        seen,
        [
            "add Config part 0 of 18 bytes",
            "add Config part 0 of 6 bytes",
            "add Secret part 0 of 300000 bytes",
            "add Secret part 1 of 300000 bytes",
        ]
    );
    fake.script.seen.lock().unwrap().clear();
    fake.run(&["deploy", "-f", "with.yml", "--detach"]).await;
    let seen = fake.script.seen.lock().unwrap().clone();
    assert!(seen.len() == 1 && seen[0].starts_with("deploy counter "), "{seen:?}");
}

#[tokio::test]
async fn secrets_and_configs_are_listed_with_who_uses_them() {
    let fake = Fake::start(with_contents()).await;
    let said = fake.run(&["secret", "ls", "-o", "name"]).await;
    expect![[r#"
        counter_own
        token
        ---
        ---
        exit code 0
    "#]]
    .assert_eq(&said.transcript());
    let said = fake.run(&["secret", "inspect", "token"]).await;
    expect![[r#"
        kind: secret
        name: token
        stack: null
        key: null
        digest: null
        size: 2048
        labels:
          a: b
        created_at: 2023-11-14T22:08:20.000Z
        used_by:
        - counter_web
        data: null
        ---
        ---
        exit code 0
    "#]]
    .assert_eq(&said.transcript());
    let said = fake.run(&["config", "inspect", "page", "-o", "json"]).await;
    assert!(said.transcript().contains(r#""data": "what is in it""#), "{}", said.transcript());
    let said = fake.run(&["secret", "inspect", "tokens"]).await;
    assert!(said.transcript().contains("did you mean `token`?"), "{}", said.transcript());
}

#[tokio::test]
async fn one_is_created_from_a_file_and_removed() {
    let fake = Fake::start(state()).await;
    std::fs::write(fake.folder.path().join("key"), "hidden").unwrap();
    let said = fake.run(&["secret", "create", "token", "key", "--label", "a=b"]).await;
    expect![[r#"
        ---
        secret `token` is created
        ---
        exit code 0
    "#]]
    .assert_eq(&said.transcript());
    std::fs::write(fake.folder.path().join("large"), vec![0; 1_024_001]).unwrap();
    let said = fake.run(&["config", "create", "large", "large"]).await;
    assert!(said.transcript().contains("`large` is too large for a config"));
    fake.run(&["config", "rm", "page"]).await;
    let seen = fake.script.seen.lock().unwrap().clone();
    assert_eq!(
        seen,
        ["add Secret part 0 of 6 bytes", r#"create Secret token {"a": "b"}"#, "remove Config page",]
    );
}
