//! The first process.
