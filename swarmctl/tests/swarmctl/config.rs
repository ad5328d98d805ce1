//! What stack files say, with no cluster.

use expect_test::expect;

use crate::fake::Fake;
use crate::objects::state;
use crate::program::{Said, swarmctl};

const SHOP: &str = "\
name: shop
services:
  web:
    image: nginx:${TAG:-1.27}
    expose: [\"80\"]
    scale: 2
    ports: [\"8080:80\"]
    volumes: [\"data:/data\"]
    environment: {PRICE: 5$$}
  db:
    image: postgres@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
volumes:
  data:
";

const REFUSED: &str = "\
services:
  web:
    image: nginx
    storage_opt: {size: 1G}
    links: [db]
    imge: x
    deploy:
      replicas: many
";

async fn config(arguments: &[&str]) -> String {
    said(arguments).await.transcript()
}

async fn said(arguments: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shop.yml"), SHOP).unwrap();
    std::fs::write(folder.path().join("refused.yml"), REFUSED).unwrap();
    let output = swarmctl(folder.path(), arguments).output().await.unwrap();
    Said::of(output, folder.path())
}

#[tokio::test]
async fn the_resolved_file() {
    expect![[r#"
        name: shop
        services:
          db:
            image: docker.io/library/postgres@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
            networks:
              default: null
            deploy:
              mode: replicated
              replicas: 1
          web:
            image: docker.io/library/nginx:1.27
            environment:
              PRICE: 5$$
            volumes:
            - type: volume
              source: data
              target: /data
            ports:
            - target: 80
              published: 8080
              protocol: tcp
              mode: ingress
            networks:
              default: null
            deploy:
              mode: replicated
              replicas: 2
        networks:
          default: null
        volumes:
          data: null
        ---
        warning: shop.yml:5:5: `expose` has no effect: services of a network reach each other's every port
        ---
        exit code 0
    "#]].assert_eq(&config(&["config", "-f", "shop.yml"]).await);
    let old = config(&["stack", "config", "-c", "shop.yml"]).await;
    assert_eq!(old, config(&["config", "-f", "shop.yml"]).await);
    let json = said(&["config", "-f", "shop.yml", "--format", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json.data).unwrap();
    assert_eq!(json["services"]["web"]["deploy"]["replicas"], 2);
    let same = said(&["config", "-f", "shop.yml", "-o", "json"]).await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&same.data).unwrap(), json);
}

#[tokio::test]
async fn parts_of_it() {
    for (flag, expected) in [
        ("--services", "db\nweb\n"),
        ("--volumes", "data\n"),
        ("--networks", "default\n"),
        ("--quiet", ""),
        (
            "--images",
            "docker.io/library/nginx:1.27\ndocker.io/library/postgres@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n",
        ),
    ] {
        let said = said(&["config", "-f", "shop.yml", flag]).await;
        assert_eq!((said.data.as_str(), said.code), (expected, Some(0)), "{flag}");
    }
    expect![[r#"
        name: shop
        services:
          web:
            image: nginx:${TAG:-1.27}
            expose:
            - '80'
            scale: 2
            ports:
            - 8080:80
            volumes:
            - data:/data
            environment:
              PRICE: 5$$
          db:
            image: postgres@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
        volumes:
          data: null
        ---
        ---
        exit code 0
    "#]]
    .assert_eq(&config(&["config", "-f", "shop.yml", "--no-interpolate"]).await);
}

#[tokio::test]
async fn hashes_of_services() {
    let all = said(&["config", "-f", "shop.yml", "--hash"]).await.data;
    let web = said(&["config", "-f", "shop.yml", "--hash", "web"]).await.data;
    assert!(all.ends_with(&web) && all.lines().count() == 2, "{all}");
    let (name, hash) = web.trim_end().split_once(' ').unwrap();
    assert_eq!((name, hash.len()), ("web", 64));
    expect![[r#"
        ---
        warning: shop.yml:5:5: `expose` has no effect: services of a network reach each other's every port
        error: service `wep` does not exist

        hint: the services are `db`, `web`
        ---
        exit code 1
    "#]]
    .assert_eq(&config(&["config", "-f", "shop.yml", "--hash", "wep"]).await);
}

#[tokio::test]
async fn what_becomes_of_each_key() {
    expect![[r#"
        KEY                        PLACE           ANSWER      WHY
        name                       shop.yml:1:1    honoured
        services                   shop.yml:2:1    honoured
        services.web.image         shop.yml:4:5    honoured
        services.web.expose        shop.yml:5:5    no effect   services of a network reach each other's every port
        services.web.scale         shop.yml:6:5    adapted     as `deploy.replicas`
        services.web.ports         shop.yml:7:5    honoured
        services.web.volumes       shop.yml:8:5    honoured
        services.web.environment   shop.yml:9:5    honoured
        services.db.image          shop.yml:11:5   honoured
        volumes                    shop.yml:12:1   honoured
        ---
        ---
        exit code 0
    "#]].assert_eq(&config(&["config", "-f", "shop.yml", "--report"]).await);
    expect![[r#"
        KEY                            PLACE             ANSWER     WHY
        services                       refused.yml:1:1   honoured
        services.web.image             refused.yml:3:5   honoured
        services.web.storage_opt       refused.yml:4:5   refused    `storage_opt` is not supported yet; remove it for now
        services.web.links             refused.yml:5:5   refused    `links` cannot be honoured: services of a network find each other by name; remove it, or give the other service an alias
        services.web.imge              refused.yml:6:5   refused    unknown key `imge` in service `web`; did you mean `image`?
        services.web.deploy            refused.yml:7:5   honoured
        services.web.deploy.replicas   refused.yml:8:7   refused    `replicas` must be a whole number, found the text `many`
        ---
        error: 4 keys are refused
        ---
        exit code 1
    "#]].assert_eq(&config(&["config", "-f", "refused.yml", "--report"]).await);
    let json = said(&["config", "-f", "refused.yml", "--report", "-o", "json"]).await;
    let keys: Vec<serde_json::Value> = serde_json::from_str(&json.data).unwrap();
    let links = keys.iter().find(|key| key["key"] == "services.web.links").unwrap();
    assert_eq!((&links["answer"], &links["line"]), (&"refused".into(), &5.into()));
}

#[tokio::test]
async fn into_a_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shop.yml"), SHOP).unwrap();
    let arguments = ["config", "-f", "shop.yml", "--services", "--output-file", "names"];
    let output = swarmctl(folder.path(), &arguments).output().await.unwrap();
    assert!(output.status.success() && output.stdout.is_empty());
    assert_eq!(std::fs::read_to_string(folder.path().join("names")).unwrap(), "db\nweb\n");
}

#[tokio::test]
async fn wrong_usage() {
    let nothing = tempfile::tempdir().unwrap();
    let output = swarmctl(nothing.path(), &["config"]).output().await.unwrap();
    expect![[r#"
        ---
        error: `/here` has no compose.yaml, compose.yml, docker-compose.yml, docker-compose.yaml, nor has a folder above it

        hint: name the stack file with `-f FILE`
        ---
        exit code 1
    "#]].assert_eq(&Said::of(output, nothing.path()).transcript());
    let both = said(&["config", "-f", "shop.yml", "--services", "--images"]).await;
    assert_eq!(both.code, Some(2), "{both:?}");
}

#[tokio::test]
async fn the_schema_is_json() {
    let said = said(&["config", "--schema"]).await;
    let schema: serde_json::Value = serde_json::from_str(&said.data).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let services = &schema["properties"]["services"]["additionalProperties"]["properties"];
    assert!(services["image"].is_object());
}

#[tokio::test]
async fn deploys_in_the_words_of_docker() {
    let fake = Fake::start(state()).await;
    let arguments =
        ["stack", "deploy", "-c", "stack.yml", "--prune", "--with-registry-auth", "-d", "counter"];
    expect![[r#"
        ---
        warning: `--with-registry-auth` is not supported yet: hosts ask registries without credentials
        service web created
        ---
        exit code 0
    "#]].assert_eq(&fake.run(&arguments).await.transcript());
    assert!(fake.script.seen.lock().unwrap().iter().any(|call| call.contains("eploy")));
}

/// A folder with a project of default names, and a folder in it.
fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("below")).unwrap();
    write(
        "compose.yaml",
        "services: {web: {image: \"nginx:${TAG:-none}\"}, db: {image: b, profiles: [data]}}",
    );
    write("compose.override.yaml", "services: {web: {command: [over]}}");
    write(".env", "TAG=of-env\nCOMPOSE_PROJECT_NAME=shop\n");
    write("other.env", "TAG=other\n");
    write("below/.env", "TAG=below\n");
    folder
}

#[tokio::test]
async fn files_with_default_names_and_their_flags() {
    let folder = project();
    let resolved = async |below: &str, arguments: &[&str]| {
        let mut all = vec!["config", "--format", "json"];
        all.extend(arguments);
        let output = swarmctl(&folder.path().join(below), &all).output().await.unwrap();
        let said = Said::of(output, folder.path());
        let json: serde_json::Value = serde_json::from_str(&said.data).unwrap();
        let services = json["services"].as_object().unwrap();
        let names: Vec<&str> = services.keys().map(String::as_str).collect();
        let image = services["web"]["image"].as_str().unwrap();
        let image = image.trim_start_matches("docker.io/library/");
        let over = services["web"].get("command").is_some();
        format!("{} {} {image} {over}", json["name"].as_str().unwrap(), names.join("+"))
    };
    for (below, arguments, expected) in [
        ("", &[][..], "shop web nginx:of-env true"),
        ("below", &[], "shop web nginx:of-env true"),
        ("", &["--profile", "data"], "shop db+web nginx:of-env true"),
        ("", &["--profile", "*", "--name", "given"], "given db+web nginx:of-env true"),
        ("", &["-f", "compose.yaml"], "shop web nginx:of-env false"),
        ("", &["-f", "compose.yaml", "-c", "compose.override.yaml"], "shop web nginx:of-env true"),
        ("", &["--env-file", "other.env", "--name", "a"], "a web nginx:other true"),
        ("", &["--env-file", ".env", "--env-file", "other.env"], "shop web nginx:other true"),
        ("", &["--project-directory", "below"], "below web nginx:below true"),
    ] {
        assert_eq!(resolved(below, arguments).await, expected, "{below} {arguments:?}");
    }
}

#[tokio::test]
async fn deploys_take_the_same_flags() {
    let fake = Fake::start(state()).await;
    std::fs::write(fake.folder.path().join("compose.yaml"), SHOP).unwrap();
    std::fs::write(fake.folder.path().join("tag.env"), "TAG=1\nTAG=${TAG:?}\n").unwrap();
    let flags = ["--env-file", "tag.env", "--profile", "a", "--project-directory", ".", "-d"];
    for command in [&["deploy", "--name", "one"][..], &["stack", "deploy", "two"]] {
        let command = match command {
            ["deploy", ..] => [command, &flags[..6], &["--detach"]].concat(),
            _ => [command, &flags[..]].concat(),
        };
        let said = fake.run(&command).await;
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    let seen = fake.script.seen.lock().unwrap();
    let names: Vec<&str> = seen.iter().filter_map(|call| call.split(' ').nth(1)).collect();
    assert_eq!(names, ["one", "two"]);
}
