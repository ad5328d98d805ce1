//! Projects: folders that are read without a file's name, with what lies in them.

use std::path::PathBuf;

use expect_test::{expect, expect_file};
use swarm_manifests::{Environment, KeyOutcome, merged, open, read, report, yaml};

use crate::{environment, folder, transcript_in};

/// Each project is a folder that is read without a file's name.
fn projects(path: &str) -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir(folder().join(path)).unwrap();
    let mut projects: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    projects.sort();
    let read = |project: PathBuf| {
        let environment = Environment { working_dir: project.clone(), ..environment() };
        let name = project.strip_prefix(folder().join("examples")).unwrap().with_extension("txt");
        (folder().join("tests/golden").join(name), transcript_in(&[], &environment))
    };
    projects.into_iter().map(read).collect()
}

#[test]
fn good_projects_mean_this() {
    let projects = projects("examples/projects");
    assert!(projects.len() >= 7);
    for (golden, text) in projects {
        assert!(!text.starts_with("error:"), "{text}");
        expect_file![golden].assert_eq(&text);
    }
}

#[test]
fn bad_projects_are_explained() {
    let projects = projects("examples/bad/projects");
    assert!(projects.len() >= 11);
    for (golden, text) in projects {
        let text = text.replace("/stacks/examples/bad/projects", "/projects");
        assert!(text.starts_with("error:"), "{golden:?} is good?\n{text}");
        expect_file![golden].assert_eq(&text);
    }
}

#[test]
fn given_profiles_and_files_of_variables_go_first() {
    let project = |name: &str| folder().join("examples/projects").join(name);
    let profiles = vec!["metrics".to_owned()];
    let given = Environment { working_dir: project("profiles"), profiles, ..environment() };
    let stack = read(&[], &given).unwrap().0;
    assert_eq!(stack.spec.services.keys().collect::<Vec<_>>(), ["metrics", "web"]);
    let env_files = vec![PathBuf::from(".env"), PathBuf::from("../include/cache/cache.env")];
    let given = Environment { working_dir: project("dotenv"), env_files, ..environment() };
    assert_eq!(read(&[], &given).unwrap().0.spec.name, "from-env");
    let env_files = vec![PathBuf::from("web.env")];
    let given = Environment { working_dir: project("dotenv"), env_files, ..environment() };
    let errors = read(&[], &given).unwrap_err().to_string();
    assert!(errors.contains("variable `FULL` must be set: is set in .env"), "{errors}");
}

#[test]
fn variables_of_compose_name_the_files() {
    let mut environment = environment();
    let mut name = |key: &str, value: &str| {
        environment.vars.insert(key.to_owned(), value.to_owned());
        read(&[], &environment).map(|(stack, _)| stack.spec.name)
    };
    let layers = "examples/layers/base.yml:examples/layers/production.yml";
    assert_eq!(name("COMPOSE_FILE", layers).unwrap(), "layers");
    assert_eq!(name("COMPOSE_PROJECT_NAME", "given").unwrap(), "given");
    assert!(name("COMPOSE_PATH_SEPARATOR", ";").is_err());
}

fn in_project(name: &str) -> Environment {
    let working_dir = folder().join("examples/projects").join(name);
    Environment { working_dir, ..environment() }
}

#[test]
fn the_name_is_a_variable() {
    let mut environment = in_project("dotenv");
    let named = |environment: &Environment| {
        let (stack, _) = read(&[], environment).unwrap();
        (
            stack.spec.name.clone(),
            stack.spec.services["web"].container.environment["NAMED"].clone().unwrap(),
        )
    };
    assert_eq!(named(&environment), ("from-env".to_owned(), "from-env".to_owned()));
    environment.stack_name = Some("given".to_owned());
    assert_eq!(named(&environment), ("given".to_owned(), "given".to_owned()));
}

#[test]
fn paths_start_at_the_project_directory() {
    let project = folder().join("examples/projects");
    let files = [PathBuf::from("include/cache/compose.yaml")];
    let mut environment = Environment { working_dir: project, ..environment() };
    environment.env_files = vec![PathBuf::from("include/cache/cache.env")];
    let mounts = |environment: &Environment| {
        let (stack, _) = read(&files, environment).unwrap();
        let paths: Vec<String> =
            stack.sources.values().map(|source| format!("{source:?}")).collect();
        (stack.spec.name, paths.join(", ").replace(folder().to_str().unwrap(), ""))
    };
    expect![[r#"
        (
            "cache",
            "File(\"/examples/projects/include/cache/cache.conf\")",
        )
    "#]]
    .assert_debug_eq(&mounts(&environment));
    environment.project_directory = Some(PathBuf::from("names"));
    expect![[r#"
        (
            "names",
            "File(\"/examples/projects/names/cache.conf\")",
        )
    "#]]
    .assert_debug_eq(&mounts(&environment));
}

#[test]
fn the_report_has_what_is_gone_before_the_decode() {
    let uses = |name: &str| {
        let mut environment = in_project(name);
        environment.profiles = vec!["*".to_owned()];
        let (sources, _) = open(&[], &environment).unwrap();
        let (report, _) = report(&sources, &environment).unwrap();
        assert!(!report.is_refused());
        let honoured = report.keys.iter().filter(|key| key.outcome == KeyOutcome::Honoured);
        honoured.map(|key| key.path.clone()).collect::<Vec<_>>()
    };
    for (project, path) in [
        ("extends", "services.web.extends"),
        ("extends", "services.far.extends.file"),
        ("include", "include"),
        ("include", "include[1].env_file"),
        ("profiles", "services.debug.profiles"),
        ("dotenv", "services.web.env_file[1].required"),
    ] {
        let uses = uses(project);
        assert!(uses.iter().any(|known| known == path), "{path}: {uses:?}");
    }
}

#[test]
fn files_are_brought_in_also_where_variables_stay() {
    for name in ["include", "extends", "variables"] {
        let environment = in_project(name);
        let (sources, _) = open(&[], &environment).unwrap();
        let text = yaml::to_string(&merged(&sources, &environment).unwrap()).unwrap();
        let golden = folder().join("tests/golden/projects").join(format!("{name}-merged.yml"));
        expect_file![golden].assert_eq(&text.replace(folder().to_str().unwrap(), "/stacks"));
    }
}
