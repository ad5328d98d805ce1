//! Logins at registries: the newest counts, a snapshot keeps it, and no output shows its password.

use swarm_controller::core::state::State;
use swarm_controller::core::{Command, RefusalKind};
use swarm_proto::id::Timestamp;
use swarm_proto::object::{RegistryLogin, RegistryName, Secret};

use crate::history::History;

fn name(text: &str) -> RegistryName {
    text.parse().unwrap()
}

fn log_in(registry: &str, user: &str, password: &str) -> Command {
    let password = Secret::new(password.to_owned());
    Command::LogIn {
        login: Box::new(RegistryLogin::new(name(registry), user.to_owned(), password)),
    }
}

#[test]
fn the_newest_login_at_a_registry_counts() {
    let mut history = History::new();
    history.ask(&log_in("docker.io", "ada", "one")).unwrap();
    history.ask(&log_in("r.example:5000", "ada", "swordfish")).unwrap();
    history.now = Timestamp(9_000);
    history.ask(&log_in("index.docker.io", "bob", "two")).unwrap();
    let kept = &history.state.registry_logins;
    assert_eq!(kept.len(), 2);
    let hub = &kept[&name("docker.io")];
    assert_eq!((hub.user.as_str(), hub.password.reveal()), ("bob", "two"));
    assert_eq!(hub.updated_at, Timestamp(9_000));
    let again = State::from_bytes(&history.state.to_bytes()).unwrap();
    assert_eq!(again.registry_logins, history.state.registry_logins);
    assert!(
        !format!("{:?} {:?}", history.state, log_in("a", "b", "swordfish")).contains("swordfish")
    );

    let log_out = Command::LogOut { registry: name("docker.io") };
    history.ask(&log_out).unwrap();
    let refused = history.ask(&log_out).unwrap_err();
    assert_eq!(refused.kind, RefusalKind::NotFound);
    assert_eq!(refused.message, "the cluster has no login at registry `docker.io`");
    assert_eq!(history.state.registry_logins.len(), 1);
}

#[test]
fn what_cannot_be_a_login_is_refused() {
    let mut history = History::new();
    let long = "x".repeat(RegistryLogin::LONGEST + 1);
    for (user, password) in
        [("", "p"), ("a:b", "p"), ("a\nb", "p"), ("ada", ""), (&long, "p"), ("ada", &long)]
    {
        let refused = history.ask(&log_in("a.example", user, password)).unwrap_err();
        assert_eq!(refused.kind, RefusalKind::Invalid, "{refused}");
    }
    for number in 0..256 {
        history.ask(&log_in(&format!("r{number}.example"), "ada", "p")).unwrap();
    }
    let refused = history.ask(&log_in("more.example", "ada", "p")).unwrap_err();
    assert_eq!(refused.kind, RefusalKind::Full);
    history.ask(&log_in("r7.example", "ada", "another")).unwrap();
}
