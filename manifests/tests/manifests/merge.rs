//! How each key of a later file lies on the same key of an earlier one.

use std::path::PathBuf;

use swarm_manifests::{Environment, Source, Value, merged};

fn tree(texts: &[String]) -> Value {
    let source = |text: &String| {
        let (name, folder) = ("x.yml".to_owned(), PathBuf::from("/x"));
        Source { name, folder, content: text.clone().into_bytes() }
    };
    let sources: Vec<Source> = texts.iter().map(source).collect();
    match merged(&sources, &Environment::default()) {
        Ok(value) => value,
        Err(errors) => panic!("{errors}\n{texts:?}"),
    }
}

fn service(text: &str) -> String {
    format!("services: {{web: {{{text}}}}}")
}

fn assert_merged(frame: fn(&str) -> String, below: &str, above: &str, expected: &str) {
    let found = tree(&[frame(below), frame(above)]);
    assert_eq!(found, tree(&[frame(expected)]), "{above} on {below}");
}

#[test]
fn scalars_replace_mappings_merge_lists_append() {
    for (below, above, expected) in [
        ("image: a", "image: b", "image: b"),
        ("image: a, user: b", "user: c", "image: a, user: c"),
        ("image: a", "image: ~", "image: ~"),
        (
            "deploy: {replicas: 1, labels: {a: b}}",
            "deploy: ~",
            "deploy: {replicas: 1, labels: {a: b}}",
        ),
        ("deploy: {replicas: 1}", "deploy: {mode: global}", "deploy: {replicas: 1, mode: global}"),
        (
            "deploy: {placement: {constraints: [a]}}",
            "deploy: {placement: {constraints: [b, a]}}",
            "deploy: {placement: {constraints: [a, b, a]}}",
        ),
        ("x-own: {a: 1}", "x-own: {b: 2}", "x-own: {b: 2}"),
        ("x-swarm: {a: b}", "x-swarm: {b: c}", "x-swarm: {a: b, b: c}"),
    ] {
        assert_merged(service, below, above, expected);
    }
}

#[test]
fn commands_and_limits_are_replaced() {
    for key in ["command", "entrypoint"] {
        let of = |value: &str| format!("{key}: {value}");
        assert_merged(service, &of("[a, b]"), &of("[c]"), &of("[c]"));
        assert_merged(service, &of("[a, b]"), &of("c d"), &of("c d"));
        assert_merged(service, &of("[a, b]"), &of("[]"), &of("[]"));
    }
    for (below, above, expected) in [
        (
            "healthcheck: {test: [CMD, a], retries: 1}",
            "healthcheck: {test: b}",
            "healthcheck: {test: b, retries: 1}",
        ),
        (
            "ulimits: {a: 1, b: 2}",
            "ulimits: {a: {soft: 3, hard: 4}}",
            "ulimits: {a: {soft: 3, hard: 4}, b: 2}",
        ),
        ("ulimits: {a: {soft: 3, hard: 4}}", "ulimits: {a: {hard: 5}}", "ulimits: {a: {hard: 5}}"),
    ] {
        assert_merged(service, below, above, expected);
    }
}

