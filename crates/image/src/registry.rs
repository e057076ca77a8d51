//! The registry client: distribution-spec over HTTP/1.1.
//!
//! Rules that hold everywhere here: nothing is sent in clear text unless the registry is on the
//! loopback or listed as insecure; credentials go to the registry they belong to, and to its token
//! service only on the same site; they never follow a redirect to another origin; names are
//! resolved without the C library (`budu_dial`), so only socket addresses are ever connected to.

pub(crate) mod challenge;
pub(crate) mod client;
pub(crate) mod connect;
pub(crate) mod download;
pub(crate) mod origin;
pub(crate) mod reply;
pub(crate) mod token;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

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

/// What a registry can be told.
#[derive(Clone)]
pub(crate) struct Credentials {
    /// User and password.
    pub(crate) basic: Option<(String, String)>,
    pub(crate) refresh_token: Option<String>,
    pub(crate) bearer: Option<String>,
}

impl RegistryAuth {
    /// The credentials if they are meant for `registry` and say anything.
    pub(crate) fn for_registry(&self, registry: &str) -> Option<Credentials> {
        if !self.serveraddress.is_empty() && !same_registry(&self.serveraddress, registry) {
            tracing::warn!(registry, given_for = self.serveraddress, "credentials of another registry ignored");
            return None;
        }
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let basic = match some(&self.username) {
            Some(username) => Some((username, self.password.clone())),
            None => STANDARD
                .decode(&self.auth)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .and_then(|text| text.split_once(':').map(|(user, pass)| (user.to_owned(), pass.to_owned())))
                .filter(|(username, _)| !username.is_empty()),
        };
        let credentials =
            Credentials { basic, refresh_token: some(&self.identitytoken), bearer: some(&self.registrytoken) };
        let any = credentials.basic.is_some() || credentials.refresh_token.is_some() || credentials.bearer.is_some();
        any.then_some(credentials)
    }
}

/// Whether an address as `docker login` stores it (perhaps with scheme and path) is `registry`.
fn same_registry(address: &str, registry: &str) -> bool {
    let host = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or_default();
    let canonical = |host: &str| match host.to_ascii_lowercase().as_str() {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => "docker.io".to_owned(),
        other => other.to_owned(),
    };
    canonical(host) == canonical(registry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_belong_to_one_registry() {
        let auth = |address: &str| RegistryAuth {
            username: "u".into(),
            password: "p".into(),
            serveraddress: address.into(),
            ..RegistryAuth::default()
        };
        for (address, registry, fits) in [
            ("https://index.docker.io/v1/", "docker.io", true),
            ("", "a.example", true),
            ("a.example:5000", "a.example:5000", true),
            ("https://A.example/v2/", "a.example", true),
            ("a.example", "a.example:5000", false),
            ("https://index.docker.io/v1/", "a.example", false),
            ("a.example.evil", "a.example", false),
        ] {
            assert_eq!(auth(address).for_registry(registry).is_some(), fits, "{address} {registry}");
        }
        assert!(RegistryAuth::default().for_registry("x").is_none());
        let packed = RegistryAuth { auth: "dTpwOnE=".into(), ..RegistryAuth::default() };
        let basic = packed.for_registry("x").and_then(|credentials| credentials.basic);
        assert_eq!(basic, Some(("u".into(), "p:q".into())));
        assert!(!format!("{:?}", auth("x")).contains("\"p\""));
    }
}
