//! Whether a registry accepts credentials.

use budu_spec::Reference;
use hyper::StatusCode;

use crate::error::Error;
use crate::registry::RegistryAuth;
use crate::registry::client::Client;
use crate::store::Store;

impl Store {
    /// Asks the registry that `auth.serveraddress` names (Docker Hub without) whether it accepts the credentials.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] when it does not, [`Error::Unreachable`], [`Error::Reference`] for what is no address.
    pub async fn login(&self, auth: &RegistryAuth) -> Result<(), Error> {
        let address = auth.serveraddress.as_str();
        let host = address.split_once("://").map_or(address, |(_, rest)| rest).split('/').next().unwrap_or_default();
        let host = match host {
            "" | "index.docker.io" | "registry-1.docker.io" => "docker.io",
            // A name without a dot or port would be read as a repository of Docker Hub.
            host => host,
        };
        let reference: Reference = match host.contains(['.', ':']) || host == "localhost" {
            true => format!("{host}/login").parse()?,
            false => format!("{host}:443/login").parse()?,
        };
        let client = Client::connect(&reference, Some(auth), &self.inner.options()).await?;
        match client.check().await? {
            StatusCode::OK => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Error::Unauthorized {
                host: host.to_owned(),
                detail: "unauthorized: incorrect username or password".into(),
            }),
            status => Err(Error::Registry {
                host: host.to_owned(),
                status: status.as_u16(),
                what: "the check of credentials".into(),
                detail: String::new(),
            }),
        }
    }
}
