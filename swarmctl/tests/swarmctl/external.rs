//! Networks and volumes that belong to no stack, and what a deploy says of services that the file no longer has.

use expect_test::expect;
use swarm_proto::object::{Leaving, Network, Volume};
use swarm_proto::spec::{MountSource, NetworkAttachmentSpec, NetworkSpec, VolumeSpec};
use swarm_proto::wire;
use swarmctl::state::State;

use crate::fake::Fake;
use crate::objects::state;

/// A state in which a service of a stack uses a network and a volume that belong to none.
fn with_shared() -> State {
    let mut state = state();
    let network = state.networks.values().next().unwrap().clone();
    let name = "front".to_owned();
    let front = Network {
        id: swarm_proto::id::NetworkId(77),
        stack: String::new(),
        key: name.clone(),
        name: name.clone(),
        spec: NetworkSpec { name: Some(name.clone()), ..NetworkSpec::default() },
        gateways: Vec::new(),
        ..network
    };
    state.networks.insert(front.id, front);
    let shared = Volume {
        id: swarm_proto::id::VolumeId(78),
        stack: String::new(),
        key: "common".to_owned(),
        name: "common".to_owned(),
        spec: VolumeSpec::default(),
        holdings: std::collections::BTreeMap::new(),
        removing: false,
    };
    state.volumes.insert(shared.id, shared);
    let web = state.services.values_mut().find(|service| service.key == "web").unwrap();
    let external = Some(name);
    web.spec.networks.push(NetworkAttachmentSpec { external, ..NetworkAttachmentSpec::new("f") });
    let external = Some("common".to_owned());
    let source = MountSource::Volume { volume: "c".to_owned(), no_copy: false, external };
    web.spec.container.mounts.push(swarm_proto::spec::Mount {
        target: "/common".to_owned(),
        source,
        read_only: false,
    });
    state
}

