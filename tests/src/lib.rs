//! What the benches in `src/bin` share; the tests proper lie in `tests/`.

pub mod bench;
