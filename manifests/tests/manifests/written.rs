//! A stack that is written as a file and read again is the same stack.

use std::path::{Path, PathBuf};

use expect_test::expect_file;
use proptest::prelude::*;
use swarm_manifests::{Source, Stack, read, read_sources, resolved, yaml};

use crate::{environment, files_in, folder};

fn read_text(text: &str) -> Stack {
    let content = text.as_bytes().to_vec();
    let source = Source { name: "x.yml".to_owned(), folder: PathBuf::from("/x"), content };
    let environment = environment();
    match read_sources(std::slice::from_ref(&source), &environment) {
        Ok((stack, _)) => stack,
        Err(errors) => panic!("{errors}\n{text}"),
    }
}

fn assert_read_again(stack: &Stack) {
    let text = yaml::to_string(&resolved(stack)).unwrap();
    assert_eq!(read_text(&text), *stack, "{text}");
}

/// The resolved file, and what was worth a word.
fn resolved_text(files: &[String]) -> String {
    let paths: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
    let (stack, warnings) = read(&paths, &environment()).unwrap();
    assert_read_again(&stack);
    let mut text = yaml::to_string(&resolved(&stack)).unwrap();
    for warning in warnings {
        text.extend(["# warning: ", &warning.to_string(), "\n"]);
    }
    text.replace(folder().to_str().unwrap(), "/stacks")
}

#[test]
fn examples_are_written_so() {
    let mut files: Vec<Vec<String>> =
        files_in("examples").into_iter().map(|file| vec![file]).collect();
    files.push(vec!["counter/stack.yml".to_owned()]);
    for [below, above] in [["base", "production"], ["swarm", "swarm-production"]] {
        files.push([below, above].map(|name| format!("examples/layers/{name}.yml")).to_vec());
    }
    for files in files {
        let golden = folder().join("tests/golden/resolved");
        let name = PathBuf::from(&files[0]);
        expect_file![golden.join(name.file_name().unwrap())].assert_eq(&resolved_text(&files));
    }
}

#[test]
fn stacks_of_many_kinds_are_written_so() {
    let files = files_in("examples/stacks");
    assert!(files.len() >= 46);
    for file in files {
        let name = Path::new(&file).strip_prefix("examples").unwrap();
        let golden = folder().join("tests/golden").join(name);
        expect_file![golden].assert_eq(&resolved_text(std::slice::from_ref(&file)));
    }
}

/// Texts that YAML, variables or compose could take for something else.
fn awkward() -> impl Strategy<Value = String> {
    let words = [
        "",
        "~",
        "null",
        "true",
        "yes",
        "No",
        "on",
        "1",
        "0x1f",
        "0o17",
        "012",
        "1_000",
        "1e3",
        ".5",
        "1:30",
        "2026-01-01",
        "$A",
        "${A:-b}",
        "$$",
        "a: b",
        "- a",
        "# a",
        " a ",
        "a\nb\n",
        "\n\na",
        "  a\nb",
        "'\"",
        "\\n",
        "{a}",
        "[a]",
        "*a",
        "&a",
        "!a",
        "|",
        ">",
        "%a",
        "@a",
        "`a",
        "<<",
        "=",
        "a=b",
        "?",
        "---",
        "...",
        "ä\u{2028}\u{85}\u{feff}",
        "\u{2028} 1",
        "a\u{2029}  b\nc",
        "\t",
        "a\u{7}b",
        "x-a",
    ];
    prop_oneof![
        prop::sample::select(words.to_vec()).prop_map(str::to_owned),
        "\\PC{0,12}",
        "[a-z]{1,8}"
    ]
}

fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
    let key = awkward().prop_filter("a name", |key| !key.is_empty() && !key.contains(['=', '\0']));
    prop::collection::vec((key, awkward()), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_texts(
        command in prop::option::of(prop::collection::vec(awkward(), 0..4)),
        environment in pairs(),
        labels in pairs(),
        user in prop::option::of("[a-z0-9]{1,5}"),
    ) {
        let mut stack = read_text("{name: a, services: {web: {image: a}}}");
        let service = stack.spec.services.get_mut("web").unwrap();
        let container = &mut service.container;
        container.entrypoint.clone_from(&command);
        container.command = command;
        container.environment = environment.into_iter().map(|(key, value)| (key, Some(value))).collect();
        container.user = user;
        container.labels = labels.iter().cloned().collect();
        service.labels = labels.into_iter().collect();
        assert_read_again(&stack);
    }

    #[test]
    fn any_parts_of_a_service(
        parts in prop::sample::subsequence(PARTS.to_vec(), 0..PARTS.len()),
        deploy in prop::sample::subsequence(DEPLOY.to_vec(), 0..DEPLOY.len()),
        objects in prop::sample::subsequence(OBJECTS.to_vec(), 0..OBJECTS.len()),
    ) {
        let text = format!(
            "name: a\nservices: {{db: {{image: a}}, web: {{image: a, {} deploy: {{{}}}}}}}\nnetworks: {{front: {{{}}}}}\nvolumes: {{data: {{{}}}}}",
            parts.concat(), deploy.join(", "), objects.join(", "),
            objects.iter().filter(|object| !object.contains("ipam") && !object.contains("internal"))
                .copied().collect::<Vec<_>>().join(", "),
        );
        assert_read_again(&read_text(&text));
    }

    #[test]
    fn any_parts_of_a_container(
        parts in prop::sample::subsequence(CONTAINER.to_vec(), 0..CONTAINER.len()),
        shared in prop::sample::select(SHARED.to_vec()),
        logging in prop::sample::select(LOGGING.to_vec()),
        tmpfs in prop::sample::subsequence(TMPFS.to_vec(), 0..TMPFS.len()),
    ) {
        let text = format!(
            "name: a\nservices: {{web: {{image: a, {}{shared}{logging}tmpfs: [{}]}}}}",
            parts.concat(), tmpfs.join(", "),
        );
        assert_read_again(&read_text(&text));
    }
}

#[test]
fn each_way_to_scale() {
    let ways = [
        "{min: 2, max: 9, cpu: 70%, memory: 80, stabilisation: 1m, cool_down: 0s}",
        "{max: 3, scrape: {port: 9090, path: /m, metric: queue, target: 0.5}}",
        "{max: 3, cpu: 50, scrape: {port: 80, metric: up, target: 100}}",
    ];
    for way in ways {
        assert_read_again(&read_text(&format!(
            "name: a\nservices: {{web: {{image: a, deploy: {{resources: {{limits: {{cpus: 1, memory: 64m}}}}}}, x-swarm: {{autoscale: {way}}}}}}}"
        )));
    }
}

const CONTAINER: [&str; 21] = [
    "healthcheck: {test: [CMD, \"a$$b\"], start_interval: 2s}, ",
    "stdin_open: true, ",
    "group_add: [audio, 1001], ",
    "oom_score_adj: -5, ",
    "dns: [10.0.0.53, \"fd00::1\"], ",
    "dns_search: ., ",
    "dns_opt: [\"ndots:3\", rotate], ",
    "extra_hosts: {a: [10.0.0.5, \"fd00::5\"], b: \"fd00::6\"}, ",
    "devices: [/dev/null, \"/dev/zero:/dev/z:r\"], ",
    "device_cgroup_rules: [\"c 1:* rwm\", \"a *:* m\"], ",
    "annotations: [a=b], ",
    "mem_limit: 64m, memswap_limit: 80m, ",
    "mem_reservation: 32m, ",
    "mem_swappiness: 0, ",
    "oom_kill_disable: true, ",
    "cpu_shares: 512, ",
    "cpu_quota: 20000, cpu_period: 10000, ",
    "cpuset: 0-1, ",
    "pids_limit: 9, ",
    "security_opt: [\"no-new-privileges:false\", \"seccomp={\\\"defaultAction\\\": \\\"SCMP_ACT_ALLOW\\\"}\"], ",
    "platform: linux/arm64, ",
];

