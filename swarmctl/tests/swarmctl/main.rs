//! The command line against a controller that says what a test tells it. `UPDATE_EXPECT=1` rewrites the goldens.

mod commands;
mod convergence;
mod deploy;
mod fake;
mod objects;
mod views;
