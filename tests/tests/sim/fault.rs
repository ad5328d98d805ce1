//! What goes wrong, and when it is put right.

use swarm_controller::core::{Input, Shortage};

use crate::machine::Stop;
use crate::world::{Happening, World};

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The network loses many messages.
    Loss,
    /// Messages take long.
    Delay,
    /// Messages overtake each other.
    Reorder,
    /// Messages arrive twice.
    Duplicate,
    /// One way between machines is cut, the other is not.
    OneWay,
    /// Some machines do not hear each other, though others hear both.
    Partial,
    /// Machines on either side do not hear each other.
    Split,
    /// One machine is cut off from all others.
    CutOff,
    /// What a disk had not synced is lost in a power cut.
    LostWrites,
    /// The last record is torn in a power cut.
    TornRecord,
    /// A sync fails, and the controller stops.
    FailedSync,
    /// Syncs take long.
    SlowSync,
    /// A disk is full: some writes still have room, and then they wait.
    FullDisk,
    /// A stored bit flips: the controller does not start again and is replaced.
    BitFlip,
    /// A machine's clock is set to another time.
    ClockJump,
    /// A machine's clock, and its timers with it, goes too fast or too slowly.
    ClockDrift,
    /// A controller gets no time from its machine.
    Pause,
    /// A controller's process dies.
    Kill,
    /// An agent's process dies; its containers do not.
    AgentKill,
    /// A machine loses power.
    PowerCut,
    /// All machines lose power at once.
    Blackout,
}

impl Kind {
    /// All kinds, with how often each is chosen.
    pub(crate) const ALL: [(Self, u64); 21] = [
        (Self::Loss, 4),
        (Self::Delay, 4),
        (Self::Reorder, 4),
        (Self::Duplicate, 4),
        (Self::OneWay, 4),
        (Self::Partial, 4),
        (Self::Split, 5),
        (Self::CutOff, 5),
        (Self::LostWrites, 8),
        (Self::TornRecord, 6),
        (Self::FailedSync, 4),
        (Self::SlowSync, 4),
        (Self::FullDisk, 4),
        (Self::BitFlip, 8),
        (Self::ClockJump, 4),
        (Self::ClockDrift, 4),
        (Self::Pause, 5),
        (Self::Kill, 5),
        (Self::AgentKill, 4),
        (Self::PowerCut, 5),
        (Self::Blackout, 4),
    ];
}

/// How a fault ends.
#[derive(Debug, Clone)]
pub(crate) enum Repair {
    Loss,
    Delay,
    Reorder,
    Duplicate,
    Ways(Vec<(u64, u64)>),
    Machine(u64),
    Machines,
    Controller(u64),
    FastSync(u64),
    Space(u64),
    Drift(u64),
}

impl World {
    /// Brings a fault about, and plans its end and the next one.
    pub(crate) fn break_something(&mut self) {
        let total: u64 = Kind::ALL.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.random.between(0, total);
        for (kind, weight) in Kind::ALL {
            if drawn < weight {
                if self.kinds.contains(&kind) {
                    self.bring_about(kind);
                }
                break;
            }
            drawn -= weight;
        }
        let pause = self.random.between(300, 3_500);
        self.at(pause, Happening::Break);
    }

    fn mend_after(&mut self, least: u64, most: u64, repair: Repair) {
        let lasts = self.random.between(least, most);
        self.at(lasts, Happening::Repair(repair));
    }

    fn bring_about(&mut self, kind: Kind) {
        match kind {
            Kind::Loss => {
                self.network.loss = self.random.between(10, 60);
                self.mend_after(300, 6_000, Repair::Loss);
            }
            Kind::Delay => {
                self.network.slow = self.random.between(20, 400);
                self.mend_after(300, 6_000, Repair::Delay);
            }
            Kind::Reorder => {
                self.network.reorders = true;
                self.mend_after(300, 6_000, Repair::Reorder);
            }
            Kind::Duplicate => {
                self.network.twice = self.random.between(10, 60);
                self.mend_after(300, 6_000, Repair::Duplicate);
            }
            Kind::OneWay | Kind::Partial | Kind::Split | Kind::CutOff => return self.part(kind),
            Kind::LostWrites | Kind::TornRecord | Kind::FailedSync => return self.set_trap(kind),
            Kind::SlowSync | Kind::FullDisk | Kind::BitFlip => return self.spoil_disk(kind),
            Kind::ClockJump | Kind::ClockDrift => self.spoil_clock(kind),
            Kind::Pause => {
                let Some(controller) = self.some_controller() else { return };
                let lasts = self.random.between(100, 5_000);
                self.controllers.get_mut(&controller).unwrap().paused_until = self.now + lasts;
            }
            Kind::Kill => {
                let Some(controller) = self.some_controller() else { return };
                self.stop_controller(controller, Stop::Kill);
                self.mend_after(50, 5_000, Repair::Controller(controller));
            }
            Kind::AgentKill => {
                let machine = self.some_machine();
                self.kill_agent(machine);
            }
            Kind::PowerCut => {
                let machine = self.some_machine();
                self.cut_power(machine, None);
                self.mend_after(300, 9_000, Repair::Machine(machine));
            }
            Kind::Blackout => {
                for machine in self.machine_numbers() {
                    self.cut_power(machine, None);
                }
                self.mend_after(300, 4_000, Repair::Machines);
            }
        }
        self.fired(kind);
    }

