//! No rule plans more in its turn than a pass can do, however much there is to do: what is more is thrown away, and heartbeats
//! wait for it.

use swarm_controller::core::Command;
use swarm_controller::core::rules::RULES;

use crate::history::{History, machine};
use crate::spec;

/// Actions of a pass.
const MOST: usize = 2_000;
const SERVICES: usize = 20;

fn assert_bounded(history: &History) {
    for rule in RULES {
        let planned = rule(&history.state, &history.observed, history.now).groups.len();
        assert!(planned <= MOST, "{planned} groups in one turn");
    }
}

#[test]
fn a_turn_of_a_rule_is_bounded() {
    let mut history = History::new();
    history.join(machine());
    let services = (0..SERVICES).map(|number| format!("s{number}:replicas=1000,nonet"));
    let services: Vec<String> = services.collect();
    let services: Vec<&str> = services.iter().map(String::as_str).collect();
    let spec = spec::stack("many", &services);
    history.ask(&Command::Deploy { spec, prune: false, warnings: Vec::new() }).unwrap();
    for _ in 0..100 {
        assert_bounded(&history);
        let Some(pass) = history.pass() else { break };
        history.apply(pass.groups);
    }
    assert_eq!(history.state.tasks.len(), SERVICES * 1_000);
    for number in 0..SERVICES {
        let service = format!("many_s{number}");
        history.ask(&Command::Scale { service, replicas: 0 }).unwrap();
    }
    assert_bounded(&history);
}
