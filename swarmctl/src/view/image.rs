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
            short_image(&self.reference).to_owned(),
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