#[tokio::test]
async fn networks_and_volumes_are_made_and_removed() {
    let fake = Fake::start(state()).await;
    let mut said = String::new();
    for arguments in [
        &["network", "create", "front"][..],
        &[
            "network",
            "create",
            "-d",
            "overlay",
            "--subnet",
            "10.5.0.0/24",
            "--internal",
            "--label",
            "a=b",
            "--attachable",
            "back",
        ],
        &["network", "rm", "front", "back"],
        &["volume", "create", "-d", "local", "--label", "a=b", "common"],
        &["volume", "rm", "common"],
    ] {
        said += &fake.run(arguments).await.transcript();
    }
    expect![[r#"
        ---
        network `front` is created
        ---
        exit code 0
        ---
        warning: `--attachable` has no effect: only services join networks
        network `back` is created
        ---
        exit code 0
        ---
        network `front` is removed
        network `back` is removed
        ---
        exit code 0
        ---
        volume `common` is created
        ---
        exit code 0
        ---
        volume `common` is removed
        ---
        exit code 0
    "#]]
    .assert_eq(&said);
    expect![[r#"
        create network front None false {}
        create network back Some((168099840, 24)) true {"a": "b"}
        remove network front
        remove network back
        create volume common {"a": "b"}
        remove volume common false"#]]
    .assert_eq(&fake.script.seen.lock().unwrap().join("\n"));
}

#[tokio::test]
async fn what_cannot_be_honoured_is_refused_with_the_reason() {
    let fake = Fake::start(state()).await;
    let mut said = String::new();
    for arguments in [
        &["network", "create", "-d", "bridge", "front"][..],
        &["network", "create", "--gateway", "10.5.0.9", "front"],
        &["network", "create", "--opt", "encrypted", "front"],
        &["network", "create", "--ipv6", "front"],
        &["network", "create", "--subnet", "10.5.0.1/24", "front"],
        &["volume", "create", "-d", "nfs", "common"],
        &["volume", "create", "-o", "type=nfs", "common"],
        &["volume", "create", "--sharing", "all", "common"],
    ] {
        said += &fake.run(arguments).await.transcript();
    }
    expect![[r#"
        ---
        error: driver `bridge` cannot be honoured: a network reaches over all hosts

        hint: leave `--driver` out: it is `overlay`
        ---
        exit code 1
        ---
        error: `--gateway` cannot be honoured: the controllers hand out all addresses of a network

        hint: leave it out
        ---
        exit code 1
        ---
        error: `--opt` cannot be honoured: it is not supported yet

        hint: leave it out
        ---
        exit code 1
        ---
        error: `--ipv6` cannot be honoured: it is not supported yet

        hint: leave it out
        ---
        exit code 1
        ---
        error: invalid value '10.5.0.1/24' for '--subnet <SUBNET>': it begins with `10.5.0.0`

        For more information, try '--help'.
        ---
        exit code 2
        ---
        error: driver `nfs` cannot be honoured: a volume lies on the host that first used it

        hint: leave `--driver` out: it is `local`
        ---
        exit code 1
        ---
        error: `--opt` cannot be honoured: options of drivers are not supported yet

        hint: leave it out
        ---
        exit code 1
        ---
        error: `--sharing` cannot be honoured: volumes that move between hosts are not supported yet

        hint: leave it out
        ---
        exit code 1
    "#]]
    .assert_eq(&said);
    assert_eq!(fake.script.seen.lock().unwrap().len(), 0, "nothing was asked for");
}

#[tokio::test]
async fn what_belongs_to_no_stack_is_listed_like_what_does() {
    let fake = Fake::start(with_shared()).await;
    let mut said = String::new();
    for arguments in [
        &["network", "ls"][..],
        &["volume", "ls"],
        &["network", "inspect", "front"],
        &["volume", "inspect", "common"],
    ] {
        said += &fake.run(arguments).await.transcript();
    }
    expect![[r#"
        NAME              STACK     SUBNET        SERVICES
        counter_default   counter   10.0.1.0/24   counter_redis,counter_web
        front                       10.0.1.0/24   counter_web
        ---
        ---
        exit code 0
        NAME           STACK     NODES   USED BY
        common                           counter_web
        counter_data   counter   n1      counter_web
        ---
        ---
        exit code 0
        id: 77
        name: front
        stack: null
        key: null
        vni: 1048577
        subnet: 10.0.1.0/24
        internal: false
        labels: {}
        services:
        - counter_web
        gateways: {}
        removing: false
        ---
        ---
        exit code 0
        id: 78
        name: common
        stack: null
        key: null
        labels: {}
        nodes: []
        used_by:
        - counter_web
        removing: false
        ---
        ---
        exit code 0
    "#]]
    .assert_eq(&said);
}

#[tokio::test]
async fn a_deploy_says_which_services_stay_and_which_go_later() {
    let fake = Fake::start(state()).await;
    *fake.script.deploy.lock().unwrap() = wire::DeployResponse {
        revision: 2,
        changed: true,
        warnings: Vec::new(),
        changes: vec!["service db goes once the others run".to_owned()],
        kept: vec!["cache".to_owned()],
        leaving: vec!["db".to_owned()],
    };
    let said = fake.run(&["deploy", "-f", "stack.yml", "--detach", "-o", "json"]).await;
    expect![[r#"
        {
          "stack": "counter",
          "revision": 2,
          "changed": true,
          "changes": [
            "service db goes once the others run"
          ],
          "warnings": [],
          "kept": [
            "counter_cache"
          ],
          "leaving": [
            "counter_db"
          ],
          "converged": false
        }
        ---
        service db goes once the others run
        `counter_cache` is no longer in the file: it stays, unless deployed with `--prune`
        ---
        exit code 0
    "#]]
    .assert_eq(&said.transcript());
}

#[tokio::test]
async fn a_deploy_waits_until_what_leaves_is_gone() {
    let mut waiting = state();
    let stack = waiting.stacks.get_mut("counter").unwrap();
    stack.revision = 2;
    let services = ["web".to_owned()].into();
    stack.leaving = Leaving { services, ..Leaving::default() };
    let fake = Fake::start(waiting).await;
    let said = fake.run(&["deploy", "-f", "stack.yml", "--timeout", "300ms"]).await;
    expect![[r#"
        ---
        service web created
        redis: 1 of 1 running
        web: goes once the others run
        error: stack `counter` has not converged after 300ms
          web: goes once the others run
            counter_web.3: pending: no suitable node: constraint `node.labels.zone!=c` on 1 node

        hint: the deploy goes on; see `swarmctl stack ps counter`
        ---
        exit code 3
    "#]]
    .assert_eq(&said.transcript());
    let said = fake.run(&["stack", "ls", "-o", "json"]).await;
    assert!(said.data.contains("\"leaving\": [\n      \"counter_web\""), "{}", said.data);
}

#[tokio::test]
async fn stack_config_prints_files_and_knows_no_objects() {
    let fake = Fake::start(state()).await;
    let said = fake.run(&["stack", "config", "create", "page", "stack.yml"]).await;
    expect![[r#"
        ---
        error: unexpected argument 'create' found

        Usage: swarmctl stack config [OPTIONS]

        For more information, try '--help'.
        ---
        exit code 2
    "#]]
    .assert_eq(&said.transcript());
    let said = fake.run(&["stack", "config", "-f", "stack.yml", "--services"]).await;
    assert_eq!((said.code, said.talk.as_str()), (Some(0), ""), "{}", said.data);
}
