//! The generated messages, clients and servers. They carry domain types and are converted at once ([`crate::convert`]);
//! none enters state, rules or steps.

pub use generated::*;

use std::fmt;

use zeroize::Zeroize as _;

#[expect(missing_docs, reason = "generated; the .proto files carry the comments")]
#[expect(
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::large_enum_variant,
    reason = "generated"
)]
mod generated {
    tonic::include_proto!("swarm.v1");
}

/// Every call of every service: `Control/Deploy`.
pub const CALLS: &[&str] = include!(concat!(env!("OUT_DIR"), "/calls.rs"));

/// Overwrites the secrets of messages in memory when they go.
macro_rules! forget {
    ($($message:ident { $($secret:ident),+ })+) => {$(
        impl Drop for $message {
            fn drop(&mut self) {
                $(self.$secret.zeroize();)+
            }
        }
    )+};
}

/// A message whose Debug output shows some fields and hides the others, which are secrets.
macro_rules! hide {
    ($($message:ident { $($shown:ident),* })+) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($message))
                    $(.field(stringify!($shown), &self.$shown))*
                    .finish_non_exhaustive()
            }
        }
    )+};
}

hide! {
    AddContentPart { content, size, part }
    AddContentRequest { request_id, content, size, part }
    AuthorityWish { request_id }
    Backup { cluster_id, applied }
    BuildSecret { id }
    ClientBundle {}
    Cluster { id }
    Content { content }
    ForwardRequest { method }
    GetConfigResponse {}
    JoinClusterRequest { hostname, controller_address }
    JoinTokens { controllers }
    LockWish { request_id }
    RegistryLogin { registry, user }
    SetLockResponse {}
    StoredContent { content, size }
    TokensWish { request_id }
    UnlockRequest {}
}

forget! {
    AddContentPart { data }
    AddContentRequest { data }
    AuthorityWish { key }
    BuildSecret { data }
    ClientBundle { pem }
    Cluster { ca_key, controller_token, agent_token, unlock_key }
    Content { data }
    ForwardRequest { request }
    GetConfigResponse { data }
    JoinClusterRequest { token }
    JoinTokens { controller_token, agent_token }
    LockWish { key }
    RegistryLogin { password }
    SetLockResponse { unlock_key }
    StoredContent { parts }
    TokensWish { controller, agent }
    UnlockRequest { unlock_key }
}

impl fmt::Debug for BackupPiece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupPiece").field("length", &self.data.len()).finish()
    }
}
