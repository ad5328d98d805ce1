//! How much input may be on its way to a program that does not read it: the bound that swarmctl keeps to and agents
//! enforce. Without it, a signal would wait behind data that nobody takes.

/// The most data in one message, in bytes.
pub const CHUNK: usize = 16 << 10;
/// How much may be sent that is not taken yet, by [`cost`].
pub const WINDOW: u64 = 256 << 10;
/// What the smallest message counts: messages have a price beside their bytes.
const SMALLEST: usize = 256;

/// What a message of this many bytes counts.
pub fn cost(bytes: usize) -> u64 {
    bytes.max(SMALLEST) as u64
}
