//! What goes wrong, and when it is put right.

use crate::world::World;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A machine with its controller and agent loses power.
    Crash(u64),
    /// All machines lose power at once.
    PowerCut,
    /// Only the controller's process dies.
    Kill(u64),
    /// Machines on either side do not hear each other.
    Part(u64),
    /// One machine is cut off from all others.
    CutOff(u64),
    /// A machine's disk is slow.
    SlowDisk(u64),
    /// The network loses many messages.
    Lossy,
    /// A controller's clock is set to another time.
    ClockStep(u64),
}

impl World {
    /// Brings one fault about, and plans its end.
    pub(crate) fn break_something(&mut self) {
        let machine = self.random.between(1, self.machines + 1);
        let controller = self.random.between(1, self.controllers + 1);
        let lasts = self.random.between(300, 9_000);
        let fault = match self.random.between(0, 9) {
            0 => Fault::Crash(machine),
            7 | 8 => Fault::PowerCut,
            1 => Fault::Kill(controller),
            2 => Fault::Part(self.random.next()),
            3 => Fault::CutOff(machine),
            4 => Fault::SlowDisk(controller),
            5 => Fault::ClockStep(controller),
            _ => Fault::Lossy,
        };
        self.faults += 1;
        match fault {
            Fault::Crash(machine) => self.crash_machine(machine),
            Fault::PowerCut => (1..=self.machines).for_each(|machine| self.crash_machine(machine)),
            Fault::Kill(controller) => self.crash_controller(controller),
            Fault::Part(sides) => {
                for a in 1..=self.machines {
                    for b in 1..=self.machines {
                        if (sides >> a) & 1 != (sides >> b) & 1 {
                            self.cut.insert((a, b));
                        }
                    }
                }
            }
            Fault::CutOff(machine) => {
                for other in (1..=self.machines).filter(|other| *other != machine) {
                    self.cut.insert((machine, other));
                    self.cut.insert((other, machine));
                }
            }
            Fault::SlowDisk(controller) => {
                self.slow_disk = Some(controller);
            }
            Fault::Lossy => self.loss = 40,
            Fault::ClockStep(controller) => self.step_clock(controller),
        }
        self.plan_repair(fault, lasts);
    }

    /// Ends a fault.
    pub(crate) fn repair(&mut self, fault: Fault) {
        match fault {
            Fault::Crash(machine) => self.start_machine(machine),
            Fault::PowerCut => (1..=self.machines).for_each(|machine| self.start_machine(machine)),
            Fault::Kill(controller) => self.start_controller(controller),
            Fault::Part(_) | Fault::CutOff(_) => self.cut.clear(),
            Fault::SlowDisk(_) => self.slow_disk = None,
            Fault::Lossy => self.loss = 1,
            Fault::ClockStep(_) => {}
        }
    }
}
