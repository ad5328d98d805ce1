//! What a service and its image say of health, merged by Docker's rules: what the one leaves open is the other's.

use std::time::Duration;

use swarm_proto::spec::{HealthCheck, HealthTest, HttpCheck};

use crate::image::{ImageConfig, ImageHealth};

/// The shell that a line is for when its image names none.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// What is done to look at a task's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// A program in the container with its arguments.
    Command(Vec<String>),
    /// A request to the task's address.
    Http(HttpCheck),
    /// A connection to this port of it.
    Tcp(u16),
}

/// How and how often a task's health is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What is done.
    pub probe: Probe,
    /// From the end of one to the next.
    pub interval: Duration,
    /// What takes longer has failed.
    pub timeout: Duration,
    /// So many failures in a row make a task unhealthy; at least one.
    pub retries: u32,
    /// Failures in this time after the start do not count.
    pub start_period: Duration,
    /// As `interval`, within `start_period` until the first success.
    pub start_interval: Duration,
}

impl Check {
    /// What is to be done for a container; `None` where nobody asked for anything.
    pub fn of(spec: Option<&HealthCheck>, image: &ImageConfig) -> Option<Self> {
        let usual = HealthCheck::default();
        let spec = spec.unwrap_or(&usual);
        let of_image = image.healthcheck.as_ref();
        let probe = match &spec.test {
            Some(test) => of_spec(test, image)?,
            None => of_words(&of_image?.test, image)?,
        };
        let time = |own: Option<Duration>, image: fn(&ImageHealth) -> i64, usual| {
            let own = own.filter(|own| !own.is_zero());
            own.or_else(|| of_image.and_then(|of| nanoseconds(image(of)))).unwrap_or(usual)
        };
        let retries =
            spec.retries.or_else(|| of_image.and_then(|of| u32::try_from(of.retries).ok()));
        Some(Self {
            probe,
            interval: time(spec.interval, |of| of.interval, HealthCheck::INTERVAL),
            timeout: time(spec.timeout, |of| of.timeout, HealthCheck::TIMEOUT),
            retries: retries.filter(|retries| *retries > 0).unwrap_or(HealthCheck::RETRIES),
            start_period: time(spec.start_period, |of| of.start_period, Duration::ZERO),
            start_interval: time(
                spec.start_interval,
                |of| of.start_interval,
                HealthCheck::START_INTERVAL,
            ),
        })
    }
}

fn nanoseconds(number: i64) -> Option<Duration> {
    u64::try_from(number).ok().filter(|number| *number > 0).map(Duration::from_nanos)
}

fn of_spec(test: &HealthTest, image: &ImageConfig) -> Option<Probe> {
    Some(match test {
        HealthTest::None => return None,
        HealthTest::Command(words) => Probe::Command(words.clone()),
        HealthTest::Shell(line) => shell(line, image),
        HealthTest::Http(http) => Probe::Http(http.clone()),
        HealthTest::Tcp(port) => Probe::Tcp(*port),
    })
}

/// An image's own words: `["CMD", "check"]`, `["CMD-SHELL", "check || exit 1"]`, `["NONE"]`.
fn of_words(words: &[String], image: &ImageConfig) -> Option<Probe> {
    let (kind, rest) = words.split_first()?;
    match (kind.as_str(), rest) {
        ("CMD", [_, ..]) => Some(Probe::Command(rest.to_vec())),
        ("CMD-SHELL", [line, ..]) => Some(shell(line, image)),
        _ => None,
    }
}

fn shell(line: &str, image: &ImageConfig) -> Probe {
    let words: Vec<String> = match image.shell.as_slice() {
        [] => SHELL.map(str::to_owned).to_vec(),
        own => own.to_vec(),
    };
    Probe::Command(words.into_iter().chain([line.to_owned()]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn image(test: &[&str]) -> ImageConfig {
        let health = ImageHealth {
            test: words(test),
            interval: 7_000_000_000,
            retries: 5,
            ..ImageHealth::default()
        };
        ImageConfig { healthcheck: Some(health), ..ImageConfig::default() }
    }

    #[test]
    fn nothing_said_is_no_check() {
        assert_eq!(Check::of(None, &ImageConfig::default()), None);
        for test in [&[][..], &["NONE"], &["CMD"], &["CMD-SHELL"]] {
            assert_eq!(Check::of(None, &image(test)), None, "{test:?}");
        }
        let only_times =
            HealthCheck { interval: Some(Duration::from_secs(1)), ..HealthCheck::default() };
        assert_eq!(Check::of(Some(&only_times), &ImageConfig::default()), None);
    }

    #[test]
    fn the_service_goes_before_its_image() {
        let of_image = Check::of(None, &image(&["CMD", "look", "-q"])).unwrap();
        assert_eq!(of_image.probe, Probe::Command(words(&["look", "-q"])));
        assert_eq!((of_image.interval, of_image.retries), (Duration::from_secs(7), 5));
        assert_eq!(of_image.timeout, HealthCheck::TIMEOUT);
        assert_eq!(of_image.start_period, Duration::ZERO);

        let slower =
            HealthCheck { timeout: Some(Duration::from_secs(1)), ..HealthCheck::default() };
        let both = Check::of(Some(&slower), &image(&["CMD", "look"])).unwrap();
        assert_eq!(both.probe, Probe::Command(words(&["look"])), "only what is said is replaced");
        assert_eq!((both.interval, both.timeout), (Duration::from_secs(7), Duration::from_secs(1)));

        assert_eq!(Check::of(Some(&HealthCheck::none()), &image(&["CMD", "look"])), None);
    }

    #[test]
    fn a_line_is_for_the_shell_of_its_image() {
        let line = HealthCheck {
            test: Some(HealthTest::Shell("a && b".to_owned())),
            ..HealthCheck::default()
        };
        let probe = |image: &ImageConfig| Check::of(Some(&line), image).unwrap().probe;
        let usual = Probe::Command(words(&["/bin/sh", "-c", "a && b"]));
        assert_eq!(probe(&ImageConfig::default()), usual);
        let image = ImageConfig { shell: words(&["/bin/ash", "-ec"]), ..ImageConfig::default() };
        assert_eq!(probe(&image), Probe::Command(words(&["/bin/ash", "-ec", "a && b"])));
    }
}
