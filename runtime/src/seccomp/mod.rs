//! System call filters.

/// One instruction of a filter.
pub use libc::sock_filter as Filter;
