//! The one place where what the disk keeps of users' data is wrapped and unwrapped.

/// Wraps bytes for the disk. Each is bound to its context (what it is, index and term), so that none can take
/// another's place.
pub trait Seal: Send + Sync {
    /// Adds the wrapped form of `plain` to `out`.
    fn seal(&self, context: Context, plain: &[u8], out: &mut Vec<u8>);

    /// The wrapped form of something large, of which there should be no second copy.
    fn seal_whole(&self, context: Context, plain: Vec<u8>) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(plain.len());
        self.seal(context, &plain, &mut sealed);
        sealed
    }

    /// Adds to `out` what [`Seal::seal`] wrapped; says why when it was not wrapped in this context by this seal.
    fn open(&self, context: Context, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), String>;
}

/// What kind of bytes are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An entry of the log.
    Entry,
    /// A snapshot of the state.
    Snapshot,
}

/// What wrapped bytes are bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// What they are.
    pub kind: Kind,
    /// The entry's index, or the last one in the snapshot.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
}

impl Context {
    /// As bytes, each context's different from all others'.
    pub fn to_bytes(self) -> [u8; 17] {
        let mut bytes = [0; 17];
        bytes[0] = match self.kind {
            Kind::Entry => 1,
            Kind::Snapshot => 2,
        };
        bytes[1..9].copy_from_slice(&self.index.to_be_bytes());
        bytes[9..].copy_from_slice(&self.term.to_be_bytes());
        bytes
    }
}

/// No wrapping, for tests that look at the bytes.
#[cfg(test)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Unsealed;

#[cfg(test)]
impl Seal for Unsealed {
    fn seal(&self, _context: Context, plain: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(plain);
    }

    fn open(&self, _context: Context, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(sealed);
        Ok(())
    }
}
