//! What must hold for files that nobody wrote down.

use proptest::prelude::*;
use swarm_dockerfile::{
    Action, From, Image, Mount, Network, Plan, Platform, Problems, Source, StageEnd, StageRun,
    Step, Wishes, plan, read,
};

fn wishes() -> Wishes {
    Wishes { platform: Platform::linux("arm64"), ..Wishes::default() }
}

fn planned(text: &str) -> Plan {
    plan(&read(text, "Dockerfile").unwrap(), &wishes()).unwrap()
}

fn steps(plan: &Plan, base: &StageEnd) -> Result<(Vec<Step>, StageEnd), Problems> {
    let mut run = StageRun::begin(plan, plan.stages.len() - 1, base)?;
    let mut steps = Vec::new();
    while let Some(step) = run.next_step()? {
        steps.push(step);
    }
    Ok((steps, run.finish()))
}

fn image(on_build: &[&str]) -> Image {
    let mut image = Image::scratch(&Platform::linux("arm64"));
    image.config.on_build = on_build.iter().map(|text| (*text).to_owned()).collect();
    image
}

#[test]
fn triggers_of_an_image_come_first_and_only_once() {
    let plan = planned("FROM tools AS other\nFROM base\nCOPY --from=other /a /b\nUSER x\n");
    let base = image(&["COPY --from=other /x /y", "ENV A=$TARGETARCH", "RUN <<E\nhi\nE"]).into();
    let (steps, end) = steps(&plan, &base).unwrap();
    let lines: Vec<usize> = steps.iter().map(|step| step.line).collect();
    assert_eq!(lines, [0, 0, 0, 3, 4]);
    let Action::Copy(copy) = &steps[0].action else { panic!("{:?}", steps[0]) };
    assert_eq!(
        (&copy.from, copy.sources.as_slice()),
        (&From::Stage(0), [Source::Path("x".into())].as_slice())
    );
    let Action::Run(run) = &steps[2].action else { panic!("{:?}", steps[2]) };
    assert_eq!(run.arguments.last().unwrap(), "hi\n");
    assert!(end.image.config.on_build.is_empty());
}

#[test]
fn triggers_that_cannot_be_used_are_told_with_their_image() {
    let plan = planned("FROM tools AS other\nFROM registry.example/base:1\nRUN true\n");
    for (trigger, part) in [
        ("COPY --from=other /a /b", "`other`, which was not built before"),
        ("FROM x", "not one instruction"),
        ("RUNN x", "`RUNN`"),
        ("RUN a\nRUN b", "not one instruction"),
        ("ADD https://example.org/x /x", "not fetched"),
    ] {
        let Err(problems) = StageRun::begin(&plan, 0, &image(&[trigger]).into()) else {
            panic!("{trigger} is used");
        };
        assert_eq!(problems.0[0].file, "registry.example/base:1");
        assert!(problems.to_string().contains(part), "{trigger}: {problems}");
    }
}

#[test]
fn what_a_cache_may_not_know_is_in_no_key_and_no_history() {
    let text =
        "FROM base\nARG SHOWN\nRUN --mount=type=secret,id=token,env=TOKEN --network=none make\n";
    let mut wishes = wishes();
    for (name, value) in [("HTTPS_PROXY", "http://user:word@proxy"), ("SHOWN", "seen")] {
        wishes.build_args.insert(name.to_owned(), value.to_owned());
    }
    let plan = plan(&read(text, "Dockerfile").unwrap(), &wishes).unwrap();
    let (steps, end) = steps(&plan, &image(&[]).into()).unwrap();
    let Action::Run(run) = &steps[1].action else { panic!("{:?}", steps[1]) };
    assert_eq!(run.network, Network::None);
    assert!(matches!(&run.mounts[0], Mount::Secret { id, target: None, .. } if id == "token"));
    assert!(
        run.hidden_env.iter().any(|(name, value)| name == "https_proxy" && value.contains("word"))
    );
    let written = serde_json::to_string(&steps[1].action).unwrap()
        + &serde_json::to_string(&end.image).unwrap();
    assert!(written.contains("seen") && !written.contains("word"), "{written}");
}

#[test]
fn build_arguments_that_nothing_asks_for_are_named() {
    let mut wishes = wishes();
    wishes.build_args.insert("VERSON".to_owned(), "1".to_owned());
    let dockerfile = read("ARG VERSION\nFROM base\n", "Dockerfile").unwrap();
    let plan = plan(&dockerfile, &wishes).unwrap();
    assert!(plan.warnings[0].message.contains("do you mean `VERSION`?"), "{:?}", plan.warnings);
}

#[test]
fn only_what_the_target_needs_is_planned() {
    let text = "FROM a AS a\nFROM b AS b\nCOPY --from=a / /\nFROM ${UNSET} AS c\nFROM a AS d\nRUN --mount=from=b,target=/b x\n";
    let plan = planned(text);
    let indexes: Vec<usize> = plan.stages.iter().map(|stage| stage.index).collect();
    assert_eq!(indexes, [0, 1, 3]);
    let needs: Vec<Vec<usize>> =
        plan.stages.iter().map(|stage| stage.needs.iter().copied().collect()).collect();
    assert_eq!(needs, [vec![], vec![0], vec![0, 1]]);
}

#[test]
fn an_image_is_written_as_it_was_read() {
    let document = serde_json::json!({
        "created": "2026-01-01T00:00:00Z", "author": "me", "architecture": "arm", "variant": "v7", "os": "linux",
        "config": {
            "User": "1:2", "ExposedPorts": {"80/tcp": {}}, "Env": ["A=b"], "Entrypoint": ["e"], "Cmd": ["c"],
            "Volumes": {"/v": {}}, "WorkingDir": "/w", "Labels": {"l": "m"}, "StopSignal": "SIGINT",
            "Healthcheck": {"Test": ["CMD", "x"], "Interval": 5, "Retries": 2}, "OnBuild": ["RUN x"],
            "Shell": ["/bin/ash", "-c"],
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:1"]},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "x", "empty_layer": true}],
    });
    let image: Image = serde_json::from_value(document.clone()).unwrap();
    assert_eq!(serde_json::to_value(&image).unwrap(), document);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(FROM|RUN|COPY|ENV|ARG|ONBUILD|ADD|<<E|E|--mount=|[ $\\\\{}=\"',\n/a-c.:-]){0,60}") {
        if let Ok(dockerfile) = read(&text, "Dockerfile")
            && let Ok(plan) = plan(&dockerfile, &wishes())
        {
            let _ = steps(&plan, &image(&[]).into());
        }
    }

    #[test]
    fn a_plan_is_in_an_order_that_works(froms in prop::collection::vec((0usize..8, prop::option::of(0usize..8)), 1..8)) {
        let mut text = String::new();
        for (index, (base, copied)) in froms.iter().enumerate() {
            let base = if *base < index { format!("s{base}") } else { "busybox".to_owned() };
            text += &["FROM ", &base, " AS s", &index.to_string(), "\n"].concat();
            if let Some(copied) = copied.filter(|copied| *copied < index) {
                text += &["COPY --from=", &copied.to_string(), " /a /b\n"].concat();
            }
        }
        let plan = planned(&text);
        for (place, stage) in plan.stages.iter().enumerate() {
            prop_assert!(stage.needs.iter().all(|need| *need < place));
        }
        let last = plan.stages.len() - 1;
        prop_assert_eq!(plan.stages[last].index, froms.len() - 1);
        // Each but the target is there because another one needs it.
        for place in 0..last {
            prop_assert!(plan.stages.iter().any(|stage| stage.needs.contains(&place)));
        }
    }
}
