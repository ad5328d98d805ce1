//! What the Linux network is made of, for the agent and for the lab: network namespaces, links, addresses, routes,
//! neighbours ([`netlink`]), packet rules ([`nft`]) and tracked flows ([`conntrack`]). Nothing here runs a program; every call is a system call.

pub mod conntrack;
pub mod namespace;
pub mod netlink;
pub mod nft;
mod transport;

pub use namespace::Namespace;
