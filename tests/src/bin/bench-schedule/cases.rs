//! The cases, as `test/integration/scheduler_perf` of Kubernetes has them.

use std::fmt::Write as _;

use swarm_tests::bench::Outcome;
use swarm_tests::bench::stacks::SERVICE;

/// What is deployed before, and then measured.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) nodes: u32,
    /// Tasks that run before.
    pub(crate) first: u32,
    /// Tasks that are measured.
    pub(crate) then: u32,
    /// The average under which Kubernetes' own test fails, tasks a second.
    pub(crate) floor: f64,
    shape: Shape,
}

/// What the measured tasks ask for.
enum Shape {
    /// Nothing.
    Basic,
    /// One on each node, twice.
    Global,
    /// A label of the node, which all nodes have.
    NodeAffinity,
    /// To be alone on the node, and apart from the tasks before.
    Apart,
    /// To be in a zone, the only one, with a task of those before.
    Near,
    /// To be apart from so many services.
    ApartFromMany(u32),
}

pub(crate) const CASES: &[Case] = &[
    case("basic", 5_000, (5_000, 50_000), 810.0, Shape::Basic),
    case("global", 15_000, (0, 30_000), 1_100.0, Shape::Global),
    case("node affinity", 5_000, (5_000, 10_000), 220.0, Shape::NodeAffinity),
    case("anti-affinity", 5_000, (1_000, 2_000), 60.0, Shape::Apart),
    case("affinity", 5_000, (5_000, 5_000), 35.0, Shape::Near),
    case("anti-affinity to 100 services", 6_000, (4_000, 1_000), 24.0, Shape::ApartFromMany(100)),
];

const fn case(
    name: &'static str,
    nodes: u32,
    (first, then): (u32, u32),
    floor: f64,
    shape: Shape,
) -> Case {
    Case { name, nodes, first, then, floor, shape }
}

impl Case {
    /// The stack file before, or with the tasks that are measured.
    pub(crate) fn stack(&self, with_measured: bool) -> Outcome<String> {
        let mut text = String::from("services:\n");
        self.before(&mut text)?;
        if with_measured {
            self.measured(&mut text)?;
        }
        Ok(text)
    }

    fn before(&self, text: &mut String) -> Outcome<()> {
        let single = u32::from(matches!(self.shape, Shape::Apart));
        match self.shape {
            // A stack has a service.
            Shape::Global => service(text, "first", 0, 0, "")?,
            Shape::ApartFromMany(services) => {
                for number in 0..services {
                    service(text, &format!("first{number}"), self.first / services, 1, "")?;
                }
            }
            _ => service(text, "first", self.first, single, "")?,
        }
        Ok(())
    }

    fn measured(&self, text: &mut String) -> Outcome<()> {
        let apart =
            |from: &str| format!("    x-swarm:\n      placement:\n        apart: [{from}]\n");
        match self.shape {
            Shape::Basic => service(text, "then", self.then, 0, ""),
            Shape::Global => {
                for number in 0..self.then / self.nodes {
                    write!(text, "  then{number}:\n{SERVICE}    deploy: {{mode: global}}\n")?;
                }
                Ok(())
            }
            Shape::NodeAffinity => {
                write!(text, "  then:\n{SERVICE}    deploy:\n      replicas: {}\n", self.then)?;
                let constraint = "node.labels.zone in (zone1, zone2)";
                writeln!(text, "      placement: {{constraints: [\"{constraint}\"]}}")?;
                Ok(())
            }
            Shape::Apart => service(text, "then", self.then, 1, &apart("first")),
            Shape::Near => {
                let near = "{service: first, within: node.labels.zone}";
                let near = format!("    x-swarm:\n      placement:\n        near: [{near}]\n");
                service(text, "then", self.then, 0, &near)
            }
            Shape::ApartFromMany(services) => {
                let all: Vec<String> =
                    (0..services).map(|number| format!("first{number}")).collect();
                service(text, "then", self.then, 1, &apart(&all.join(", ")))
            }
        }
    }
}

/// A service with so many tasks, at most `single` of them on a node unless that is 0.
fn service(text: &mut String, key: &str, tasks: u32, single: u32, further: &str) -> Outcome<()> {
    write!(text, "  {key}:\n{SERVICE}{further}    deploy:\n      replicas: {tasks}\n")?;
    writeln!(text, "      placement: {{max_replicas_per_node: {single}}}")?;
    Ok(())
}
