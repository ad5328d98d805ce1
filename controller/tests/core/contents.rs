//! Secrets and configs: how they come, who keeps them, and when they go.

use std::collections::BTreeMap;
use std::time::Duration;

use swarm_controller::core::rules::{Observed, content};
use swarm_controller::core::state::State;
use swarm_controller::core::{Command, CommandDone, Core, Input, Output, RefusalKind, ToAgent};
use swarm_proto::entry::Action;
use swarm_proto::id::NodeId;
use swarm_proto::object::TaskState;
use swarm_proto::spec::{ContentBytes, ContentId, ContentKind, ContentSpec, FileMount, StackSpec};

use crate::contract::{drive, hello, leader};
use crate::history::History;
use crate::spec;

const HOUR: Duration = Duration::from_hours(1);

fn bytes(text: &str) -> (ContentId, ContentBytes) {
    let id = ContentId::of(ContentKind::Secret, text.as_bytes());
    (id, ContentBytes::new(text.as_bytes().to_vec()))
}

fn parts(id: &ContentId, bytes: &ContentBytes) -> Vec<Command> {
    let part = |(part, data): (u32, ContentBytes)| Command::AddContentPart {
        content: id.clone(),
        size: bytes.size(),
        part,
        data,
    };
    (0..).zip(bytes.parts()).map(part).collect()
}

/// A stack whose one service is given the secret `key`.
fn stack(secret: ContentSpec) -> StackSpec {
    let mut spec = spec::stack("shop", &["web:replicas=1"]);
    spec.secrets.insert("key".to_owned(), secret);
    let file = FileMount {
        kind: ContentKind::Secret,
        source: "key".to_owned(),
        digest: None,
        target: "/run/secrets/key".to_owned(),
        uid: 0,
        gid: 0,
        mode: FileMount::MODE,
    };
    spec.services.get_mut("web").unwrap().container.files.push(file);
    spec
}

fn own(id: &ContentId) -> ContentSpec {
    ContentSpec { digest: Some(id.digest.clone()), ..ContentSpec::default() }
}

fn external() -> ContentSpec {
    ContentSpec { name: Some("token".to_owned()), external: true, ..ContentSpec::default() }
}

fn deploy(spec: StackSpec) -> Command {
    Command::Deploy { spec, prune: true, warnings: Vec::new() }
}

fn create(id: &ContentId) -> Command {
    let (content, name) = (id.clone(), "token".to_owned());
    Command::CreateNamedContent { content, name, labels: BTreeMap::new() }
}

fn remove() -> Command {
    Command::RemoveNamedContent { kind: ContentKind::Secret, name: "token".to_owned() }
}

impl History {
    fn add(&mut self, text: &str) -> ContentId {
        let (id, bytes) = bytes(text);
        for part in parts(&id, &bytes) {
            self.ask(&part).unwrap();
        }
        id
    }

    /// Settles, and looks that a snapshot says the same.
    fn settle_and_restore(&mut self) {
        self.settle();
        let again = State::from_bytes(&self.state.to_bytes()).unwrap();
        assert_eq!(again.contents, self.state.contents);
        assert_eq!(again.named_contents, self.state.named_contents);
        assert_eq!(again.index.content_uses, self.state.index.content_uses);
        assert_eq!(again.index.unused_contents, self.state.index.unused_contents);
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.settle_and_restore();
    }
}

