//! Services are never scaled outside of their bounds, sooner than they have cooled down, or down without having wanted
//! it for the whole of their stabilisation, whatever is measured.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use swarm_controller::core::rules::autoscale::{Held, Recent, Sight, Target, decide, wanted};
use swarm_proto::id::Timestamp;
use swarm_proto::object::ScaleMetric;
use swarm_proto::spec::{Autoscale, Decimal};

/// What happens within a second.
#[derive(Debug, Clone, Copy)]
struct Second {
    /// Seconds since the one before.
    pause: u64,
    /// Percents of a share that tasks use, and how many of ten are measured.
    used: u32,
    measured: u32,
    is_updating: bool,
    /// Connections wait.
    is_demanded: bool,
    /// Another leader, which has seen nothing.
    is_new: bool,
}

fn second() -> impl Strategy<Value = Second> {
    let measured = prop_oneof![4 => Just(10_u32), 1 => 0..10_u32];
    let used = prop_oneof![4 => 0..200_u32, 1 => Just(0_u32)];
    let flags = [0.1, 0.3, 0.05].map(prop::bool::weighted);
    (1..20_u64, used, measured, flags).prop_map(
        |(pause, used, measured, [is_updating, is_demanded, is_new])| Second {
            pause,
            used,
            measured,
            is_updating,
            is_demanded,
            is_new,
        },
    )
}

fn autoscale() -> impl Strategy<Value = Autoscale> {
    (0..10_u32, 1..20_u32, 1..100_u32, 0..60_u64, 0..60_u64).prop_map(
        |(min, more, cpu, stabilisation, cool_down)| Autoscale {
            min,
            max: min + more,
            cpu: Some(cpu),
            memory: None,
            scrape: None,
            requests: (min == 0).then_some(Decimal(1)),
            stabilisation: Duration::from_secs(stabilisation),
            cool_down: Duration::from_secs(cool_down),
        },
    )
}

/// How many tasks are wanted of so many by what is measured; `None` where nothing is.
fn wanted_of(replicas: u32, autoscale: &Autoscale, second: Second) -> (Option<u32>, u32) {
    let percent = u64::from(autoscale.cpu.unwrap_or(1));
    let mut target = Target::new(ScaleMetric::Cpu, Decimal(percent * 1_000));
    let measured = (replicas * second.measured).div_ceil(10);
    for _ in 0..measured {
        target.add(u128::from(second.used) * 1_000);
    }
    let wanted = autoscale.bound(wanted(replicas, replicas, &target));
    ((measured > 0).then_some(wanted), replicas - measured)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn scaling_keeps_its_promises(
        autoscale in autoscale(),
        begin in 0..40_u32,
        seconds in vec(second(), 1..80),
    ) {
        let mut now = Timestamp(1_000_000);
        let mut replicas = autoscale.bound(begin);
        let mut recent: Option<Recent> = None;
        let mut scaled_at: Option<Timestamp> = None;
        // All that was wanted since this leader began.
        let mut seen: Vec<(Timestamp, u32)> = Vec::new();
        for second in seconds {
            now = now.after(Duration::from_secs(second.pause));
            if second.is_new {
                recent = None;
                seen.clear();
            }
            let (wanted, unmeasured) = wanted_of(replicas, &autoscale, second);
            let noted = wanted.unwrap_or(replicas);
            seen.push((now, noted));
            let book = recent.get_or_insert_with(|| Recent::begin(now));
            book.note(noted, autoscale.stabilisation, now);
            let sight = Sight {
                now,
                replicas,
                wanted,
                unmeasured,
                recent: recent.as_ref(),
                scaled_at,
                is_updating: second.is_updating,
                is_demanded: second.is_demanded,
            };
            let verdict = decide(&autoscale, &sight);
            if replicas == 0 {
                // Whatever was wanted and done: who waits is served, and nobody else brings a task.
                prop_assert_eq!(verdict.replicas, second.is_demanded.then_some(1));
                prop_assert_eq!(verdict.held == Some(Held::AtZero), !second.is_demanded);
                (replicas, scaled_at) = (u32::from(second.is_demanded), verdict.replicas.map(|_| now).or(scaled_at));
                continue;
            }
            let is_cool =
                scaled_at.is_none_or(|at| now.since(at) >= autoscale.cool_down);
            let may = !second.is_updating && is_cool;
            if wanted.is_some_and(|wanted| wanted > replicas) && may {
                prop_assert_eq!(verdict.replicas, wanted, "more come at once");
            }
            let Some(to) = verdict.replicas else {
                if wanted.is_some_and(|wanted| wanted != replicas) {
                    prop_assert!(verdict.held.is_some(), "what is held says why");
                }
                prop_assert!(verdict.held != Some(Held::NoMeasurement) || wanted.is_none());
                continue;
            };
            prop_assert!(may && to != replicas);
            prop_assert_eq!(autoscale.bound(to), to, "outside of the bounds");
            if to < replicas {
                let window = autoscale.stabilisation;
                let whole = seen.first().is_some_and(|(first, _)| now.since(*first) >= window);
                prop_assert!(whole, "fewer before the whole stabilisation was seen");
                let within = seen.iter().filter(|(at, _)| at.after(window) > now || *at == now);
                let most = within.map(|(_, wanted)| *wanted).max().unwrap_or(0);
                prop_assert!(to >= most, "fewer than were wanted meanwhile: {to}, {most}");
                prop_assert_eq!(unmeasured, 0, "fewer though not all were measured");
            }
            (replicas, scaled_at) = (to, Some(now));
        }
    }
}
