//! What is done to the hosts.

use std::collections::BTreeMap;
use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Hosts;
use crate::bench::Outcome;
use crate::random::Random;

/// How long a leader is waited for before a fault that is aimed at it: on a slow disk an election takes long.
const LEADER_WITHIN: Duration = Duration::from_mins(1);

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9` of the leading controller, which starts again later.
    KillLeader,
    /// `kill -9` of any controller.
    KillOne,
    /// The leader's host is frozen, and thaws.
    PauseLeader,
    /// Any host is frozen.
    PauseOne,
    /// The leader's host is off the network.
    CutLeader,
    /// The leader and one other do not hear each other.
    CutPair,
    /// The leader's words to the others are lost, theirs reach it.
    MuteLeader,
    /// The others' words to the leader are lost, its own reach them.
    DeafLeader,
    /// The hosts fall into two parts.
    Split,
    /// `kill -9` of all controllers at once.
    RestartAll,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::KillLeader,
        Self::KillOne,
        Self::PauseLeader,
        Self::PauseOne,
        Self::CutLeader,
        Self::CutPair,
        Self::MuteLeader,
        Self::DeafLeader,
        Self::Split,
        Self::RestartAll,
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KillLeader => "leader killed",
            Self::KillOne => "killed",
            Self::PauseLeader => "leader paused",
            Self::PauseOne => "paused",
            Self::CutLeader => "leader cut off",
            Self::CutPair => "pair cut",
            Self::MuteLeader => "leader mute",
            Self::DeafLeader => "leader deaf",
            Self::Split => "split",
            Self::RestartAll => "all killed",
        })
    }
}

/// Who does it, and mends it.
pub struct Nemesis<'h> {
    hosts: &'h Hosts,
    done: BTreeMap<Fault, u32>,
}

impl<'h> Nemesis<'h> {
    pub(super) fn new(hosts: &'h Hosts) -> Self {
        Self { hosts, done: BTreeMap::new() }
    }

    pub(super) fn into_faults(self) -> BTreeMap<Fault, u32> {
        self.done
    }

    /// Brings a fault about, lets it last, mends it.
    pub fn inflict(&mut self, fault: Fault, random: &mut Random, lasting: Duration) -> Outcome<()> {
        let leader = self.leader()?;
        let all: Vec<&str> = self.hosts.names().iter().map(String::as_str).collect();
        let others: Vec<&str> = all.iter().copied().filter(|host| *host != leader).collect();
        let other = *random.one_of(&others).ok_or("a lab of one host has no others")?;
        let any = *random.one_of(&all).ok_or("a lab without hosts")?;
        match fault {
            Fault::KillLeader => self.kill(&[&leader], lasting)?,
            Fault::KillOne => self.kill(&[any], lasting)?,
            Fault::RestartAll => self.kill(&all, Duration::ZERO)?,
            Fault::PauseLeader => self.pause(&leader, lasting)?,
            Fault::PauseOne => self.pause(any, lasting)?,
            Fault::CutLeader => self.cut(&[&[&leader]], lasting)?,
            Fault::CutPair => self.cut(&[&[&leader, other]], lasting)?,
            Fault::MuteLeader => {
                let cuts: Vec<[&str; 3]> =
                    others.iter().map(|other| [leader.as_str(), other, "--one-way"]).collect();
                self.cut(&cuts.iter().map(<[_; 3]>::as_slice).collect::<Vec<_>>(), lasting)?;
            }
            Fault::DeafLeader => {
                let cuts: Vec<[&str; 3]> =
                    others.iter().map(|other| [other, leader.as_str(), "--one-way"]).collect();
                self.cut(&cuts.iter().map(<[_; 3]>::as_slice).collect::<Vec<_>>(), lasting)?;
            }
            Fault::Split => {
                let apart = [leader.as_str(), other];
                let cuts: Vec<[&str; 2]> = all
                    .iter()
                    .filter(|host| !apart.contains(host))
                    .flat_map(|host| apart.map(|one| [one, *host]))
                    .collect();
                self.cut(&cuts.iter().map(<[_; 2]>::as_slice).collect::<Vec<_>>(), lasting)?;
            }
        }
        *self.done.entry(fault).or_default() += 1;
        Ok(())
    }

    /// The host whose controller leads, waiting for it.
    pub(super) fn leader(&self) -> Outcome<String> {
        let end = Instant::now() + LEADER_WITHIN;
        loop {
            match self.hosts.leader() {
                Some(leader) => return Ok(leader),
                None if Instant::now() > end => return Err("nobody leads".into()),
                None => sleep(Duration::from_millis(50)),
            }
        }
    }

    fn kill(&self, hosts: &[&str], lasting: Duration) -> Outcome<()> {
        for host in hosts {
            self.hosts.lab("kill", &[host, "--only", "controller"])?;
        }
        sleep(lasting);
        hosts.iter().try_for_each(|host| self.hosts.lab("start", &[host]).map(|_| ()))
    }

    fn pause(&self, host: &str, lasting: Duration) -> Outcome<()> {
        self.hosts.lab("pause", &[host])?;
        sleep(lasting);
        self.hosts.lab("resume", &[host]).map(|_| ())
    }

    fn cut(&self, cuts: &[&[&str]], lasting: Duration) -> Outcome<()> {
        for cut in cuts {
            self.hosts.lab("cut", cut)?;
        }
        sleep(lasting);
        self.hosts.lab("heal", &[]).map(|_| ())
    }

    /// Mends everything, whatever was done.
    pub(super) fn heal(&self) -> Outcome<()> {
        for host in self.hosts.names() {
            self.hosts.lab("resume", &[host])?;
            self.hosts.lab("start", &[host])?;
        }
        self.hosts.lab("heal", &[]).map(|_| ())
    }
}
