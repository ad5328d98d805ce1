//! Services whose number of tasks follows what is measured.

use expect_test::expect;
use swarm_proto::object::{ScaleMetric, Scaling, ScalingReport, Service, TargetReport};
use swarm_proto::spec::{Autoscale, Decimal, Scrape, ScrapeTarget};
use swarmctl::state::State;
use swarmctl::view::{EventView, ServiceView};

use crate::fake::Fake;
use crate::objects::{NOW, ago, state};

fn report(service: &str) -> ScalingReport {
    let cpu = TargetReport {
        metric: ScaleMetric::Cpu,
        target: Decimal(70_000),
        measured: Some(Decimal(20_000)),
        tasks: 4,
    };
    let scraped = TargetReport {
        metric: ScaleMetric::Scraped,
        target: Decimal(500),
        measured: None,
        tasks: 0,
    };
    ScalingReport {
        service: service.to_owned(),
        replicas: 4,
        min: 2,
        max: 10,
        targets: vec![cpu, scraped],
        counted: 4,
        wanted: Some(2),
        held: Some("stabilising, 20 s left".to_owned()),
    }
}

#[tokio::test]
async fn each_service_is_shown_with_what_holds_it() {
    let fake = Fake::start(state()).await;
    let blind = ScalingReport { wanted: None, held: None, ..report("shop_api") };
    *fake.script.scaling.lock().unwrap() = vec![report("shop_web"), blind];
    let said = fake.run(&["autoscale", "-o", "wide"]).await;
    assert_eq!(said.code, Some(0), "{}", said.talk);
    expect![[r#"
        SERVICE    REPLICAS   BOUNDS   TARGETS                     WANTED   HELD                     COUNTED
        shop_api   4          2-10     cpu 20%/70%, scrape ?/0.5   ?                                 4
        shop_web   4          2-10     cpu 20%/70%, scrape ?/0.5   2        stabilising, 20 s left   4
    "#]]
    .assert_eq(&said.data);
    let said = fake.run(&["autoscale", "shop_web", "-o", "json"]).await;
    expect![[r#"
        [
          {
            "service": "shop_web",
            "replicas": 4,
            "min": 2,
            "max": 10,
            "targets": [
              {
                "metric": "cpu",
                "target": "70",
                "measured": "20",
                "tasks": 4
              },
              {
                "metric": "scrape",
                "target": "0.5",
                "measured": null,
                "tasks": 0
              }
            ],
            "counted": 4,
            "wanted": 2,
            "held": "stabilising, 20 s left"
          }
        ]
    "#]]
    .assert_eq(&said.data);
    let said = fake.run(&["autoscale", "shop_wep"]).await;
    assert_eq!(said.code, Some(1));
    expect![[r#"
        error: scaled service `shop_wep` does not exist

        hint: only services with `x-swarm: autoscale` are scaled by themselves
    "#]]
    .assert_eq(&said.talk);
}

fn scaled() -> Service {
    let mut service = state().services.into_values().next().unwrap();
    let scrape = Scrape { port: 9090, path: "/metrics".into(), metric: "waiting".into() };
    service.spec.autoscale = Some(Autoscale {
        min: 2,
        max: 10,
        cpu: Some(70),
        memory: None,
        requests: Some(Decimal(500)),
        scrape: Some(ScrapeTarget { scrape, target: Decimal(12_500) }),
        stabilisation: Autoscale::STABILISATION,
        cool_down: Autoscale::COOL_DOWN,
    });
    let reason = "cpu 140% (target 70%)".to_owned();
    service.scaling = Some(Scaling { at: ago(60), from: 2, to: 4, reason });
    service.updated_at = ago(60);
    service
}

#[test]
fn an_inspection_says_how_it_is_scaled() {
    let view = ServiceView::of(&state(), &scaled());
    expect![[r#"
        {
          "min": 2,
          "max": 10,
          "cpu": 70,
          "memory": null,
          "requests": "0.5",
          "scrape": {
            "port": 9090,
            "path": "/metrics",
            "metric": "waiting",
            "target": "12.5"
          },
          "stabilisation": 300,
          "cool_down": 30,
          "last": {
            "at": "2023-11-14T22:12:20.000Z",
            "from": 2,
            "to": 4,
            "reason": "cpu 140% (target 70%)"
          }
        }
    "#]]
    .assert_eq(&swarmctl::view::json(&view.autoscale).unwrap());
}

#[test]
fn an_event_says_from_to_and_why() {
    let mut state = state();
    let service = scaled();
    state.services = [(service.id, service)].into();
    let line = |state: &State| {
        let events = EventView::of_past(state);
        events.iter().find(|event| event.kind == "service").unwrap().line()
    };
    expect![
        "2023-11-14T22:12:20.000Z  service  counter_web  scaled  from 2 to 4: cpu 140% (target 70%)"
    ]
    .assert_eq(&line(&state));
    // What changed otherwise since is told.
    state.services.values_mut().next().unwrap().updated_at = NOW;
    assert!(!line(&state).contains("scaled"), "{}", line(&state));
}
