//! Registries.

/// Credentials for one registry, as `X-Registry-Auth` carries them.
#[derive(Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct RegistryAuth {
    /// User.
    pub username: String,
    /// Password.
    pub password: String,
    /// Base64 of `username:password`, instead of the two.
    pub auth: String,
    /// The registry these are for; empty means the one they were sent along with.
    pub serveraddress: String,
    /// Refresh token for the token service.
    pub identitytoken: String,
    /// Bearer token for the registry itself.
    pub registrytoken: String,
}

impl std::fmt::Debug for RegistryAuth {
    /// Secrets stay out of logs.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("RegistryAuth")
            .field("username", &self.username)
            .field("serveraddress", &self.serveraddress)
            .finish_non_exhaustive()
    }
}