#[test]
fn lists_of_pairs_are_mappings() {
    let keys = ["environment", "labels", "annotations", "sysctls", "extra_hosts"];
    for key in keys {
        let of = |value: &str| format!("{key}: {value}");
        let expected = of("{A: \"1\", B: two, C: \"3\"}");
        assert_merged(service, &of("[A=1, B=2]"), &of("{B: two, C: \"3\"}"), &expected);
        assert_merged(service, &of("{A: \"1\", B: \"2\"}"), &of("[B=two, C=3]"), &expected);
    }
    assert_merged(service, "environment: {A: b}", "environment: [A]", "environment: {A: ~}");
    for key in ["args", "labels", "additional_contexts", "extra_hosts"] {
        let of = |value: &str| format!("build: {{{key}: {value}}}");
        assert_merged(service, &of("[A=1]"), &of("{B: \"2\"}"), &of("{A: \"1\", B: \"2\"}"));
    }
    assert_merged(
        service,
        "extra_hosts: [\"a:10.0.0.1\", \"b=10.0.0.2\"]",
        "extra_hosts: {a: 10.0.0.3}",
        "extra_hosts: {a: 10.0.0.3, b: 10.0.0.2}",
    );
    assert_merged(
        service,
        "deploy: {labels: [a=1]}",
        "deploy: {labels: {b: c}}",
        "deploy: {labels: {a: \"1\", b: c}}",
    );
    for section in ["networks", "volumes", "secrets", "configs"] {
        let of = |labels: &str| format!("{section}: {{a: {{labels: {labels}}}}}");
        let found = tree(&[of("[a=1]"), of("{b: c}")]);
        assert_eq!(found, tree(&[of("{a: \"1\", b: c}")]), "{section}");
    }
}

#[test]
fn lists_of_names_are_mappings() {
    for key in ["depends_on", "networks", "models"] {
        let of = |value: &str| format!("{key}: {value}");
        assert_merged(service, &of("[a, b]"), &of("{b: {x: y}}"), &of("{a: ~, b: {x: y}}"));
        assert_merged(service, &of("{a: {x: y}}"), &of("[a, b]"), &of("{a: {x: y}, b: ~}"));
    }
}

#[test]
fn one_text_is_a_list_of_one() {
    for key in ["dns", "dns_opt", "dns_search", "env_file", "label_file", "tmpfs"] {
        let of = |value: &str| format!("{key}: {value}");
        assert_merged(service, &of("a"), &of("b"), &of("[a, b]"));
        assert_merged(service, &of("[a, b]"), &of("[b, c]"), &of("[a, b, c]"));
    }
    assert_merged(
        service,
        "env_file: a",
        "env_file: [{path: a, required: false}, b]",
        "env_file: [{path: a, required: false}, b]",
    );
}

#[test]
fn nothing_stands_twice() {
    let keys =
        ["cap_add", "cap_drop", "expose", "external_links", "group_add", "links", "security_opt"];
    for key in keys {
        let of = |value: &str| format!("{key}: {value}");
        assert_merged(service, &of("[a, b]"), &of("[b, c]"), &of("[a, b, c]"));
    }
    for (below, above, expected) in [
        (
            "networks: {n: {aliases: [a]}}",
            "networks: {n: {aliases: [a, b]}}",
            "networks: {n: {aliases: [a, b]}}",
        ),
        (
            "volumes: [\"a:/a\", \"b:/b:ro\", /c]",
            "volumes: [\"./d:/a\", {type: volume, source: e, target: /b}, \"f:/c\"]",
            "volumes: [\"./d:/a\", {type: volume, source: e, target: /b}, \"f:/c\"]",
        ),
        (
            "devices: [\"/dev/a:/dev/b\"]",
            "devices: [\"/dev/c:/dev/b:r\", /dev/a]",
            "devices: [\"/dev/c:/dev/b:r\", /dev/a]",
        ),
        (
            "ports: [\"80:80\", \"53:53/udp\", \"127.0.0.1:81:81\"]",
            "ports: [\"80:80/tcp\", \"53:53\", {target: 81, published: 81, host_ip: 127.0.0.1, mode: host}, \"8080:80\"]",
            "ports: [\"80:80/tcp\", \"53:53/udp\", {target: 81, published: 81, host_ip: 127.0.0.1, mode: host}, \"53:53\", \"8080:80\"]",
        ),
        (
            "secrets: [a, {source: b, target: c}]",
            "secrets: [{source: x, target: a}, {source: y, target: /run/secrets/c}, z]",
            "secrets: [{source: x, target: a}, {source: y, target: /run/secrets/c}, z]",
        ),
        (
            "configs: [a, {source: b, target: /etc/c}]",
            "configs: [{source: x, target: /a}, {source: y, target: /etc/c}]",
            "configs: [{source: x, target: /a}, {source: y, target: /etc/c}]",
        ),
    ] {
        assert_merged(service, below, above, expected);
    }
}