#[test]
fn bytes_come_in_parts_and_are_what_their_digest_says() {
    let mut history = History::new();
    let large = "x".repeat(500_000);
    let (id, whole) = bytes(&large);
    let commands = parts(&id, &whole);
    assert_eq!(commands.len(), 2);
    let refused = history.ask(&commands[1]).unwrap_err();
    assert_eq!(refused.kind, RefusalKind::Conflict, "{refused}");
    history.ask(&commands[0]).unwrap();
    // Part 0 again, after a broken try, changes nothing.
    let version = history.state.version;
    history.ask(&commands[0]).unwrap();
    assert_eq!(history.state.version, version);
    let announce = Command::AnnounceContents { contents: vec![id.clone()] };
    assert_eq!(history.ask(&announce), Ok(CommandDone::Missing(vec![id.clone()])));

    let size = whole.size();
    let data = ContentBytes::new(vec![b'y'; 500_000 - (256 << 10)]);
    let wrong = Command::AddContentPart { content: id.clone(), size, part: 1, data };
    let refused = history.ask(&wrong).unwrap_err();
    assert_eq!(refused.message, "the bytes of a secret are not those of its digest");
    history.ask(&commands[1]).unwrap();
    assert_eq!(history.state.contents[&id].bytes(), Some(whole));
    assert_eq!(history.ask(&announce), Ok(CommandDone::Missing(Vec::new())));

    let size = 512_001;
    let data = ContentBytes::new(vec![0; 256 << 10]);
    let refused = history.ask(&Command::AddContentPart { content: id, size, part: 0, data });
    assert_eq!(refused.unwrap_err().message, "a secret of 512001 bytes is too large");
}

#[test]
fn another_content_is_another_spec() {
    let mut history = History::new();
    let (first, second) = (history.add("one"), history.add("two"));
    let none = bytes("none").0;
    let refused = history.ask(&deploy(stack(own(&none)))).unwrap_err();
    assert_eq!(refused.message, "the bytes of secret `shop_key` are not in the cluster");
    history.ask(&deploy(stack(own(&first)))).unwrap();
    let service = history.state.services.values().next().unwrap();
    assert_eq!(service.spec.container.files[0].content(), Some(first.clone()));
    assert_eq!(service.spec_version, 1);
    let again = history.ask(&deploy(stack(own(&first)))).unwrap();
    assert!(matches!(again, CommandDone::Deployed { changed: false, .. }));
    let CommandDone::Deployed { changes, .. } = history.ask(&deploy(stack(own(&second)))).unwrap()
    else {
        panic!("a deploy");
    };
    assert_eq!(changes, ["secret key updated", "service web updated"]);
    assert_eq!(history.state.services.values().next().unwrap().spec_version, 2);
    let mut undeclared = stack(own(&first));
    undeclared.secrets.clear();
    let refused = history.ask(&deploy(undeclared)).unwrap_err();
    let expected = "service `web` uses secret `key`, which the stack does not define";
    assert_eq!(refused.message, expected);
}

#[test]
fn what_is_in_use_stays() {
    let mut history = History::new();
    let refused = history.ask(&deploy(stack(external()))).unwrap_err();
    assert_eq!(refused.message, "there is no secret `token`, which the stack calls external");
    let first = history.add("one");
    history.ask(&create(&first)).unwrap();
    let refused = history.ask(&create(&first)).unwrap_err();
    assert_eq!(refused.message, "secret `token` exists already");
    history.ask(&deploy(stack(external()))).unwrap();
    history.settle_and_restore();
    let refused = history.ask(&remove()).unwrap_err();
    assert_eq!(refused.message, "secret `token` is in use by service `shop_web`");
    history.wait(HOUR * 3);
    assert!(history.state.contents.contains_key(&first));
    assert!(
        !history.write(vec![Action::RemoveContent(first.clone())]),
        "not while it is referred to"
    );

    history.ask(&Command::RemoveStack { stack: "shop".to_owned() }).unwrap();
    history.settle_and_restore();
    assert!(history.state.services.is_empty());
    history.wait(HOUR * 3);
    assert!(history.state.contents.contains_key(&first), "its name keeps it");
    history.ask(&remove()).unwrap();
    history.wait(HOUR / 2);
    assert!(history.state.contents.contains_key(&first));
    // Announced anew, it is kept for an hour from then.
    let announce = Command::AnnounceContents { contents: vec![first.clone()] };
    history.ask(&announce).unwrap();
    history.wait(HOUR * 3 / 4);
    assert!(history.state.contents.contains_key(&first));
    history.wait(HOUR / 2);
    assert!(history.state.contents.is_empty());
}

