use std::collections::BTreeMap;

use serde::Serialize;
use swarm_proto::id::Timestamp;
use swarm_proto::wire;

use super::task::short_digest;
use super::{View, age, bytes, short_image, time};

/// An image on the nodes, as `image ls` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageView {
    /// The image's full name.
    pub reference: String,
    /// Its content.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// When the image was made.
    pub created_at: Option<String>,
    /// Host names of the nodes that hold it.
    pub nodes: Vec<String>,
    #[serde(skip)]
    created_time: Timestamp,
}

impl ImageView {
    /// The images of all nodes, each once.
    pub fn of_nodes(nodes: Vec<wire::NodeImages>) -> Vec<Self> {
        let mut images: BTreeMap<(String, String), Self> = BTreeMap::new();
        for node in nodes {
            for image in node.images {
                let created_time = Timestamp(image.created_at);
                let key = (image.reference.clone(), image.digest.clone());
                let view = images.entry(key).or_insert_with(|| Self {
                    reference: image.reference,
                    digest: image.digest,
                    size: image.size,
                    created_at: (created_time.0 > 0).then(|| time(created_time)),
                    nodes: Vec::new(),
                    created_time,
                });
                view.nodes.push(node.node.clone());
            }
        }
        images.into_values().collect()
    }
}

impl View for ImageView {
    const COLUMNS: &'static [&'static str] = &["IMAGE", "DIGEST", "SIZE", "CREATED", "NODES"];
    const WIDE_COLUMNS: &'static [&'static str] = &["FULL NAME", "FULL DIGEST"];

    fn name(&self) -> String {
        self.reference.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let created = match &self.created_at {
            Some(_) => format!("{} ago", age(self.created_time, now)),
            None => String::new(),
        };
        vec![
            named(&self.reference),
            short_digest(Some(&self.digest)),
            bytes(self.size),
            created,
            self.nodes.join(","),
        ]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        vec![self.reference.clone(), self.digest.clone()]
    }
}

/// As people call it; with a digest in place of a tag, the first digits of that.
fn named(reference: &str) -> String {
    let short = short_image(reference);
    match short.split_once('@') {
        Some((name, digest)) => format!("{name}@sha256:{}", short_digest(Some(digest))),
        None if short.is_empty() || short.starts_with("sha256:") => "<none>".to_owned(),
        None => short.to_owned(),
    }
}

/// An image on one node, as `image inspect` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImageDetailsView {
    /// Its content.
    pub digest: String,
    /// Its full names.
    pub names: Vec<String>,
    /// Those of them that were given on a host, not by a registry.
    pub local_names: Vec<String>,
    /// The node on which it was looked at.
    pub node: String,
    /// Host names of the nodes that hold it.
    pub nodes: Vec<String>,
    /// When it came to the node.
    pub came_at: String,
    /// Bytes of its layers as they travel.
    pub size: u64,
    /// Its layers, the lowest first.
    pub layers: Vec<LayerView>,
    /// Tasks of the node that use it.
    pub tasks: Vec<String>,
    /// How it was made and wants to be run: the image's own configuration.
    pub config: serde_json::Value,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerView {
    /// As it travels.
    pub digest: String,
    /// Uncompressed.
    pub diff_id: String,
    /// Bytes as it travels.
    pub size: u64,
    /// What the manifest says it is.
    pub media_type: String,
}

impl ImageDetailsView {
    /// What a node says.
    pub fn of(details: &wire::ImageDetails) -> Self {
        let local = details.names.iter().filter(|held| held.local);
        let layers = details.layers.iter().map(|layer| LayerView {
            digest: layer.digest.clone(),
            diff_id: layer.diff_id.clone(),
            size: layer.size,
            media_type: layer.media_type.clone(),
        });
        Self {
            digest: details.digest.clone(),
            names: details.names.iter().map(|held| held.name.clone()).collect(),
            local_names: local.map(|held| held.name.clone()).collect(),
            node: details.node.clone(),
            nodes: details.nodes.clone(),
            came_at: time(Timestamp(details.came_at)),
            size: details.size,
            layers: layers.collect(),
            tasks: details.tasks.clone(),
            config: serde_json::from_slice(&details.config).unwrap_or_default(),
        }
    }
}

