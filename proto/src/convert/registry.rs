//! Registries' names and passwords.

use std::mem::take;

use super::fields::{ConvertError, Fields};
use crate::id::Timestamp;
use crate::object::{RegistryLogin, Secret};
use crate::wire;

impl From<&RegistryLogin> for wire::RegistryLogin {
    fn from(login: &RegistryLogin) -> Self {
        Self {
            registry: login.registry.to_string(),
            user: login.user.clone(),
            password: login.password.reveal().to_owned(),
            updated_at: login.updated_at.0,
        }
    }
}

impl TryFrom<wire::RegistryLogin> for RegistryLogin {
    type Error = ConvertError;

    fn try_from(mut login: wire::RegistryLogin) -> Result<Self, ConvertError> {
        let at = Fields("RegistryLogin");
        Ok(Self {
            registry: at.text("registry", &login.registry)?,
            user: take(&mut login.user),
            password: Secret::new(take(&mut login.password)),
            updated_at: Timestamp(login.updated_at),
        })
    }
}
