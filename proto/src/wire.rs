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

forget! {
    AuthorityWish { key }
    ClientBundle { pem }
    Cluster { ca_key, controller_token, agent_token, unlock_key }
    JoinClusterRequest { token }
    JoinTokens { controller_token, agent_token }
    LockWish { key }
    SetLockResponse { unlock_key }
    TokensWish { controller, agent }
    UnlockRequest { unlock_key }
}

impl fmt::Debug for AuthorityWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorityWish")
            .field("request_id", &self.request_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backup")
            .field("cluster_id", &self.cluster_id)
            .field("applied", &self.applied)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for BackupPiece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupPiece").field("length", &self.data.len()).finish()
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("id", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for JoinClusterRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinClusterRequest")
            .field("hostname", &self.hostname)
            .field("controller_address", &self.controller_address)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for JoinTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinTokens").field("controllers", &self.controllers).finish_non_exhaustive()
    }
}

impl fmt::Debug for LockWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockWish").field("request_id", &self.request_id).finish_non_exhaustive()
    }
}

impl fmt::Debug for SetLockResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetLockResponse").finish_non_exhaustive()
    }
}

impl fmt::Debug for UnlockRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnlockRequest").finish_non_exhaustive()
    }
}

impl fmt::Debug for TokensWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokensWish").field("request_id", &self.request_id).finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBundle").finish_non_exhaustive()
    }
}
