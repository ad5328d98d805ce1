//! Clients: each asks for one thing at a time, and asks again until it is answered.

use std::collections::BTreeMap;

use swarm_controller::core::{Command, CommandDone, Input, Refusal, RefusalKind, State};
use swarm_proto::object::{Service, Stack, UpdateState};
use swarm_proto::spec::StackSpec;

use crate::stack;
use crate::violation::{demand, violated};
use crate::world::{Happening, World};

/// Milliseconds without an answer after which a client asks again.
const PATIENCE: u64 = 2_000;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// Deploys one stack again and again, each time with a higher number.
    Deployer(usize),
    /// Writes and reads registers.
    Writer(usize),
    /// Deploys a stack and removes it again.
    Tenant,
    /// Makes and removes networks and volumes that belong to no stack.
    Owner,
    /// Sees to nodes.
    Operator,
}

/// A command that is not answered yet.
pub(crate) struct Call {
    request_id: String,
    command: Command,
    /// When to ask, or to ask again.
    ask_at: u64,
}

/// What a client hears.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Done(CommandDone),
    Refused(Refusal),
    /// What a register holds.
    Read(Option<u64>),
    NotRead,
}

/// What a deployer was promised.
#[derive(Clone)]
pub(crate) struct Deployer {
    stack: String,
    /// The number in the deploy that is tried now.
    tried: u64,
    /// The highest number that was acknowledged.
    acknowledged: u64,
    /// The highest revision that was acknowledged.
    revision: u64,
    /// What to deploy now that its config is in the cluster.
    ready: Option<StackSpec>,
}

impl Deployer {
    pub(crate) fn new(number: usize) -> Self {
        Self {
            stack: format!("stack{number}"),
            tried: 0,
            acknowledged: 0,
            revision: 0,
            ready: None,
        }
    }

    fn done(&mut self, done: &CommandDone) {
        let CommandDone::Deployed { revision, .. } = done else { return };
        self.acknowledged = self.tried;
        demand(*revision <= self.tried, "a deploy is applied once", || {
            format!("{} has revision {revision} after {} deploys", self.stack, self.tried)
        });
        demand(*revision > self.revision, "revisions rise", || {
            format!("{} has revision {revision} after {}", self.stack, self.revision)
        });
        self.revision = *revision;
    }

    /// What was promised holds again, but not what it tried since, which may be there or not.
    pub(crate) fn begin_anew(&mut self, promised: Self) {
        *self = Self { tried: self.tried, ready: None, ..promised };
    }

    /// What was acknowledged is there, or something that this client tried later.
    pub(crate) fn check(&self, state: &State) {
        if self.acknowledged == 0 {
            return;
        }
        let stack = state.stacks.get(&self.stack);
        let service = stack.and_then(|stack| stack.spec.services.get("web"));
        let number = service.and_then(|service| service.labels.get("number")?.parse().ok());
        let range = self.acknowledged..=self.tried;
        demand(
            number.is_some_and(|number: u64| range.contains(&number)),
            "an acknowledged write is never lost",
            || {
                let (stack, acknowledged) = (&self.stack, self.acknowledged);
                format!("{stack} holds deploy {number:?}, acknowledged was {acknowledged}")
            },
        );
    }
}

impl World {
    /// A client has its turn.
    pub(crate) fn turn(&mut self, who: Who) {
        if self.calls.contains_key(&who) {
            self.pursue(who);
        } else {
            match who {
                Who::Deployer(number) => self.deploy(number),
                Who::Writer(_) => {}
                Who::Tenant => self.come_or_go(),
                Who::Owner => self.share(),
                Who::Operator => self.see_to_nodes(),
            }
        }
        if let Who::Writer(number) = who {
            self.write_or_read(number);
        }
        let slowest = match who {
            Who::Writer(_) => 300,
            Who::Operator => 1_500,
            Who::Deployer(_) | Who::Tenant | Who::Owner => 2_500,
        };
        let pause = self.random.between(50, slowest);
        self.at(pause, Happening::Turn(who));
    }

    /// Begins to ask for something.
    pub(crate) fn call(&mut self, who: Who, command: Command) {
        self.next_request += 1;
        let request_id = format!("r{}", self.next_request);
        self.calls.insert(who, Call { request_id, command, ask_at: self.now });
        self.pursue(who);
    }

