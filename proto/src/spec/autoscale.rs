use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{EndpointMode, PortMode, ServiceMode, ServiceSpec};

/// A number that tasks tell of themselves, in thousandths, from 0 up.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Decimal(pub u64);

/// Why a text is no [`Decimal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no number such as `100` or `0.5`, with three decimals at most")]
pub struct ParseDecimalError;

impl FromStr for Decimal {
    type Err = ParseDecimalError;

    fn from_str(text: &str) -> Result<Self, ParseDecimalError> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        if !is_number(whole) || !is_number(part) || part.len() > 3 {
            return Err(ParseDecimalError);
        }
        let whole: u64 = whole.parse().map_err(|_| ParseDecimalError)?;
        let part: u64 = format!("{part:0<3}").parse().map_err(|_| ParseDecimalError)?;
        let thousandths = whole.checked_mul(1_000).and_then(|whole| whole.checked_add(part));
        thousandths.map(Self).ok_or(ParseDecimalError)
    }
}

impl fmt::Display for Decimal {
    /// As in a stack file: `100`, `0.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 1_000, self.0 % 1_000);
        if part == 0 {
            return write!(f, "{whole}");
        }
        let part = format!("{part:03}");
        write!(f, "{whole}.{}", part.trim_end_matches('0'))
    }
}

/// Where a task's agent reads a number of the task, in Prometheus's text format over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scrape {
    /// The port in the container.
    pub port: u16,
    /// Of the page, from its first `/`.
    pub path: String,
    /// The metric's name; all its series are summed.
    pub metric: String,
}

impl Scrape {
    /// Where metrics are by custom.
    pub const PATH: &'static str = "/metrics";

    /// Whether a text can be a metric's name.
    pub fn is_metric(text: &str) -> bool {
        let is_first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
        text.starts_with(is_first) && text.chars().all(|c| is_first(c) || c.is_ascii_digit())
    }
}

/// A number that is scraped, and how much of it one task should have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrapeTarget {
    /// Where it is read.
    pub scrape: Scrape,
    /// How much one task should have, above 0.
    pub target: Decimal,
}

/// That the number of a service's tasks follows what is measured (`x-swarm: autoscale`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Autoscale {
    /// The fewest tasks. With 0 a connection makes the first one again, and is held until it serves.
    pub min: u32,
    /// The most tasks, none fewer.
    pub max: u32,
    /// How much of its reservation of CPUs, or else of its limit, one task should use, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// The same of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u32>,
    /// A number that the tasks tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrape: Option<ScrapeTarget>,
    /// New connections a second that one task should have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Decimal>,
    /// For so long fewer tasks must have been wanted all the time before there are fewer.
    pub stabilisation: Duration,
    /// The least time between two changes.
    pub cool_down: Duration,
}

/// Why an [`Autoscale`] cannot be that of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AutoscaleError {
    /// Not a replicated service.
    #[error("only a replicated service can be scaled")]
    NotReplicated,
    /// Bounds that nothing is between.
    #[error("`max` must be at least 1, and not below `min`")]
    Bounds,
    /// No target.
    #[error("it has no target")]
    NoTarget,
    /// A target of nothing.
    #[error("a target must be above 0")]
    Zero,
    /// No share of a CPU to take a percentage of.
    #[error("`cpu` is a part of what a task reserves or is limited to, and it is neither")]
    NoCpus,
    /// The same of memory.
    #[error("`memory` is a part of what a task reserves or is limited to, and it is neither")]
    NoMemory,
    /// Longer than anybody looks back.
    #[error("`stabilisation` and `cool_down` can be at most a day")]
    TooLong,
    /// Nothing that Prometheus would read.
    #[error("`scrape` needs a port, a path from `/` on, and the name of a metric")]
    Scrape,
    /// Nobody would see that there is something to do again.
    #[error(
        "with `min: 0` there may be no task left to measure, and only connections tell of something to do"
    )]
    ZeroWithoutRequests,
    /// Its connections are the host's.
    #[error("connections are counted and held on networks, and it is on none")]
    NoNetwork,
    /// Its names lead to its tasks.
    #[error(
        "with `endpoint_mode: dnsrr` it has no virtual address at which `min: 0` could hold a connection"
    )]
    ZeroWithoutVip,
    /// Nobody answers such a port where no task is.
    #[error("port {0} has `mode: host`: with `min: 0` no host would answer it")]
    ZeroWithHostPort(u16),
}