impl View for ImageDetailsView {
    const COLUMNS: &'static [&'static str] = &["DIGEST", "NAMES", "SIZE", "NODES"];
    const WIDE_COLUMNS: &'static [&'static str] = &[];

    fn name(&self) -> String {
        self.names.first().unwrap_or(&self.digest).clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let digest = short_digest(Some(&self.digest));
        vec![digest, self.names.join(","), bytes(self.size), self.nodes.join(",")]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        Vec::new()
    }
}

/// A step by which an image came about, as `image history` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HistoryView {
    /// When, as the image says.
    pub created: Option<String>,
    /// What was done.
    pub created_by: String,
    /// Bytes of the layer that it made, as it travels; 0 when it made none.
    pub size: u64,
    /// That layer's digest.
    pub layer: Option<String>,
    /// A word on it.
    pub comment: String,
}

#[derive(serde::Deserialize)]
struct Config {
    #[serde(default)]
    history: Vec<Step>,
}

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct Step {
    created: Option<String>,
    created_by: Option<String>,
    comment: Option<String>,
    empty_layer: bool,
}

impl HistoryView {
    /// The steps of an image, the newest first; layers that its configuration says nothing of lie below, those of a base
    /// without words. `None` when the configuration cannot be read.
    pub fn of_config(details: &wire::ImageDetails) -> Option<Vec<Self>> {
        let Config { history } = serde_json::from_slice(&details.config).ok()?;
        let told = history.iter().filter(|step| !step.empty_layer).count();
        let (untold, told) = details.layers.split_at(details.layers.len().saturating_sub(told));
        let untold = untold.iter().map(|layer| Self::of(Step::default(), Some(layer)));
        let (mut steps, mut layers): (Vec<_>, _) = (untold.collect(), told.iter());
        for step in history {
            let layer = if step.empty_layer { None } else { layers.next() };
            steps.push(Self::of(step, layer));
        }
        steps.reverse();
        Some(steps)
    }

    fn of(step: Step, layer: Option<&wire::ImageLayer>) -> Self {
        Self {
            created: step.created,
            created_by: step.created_by.unwrap_or_default(),
            size: layer.map_or(0, |layer| layer.size),
            layer: layer.map(|layer| layer.digest.clone()),
            comment: step.comment.unwrap_or_default(),
        }
    }
}

impl View for HistoryView {
    const COLUMNS: &'static [&'static str] = &["LAYER", "CREATED", "CREATED BY", "SIZE", "COMMENT"];
    const WIDE_COLUMNS: &'static [&'static str] = &["FULL DIGEST"];

    fn name(&self) -> String {
        self.layer.clone().unwrap_or_default()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![
            short_digest(self.layer.as_deref()),
            self.created.clone().unwrap_or_default(),
            self.created_by.clone(),
            bytes(self.size),
            self.comment.clone(),
        ]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        vec![self.layer.clone().unwrap_or_default()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_matched_with_the_layers_that_they_made() {
        let layer = |digest: &str, size| wire::ImageLayer {
            digest: digest.to_owned(),
            size,
            ..wire::ImageLayer::default()
        };
        let config =
            br#"{"history":[{"created_by":"ADD base"},{"created_by":"CMD x","empty_layer":true}]}"#;
        let details = wire::ImageDetails {
            layers: vec![layer("sha256:a", 10), layer("sha256:b", 20)],
            config: config.to_vec(),
            ..wire::ImageDetails::default()
        };
        let steps = HistoryView::of_config(&details).unwrap();
        let said: Vec<_> = steps
            .iter()
            .map(|step| (step.created_by.as_str(), step.size, step.layer.as_deref()))
            .collect();
        assert_eq!(
            said,
            [("CMD x", 0, None), ("ADD base", 20, Some("sha256:b")), ("", 10, Some("sha256:a"))]
        );
        let damaged = wire::ImageDetails { config: b"{".to_vec(), ..details };
        assert_eq!(HistoryView::of_config(&damaged), None);
    }
}
