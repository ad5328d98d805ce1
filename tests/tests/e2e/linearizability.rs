//! What clients see while controllers die and are cut off; `just jepsen` does the same for long.

use std::time::Duration;

use swarm_tests::jepsen::{Fault, Hosts, Load, run};
use swarm_tests::linearizability::Verdict;
use swarm_tests::random::Random;

use crate::lab::{Lab, programs};

#[test]
fn reads_and_writes_stay_in_order_when_leaders_are_lost_and_stale_reads_are_noticed() {
    let lab = Lab::up("registers");
    let hosts = Hosts::of(&programs(), lab.settings(), lab.name(), 3);
    let rest = Duration::from_millis(20);
    let mut load = Load { clients: 2, registers: 2, rest, stale: false, seed: 1 };
    let mut random = Random::new(1);
    let report = run(&hosts, &load, |nemesis| {
        nemesis.inflict(Fault::KillLeader, &mut random, Duration::from_secs(1))?;
        nemesis.inflict(Fault::CutLeader, &mut random, Duration::from_secs(2))
    });
    let report = report.unwrap();
    assert_eq!(report.complaint(50, 2), None, "{report}");

    // Enough clients that some go on while others wait for the one that is cut off.
    (load.stale, load.seed, load.clients) = (true, 2, 4);
    let report = run(&hosts, &load, |nemesis| {
        nemesis.inflict(Fault::CutLeader, &mut random, Duration::from_secs(6))
    });
    let report = report.unwrap();
    assert!(matches!(report.verdict, Verdict::Violation(_)), "{report}");
}
