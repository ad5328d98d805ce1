//! Images that nodes hold.

use super::fields::{ConvertError, Fields, each};
use crate::id::{NodeId, Timestamp};
use crate::object::{HeldImage, HeldName, ImageHolder};
use crate::wire;

impl From<&HeldImage> for wire::HeldImage {
    fn from(image: &HeldImage) -> Self {
        Self { digest: image.digest.to_string(), names: each(&image.names) }
    }
}

impl TryFrom<wire::HeldImage> for HeldImage {
    type Error = ConvertError;

    fn try_from(image: wire::HeldImage) -> Result<Self, ConvertError> {
        let wire::HeldImage { digest, names } = image;
        let names = names.into_iter().map(HeldName::from).collect();
        Ok(Self { digest: Fields("HeldImage").text("digest", &digest)?, names })
    }
}

impl From<&HeldName> for wire::HeldName {
    fn from(held: &HeldName) -> Self {
        let HeldName { name, at, local } = held.clone();
        Self { name, at: at.0, local }
    }
}

impl From<wire::HeldName> for HeldName {
    fn from(held: wire::HeldName) -> Self {
        let wire::HeldName { name, at, local } = held;
        Self { name, at: Timestamp(at), local }
    }
}

impl From<&ImageHolder> for wire::ImageHolder {
    fn from(holder: &ImageHolder) -> Self {
        let ImageHolder { node, hostname, address } = holder.clone();
        Self { node: node.0, hostname, address }
    }
}

impl From<wire::ImageHolder> for ImageHolder {
    fn from(holder: wire::ImageHolder) -> Self {
        let wire::ImageHolder { node, hostname, address } = holder;
        Self { node: NodeId(node), hostname, address }
    }
}
