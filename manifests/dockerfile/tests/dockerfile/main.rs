//! The example Dockerfiles: what is read, planned and resolved of them is kept in `tests/golden`, and what is told of the bad
//! ones. `UPDATE_EXPECT=1` writes the files anew.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use expect_test::expect_file;
use swarm_dockerfile::{
    Action, Base, Image, Plan, Platform, Problems, StageEnd, StageRun, Wishes, plan, read,
};

mod meaning;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What stands for every base image.
fn busybox() -> Image {
    let document = r#"{
        "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z",
        "config": {"Env": ["PATH=/bin:/sbin"], "Cmd": ["sh"], "Volumes": null, "Labels": null},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:00"]},
        "history": [{"created_by": "busybox"}]
    }"#;
    serde_json::from_str(document).unwrap()
}

/// Flags of a build in a file beside the Dockerfile; the rest of a `--build-arg`'s line is its value.
fn wishes(folder: &Path) -> Wishes {
    let text = std::fs::read_to_string(folder.join("wishes")).unwrap_or_default();
    let mut wishes = Wishes { platform: Platform::linux("amd64"), ..Wishes::default() };
    let mut rest = text.trim();
    while let Some(flag) = rest.split_whitespace().next() {
        rest = rest[flag.len()..].trim_start();
        let end = rest.find(" --").unwrap_or(rest.len());
        let value = rest[..end].to_owned();
        rest = rest[end..].trim_start();
        match flag {
            "--target" => wishes.target = Some(value),
            "--build-arg" => {
                let (name, value) = value.split_once('=').unwrap();
                wishes.build_args.insert(name.to_owned(), value.to_owned());
            }
            "--secret" => wishes.secrets.get_or_insert_default().extend([value]),
            other => panic!("a wish is not known: {other}"),
        }
    }
    wishes
}

/// Everything that is known of a build before any file is touched.
fn resolved(text: &str, wishes: &Wishes) -> Result<String, Problems> {
    let dockerfile = read(text, "Dockerfile")?;
    let plan = plan(&dockerfile, wishes)?;
    let mut shown = String::new();
    let mut ends: Vec<StageEnd> = Vec::new();
    for warning in &plan.warnings {
        writeln!(shown, "warning: {warning}").unwrap();
    }
    for place in 0..plan.stages.len() {
        ends.push(stage(&plan, place, &ends, &mut shown)?);
    }
    let image = serde_json::to_string_pretty(&ends.last().unwrap().image).unwrap();
    writeln!(shown, "\n{image}").unwrap();
    Ok(shown)
}

fn stage(
    plan: &Plan,
    place: usize,
    ends: &[StageEnd],
    shown: &mut String,
) -> Result<StageEnd, Problems> {
    let stage = &plan.stages[place];
    let name = stage.name.as_deref().unwrap_or("-");
    writeln!(shown, "stage {} {name} line {} for {}", stage.index, stage.line, stage.platform)
        .unwrap();
    writeln!(shown, "  base {:?} needs {:?} images {:?}", stage.base, stage.needs, stage.images)
        .unwrap();
    let base = match &stage.base {
        Base::Scratch => Image::scratch(&stage.platform).into(),
        Base::Image(_) => busybox().into(),
        Base::Stage(other) => ends[*other].clone(),
    };
    let mut run = StageRun::begin(plan, place, &base)?;
    while let Some(step) = run.next_step()? {
        writeln!(shown, "  {}: {}", step.line, step.text).unwrap();
        if step.action != Action::Configure {
            writeln!(shown, "    {}", serde_json::to_string(&step.action).unwrap()).unwrap();
        }
        if let Action::Run(run) = &step.action {
            assert!(!run.hidden_env.iter().any(|hidden| run.env.contains(hidden)));
        }
        for warning in run.take_warnings() {
            writeln!(shown, "    warning: {warning}").unwrap();
        }
    }
    Ok(run.finish())
}

fn examples() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("examples")).unwrap();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("Dockerfile").exists());
    folders.sort();
    folders
}

#[test]
fn examples_are_resolved_as_before() {
    let examples = examples();
    assert!(examples.len() >= 25, "the examples were found");
    for folder in examples {
        let text = std::fs::read_to_string(folder.join("Dockerfile")).unwrap();
        let shown = match resolved(&text, &wishes(&folder)) {
            Ok(shown) => shown,
            Err(problems) => panic!("{}: {problems}", folder.display()),
        };
        let name = folder.file_name().unwrap().to_str().unwrap();
        expect_file![root().join(format!("tests/golden/{name}.txt"))].assert_eq(&shown);
    }
}

#[test]
fn bad_files_are_told_everything_that_is_wrong() {
    let mut told = BTreeMap::new();
    for entry in std::fs::read_dir(root().join("examples/bad")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut wishes = Wishes { platform: Platform::linux("amd64"), ..Wishes::default() };
        if name.starts_with("plan-target") {
            wishes.target = Some("relase".to_owned());
        }
        wishes.secrets = Some(std::collections::BTreeSet::default());
        match resolved(&text, &wishes) {
            Ok(_) => panic!("{name} has nothing wrong"),
            Err(problems) => told.insert(name, problems.to_string()),
        };
    }
    let mut all = String::new();
    for (name, text) in told {
        writeln!(all, "== {name}\n{text}\n").unwrap();
    }
    expect_file![root().join("tests/golden/bad.txt")].assert_eq(&all);
}
