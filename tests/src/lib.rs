//! What the benches in `src/bin` share, and the checker of histories; the tests proper lie in `tests/`.

pub mod bench;
pub mod linearizability;
