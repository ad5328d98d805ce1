//! What is packaged fits the programs.

use std::path::Path;

use crate::lab::root;

/// The settings of a file that shows them as comments: lines of code after `# `, not sentences.
fn settings(name: &str) -> String {
    let text = std::fs::read_to_string(root().join("packaging").join(name)).unwrap();
    let code = text.lines().filter_map(|line| line.strip_prefix("# "));
    let code = code.filter(|line| line.starts_with('[') || line.contains(" = "));
    code.collect::<Vec<_>>().join("\n")
}

fn load<C, E: std::fmt::Debug>(text: &str, read: impl Fn(Option<&Path>) -> Result<C, E>) -> C {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    read(Some(file.path())).unwrap()
}

#[test]
fn the_shown_settings_of_a_controller_are_its_defaults() {
    let shown = settings("controller.toml");
    let config = load(&shown, swarm_controller::config::Config::load);
    let expected = swarm_controller::config::Config {
        advertise: Some("192.0.2.1:2377".to_owned()),
        source: config.source.clone(),
        cluster_version_at_most: Some(swarm_proto::version::ClusterVersion::NEWEST.0),
        ..Default::default()
    };
    assert_eq!(config, expected, "{shown}");
}

#[test]
fn the_shown_settings_of_an_agent_are_known() {
    let shown = settings("agent.toml");
    let config = load(&shown, swarm_agent::config::Config::load);
    let expected = swarm_agent::config::Config::default();
    assert_eq!(config.state_dir, expected.state_dir);
    assert_eq!(config.run_dir, expected.run_dir);
    assert_eq!((config.port, config.cgroup_parent), (expected.port, expected.cgroup_parent));
    assert_eq!(config.registry.mirrors["docker.io"], ["http://192.0.2.9:5000"]);
}
