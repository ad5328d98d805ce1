//! Every domain type survives its message, encoded and decoded; what no domain type can hold is refused by field.

use std::fmt::Debug;

use proptest::prelude::*;
use prost::Message;

use super::ConvertError;
use crate::assignment::{AssignmentDiff, AssignmentSet, NetworkChange, VolumeReport};
use crate::entry::Action;
use crate::id::{TaskId, Timestamp};
use crate::object::{
    Cluster, NamedContent, Network, Node, RegistryLogin, RegistryName, ScalingReport, Secret,
    Service, Stack, Task, TaskStatus, TaskUsage, Volume,
};
use crate::spec::{ContentBytes, ContentKind};
use crate::{object, strategies, wire};

fn travel<D, W>(value: &D) -> D
where
    W: for<'a> From<&'a D> + Message + Default,
    D: TryFrom<W, Error = ConvertError> + Debug,
{
    let bytes = W::from(value).encode_to_vec();
    let message = W::decode(bytes.as_slice()).expect("decode");
    D::try_from(message).expect("convert")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn cluster(value in strategies::cluster()) {
        prop_assert_eq!(travel::<Cluster, wire::Cluster>(&value), value);
    }

    #[test]
    fn stack(value in strategies::stack()) {
        prop_assert_eq!(travel::<Stack, wire::Stack>(&value), value);
    }

    #[test]
    fn service(value in strategies::service()) {
        prop_assert_eq!(travel::<Service, wire::Service>(&value), value);
    }

    #[test]
    fn scaling_report(value in strategies::autoscale::scaling_report()) {
        prop_assert_eq!(travel::<ScalingReport, wire::ScalingReport>(&value), value);
    }

    #[test]
    fn task_usage(
        task in strategies::task_id(),
        usage in strategies::autoscale::task_usage(),
    ) {
        let message = wire::TaskUsage::from((&task, &usage));
        prop_assert_eq!(<(TaskId, TaskUsage)>::try_from(message), Ok((task, usage)));
    }

    #[test]
    fn network(value in strategies::network()) {
        prop_assert_eq!(travel::<Network, wire::Network>(&value), value);
    }

    #[test]
    fn volume(value in strategies::volume()) {
        prop_assert_eq!(travel::<Volume, wire::Volume>(&value), value);
    }

    #[test]
    fn named_content(value in strategies::named_content()) {
        prop_assert_eq!(travel::<NamedContent, wire::NamedContent>(&value), value);
    }

    #[test]
    fn what_leaves_a_stack(stack in ".{0,8}", leaving in strategies::leaving()) {
        let action = Action::SetStackLeaving { stack, leaving };
        let back = Action::try_from(wire::Action::from(&action));
        prop_assert_eq!(back.as_ref(), Ok(&action));
    }

    #[test]
    fn actions_about_updates(update in strategies::update_status(), task in strategies::task_id()) {
        let service = task.service;
        let update = Box::new(update);
        for action in [Action::SetUpdate { service, update }, Action::CountUpdateFailure(task)] {
            prop_assert_eq!(travel::<Action, wire::Action>(&action), action);
        }
    }

    #[test]
    fn actions_about_contents(
        content in strategies::content_id(),
        data in any::<Vec<u8>>(),
        (size, part) in any::<(u64, u32)>(),
        named in strategies::named_content(),
    ) {
        let removed = Action::RemoveNamedContent { kind: ContentKind::Config, name: "n".into() };
        let data = ContentBytes::new(data);
        for action in [
            Action::KeepContents(vec![content.clone()]),
            Action::RemoveContent(content.clone()),
            Action::AddNamedContent(Box::new(named)),
            Action::AddContentPart { content, size, part, data },
            removed,
        ] {
            prop_assert_eq!(travel::<Action, wire::Action>(&action), action);
        }
    }

    #[test]
    fn actions_about_registries(
        host in "[a-z]{1,8}(:[1-9][0-9]{0,3})?",
        user in ".{0,8}",
        password in ".{0,8}",
        at in any::<u64>(),
    ) {
        let registry: RegistryName = host.parse().unwrap();
        let login = RegistryLogin {
            updated_at: Timestamp(at),
            ..RegistryLogin::new(registry.clone(), user, Secret::new(password))
        };
        for action in [
            Action::SetRegistryLogin(Box::new(login)),
            Action::RemoveRegistryLogin(registry),
        ] {
            prop_assert_eq!(travel::<Action, wire::Action>(&action), action);
        }
    }

    #[test]
    fn actions_about_runs(action in strategies::run_action()) {
        prop_assert_eq!(travel::<Action, wire::Action>(&action), action);
    }

    #[test]
    fn node(value in strategies::node()) {
        prop_assert_eq!(travel::<Node, wire::Node>(&value), value);
    }

    #[test]
    fn task(value in strategies::task()) {
        prop_assert_eq!(travel::<Task, wire::Task>(&value), value);
    }

    #[test]
    fn task_status_report(task in strategies::task_id(), status in strategies::task_status()) {
        let message = wire::TaskStatusReport::from((&task, &status));
        prop_assert_eq!(<(TaskId, TaskStatus)>::try_from(message), Ok((task, status)));
    }

    #[test]
    fn volume_report(value in strategies::volume_report()) {
        prop_assert_eq!(travel::<VolumeReport, wire::VolumeReport>(&value), value);
    }

    #[test]
    fn assignments(old in strategies::assignment_set(), new in strategies::assignment_set()) {
        prop_assert_eq!(&travel::<AssignmentSet, wire::AssignmentSet>(&old), &old);
        let diff = AssignmentSet::diff(&old, &new);
        prop_assert_eq!(travel::<AssignmentDiff, wire::AssignmentDiff>(&diff), diff);
    }

    #[test]
    fn network_change((old, new) in strategies::network_pair()) {
        let change = NetworkChange::between(&old, &new).unwrap();
        prop_assert_eq!(travel::<NetworkChange, wire::NetworkChange>(&change), change);
    }
}