    /// Cuts ways between machines.
    fn part(&mut self, kind: Kind) {
        let machines = self.machine_numbers();
        let mut ways = Vec::new();
        let sides = self.random.draw();
        let one = self.some_machine();
        for a in &machines {
            for b in machines.iter().filter(|b| *b != a) {
                let parted = match kind {
                    Kind::OneWay => *a == one && (sides >> b) & 1 == 1,
                    Kind::Partial => (sides >> ((a.min(b) * 7 + a.max(b)) % 64)).is_multiple_of(4),
                    Kind::Split => (sides >> a) & 1 != (sides >> b) & 1,
                    _ => *a == one || *b == one,
                };
                if parted {
                    ways.push((*a, *b));
                }
            }
        }
        if !ways.is_empty() {
            self.network.cut(&ways);
            self.mend_after(300, 9_000, Repair::Ways(ways));
            self.fired(kind);
        }
    }

    /// Waits for a controller's next sync, and lets it go wrong. Power is cut in the middle of it, or it fails.
    pub(crate) fn set_trap(&mut self, kind: Kind) {
        let Some(id) = self.some_controller() else { return };
        let controller = self.controllers.get_mut(&id).unwrap();
        if kind == Kind::FailedSync {
            controller.disk.fails = true;
        } else {
            controller.trap = Some(kind);
        }
    }

    fn spoil_disk(&mut self, kind: Kind) {
        let Some(id) = self.some_controller() else { return };
        let controller = self.controllers.get_mut(&id).unwrap();
        match kind {
            Kind::SlowSync => {
                controller.disk.slow = self.random.between(50, 900);
                self.mend_after(500, 9_000, Repair::FastSync(id));
                self.fired(kind);
            }
            Kind::FullDisk => {
                controller.disk.full = true;
                controller.disk.reserve = self.random.between(0, 20);
                self.tell_of_room(id);
                self.mend_after(500, 8_000, Repair::Space(id));
                self.fired(kind);
            }
            _ => self.flip_bit(id),
        }
    }

    /// A bit flips on the disk of a controller that is not running, when the others can do without it: they must have
    /// a majority until it is replaced.
    fn flip_bit(&mut self, id: u64) {
        if !self.can_do_without_one() {
            return;
        }
        self.stop_controller(id, Stop::Kill);
        let controller = self.controllers.get_mut(&id).unwrap();
        if controller.disk.flip(&mut self.random) {
            controller.flipped = true;
        }
        self.mend_after(50, 1_000, Repair::Controller(id));
    }

    fn spoil_clock(&mut self, kind: Kind) {
        let Some(id) = self.some_controller() else { return };
        let now = self.now;
        let clock = &mut self.controllers.get_mut(&id).unwrap().clock;
        if kind == Kind::ClockJump {
            let by = self.random.between(100, 40_000);
            clock.jump(now, self.random.chance(50), by);
        } else {
            clock.drift(now, self.random.between(800, 1_250));
            self.mend_after(2_000, 20_000, Repair::Drift(id));
        }
    }

    /// A controller hears whether its disk has room.
    pub(crate) fn tell_of_room(&mut self, id: u64) {
        let full = self.controllers[&id].disk.full;
        let shortage = full.then(|| Shortage { path: "/disk".to_owned(), free: 0 });
        self.input(id, Input::Room(shortage));
    }

    /// Ends a fault.
    pub(crate) fn repair(&mut self, repair: Repair) {
        let now = self.now;
        match repair {
            Repair::Loss => self.network.loss = 0,
            Repair::Delay => self.network.slow = 0,
            Repair::Reorder => self.network.reorders = false,
            Repair::Duplicate => self.network.twice = 0,
            Repair::Ways(ways) => self.network.mend(&ways),
            Repair::Machine(machine) => self.start_machine(machine),
            Repair::Machines => {
                for machine in self.machine_numbers() {
                    self.start_machine(machine);
                }
            }
            Repair::Controller(controller) => self.start_controller(controller),
            Repair::FastSync(id) => self.controllers.get_mut(&id).unwrap().disk.slow = 0,
            Repair::Space(id) => {
                self.controllers.get_mut(&id).unwrap().disk.full = false;
                self.tell_of_room(id);
            }
            Repair::Drift(id) => {
                self.controllers.get_mut(&id).unwrap().clock.drift(now, 1_000);
            }
        }
    }

    /// Ends all faults.
    pub(crate) fn heal(&mut self) {
        self.network = crate::network::Network::default();
        let full = self.controllers.iter().filter(|(_, controller)| controller.disk.full);
        for id in full.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.repair(Repair::Space(id));
        }
        for controller in self.controllers.values_mut() {
            controller.disk.fails = false;
            controller.disk.slow = 0;
            controller.trap = None;
            controller.clock.drift(self.now, 1_000);
        }
        for machine in self.machine_numbers() {
            self.start_machine(machine);
        }
        for controller in self.live_controllers() {
            self.start_controller(controller);
        }
    }
}
