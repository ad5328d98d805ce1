//! The segment that is made ahead, so that no write waits for it. While there is no room for it, it is tried again
//! and again; the segment in use may have room for a while.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::DiskError;
use super::segment::Segment;
use crate::core::Shortage;

/// Between two tries while there is no room.
const TRY_EVERY: Duration = Duration::from_millis(200);

/// See the module.
#[derive(Debug)]
pub(super) struct Spare {
    folder: PathBuf,
    number: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Ready(Segment),
    Making(JoinHandle<Result<Segment, DiskError>>),
    Lacking {
        shortage: Shortage,
        tried: Instant,
    },
    /// It was taken, or the thread for it could not be started.
    Absent,
}

impl Spare {
    /// One that is there.
    pub(super) fn ready(folder: &Path, segment: Segment) -> Self {
        let number = segment.number;
        Self { folder: folder.to_owned(), number, state: State::Ready(segment) }
    }

    /// Makes one now, if there is room.
    pub(super) fn make(folder: &Path, number: u64) -> Result<Self, DiskError> {
        let mut spare = Self { folder: folder.to_owned(), number, state: State::Absent };
        spare.make_now()?;
        Ok(spare)
    }

    /// Has one made in the background; without a thread it is made when it is taken.
    pub(super) fn prepare(folder: &Path, number: u64) -> Self {
        let aside = folder.to_owned();
        let make = move || Segment::create(&aside, number);
        let maker = std::thread::Builder::new().name(String::from("segment")).spawn(make);
        let state = maker.map_or(State::Absent, State::Making);
        Self { folder: folder.to_owned(), number, state }
    }

    /// Goes on with making it; why there is none, while there is no room.
    pub(super) fn look(&mut self) -> Result<Option<&Shortage>, DiskError> {
        match &self.state {
            State::Making(maker) if maker.is_finished() => self.wait()?,
            State::Lacking { tried, .. } if tried.elapsed() >= TRY_EVERY => self.make_now()?,
            _ => {}
        }
        Ok(self.shortage())
    }

    /// The segment; waits for it, or makes it now.
    pub(super) fn take(&mut self) -> Result<Segment, DiskError> {
        self.wait()?;
        if matches!(self.state, State::Lacking { .. } | State::Absent) {
            self.make_now()?;
        }
        match std::mem::replace(&mut self.state, State::Absent) {
            State::Ready(segment) => Ok(segment),
            State::Lacking { shortage, tried } => {
                self.state = State::Lacking { shortage: shortage.clone(), tried };
                Err(DiskError::Full(shortage))
            }
            State::Making(_) | State::Absent => Segment::create(&self.folder, self.number),
        }
    }

    /// Whether one is being made, or should be.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.state, State::Making(_) | State::Lacking { .. })
    }

    fn shortage(&self) -> Option<&Shortage> {
        match &self.state {
            State::Lacking { shortage, .. } => Some(shortage),
            _ => None,
        }
    }

    fn wait(&mut self) -> Result<(), DiskError> {
        match std::mem::replace(&mut self.state, State::Absent) {
            State::Making(maker) => match maker.join() {
                Ok(made) => self.made(made),
                Err(_) => Ok(()),
            },
            other => {
                self.state = other;
                Ok(())
            }
        }
    }

    fn make_now(&mut self) -> Result<(), DiskError> {
        let made = Segment::create(&self.folder, self.number);
        self.made(made)
    }

    fn made(&mut self, made: Result<Segment, DiskError>) -> Result<(), DiskError> {
        self.state = match made {
            Ok(segment) => State::Ready(segment),
            Err(DiskError::Full(shortage)) => State::Lacking { shortage, tried: Instant::now() },
            Err(error) => return Err(error),
        };
        Ok(())
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        // A failure of what nobody will use matters to nobody.
        let _ = self.wait();
    }
}