fn some_node() -> object::Node {
    object::Node {
        id: crate::id::NodeId(1),
        role: object::Role::Agent,
        availability: object::Availability::Active,
        labels: std::collections::BTreeMap::new(),
        status: object::NodeStatus::Ready,
        status_since: crate::id::Timestamp(0),
        description: object::NodeDescription::default(),
        raft_id: None,
        controller_address: None,
        joined_at: crate::id::Timestamp(0),
        declared_lost: false,
        recent_downs: Vec::new(),
    }
}

fn refusal(change: impl FnOnce(&mut wire::Node)) -> String {
    let mut message = wire::Node::from(&some_node());
    change(&mut message);
    Node::try_from(message).expect_err("must be refused").to_string()
}

#[test]
fn a_refusal_names_the_field_and_the_reason() {
    assert_eq!(refusal(|node| node.role = 0), "Node.role: is not set");
    assert_eq!(refusal(|node| node.role = 99), "Node.role: has the unknown value 99");
    assert_eq!(refusal(|node| node.description = None), "Node.description: is missing");
    assert_eq!(
        refusal(|node| node.description.as_mut().unwrap().agent_port = 70_000),
        "Node.description.agent_port: 70000 is not a port, 0 to 65535"
    );
    let listener = wire::Listener { protocol: 1, address: 0, port: 65_536, owner: String::new() };
    assert_eq!(
        refusal(|node| node.description.as_mut().unwrap().listeners.push(listener)),
        "Node.description.listeners[0].port: 65536 is not a port, 0 to 65535"
    );
    let prefix = wire::Prefix { address: 0, length: 33 };
    assert_eq!(
        refusal(|node| node.description.as_mut().unwrap().routed_prefixes.push(prefix)),
        "Node.description.routed_prefixes: 33 is not a prefix length, 0 to 32"
    );
}

#[test]
fn a_link_address_has_48_bits() {
    let message = wire::Attachment { network: 1, address: 0, mac: 1 << 48 };
    let error = object::Attachment::try_from(message).expect_err("49 bits");
    assert_eq!(error.to_string(), "Attachment.mac: 0x1000000000000 is not a link address");
}

#[test]
fn a_set_holds_each_identity_once() {
    let volume = wire::VolumeAssignment { id: 3, name: "a".into(), remove: false };
    let message =
        wire::AssignmentSet { volumes: vec![volume.clone(), volume], ..Default::default() };
    let error = AssignmentSet::try_from(message).expect_err("twice the same");
    assert_eq!(error.to_string(), "AssignmentSet.volumes: holds one identity twice");
}

#[test]
fn debug_output_hides_the_secrets_of_messages() {
    let mut cluster = wire::Cluster::default();
    cluster.id = "c1".into();
    for secret in [&mut cluster.ca_key, &mut cluster.controller_token, &mut cluster.agent_token] {
        *secret = "hidden".into();
    }
    let mut join = wire::JoinClusterRequest::default();
    join.token = "hidden".into();
    let mut part = wire::AddContentPart::default();
    part.data = b"hidden".to_vec();
    let action = Action::AddContentPart {
        content: crate::spec::ContentId::of(ContentKind::Secret, b"hidden"),
        size: 6,
        part: 0,
        data: b"hidden".to_vec().into(),
    };
    let mut forwarded = wire::ForwardRequest::default();
    forwarded.request = b"hidden".to_vec();
    let mut stored = wire::StoredContent::default();
    stored.parts = vec![b"hidden".to_vec()];
    let mut sent = wire::Content::default();
    sent.data = b"hidden".to_vec();
    let numbers = format!("{:?}", b"hidden").replace(['[', ']'], "");
    let contents = format!("{part:?} {action:?} {forwarded:?} {stored:?} {sent:?}");
    assert!(!contents.contains(&numbers), "{contents}");
    let shown = format!("{cluster:?} {join:?} {contents}");
    assert!(shown.contains("c1") && !shown.contains("hidden"), "{shown}");
}
