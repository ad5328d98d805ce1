//! The container's root file system.
