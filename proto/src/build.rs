//! The bounds of a build's request, which swarmctl keeps to and agents enforce.

/// The most bytes of a context in one message.
pub const PART: usize = 64 << 10;
/// The most bytes of a secret.
pub const SECRET: usize = 1 << 20;
/// The most secrets of a build.
pub const SECRETS: usize = 64;
