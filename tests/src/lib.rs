//! What the benches and long runs in `src/bin` share, and the checker of histories; the tests proper lie in `tests/`.

pub mod bench;
pub mod jepsen;
pub mod linearizability;
pub mod random;
