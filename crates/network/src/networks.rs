//! The door: attach, detach, adopt, reclaim.

use std::sync::Arc;

use crate::{AttachRequest, Attachment, Config, Endpoint, Error, Network};

/// All networks of one daemon. Cheap to clone; methods block for microseconds
/// to a few milliseconds and may be called from any thread.
#[derive(Debug, Clone)]
pub struct Networks {
    config: Arc<Config>,
}

impl Networks {
    /// Opens the networks. Cheap: host links and firewall are made when the
    /// first container needs them.
    pub fn open(config: Config) -> Result<Networks, Error> {
        Ok(Networks { config: Arc::new(config) })
    }

    /// Lists the networks: `bridge` (unless disabled), `host`, `none`.
    pub fn list(&self) -> Vec<Network> {
        Vec::new()
    }

    /// Finds a network by name, id or unique id prefix.
    pub fn get(&self, name_or_id: &str) -> Result<Network, Error> {
        Err(Error::NetworkNotFound { name: name_or_id.into() })
    }

    /// Starts making ready namespaces in the background, so that the next
    /// attach finds one. Returns at once; a good moment is container create.
    pub fn warm(&self) {}

    /// Gives a container its network. Undone on error.
    pub fn attach(&self, request: &AttachRequest) -> Result<Attachment, Error> {
        Err(Error::NetworkNotFound { name: request.mode.name().into() })
    }

    /// Takes over a container that kept running while no daemon did: its
    /// address and host ports are reserved again. Follow with
    /// [`reclaim`](Networks::reclaim) after the last one.
    pub fn adopt(&self, _endpoint: &Endpoint) -> Result<(), Error> {
        Ok(())
    }

    /// Removes links and firewall elements that no endpoint owns and restores
    /// those that are missing. Traffic of owned endpoints is never interrupted.
    pub fn reclaim(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Returns a container's address and ports. Idempotent: an unknown
    /// container is no error.
    pub fn detach(&self, _container: &str) -> Result<(), Error> {
        Ok(())
    }

    /// The endpoint of a container, if it is attached.
    pub fn endpoint(&self, _container: &str) -> Option<Endpoint> {
        None
    }

    /// Stops background work. With `remove`, deletes bridge and firewall table
    /// too, unless endpoints remain.
    pub fn shutdown(&self, _remove: bool) -> Result<(), Error> {
        let _ = &self.config;
        Ok(())
    }
}
