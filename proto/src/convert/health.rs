//! Health: how it is looked at, and what came of it; with it hooks, and what services wait for.

use std::time::Duration;

use super::fields::{ConvertError, Fields, milliseconds};
use crate::id::Timestamp;
use crate::object::TaskHealth;
use crate::spec::{Dependency, HealthCheck, HealthTest, Hook, HttpCheck};
use crate::wire;

impl From<&HttpCheck> for wire::HttpCheck {
    fn from(http: &HttpCheck) -> Self {
        Self {
            port: http.port.into(),
            path: http.path.clone(),
            lowest_status: http.lowest_status.into(),
            highest_status: http.highest_status.into(),
        }
    }
}

impl TryFrom<wire::HttpCheck> for HttpCheck {
    type Error = ConvertError;

    fn try_from(http: wire::HttpCheck) -> Result<Self, ConvertError> {
        let at = Fields("HttpCheck");
        let status = |field, number| {
            let wrong = || at.refuse(field, format_args!("{number} is no status"));
            u16::try_from(number).map_err(|_| wrong())
        };
        Ok(Self {
            port: at.port("port", http.port)?,
            path: http.path,
            lowest_status: status("lowest_status", http.lowest_status)?,
            highest_status: status("highest_status", http.highest_status)?,
        })
    }
}

impl From<&HealthTest> for wire::health_check::Test {
    fn from(test: &HealthTest) -> Self {
        match test {
            HealthTest::None => Self::None(wire::Nothing {}),
            HealthTest::Command(words) => Self::Command(wire::Words { words: words.clone() }),
            HealthTest::Shell(line) => Self::Shell(line.clone()),
            HealthTest::Http(http) => Self::Http(http.into()),
            HealthTest::Tcp(port) => Self::TcpPort((*port).into()),
        }
    }
}

impl TryFrom<wire::health_check::Test> for HealthTest {
    type Error = ConvertError;

    fn try_from(test: wire::health_check::Test) -> Result<Self, ConvertError> {
        use wire::health_check::Test;
        Ok(match test {
            Test::None(_) => Self::None,
            Test::Command(words) => Self::Command(words.words),
            Test::Shell(line) => Self::Shell(line),
            Test::Http(http) => Self::Http(http.try_into()?),
            Test::TcpPort(port) => Self::Tcp(Fields("HealthCheck").port("tcp_port", port)?),
        })
    }
}

impl From<&HealthCheck> for wire::HealthCheck {
    fn from(check: &HealthCheck) -> Self {
        Self {
            test: check.test.as_ref().map(Into::into),
            interval: check.interval.map(milliseconds),
            timeout: check.timeout.map(milliseconds),
            retries: check.retries,
            start_period: check.start_period.map(milliseconds),
            start_interval: check.start_interval.map(milliseconds),
        }
    }
}

impl TryFrom<wire::HealthCheck> for HealthCheck {
    type Error = ConvertError;

    fn try_from(check: wire::HealthCheck) -> Result<Self, ConvertError> {
        Ok(Self {
            test: Fields("HealthCheck").optional("test", check.test)?,
            interval: check.interval.map(Duration::from_millis),
            timeout: check.timeout.map(Duration::from_millis),
            retries: check.retries,
            start_period: check.start_period.map(Duration::from_millis),
            start_interval: check.start_interval.map(Duration::from_millis),
        })
    }
}

impl From<&Hook> for wire::Hook {
    fn from(hook: &Hook) -> Self {
        Self {
            command: hook.command.clone(),
            user: hook.user.clone(),
            working_dir: hook.working_dir.clone(),
            environment: hook.environment.clone(),
        }
    }
}

impl TryFrom<wire::Hook> for Hook {
    type Error = ConvertError;

    fn try_from(hook: wire::Hook) -> Result<Self, ConvertError> {
        Ok(Self {
            command: hook.command,
            user: hook.user,
            working_dir: hook.working_dir,
            environment: hook.environment,
        })
    }
}

impl From<&Dependency> for wire::Dependency {
    fn from(dependency: &Dependency) -> Self {
        Self {
            service: dependency.service.clone(),
            condition: dependency.condition.into(),
            restart: dependency.restart,
        }
    }
}

impl TryFrom<wire::Dependency> for Dependency {
    type Error = ConvertError;

    fn try_from(dependency: wire::Dependency) -> Result<Self, ConvertError> {
        let at = Fields("Dependency");
        let condition = dependency.condition;
        Ok(Self {
            condition: at.enumeration::<wire::DependencyCondition, _>("condition", condition)?,
            service: dependency.service,
            restart: dependency.restart,
        })
    }
}

impl From<&TaskHealth> for wire::TaskHealth {
    fn from(health: &TaskHealth) -> Self {
        Self {
            state: health.state.into(),
            since: health.since.0,
            failures: health.failures,
            output: health.output.clone(),
        }
    }
}

impl TryFrom<wire::TaskHealth> for TaskHealth {
    type Error = ConvertError;

    fn try_from(health: wire::TaskHealth) -> Result<Self, ConvertError> {
        let at = Fields("TaskHealth");
        Ok(Self {
            state: at.enumeration::<wire::HealthState, _>("state", health.state)?,
            since: Timestamp(health.since),
            failures: health.failures,
            output: health.output,
        })
    }
}