    pub(crate) fn pursue(&mut self, who: Who) {
        let (now, after) = (self.now, self.random.between(PATIENCE / 2, PATIENCE * 2));
        let Some(call) = self.calls.get_mut(&who).filter(|call| call.ask_at <= now) else { return };
        call.ask_at = now + after;
        let (request_id, command) = (call.request_id.clone(), call.command.clone());
        let Some(controller) = self.ask_whom() else { return };
        let token = self.token();
        let run = self.controllers[&controller].run;
        self.tokens.insert(token, (who, request_id.clone()));
        let delay = self.random.between(1, 20);
        let input = Input::Command { token, request_id, command };
        self.at(delay, Happening::Ask { controller, run, input });
    }

    /// An answer leaves a controller; perhaps it is lost on the way.
    pub(crate) fn answer(&mut self, token: u64, answer: Answer) {
        let lost = self.random.chance(self.network.loss / 2);
        if !lost {
            let delay = self.random.between(1, 20);
            self.at(delay, Happening::Answer { token, answer });
        }
    }

    pub(crate) fn hear_answer(&mut self, token: u64, answer: Answer) {
        let Some((who, request_id)) = self.tokens.remove(&token) else {
            return self.hear_read(token, &answer);
        };
        let now = self.now;
        let Some(call) = self.calls.get_mut(&who).filter(|call| call.request_id == request_id)
        else {
            return;
        };
        match answer {
            Answer::Done(done) => {
                self.calls.remove(&who);
                self.acknowledged += 1;
                self.done(who, &done);
            }
            Answer::Refused(Refusal {
                kind: RefusalKind::Unavailable | RefusalKind::Full, ..
            }) => {
                call.ask_at = now + 60;
            }
            Answer::Refused(refusal) => {
                self.calls.remove(&who);
                self.refused(who, &refusal);
            }
            Answer::Read(_) | Answer::NotRead => {}
        }
    }

    fn done(&mut self, who: Who, done: &CommandDone) {
        match who {
            Who::Deployer(number) => self.deployers[number].done(done),
            Who::Writer(number) => self.written(number),
            Who::Tenant => {
                self.did("deploy and remove");
                self.tenant_is_here = !self.tenant_is_here;
            }
            Who::Owner => self.did("make or remove shared"),
            Who::Operator => self.operated(done),
        }
    }

    fn refused(&mut self, who: Who, refusal: &Refusal) {
        match who {
            Who::Tenant | Who::Deployer(_) if refusal.message.contains("not in the cluster") => {
                violated("an acknowledged content stays for its deploy", &refusal.message);
            }
            // What has the same name is still being removed, or what is shared is not there.
            Who::Tenant | Who::Deployer(_) if refusal.kind == RefusalKind::Conflict => {}
            Who::Tenant | Who::Deployer(_) if refusal.message.contains("calls external") => {
                self.did("deploy without what is shared");
            }
            Who::Owner if refusal.message.contains("in use by") => self.did("keep shared"),
            Who::Owner if refusal.kind != RefusalKind::Invalid => {}
            Who::Operator => self.operation_refused(),
            Who::Tenant | Who::Deployer(_) | Who::Writer(_) | Who::Owner => {
                violated("a sound command is not refused", format!("{who:?}: {refusal:?}"))
            }
        }
    }

    /// An update that stopped is taken up again, and what fails is replaced.
    fn take_up(&mut self, number: usize) {
        let Some(core) = self.leading_core() else { return };
        let name = self.deployers[number].stack.clone();
        let stack = core.state().stacks.get(&name);
        // One that goes may be gone by then.
        let goes = |service: &Service| {
            let leaves = |stack: &Stack| stack.leaving.services.contains(&service.key);
            service.removing || stack.is_some_and(|stack| leaves(stack))
        };
        let services = core.state().services.values();
        let of_stack = services.filter(|service| service.stack == name && !goes(service));
        let services: Vec<_> = of_stack.map(|service| service.object.clone()).collect();
        if services.iter().any(|service| stack::fails(&service.spec.container)) {
            let deployer = &mut self.deployers[number];
            deployer.tried += 1;
            let spec = stack::make(&name, deployer.tried, 0, &mut self.random);
            let command = Command::Deploy { spec, prune: true, warnings: Vec::new() };
            self.did("repair");
            return self.call(Who::Deployer(number), command);
        }
        let is_paused = |service: &&std::sync::Arc<Service>| {
            service.update.as_ref().is_some_and(|update| update.state.is_paused())
        };
        if let Some(service) = services.iter().find(is_paused).map(|service| service.name()) {
            self.did("resume");
            return self.call(Who::Deployer(number), Command::ResumeService { service });
        }
        let holds = |service: &&std::sync::Arc<Service>| {
            service.update.as_ref().is_some_and(|update| update.state == UpdateState::Held)
        };
        if let Some(service) = services.iter().find(holds).map(|service| service.name()) {
            self.did("promote");
            self.call(Who::Deployer(number), Command::PromoteService { service });
        }
    }

