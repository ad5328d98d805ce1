//! One stage on its way: resolved steps, and the image's configuration as it grows.

use crate::image::Image;
use crate::plan::Plan;
use crate::problem::Problems;
use crate::step::Step;

/// How a stage ended, for those that begin with it.
#[derive(Debug, Clone)]
pub struct StageEnd {
    /// The image's configuration.
    pub image: Image,
    /// Variables of build arguments, which stages that begin with it inherit.
    pub(crate) args: Vec<(String, String)>,
}

impl std::convert::From<Image> for StageEnd {
    fn from(image: Image) -> Self {
        Self { image, args: Vec::new() }
    }
}

/// A stage on its way.
#[derive(Debug, Clone)]
pub struct StageRun {
    end: StageEnd,
}
