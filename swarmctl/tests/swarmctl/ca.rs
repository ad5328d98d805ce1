//! `cluster ca rotate`: what it asks and prints, and how the status shows it.

use swarm_proto::wire;
use swarmctl::view::ClusterView;

use crate::fake::Fake;
use crate::objects::{NOW, ago, cluster_status, state};

#[tokio::test]
async fn rotating_names_who_has_not_followed() {
    let fake = Fake::start(state()).await;
    let said = fake.run(&["cluster", "ca", "rotate"]).await;
    assert_eq!((said.code, said.data), (Some(0), format!("{}\n", "5e".repeat(32))));
    assert_eq!(
        said.talk,
        "a new certificate authority signs; 2 nodes still rely on the former one: n2, n3\n\
         `swarmctl cluster status` shows when they have followed; join tokens and people's bundles are to be made anew\n"
    );
    let said = fake.run(&["cluster", "ca", "rotate", "--force"]).await;
    assert_eq!((said.code, said.data), (Some(0), format!("{}\n", "5e".repeat(32))));
    assert_eq!(said.talk, "no node relies on the former certificate authority any more\n");
    let seen = fake.script.seen.lock().unwrap().clone();
    assert_eq!(seen, ["rotate authority false", "rotate authority true"]);
}

#[test]
fn the_status_says_who_still_relies_on_the_former_authority() {
    let mut status = cluster_status(false);
    let waiting = vec!["n3".to_owned()];
    status.rotation = Some(wire::AuthorityRotation { since: ago(90).0, waiting });
    let view = ClusterView::of(status);
    let words = view.words(false, NOW);
    let line = "authority being replaced for 90s: n3 still relies on the former one\n";
    assert!(words.contains(line), "{words}");
    let json = swarmctl::view::json(&view).unwrap();
    assert!(json.contains("\"waiting\": [\n      \"n3\"\n    ]"), "{json}");
}
