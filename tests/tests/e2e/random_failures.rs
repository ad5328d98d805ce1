//! Failures at random of containers, agents, controllers and hosts: what they did not hit runs on, and what they hit
//! runs again.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use swarm_tests::random::Random;

use crate::lab::{Lab, eventually};
use crate::snapshot::Process;

const HOSTS: [&str; 6] = ["n1", "n2", "n3", "n4", "n5", "n6"];
const CONTROLLERS: [&str; 3] = ["n1", "n2", "n3"];
const STACK: &str = r"
services:
  work:
    image: busybox
    command: sleep 100000
    deploy:
      replicas: 18
      restart_policy: {delay: 100ms}
";
const REPLICAS: usize = 18;
const FAILURES: u32 = 100;
/// After so many failures all replicas must run again before the next one.
const SERIES: u32 = 20;
/// Too short for a host to count as lost.
const FREEZE: Duration = Duration::from_secs(1);

/// A lab under fire.
struct Fire {
    lab: Lab,
    random: Random,
    /// The containers of each host that were seen and not hit.
    living: BTreeMap<&'static str, BTreeSet<Process>>,
    /// Those that were hit: they may take a moment to end.
    hit: BTreeSet<Process>,
    /// A host without power. There is one at most, as a majority of the controllers has to be there.
    off: Option<&'static str>,
}

impl Fire {
    fn new(lab: Lab, seed: u64) -> Self {
        Self {
            lab,
            random: Random::new(seed),
            living: BTreeMap::new(),
            hit: BTreeSet::new(),
            off: None,
        }
    }

    /// Looks that nothing stopped that was not hit.
    fn look(&mut self, after: &str) {
        for host in HOSTS.into_iter().filter(|host| self.off != Some(host)) {
            let now = self.lab.sleepers(host);
            let before = self.living.insert(host, now.clone()).unwrap_or_default();
            let gone = before.difference(&now);
            let lost: Vec<_> = gone.filter(|container| !self.hit.contains(container)).collect();
            assert!(lost.is_empty(), "{host} stopped {lost:?} after {after}");
        }
    }

    /// Lets something fail, and says what.
    fn strike(&mut self) -> String {
        match self.random.between(1, 10) {
            1..=5 => self.kill_container(),
            6..=7 => self.kill_program("agent", &HOSTS),
            8 => self.kill_program("controller", &CONTROLLERS),
            9 => self.freeze(),
            _ => self.turn_switch(),
        }
    }

    fn host(&mut self, among: &[&'static str]) -> &'static str {
        let on: Vec<_> = among.iter().copied().filter(|host| self.off != Some(host)).collect();
        self.random.one_of(&on).unwrap()
    }

    fn kill_container(&mut self) -> String {
        let host = self.host(&HOSTS);
        let containers: Vec<_> = self.living[host].difference(&self.hit).cloned().collect();
        let Some(victim) = self.random.one_of(&containers) else {
            return format!("none on {host}");
        };
        // One that has ended meanwhile was lost, and the next look says so.
        if Process::of(victim.pid).as_ref() == Some(victim) {
            kill(Pid::from_raw(victim.pid), Signal::SIGKILL).unwrap();
            self.hit.insert(victim.clone());
        }
        format!("a container of {host}")
    }

    fn kill_program(&mut self, program: &str, among: &[&'static str]) -> String {
        let host = self.host(among);
        eventually(10, "the program is there", || self.lab.program(host, program));
        self.lab.kill_program(host, program);
        format!("the {program} of {host}")
    }

    fn freeze(&mut self) -> String {
        let host = self.host(&HOSTS);
        self.lab.lab("pause", &[host]);
        sleep(FREEZE);
        self.lab.lab("resume", &[host]);
        format!("{host}, frozen")
    }

    /// Cuts the power of a host, or gives it back to the one that has none.
    fn turn_switch(&mut self) -> String {
        if let Some(host) = self.off.take() {
            self.lab.lab("start", &[host]);
            return format!("{host}, switched on");
        }
        let host = self.host(&HOSTS);
        self.lab.lab("kill", &[host]);
        self.living.remove(host);
        self.off = Some(host);
        format!("{host}, switched off")
    }

    /// Waits until every replica runs, and once.
    fn recover(&mut self) {
        if self.off.is_some() {
            self.turn_switch();
        }
        eventually(60, "all replicas run, each once", || {
            let containers: usize = HOSTS.iter().map(|host| self.lab.sleepers(host).len()).sum();
            let is_whole = containers == REPLICAS && self.lab.running("r_").len() == REPLICAS;
            (is_whole && self.lab.ready_hosts()?.len() == HOSTS.len()).then_some(())
        });
    }
}

#[test]
fn a_hundred_failures_stop_nothing_that_they_do_not_hit() {
    let lab = Lab::with("random", &["--hosts", "6"]);
    lab.deploy("r", STACK);
    let mut fire = Fire::new(lab, 5);
    fire.look("the deploy");
    let mut past = Vec::new();
    for number in 1..=FAILURES {
        past.push(fire.strike());
        fire.look(&format!("{past:?}"));
        if number % SERIES == 0 {
            fire.recover();
            past.clear();
        }
    }
    fire.look("all of them");
}
