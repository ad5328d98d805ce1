//! Health, hooks, and what services wait for.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{duration, text, texts, time};
use crate::assignment::Withdrawal;
use crate::object::{HealthState, TaskHealth};
use crate::spec::{Dependency, DependencyCondition, HealthCheck, HealthTest, Hook, HttpCheck};

fn health_test() -> BoxedStrategy<HealthTest> {
    prop_oneof![
        Just(HealthTest::None),
        texts().prop_map(HealthTest::Command),
        text().prop_map(HealthTest::Shell),
        http_check().prop_map(HealthTest::Http),
        any::<u16>().prop_map(HealthTest::Tcp),
    ]
    .boxed()
}

/// Plain ones, which have a form of their own on the wire, as often as others.
pub(super) fn dependencies() -> BoxedStrategy<Vec<Dependency>> {
    let plain = text().prop_map(Dependency::started);
    prop_oneof![vec(plain, 0..3), vec(dependency(), 0..3)].boxed()
}

pub(super) fn withdrawal() -> BoxedStrategy<Option<Withdrawal>> {
    option::of(select(vec![Withdrawal::UnderWay, Withdrawal::Done])).boxed()
}

strategy! {
    fn http_check -> HttpCheck {
        port: any::<u16>(),
        path: text(),
        lowest_status: any::<u16>(),
        highest_status: any::<u16>(),
    }
    fn health_check -> HealthCheck {
        test: option::of(health_test()),
        interval: option::of(duration()),
        timeout: option::of(duration()),
        retries: any::<Option<u32>>(),
        start_period: option::of(duration()),
        start_interval: option::of(duration()),
    }
    fn hook -> Hook {
        command: texts(),
        user: option::of(text()),
        working_dir: option::of(text()),
        environment: btree_map(text(), text(), 0..3),
    }
    fn dependency -> Dependency {
        service: text(),
        condition: select(vec![
            DependencyCondition::Started,
            DependencyCondition::Healthy,
            DependencyCondition::Completed,
        ]),
        restart: any::<bool>(),
    }
    fn task_health -> TaskHealth {
        state: select(vec![HealthState::Starting, HealthState::Healthy, HealthState::Unhealthy]),
        since: time(),
        failures: any::<u32>(),
        output: text(),
    }
}