const SHARED: [&str; 7] = [
    "network_mode: host, hostname: \"{{.Node.Hostname}}-$$\", ",
    "network_mode: none, pid: host, shm_size: 1m, ",
    "ipc: host, uts: host, ",
    "ipc: none, cgroup: host, domainname: example.org, ",
    "container_name: one.two, ",
    "networks: {default: {aliases: [x, a]}}, container_name: m, ",
    "",
];

const LOGGING: [&str; 5] = [
    "logging: {driver: none}, ",
    "logging: {driver: journald, options: {tag: \"{{.Name}}\", labels: \"a, b\", env: C}}, ",
    "logging: {driver: syslog, options: {syslog-address: \"udp://h\", syslog-facility: local3, syslog-format: rfc5424}}, ",
    "logging: {options: {max-size: -1, max-file: 7}}, ",
    "logging: {}, ",
];

const TMPFS: [&str; 5] = [
    "/a",
    "\"/b:size=1m,mode=750\"",
    "\"/c:uid=5,gid=6,noexec,suid,dev\"",
    "\"/d:ro,size=2m\"",
    "/e",
];

const PARTS: [&str; 27] = [
    "command: a b, ",
    "entrypoint: [], ",
    "environment: [A=1, B, C=$$x], ",
    "user: 1000:1000, ",
    "working_dir: /srv, ",
    "hostname: \"1\", ",
    "labels: [a, b=c], ",
    "init: true, ",
    "tty: true, ",
    "read_only: true, ",
    "privileged: true, ",
    "cap_add: [cap_net_admin], ",
    "cap_drop: [ALL], ",
    "sysctls: {net.core.somaxconn: 1024}, ",
    "ulimits: {memlock: -1, nofile: {soft: 1, hard: 2}}, ",
    "stop_signal: usr1, ",
    "stop_grace_period: 1m30.5s, ",
    "extra_hosts: [\"db:10.0.0.5\"], ",
    "volumes: [\"data:/data:ro,nocopy\", /cache, \"/etc:/etc\", {type: tmpfs, target: /t, tmpfs: {size: 1g}}], ",
    "tmpfs: /run:ro, ",
    "ports: [\"127.0.0.1:5000-5002:5000-5002/udp\", {target: 80, mode: host}], ",
    "networks: {front: {aliases: [www]}, default: }, ",
    "pull_policy: never, ",
    "x-swarm: {volume-node-lost: start-empty, priority: -5, preemption: never, canary: {replicas: 20%, hold: 1m}, update: {progress_deadline: 2m, order: blue-green, hold: 90s}, rollback: {progress_deadline: 1m}, health: {http: {port: 80, status: 204}}, placement: {near: [db], apart: [{service: db, within: node.labels.Zone}, {service: db, within: engine.labels.x}]}}, ",
    "depends_on: {db: {condition: service_completed_successfully, restart: true}}, ",
    "healthcheck: {interval: 10s, start_period: 1m, retries: 2, timeout: 1.5s}, ",
    "pre_stop: [{command: \"a b\", user: u, environment: [A=$$x]}, {command: [c], working_dir: /d}], ",
];

const DEPLOY: [&str; 9] = [
    "replicas: 0",
    "labels: {a: \"yes\"}",
    "placement: {constraints: [node.role != manager, node.labels.A==b c, \"node.labels.a not in (b, c)\", node.labels.n >= -3, engine.labels.x exists, \"node.ip==10.0.0.0/8\"], preferences: [{spread: node.labels.zone}, {spread: engine.labels.rack}]}",
    "resources: {limits: {cpus: 1.25, memory: 64m, pids: 7}, reservations: {cpus: \"0.001\", memory: 4m}}",
    "restart_policy: {condition: none, delay: 0, max_attempts: 3, window: 1h}",
    "update_config: {parallelism: 0, delay: 1ms, order: start-first, failure_action: rollback, monitor: 1s, max_failure_ratio: 0.25}",
    "rollback_config: {parallelism: 2, failure_action: continue, max_failure_ratio: 1}",
    "mode: replicated",
    "x-note: 1",
];

const OBJECTS: [&str; 4] =
    ["name: other", "labels: [a=b]", "internal: true", "ipam: {config: [{subnet: 10.5.0.0/24}]}"];
