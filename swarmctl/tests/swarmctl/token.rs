//! `cluster token rotate`: what it asks and prints.

use crate::fake::Fake;
use crate::objects::state;

#[tokio::test]
async fn rotating_names_the_roles() {
    let fake = Fake::start(state()).await;
    let said = fake.run(&["cluster", "token", "rotate", "agent"]).await;
    assert_eq!((said.code, said.data.as_str()), (Some(0), "SWTKN-1-root-agent-new\n"));
    assert_eq!(
        said.talk,
        "the agents' join token is new; the one before lets nobody in any more\n"
    );
    let said = fake.run(&["cluster", "token", "rotate"]).await;
    assert_eq!(said.data, "SWTKN-1-root-controller-new\nSWTKN-1-root-agent-new\n");
    let said = fake.run(&["cluster", "token", "rotate", "worker"]).await;
    assert_eq!(said.code, Some(2), "{}", said.talk);
    let seen = fake.script.seen.lock().unwrap().clone();
    assert_eq!(seen, ["rotate tokens false true", "rotate tokens true true"]);
}
