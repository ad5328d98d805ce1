//! Tests of the controller's core: scripts that drive one core and show what it does, and properties of the rules.

mod laws;
mod script;
mod spec;