#[test]
fn subnets_merge_and_options_of_one_driver() {
    let network = |text: &str| format!("networks: {{a: {{ipam: {{config: {text}}}}}}}");
    let found = tree(&[
        network("[{subnet: 10.0.0.0/24, gateway: 10.0.0.1}]"),
        network("[{subnet: 10.0.0.0/24, ip_range: 10.0.0.0/25}, {subnet: 10.1.0.0/24}]"),
    ]);
    let expected =
        "[{subnet: 10.0.0.0/24, gateway: 10.0.0.1, ip_range: 10.0.0.0/25}, {subnet: 10.1.0.0/24}]";
    assert_eq!(found, tree(&[network(expected)]));
    for (below, above, expected) in [
        (
            "logging: {driver: local, options: {a: b}}",
            "logging: {options: {c: d}}",
            "logging: {driver: local, options: {a: b, c: d}}",
        ),
        (
            "logging: {driver: local, options: {a: b}}",
            "logging: {driver: syslog, options: {c: d}}",
            "logging: {driver: syslog, options: {c: d}}",
        ),
        ("build: .", "build: {target: a}", "build: {context: ., target: a}"),
        ("build: {context: ., target: a}", "build: ..", "build: {context: .., target: a}"),
    ] {
        assert_merged(service, below, above, expected);
    }
}

#[test]
fn what_is_marked_resets_or_replaces() {
    for (below, above, expected) in [
        ("image: a, user: b", "user: !reset ~", "image: a"),
        (
            "environment: {A: b, B: c}",
            "environment: {A: !reset ~, C: d}",
            "environment: {B: c, C: d}",
        ),
        ("environment: [A=b]", "environment: !override {B: c}", "environment: {B: c}"),
        ("ports: [\"80:80\"]", "ports: !reset []", ""),
        ("ports: [\"80:80\"]", "ports: !override [\"81:81\"]", "ports: [\"81:81\"]"),
        ("ports: [\"80:80\"]", "ports: [!reset \"80:80\", \"81:81\"]", "ports: [\"81:81\"]"),
        (
            "deploy: {replicas: 1, labels: {a: b}}",
            "deploy: !override {mode: global}",
            "deploy: {mode: global}",
        ),
        ("command: [a]", "deploy: {labels: !reset {a: b}}", "command: [a], deploy: {}"),
        ("command: [a]", "command: !override ~", "command: ~"),
    ] {
        assert_merged(service, below, above, expected);
    }
    let files = ["services: {web: {image: a}, db: {image: b}}", "services: {db: !reset ~}"];
    let found = tree(&files.map(str::to_owned));
    assert_eq!(found, tree(&[service("image: a")]));
}

#[test]
fn three_files_one_after_the_other() {
    let files = [
        "ports: [\"80:80\"], labels: [a=1]",
        "ports: !override [\"81:81\"]",
        "ports: [\"82:82\"], labels: {b: c}",
    ];
    let found = tree(&files.map(service));
    assert_eq!(found, tree(&[service("ports: [\"81:81\", \"82:82\"], labels: {a: \"1\", b: c}")]));
}

#[test]
fn profiles_of_all_files_count() {
    let source = |text: &str| {
        let (name, folder) = ("x.yml".to_owned(), PathBuf::from("/x"));
        Source { name, folder, content: service(text).into_bytes() }
    };
    let sources = [source("image: a, profiles: [a]"), source("profiles: [b]")];
    for (profile, is_on) in [("a", true), ("b", true), ("c", false)] {
        let profiles = vec![profile.to_owned()];
        let environment = Environment { profiles, ..Environment::default() };
        assert_eq!(merged(&sources, &environment).is_ok(), is_on, "{profile}");
    }
}