impl AutoscaleError {
    /// What to do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::NotReplicated => "remove `autoscale`, or use `mode: replicated`",
            Self::Bounds => "write for example `min: 2, max: 10`",
            Self::NoTarget => "add one of `cpu`, `memory`, `requests` and `scrape`",
            Self::Zero => "write how much one task should have",
            Self::NoCpus => "add `cpus` to `deploy.resources.reservations` or `limits`",
            Self::NoMemory => "add `memory` to `deploy.resources.reservations` or `limits`",
            Self::TooLong => "use a shorter time",
            Self::Scrape => "write for example `{port: 9090, metric: queue_length, target: 100}`",
            Self::ZeroWithoutRequests => {
                "add `requests`, the new connections a second of one task, or write `min: 1`"
            }
            Self::NoNetwork => "give it a network of its own, or write another target and `min: 1`",
            Self::ZeroWithoutVip => "remove `endpoint_mode`, or write `min: 1`",
            Self::ZeroWithHostPort(_) => "use `mode: ingress`, or write `min: 1`",
        }
    }
}

impl Autoscale {
    /// Where nothing is said of `stabilisation`.
    pub const STABILISATION: Duration = Duration::from_mins(5);
    /// Where nothing is said of `cool_down`.
    pub const COOL_DOWN: Duration = Duration::from_secs(30);
    /// The longest of either.
    pub const LONGEST: Duration = Duration::from_hours(24);

    /// The nearest number of tasks within the bounds.
    pub fn bound(&self, replicas: u32) -> u32 {
        replicas.min(self.max).max(self.min)
    }

    /// How many tasks it begins with, where nobody says: one at least, which shows whether it runs.
    pub fn first(&self) -> u32 {
        self.min.max(1)
    }

    /// Whether this service can be scaled so.
    pub fn check(&self, service: &ServiceSpec) -> Result<(), AutoscaleError> {
        if !matches!(service.mode, ServiceMode::Replicated { .. }) {
            return Err(AutoscaleError::NotReplicated);
        }
        let resources = &service.container.resources;
        if self.max == 0 || self.max < self.min {
            return Err(AutoscaleError::Bounds);
        }
        let scraped = self.scrape.as_ref().map(|scrape| scrape.target.0);
        let percents = self.cpu.into_iter().chain(self.memory).map(u64::from);
        let requests = self.requests.map(|target| target.0);
        let targets: Vec<u64> = percents.chain(scraped).chain(requests).collect();
        if targets.is_empty() {
            return Err(AutoscaleError::NoTarget);
        }
        if targets.contains(&0) {
            return Err(AutoscaleError::Zero);
        }
        if self.cpu.is_some() && resources.cpu_share().is_none() {
            return Err(AutoscaleError::NoCpus);
        }
        if self.memory.is_some() && resources.memory_share().is_none() {
            return Err(AutoscaleError::NoMemory);
        }
        if self.stabilisation.max(self.cool_down) > Self::LONGEST {
            return Err(AutoscaleError::TooLong);
        }
        let reads = |scrape: &Scrape| {
            let is_path = scrape.path.starts_with('/') && scrape.path.bytes().all(|c| c > b' ');
            scrape.port > 0 && is_path && Scrape::is_metric(&scrape.metric)
        };
        match &self.scrape {
            Some(target) if !reads(&target.scrape) => Err(AutoscaleError::Scrape),
            _ => self.check_connections(service),
        }
    }