    fn deploy(&mut self, number: usize) {
        if !self.faulty {
            return self.take_up(number);
        }
        let deployer = &mut self.deployers[number];
        if let Some(spec) = deployer.ready.take() {
            let command = Command::Deploy { spec, prune: true, warnings: Vec::new() };
            self.did("deploy");
            return self.call(Who::Deployer(number), command);
        }
        if deployer.acknowledged > 0 && self.random.chance(30) {
            let service = format!("{}_web", deployer.stack);
            let replicas = u32::try_from(self.random.between(0, 7)).unwrap_or(1);
            if self.random.chance(30) {
                let verb = match self.random.between(0, 3) {
                    0 => Command::PauseService { service },
                    1 => Command::ResumeService { service },
                    _ => Command::PromoteService { service },
                };
                self.did("pause, resume or promote");
                return self.call(Who::Deployer(number), verb);
            }
            self.did("scale");
            return self.call(Who::Deployer(number), Command::Scale { service, replicas });
        }
        deployer.tried += 1;
        let mut spec = stack::make(&deployer.stack, deployer.tried, 15, &mut self.random);
        if self.random.chance(40) {
            stack::share(&mut spec, &mut self.random);
        }
        if self.random.chance(50) {
            let data = stack::content(deployer.tried);
            let content = stack::configure(&mut spec, &data);
            deployer.ready = Some(spec);
            let command = Command::AddContentPart { content, size: data.size(), part: 0, data };
            return self.call(Who::Deployer(number), command);
        }
        let prune = self.random.chance(70);
        let command = Command::Deploy { spec, prune, warnings: Vec::new() };
        self.did("deploy");
        self.call(Who::Deployer(number), command);
    }

    fn come_or_go(&mut self) {
        if self.tenant_is_here {
            self.call(Who::Tenant, Command::RemoveStack { stack: "tenant".to_owned() });
        } else if self.faulty {
            let mut spec = stack::make("tenant", 0, 15, &mut self.random);
            stack::share(&mut spec, &mut self.random);
            let command = Command::Deploy { spec, prune: true, warnings: Vec::new() };
            self.call(Who::Tenant, command);
        }
    }

    /// Makes or removes one of the networks and volumes that stacks share.
    fn share(&mut self) {
        if !self.faulty {
            return;
        }
        let (network, volume) =
            (stack::shared_network(&mut self.random), stack::shared_volume(&mut self.random));
        let labels = BTreeMap::new();
        let command = match self.random.between(0, 6) {
            0 | 1 => {
                Command::CreateNetwork { name: network, subnet: None, internal: false, labels }
            }
            2 => Command::RemoveNetwork { network },
            3 | 4 => Command::CreateVolume { name: volume, labels },
            _ => Command::RemoveVolume { volume, force: self.random.chance(50) },
        };
        self.call(Who::Owner, command);
    }

    /// A controller that claims to lead: mostly the one that does.
    pub(crate) fn ask_whom(&mut self) -> Option<u64> {
        let running = self.controllers.iter().filter_map(|(id, c)| Some((*id, c.core.as_ref()?)));
        let mut leaders: BTreeMap<u64, u64> = BTreeMap::new();
        for (id, core) in running {
            let status = core.status();
            if status.leading {
                leaders.insert(status.term, id);
            }
        }
        let claims: Vec<u64> = leaders.values().copied().collect();
        if self.random.chance(20) {
            self.random.one_of(&claims).copied()
        } else {
            claims.last().copied()
        }
    }
}
