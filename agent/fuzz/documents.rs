//! Manifests, indexes, configurations and names, with bytes changed.

use swarm_agent::image::{DocumentView, Reference, readers};

use crate::random::Random;

/// Inputs are not made longer than a little more than what is read.
const LONGEST: usize = (8 << 20) + 64;
/// So long is an input of one piece over and over.
const LONG: usize = 1 << 20;
const DIGEST: &str = "sha256:51d9b231d5129e3ffc267c9d455c49d789bf3167b611a07ab6e4b3304c96b0e7";

/// What means something in a document or a name.
pub(crate) const PIECES: [&str; 54] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "null",
    "true",
    "-1",
    "1e400",
    "18446744073709551616",
    "{\"a\":",
    "[[[[",
    "\\u0000",
    "\\ud800",
    "\"schemaVersion\":2,",
    "\"subject\":",
    "\"artifactType\":\"a/b\",",
    "\"annotations\":{\"a\":1},",
    "nondistributable",
    "\"manifests\":",
    "\"manifests\":[],",
    "\"config\":",
    "\"config\":null,",
    "\"layers\":",
    "\"layers\":[{}],",
    "\"digest\":",
    "\"size\":",
    "\"mediaType\":",
    "\"platform\":",
    "\"os\":\"linux\",",
    "\"architecture\":\"amd64\",",
    "\"variant\":null,",
    "\"rootfs\":",
    "\"diff_ids\":",
    "\"Env\":",
    "\"Volumes\":{\"/\":{}},",
    "\"Entrypoint\":\"x\",",
    "\"Healthcheck\":",
    "\"Test\":[],",
    "\"Interval\":-9223372036854775808,",
    DIGEST,
    "sha256:",
    "sha512:",
    "@",
    "/",
    "..",
    "localhost",
    "docker.io/library/",
    ":5000/",
    "__",
    "\u{e9}",
    "\0",
];

/// Documents as registries have them.
pub(crate) fn documents() -> Vec<Vec<u8>> {
    let descriptor = format!(r#"{{"mediaType":"a/b","digest":"{DIGEST}","size":12}}"#);
    let platform = r#""platform":{"os":"linux","architecture":"amd64","variant":"v2"}"#;
    let entry = format!(r#"{{"mediaType":"a/b","digest":"{DIGEST}","size":12,{platform}}}"#);
    let texts = [
        format!(
            r#"{{"schemaVersion":2,"config":{descriptor},"layers":[{descriptor},{descriptor}]}}"#
        ),
        format!(
            r#"{{"schemaVersion":2,"manifests":[{entry},{descriptor}],"annotations":{{"a":"b"}}}}"#
        ),
        format!(
            r#"{{"architecture":"amd64","os":"linux","created":"2026-01-01T00:00:00Z","config":{{"Env":["A=b"],
            "Entrypoint":["x"],"Cmd":null,"User":"1:2","WorkingDir":"/","Volumes":{{"/v":{{}}}},"StopSignal":"SIGINT",
            "Healthcheck":{{"Test":["CMD","x"],"Interval":1000000000,"Retries":3}},"Shell":["sh","-c"]}},
            "rootfs":{{"type":"layers","diff_ids":["{DIGEST}"]}},"history":[{{"created_by":"x","empty_layer":true}}]}}"#
        ),
        r#"{"schemaVersion":1,"fsLayers":[],"history":[]}"#.to_owned(),
        "{}".to_owned(),
    ];
    texts.map(String::into_bytes).into()
}

/// Names of images.
pub(crate) fn names() -> Vec<Vec<u8>> {
    let pinned = format!("registry.example:5000/a/b-c__d:v1@{DIGEST}");
    ["redis", "redis:alpine", "localhost/app:1", "10.0.0.1:5000/a/b/c:latest", &pinned]
        .map(|name| name.as_bytes().to_vec())
        .into()
}

/// Each piece over and over.
pub(crate) fn repeated(pieces: &[&str]) -> Vec<Vec<u8>> {
    pieces.iter().map(|piece| piece.repeat(LONG / piece.len()).into_bytes()).collect()
}

/// What is only slow when it is long is seldom met by luck.
pub(crate) fn long() -> Vec<Vec<u8>> {
    repeated(&PIECES)
}

/// All that is known of a document, in words.
pub(crate) fn read(bytes: &[u8]) -> String {
    let manifest = match readers::read_manifest(bytes) {
        Ok(named) => format!("names {}", named.len()),
        Err(error) => error.to_string(),
    };
    let config = match readers::read_config(bytes) {
        Ok((config, layers)) => {
            format!("{} layers, {} {}", layers.len(), config.env.len(), config.cmd.len())
        }
        Err(error) => error.to_string(),
    };
    let pushed = match DocumentView::read(bytes, Some("a/b")) {
        Ok(view) => {
            let named = (view.blobs.len(), view.manifests.len(), view.content().len());
            format!("pushed {named:?} {}", view.subject.is_some())
        }
        Err(error) => error.to_string(),
    };
    format!("{manifest}; {config}; {pushed}")
}

/// A name is read, or refused; what is read is written so that it is read as the same.
pub(crate) fn read_name(bytes: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(bytes);
    let reference: Reference = match text.parse() {
        Ok(reference) => reference,
        Err(error) => return Ok(format!("{error}")),
    };
    let written = reference.to_string();
    match written.parse::<Reference>() {
        Ok(again) if again == reference => Ok(format!(
            "{} parts, tag {}, digest {}",
            reference.repository.split('/').count(),
            reference.tag.is_some(),
            reference.digest.is_some()
        )),
        other => Err(format!("it is written as `{written}`, which is read as {other:?}")),
    }
}

/// An input after one to eight changes. `other` lends parts, and `pieces` are what means something.
pub(crate) fn mutated(
    random: &mut Random,
    mut input: Vec<u8>,
    other: &[u8],
    pieces: &[&str],
) -> Vec<u8> {
    for _ in 0..=random.below(8) {
        let start = random.below(input.len() + 1);
        let end = input.len().min(start + random.below(16));
        match random.below(6) {
            0 => drop(input.drain(start..end)),
            1 => {
                if let Some(byte) = input.get_mut(start) {
                    *byte ^= 1 << random.below(8);
                }
            }
            2 | 3 => {
                let piece = random.pick(pieces).map_or("", |piece| *piece);
                input.splice(start..start, piece.bytes());
            }
            4 => {
                let from = random.below(other.len() + 1);
                let to = other.len().min(from + random.below(64));
                input.splice(start..start, other[from..to].iter().copied());
            }
            _ => {
                let part = input[start..end].to_vec();
                let most = if random.once_in(50) { 1 << 12 } else { 8 };
                let times = random.below(most);
                input.splice(start..start, part.repeat(times));
            }
        }
        input.truncate(LONGEST);
    }
    input
}
