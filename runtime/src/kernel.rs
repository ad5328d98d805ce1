//! What the Linux network is made of, for the agent and for the lab: network namespaces, links, addresses, routes,
//! neighbours ([`netlink`]), packet rules ([`nft`]), packets that rules tell of ([`nflog`]) or that are sent again
//! ([`packet`]), and tracked flows ([`conntrack`]). Nothing here runs a program; every call is a system call.

pub mod conntrack;
pub mod namespace;
pub mod netlink;
pub mod nflog;
pub mod nft;
pub mod packet;
mod transport;

pub use namespace::Namespace;
