//! Networks and volumes that belong to no stack; and services that leave theirs last.

use crate::lab::{Lab, eventually};
use crate::leftovers::{becomes_as_before, look};

const SAY: &str = "
services:
  say:
    image: busybox
    command: sh -c 'echo written by a > /shared/said; hostname > /index.html; httpd -f -p 80 -h /'
    stop_grace_period: 1s
    networks: {front: {aliases: [door]}}
    volumes: ['common:/shared']
networks:
  front: {external: true}
volumes:
  common: {external: true}
";

const ASK: &str = "
services:
  ask:
    image: busybox
    command: httpd -f -p 80
    stop_grace_period: 1s
    networks: [outside]
    volumes: ['kept:/mine']
networks:
  outside: {external: {name: front}}
volumes:
  kept: {external: true, name: common}
";

/// What a command in the only task of `b_ask` prints, once it ends well.
fn asked(lab: &Lab, command: &[&str]) -> String {
    eventually(20, &command.join(" "), || {
        let said = lab.try_run(&[&["exec", "b_ask.1"][..], command].concat());
        (said.code == 0).then_some(said.stdout)
    })
}

fn host_of(lab: &Lab, prefix: &str) -> Option<String> {
    lab.running(prefix).into_iter().next().map(|task| task.node)
}

#[test]
fn stacks_share_a_network_and_a_volume_that_belong_to_none() {
    let lab = Lab::up("external");
    let hosts = ["n1", "n2", "n3"];
    let before: Vec<Vec<String>> = hosts.iter().map(|host| look(&lab, host)).collect();
    let said = lab.try_deploy("a", SAY);
    assert_eq!(said.code, 1, "{said:#?}");
    assert!(
        said.stderr.contains("hint: make it first: `swarmctl network create front`"),
        "{said:#?}"
    );
    lab.run(&["network", "create", "--subnet", "10.99.0.0/24", "--label", "a=b", "front"]);
    let said = lab.try_deploy("a", SAY);
    assert!(
        said.stderr.contains("hint: make it first: `swarmctl volume create common`"),
        "{said:#?}"
    );
    lab.run(&["volume", "create", "common"]);
    lab.deploy("a", SAY);
    lab.deploy("b", ASK);

    // They reach each other by full name, by key and by alias, and each has a virtual address.
    let hostname = asked(&lab, &["wget", "-qO-", "http://a_say/"]);
    for name in ["say", "door", "a_say.1", "tasks.a_say"] {
        assert_eq!(asked(&lab, &["wget", "-qO-", &format!("http://{name}/")]), hostname);
    }
    assert!(lab.run(&["network", "ls"]).contains("a_say,b_ask"), "{}", lab.run(&["network", "ls"]));
    // The second stack's task went where the volume is, and sees what the first one wrote.
    assert_eq!(asked(&lab, &["cat", "/mine/said"]), "written by a\n");
    assert_eq!(host_of(&lab, "a_say"), host_of(&lab, "b_ask"));
    lab.run(&["doctor"]);

    let refused = |command: &[&str], by: &str| {
        let said = lab.try_run(command);
        assert_eq!(said.code, 1, "{said:#?}");
        assert!(said.stderr.contains(&format!("is in use by service `{by}`")), "{said:#?}");
    };
    refused(&["network", "rm", "front"], "a_say");
    refused(&["volume", "rm", "common"], "a_say");
    lab.run(&["stack", "rm", "a"]);
    refused(&["network", "rm", "front"], "b_ask");
    refused(&["volume", "rm", "common"], "b_ask");
    assert_eq!(asked(&lab, &["cat", "/mine/said"]), "written by a\n");
    lab.run(&["stack", "rm", "b"]);
    lab.run(&["network", "rm", "front"]);
    lab.run(&["volume", "rm", "common"]);
    eventually(20, "nothing is listed any more", || {
        let listed = ["network", "volume"].map(|noun| lab.run(&[noun, "ls", "-o", "name"]));
        (listed.concat().is_empty()).then_some(())
    });
    for (host, before) in hosts.iter().zip(&before) {
        becomes_as_before(&lab, host, before);
        let left = "ls /var/lib/swarm/agent/volumes 2>/dev/null; true";
        eventually(20, "no volume is left", || {
            lab.exec(host, &["sh", "-c", left]).is_empty().then_some(())
        });
    }
}

#[test]
fn what_is_pruned_goes_last_whoever_leads() {
    let lab = Lab::up("pruned");
    let service = |name: &str, rest: &str| {
        format!(
            "  {name}: {{image: busybox, command: sleep 100000, stop_grace_period: 0s{rest}}}\n"
        )
    };
    let (old, web) = (service("old", ""), service("web", ""));
    lab.deploy("p", &format!("services:\n{old}{web}"));
    let said = lab.deploy("p", &format!("services:\n{web}"));
    assert!(said.stderr.contains("`p_old` is no longer in the file: it stays"), "{said:#?}");
    assert_eq!(lab.running("p_old").len(), 1);

    // A deploy that does not converge prunes nothing, though its leader ends.
    let nowhere = ", deploy: {placement: {constraints: [node.hostname==n9]}}";
    let file = lab.settings().join("stuck.yml");
    std::fs::write(&file, format!("services:\n{}", service("web", nowhere))).unwrap();
    let file = file.to_str().unwrap();
    let deploy = ["deploy", "-f", file, "--name", "p", "--prune", "--timeout", "5s"];
    let said = lab.try_run(&deploy);
    assert_eq!(said.code, 3, "{said:#?}");
    assert!(said.stderr.contains("old: goes once the others run"), "{said:#?}");
    assert_eq!(lab.running("p_old").len(), 1);
    lab.kill_program(&lab.leader(), "controller");
    eventually(30, "another controller leads", || {
        (lab.try_run(&["stack", "ls"]).code == 0).then_some(())
    });
    assert_eq!(lab.running("p_old").len(), 1);

    // The next one runs, and with it what was to go goes.
    lab.deploy("p", &format!("services:\n{}", service("web", ", environment: {A: b}")));
    assert_eq!(lab.running("p_old").len(), 0);
    assert_eq!(lab.running("p_web").len(), 1);
    assert_eq!(lab.run(&["service", "ls", "-o", "name"]), "p_web\n");
}
