//! What a controller's disk shows to somebody who has only the disk, and join tokens that were given to the wrong hands.

use std::fs;
use std::path::{Path, PathBuf};

use swarm_proto::spec::{ContentId, ContentKind};
use swarm_proto::transport::{self, JoinToken};
use swarm_proto::wire;

use crate::host::{Host, cluster_with, deploy, eventually, scale, stack};

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// The files below the log's folder in which a text stands.
pub(crate) fn shown(host: &Host, text: &str) -> Vec<PathBuf> {
    let holds = |path: &PathBuf| {
        let content = fs::read(path).unwrap();
        content.windows(text.len()).any(|part| part == text.as_bytes())
    };
    files(&host.dir.path().join("state/controller")).into_iter().filter(holds).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn log_and_snapshots_show_no_secret_and_are_read_again() {
    let mut hosts = cluster_with("snapshot_entries = 100\n", 1).await;
    let mut control = hosts[0].control().await;
    let content = ContentId::of(ContentKind::Secret, b"swordfish");
    let announce = wire::AnnounceContentsRequest {
        request_id: String::from("c1"),
        contents: vec![(&content).into()],
    };
    let missing = control.announce_contents(announce.clone()).await.unwrap().into_inner().missing;
    assert_eq!(missing.len(), 1);
    let add = wire::AddContentRequest {
        request_id: String::from("c2"),
        content: Some((&content).into()),
        size: 9,
        part: 0,
        data: b"swordfish".to_vec(),
    };
    control.add_content(add).await.unwrap();
    control.deploy(deploy("r1", stack("web", 1))).await.unwrap();
    for number in 0..150 {
        control.scale_service(scale(&format!("s{number}"), "web", number % 3)).await.unwrap();
    }
    let snapshots = hosts[0].dir.path().join("state/controller/snapshots");
    eventually("a snapshot is written", async || {
        let names = fs::read_dir(&snapshots).unwrap().flatten().map(|entry| entry.file_name());
        let later = names.filter(|name| name != "snapshot-1-1" && name != "new").count();
        if later > 0 { Ok(()) } else { Err(String::from("not yet")) }
    })
    .await;
    let token = hosts[0].expect(&["token", "agent"]);
    let token = token.trim().rsplit('-').next().unwrap();
    hosts[0].kill();
    for secret in ["hunter2", "PASSWORD", "swordfish", token, "PRIVATE KEY"] {
        assert_eq!(shown(&hosts[0], secret), Vec::<PathBuf>::new(), "the disk shows `{secret}`");
    }
    hosts[0].start();
    let state = hosts[0].state().await;
    assert_eq!(state.stacks.len(), 1);
    let announce = wire::AnnounceContentsRequest { request_id: String::from("c3"), ..announce };
    let missing = hosts[0].control().await.announce_contents(announce).await;
    assert_eq!(missing.unwrap().into_inner().missing, []);
    let log = fs::read_to_string(hosts[0].dir.path().join("log")).unwrap();
    assert!(log.contains(r#"object="part 0 of a secret of 9 bytes" outcome="done""#));
    assert!(!log.contains("swordfish") && !log.contains(content.digest.hex()));

    hosts[0].kill();
    let key = hosts[0].dir.path().join("state/controller/data.key");
    fs::write(&key, format!("SWDATA-1-{}\n", "00".repeat(32))).unwrap();
    let message = hosts[0].refused(&["run"]);
    assert!(
        message.contains("was written under another key than those in `data.key`"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_token_lets_nobody_in_and_the_other_one_still_does() {
    let hosts = cluster_with("", 3).await;
    transport::install_crypto_provider();
    let old_agent = hosts[0].expect(&["token", "agent"]);
    let old_controller = hosts[0].expect(&["token", "controller"]);
    let mut control = hosts[1].control().await;
    let request = |id: &str, controller, agent| wire::RotateJoinTokensRequest {
        request_id: String::from(id),
        controller,
        agent,
    };
    let rotated = control.rotate_join_tokens(request("r1", false, true)).await.unwrap();
    let rotated = rotated.into_inner();
    assert_eq!(rotated.controller_token, old_controller.trim());
    assert_ne!(rotated.agent_token, old_agent.trim());
    let again = control.rotate_join_tokens(request("r1", false, true)).await.unwrap();
    assert_eq!(again.into_inner(), rotated, "a request that comes again rotates once");
    let read = control.get_join_tokens(wire::GetJoinTokensRequest {}).await.unwrap();
    assert_eq!(read.into_inner(), rotated);
    let none = control.rotate_join_tokens(request("r2", false, false)).await.unwrap_err();
    assert_eq!(none.message(), "the request names no token");

    let join = async |host: &Host, token: &str| {
        let token: JoinToken = token.trim().parse().unwrap();
        transport::join(&host.address, &token, "a1", None).await.map_err(|error| error.to_string())
    };
    for host in &hosts {
        eventually("the old token is worthless", async || match join(host, &old_agent).await {
            Err(refused) if refused.starts_with("the join token is not valid") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        join(host, &rotated.agent_token).await.unwrap();
    }
    let refused = join(&hosts[0], &old_controller).await.unwrap_err();
    assert!(refused.contains("lets controllers in"), "the controllers' token is still known");
    let log = hosts[1].log();
    assert!(log.contains(r#"call="RotateJoinTokens" object="agent" outcome="done""#), "{log}");
    let secret = rotated.agent_token.rsplit('-').next().unwrap();
    assert!(!log.contains(secret), "the log shows a token");
}