#[test]
fn an_old_task_keeps_its_version() {
    let mut history = History::new();
    let (first, second) = (history.add("one"), history.add("two"));
    history.ask(&deploy(stack(own(&first)))).unwrap();
    history.settle_and_restore();
    // The task waits for a node: it is replaced at once when the spec changes.
    let old = history.state.tasks.values().next().unwrap().id;
    history.ask(&deploy(stack(own(&second)))).unwrap();
    assert_eq!(
        history.state.index.content_uses.get(&first),
        Some(&2),
        "the task's, and a rollback's"
    );
    assert_eq!(history.state.index.content_uses.get(&second), Some(&1), "the service's");
    history.settle_and_restore();
    assert!(history.state.tasks[&old].status.state.is_terminal());
    history.wait(HOUR * 3);
    assert_eq!(history.state.index.content_uses.get(&first), Some(&1), "a dead task needs nothing");
    assert!(history.state.contents.contains_key(&first), "a rollback would need it");
    history.ask(&Command::RemoveStack { stack: "shop".to_owned() }).unwrap();
    history.settle_and_restore();
    let plan = content::plan(&history.state, &Observed::default(), history.now);
    assert_eq!(plan.wake_at, Some(history.now.after(HOUR)));
    history.wait(HOUR);
    assert!(history.state.contents.is_empty());
}

fn sent(outputs: &[Output]) -> Vec<Vec<ContentId>> {
    let contents = outputs.iter().filter_map(|output| match output {
        Output::SessionSend { message: ToAgent::Assignments { contents, .. }, .. } => {
            Some(contents.iter().map(|(id, _)| id.clone()).collect())
        }
        _ => None,
    });
    contents.collect()
}

fn ask(core: &mut Core, name: &str, command: Command) -> Vec<Output> {
    drive(core, Input::Command { token: 1, request_id: name.to_owned(), command })
}

#[test]
fn an_agent_gets_contents_with_its_tasks_once_in_each_session() {
    let mut core = leader();
    drive(&mut core, Input::SessionOpened { session: 1, node: NodeId(1) });
    drive(&mut core, Input::SessionMessage { session: 1, message: hello() });
    drive(&mut core, Input::Tick);
    let (id, whole) = bytes("one");
    for part in parts(&id, &whole) {
        assert!(sent(&ask(&mut core, "part", part)).concat().is_empty(), "no task needs it");
    }
    let mut outputs = ask(&mut core, "deploy", deploy(stack(own(&id))));
    outputs.extend(drive(&mut core, Input::Tick));
    assert_eq!(sent(&outputs).concat(), std::slice::from_ref(&id), "{:?}", core.state().tasks);
    let scale = Command::Scale { service: "shop_web".to_owned(), replicas: 3 };
    let mut outputs = ask(&mut core, "scale", scale);
    outputs.extend(drive(&mut core, Input::Tick));
    assert!(!sent(&outputs).is_empty() && sent(&outputs).concat().is_empty());

    drive(&mut core, Input::SessionOpened { session: 2, node: NodeId(1) });
    let mut outputs = drive(&mut core, Input::SessionMessage { session: 2, message: hello() });
    outputs.extend(drive(&mut core, Input::Tick));
    assert_eq!(sent(&outputs), [[id]]);
}

#[test]
fn an_agent_may_have_forgotten_what_a_task_to_be_removed_needed() {
    let mut core = leader();
    drive(&mut core, Input::SessionOpened { session: 1, node: NodeId(1) });
    drive(&mut core, Input::SessionMessage { session: 1, message: hello() });
    let (id, whole) = bytes("one");
    for part in parts(&id, &whole) {
        ask(&mut core, "part", part);
    }
    ask(&mut core, "deploy", deploy(stack(own(&id))));
    drive(&mut core, Input::Tick);
    let mut other = stack(own(&id));
    other.services = other.services.into_values().map(|web| ("api".to_owned(), web)).collect();
    ask(&mut core, "none", deploy(spec::stack("shop", &["idle:replicas=0"])));
    drive(&mut core, Input::Tick);
    let desired: Vec<_> = core.state().tasks.values().map(|task| task.desired).collect();
    assert_eq!(desired, [TaskState::Remove], "the agent has not said that it is gone");
    let mut outputs = ask(&mut core, "another", deploy(other));
    outputs.extend(drive(&mut core, Input::Tick));
    assert_eq!(sent(&outputs).concat(), [id], "{:?}", core.state().tasks);
}