    /// Whether its connections can be counted, and held while there is no task.
    fn check_connections(&self, service: &ServiceSpec) -> Result<(), AutoscaleError> {
        if self.min == 0 && self.requests.is_none() {
            return Err(AutoscaleError::ZeroWithoutRequests);
        }
        if self.requests.is_some() && service.networks.is_empty() {
            return Err(AutoscaleError::NoNetwork);
        }
        if self.min > 0 {
            return Ok(());
        }
        if service.endpoint_mode == EndpointMode::Dnsrr {
            return Err(AutoscaleError::ZeroWithoutVip);
        }
        match service.ports.iter().find(|port| port.mode == PortMode::Host) {
            Some(port) => Err(AutoscaleError::ZeroWithHostPort(port.target)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ContainerSpec, ImageSpec, NetworkAttachmentSpec, PortSpec, Protocol};
    use super::*;

    fn autoscale() -> Autoscale {
        Autoscale {
            min: 2,
            max: 8,
            cpu: Some(70),
            memory: None,
            scrape: None,
            requests: None,
            stabilisation: Autoscale::STABILISATION,
            cool_down: Autoscale::COOL_DOWN,
        }
    }

    #[test]
    fn a_number_is_read_and_written() {
        for (text, thousandths) in
            [("0", 0), ("100", 100_000), ("0.5", 500), ("1.05", 1_050), ("0.001", 1)]
        {
            assert_eq!(text.parse(), Ok(Decimal(thousandths)));
            assert_eq!(Decimal(thousandths).to_string(), text);
        }
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "0.0001", "99999999999999999999"] {
            assert_eq!(text.parse::<Decimal>(), Err(ParseDecimalError), "{text}");
        }
    }

    #[test]
    fn a_number_of_tasks_is_kept_within_the_bounds() {
        assert_eq!([0, 2, 5, 8, 9].map(|replicas| autoscale().bound(replicas)), [2, 2, 5, 8, 8]);
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        let mut has = ServiceSpec::new(ContainerSpec::new(ImageSpec::new("a")));
        has.mode = ServiceMode::Replicated { replicas: 2 };
        has.container.resources.reserve_millicpus = 100;
        let check = |change: fn(&mut Autoscale)| {
            let mut all = autoscale();
            change(&mut all);
            all.check(&has)
        };
        let scrape = |port, metric: &str| ScrapeTarget {
            scrape: Scrape { port, path: "/metrics".into(), metric: metric.into() },
            target: Decimal(1),
        };
        assert_eq!(check(|_| {}), Ok(()));
        assert_eq!(check(|all| all.min = 0), Err(AutoscaleError::ZeroWithoutRequests));
        assert_eq!(check(|all| (all.min, all.max) = (0, 0)), Err(AutoscaleError::Bounds));
        assert_eq!(check(|all| all.requests = Some(Decimal(0))), Err(AutoscaleError::Zero));
        assert_eq!(check(|all| all.max = 1), Err(AutoscaleError::Bounds));
        assert_eq!(check(|all| all.cpu = None), Err(AutoscaleError::NoTarget));
        assert_eq!(check(|all| all.cpu = Some(0)), Err(AutoscaleError::Zero));
        assert_eq!(check(|all| all.memory = Some(1)), Err(AutoscaleError::NoMemory));
        assert_eq!(check(|all| all.cool_down = Duration::MAX), Err(AutoscaleError::TooLong));
        let with = |scrape| Autoscale { scrape: Some(scrape), ..autoscale() };
        assert_eq!(with(scrape(80, "queue_length")).check(&has), Ok(()));
        for wrong in [scrape(0, "a"), scrape(80, ""), scrape(80, "1a"), scrape(80, "a b")] {
            let checked = with(wrong).check(&has);
            assert_eq!(checked, Err(AutoscaleError::Scrape));
        }
        let global = ServiceSpec { mode: ServiceMode::Global, ..has.clone() };
        assert_eq!(autoscale().check(&global), Err(AutoscaleError::NotReplicated));
        has.container.resources.reserve_millicpus = 0;
        assert_eq!(autoscale().check(&has), Err(AutoscaleError::NoCpus));
    }

    #[test]
    fn no_task_at_all_needs_an_address_that_holds_connections() {
        let all = Autoscale { min: 0, cpu: None, requests: Some(Decimal(5_000)), ..autoscale() };
        let mut web = ServiceSpec::new(ContainerSpec::new(ImageSpec::new("a")));
        assert_eq!(all.check(&web), Err(AutoscaleError::NoNetwork));
        web.networks = vec![NetworkAttachmentSpec::default()];
        assert_eq!(all.check(&web), Ok(()));
        web.ports = vec![PortSpec {
            target: 80,
            published: None,
            protocol: Protocol::Tcp,
            mode: PortMode::Ingress,
            host_address: None,
        }];
        assert_eq!(all.check(&web), Ok(()));
        web.ports[0].mode = PortMode::Host;
        assert_eq!(all.check(&web), Err(AutoscaleError::ZeroWithHostPort(80)));
        assert_eq!(Autoscale { min: 1, ..all.clone() }.check(&web), Ok(()));
        web.ports.clear();
        web.endpoint_mode = EndpointMode::Dnsrr;
        assert_eq!(all.check(&web), Err(AutoscaleError::ZeroWithoutVip));
        assert_eq!([all.first(), autoscale().first()], [1, 2]);
    }
}
