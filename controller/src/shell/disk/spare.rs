//! The segment that is made ahead, so that no write waits for it.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use super::DiskError;
use super::segment::Segment;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Spare {
    ready: Option<Segment>,
    maker: Option<JoinHandle<Result<Segment, DiskError>>>,
}

impl Spare {
    /// One that is there.
    pub(super) fn ready(segment: Segment) -> Self {
        Self { ready: Some(segment), maker: None }
    }

    /// Has one made in the background; without a thread it is made when it is taken.
    pub(super) fn prepare(folder: PathBuf, number: u64) -> Self {
        let make = move || Segment::create(&folder, number);
        let maker = std::thread::Builder::new().name(String::from("segment")).spawn(make).ok();
        Self { ready: None, maker }
    }

    /// The segment; waits for it, or makes it now.
    pub(super) fn take(&mut self, folder: &Path, number: u64) -> Result<Segment, DiskError> {
        if let Some(made) = self.maker.take().and_then(|maker| maker.join().ok()) {
            self.ready = Some(made?);
        }
        match self.ready.take() {
            Some(segment) => Ok(segment),
            None => Segment::create(folder, number),
        }
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        if let Some(maker) = self.maker.take() {
            let _ = maker.join();
        }
    }
}
