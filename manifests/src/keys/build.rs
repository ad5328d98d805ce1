//! How a service's image is built.

use super::service::{HOSTS, ULIMITS};
use super::{Key, Level, Shape, TEXTS, hint, honoured, later, never};

const GRANTS: Shape = Shape::List(&Shape::Either(&[Shape::Text, Shape::Mapping(&BUILD_SECRET)]));
const FORMS: Shape = Shape::Either(&[Shape::Text, Shape::Mapping(&BUILD)]);
const BY_CONTENT: &str = "the host that builds keeps layers by what they are made of";

pub(super) const KEY: Key = honoured(
    "build",
    "3.0",
    FORMS,
    &["."],
)
.meaning(
    "The specification's: `deploy` builds what no host has and all with `--build`. The image is called `image`, or \
     `STACK_SERVICE`. Swarm passes `build` over with a warning.",
);

pub(crate) static BUILD: Level = Level {
    keys: &[
        honoured("context", "3.0", Shape::Text, &["context"])
            .meaning("A folder beside the stack file. Addresses of repositories are refused."),
        honoured("dockerfile", "3.0", Shape::Text, &["web.dockerfile"]),
        honoured("dockerfile_inline", "spec", Shape::Text, &["FROM busybox"]),
        honoured("args", "3.0", Shape::Pairs, &["{VERSION: \"1\"}", "[VERSION=1, TOKEN]"]),
        honoured("target", "3.4", Shape::Text, &["release"]),
        honoured("secrets", "spec", GRANTS, &["[key]"]),
        honoured("tags", "spec", TEXTS, &["[\"web:2\"]"]),
        honoured("no_cache", "spec", Shape::Flag, &["true"]),
        honoured("pull", "spec", Shape::Flag, &["true"]),
        hint("cache_from", "3.2", TEXTS, &["[web:1]"], BY_CONTENT),
        hint("cache_to", "spec", TEXTS, &["[type=inline]"], BY_CONTENT),
        honoured("labels", "3.3", Shape::Pairs, &["{a: b}"])
            .meaning("In place of those of the Dockerfile with the same name."),
        honoured("network", "3.4", Shape::Text, &["none", "host"]).meaning(
            "`default`, with a way out, `host` or `none`, where `RUN --network` says nothing. Other networks are refused.",
        ),
        honoured("shm_size", "3.5", Shape::Bytes, &["64m"]),
        honoured("extra_hosts", "spec", HOSTS, &["[\"db:10.0.0.1\"]"]),
        honoured("ulimits", "spec", ULIMITS, &["{nofile: 1024}"]),
        later("additional_contexts", "spec", Shape::Pairs, &["{a: docker-image://b}"], ""),
        later("no_cache_filter", "spec", TEXTS, &["[release]"], "use `no_cache`"),
        later("ssh", "spec", Shape::Pairs, &["[default]"], "give the key as a secret"),
        never(
            "platforms",
            "spec",
            TEXTS,
            &["[linux/arm64]"],
            [
                "an image is built by a host, for its own architecture",
                "build on a host of that architecture with `swarmctl build --node`",
            ],
        ),
        never(
            "privileged",
            "spec",
            Shape::Flag,
            &["true"],
            ["instructions are kept apart from the host as services are", "remove it"],
        ),
        never(
            "entitlements",
            "spec",
            TEXTS,
            &["[security.insecure]"],
            ["instructions are kept apart from the host as services are", "remove it"],
        ),
        never(
            "isolation",
            "spec",
            Shape::Text,
            &["hyperv"],
            ["it is a choice of Windows hosts", "remove it"],
        ),
        hint("provenance", "spec", Shape::Any, &["true"], "nothing is attested of an image"),
        hint("sbom", "spec", Shape::Any, &["true"], "nothing is attested of an image"),
    ],
};

pub(crate) static BUILD_SECRET: Level = Level {
    keys: &[
        honoured("source", "spec", Shape::Text, &["key"]),
        honoured("target", "spec", Shape::Text, &["other"])
            .meaning("The name by which `RUN --mount=type=secret,id=…` asks for it."),
        hint("uid", "spec", Shape::Text, &["\"103\""], "`RUN --mount` says whose the file is"),
        hint("gid", "spec", Shape::Text, &["\"103\""], "`RUN --mount` says whose the file is"),
        hint("mode", "spec", Shape::Integer, &["0440"], "`RUN --mount` says who may read it"),
    ],
};
