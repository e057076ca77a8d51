//! The place of one container in one network.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Mac, PortRequest, PublishedPort};

/// Which of the predefined networks a container joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The default bridge: own namespace, address, outgoing masquerade.
    #[default]
    Bridge,
    /// Own namespace with nothing but loopback.
    None,
    /// The host's namespace.
    Host,
}

impl Mode {
    /// The name of the predefined network.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Bridge => "bridge",
            Mode::None => "none",
            Mode::Host => "host",
        }
    }
}

/// Parses `HostConfig.NetworkMode`; empty and `default` mean `bridge`.
impl FromStr for Mode {
    type Err = Error;

    fn from_str(name: &str) -> Result<Mode, Error> {
        match name {
            "" | "default" | "bridge" => Ok(Mode::Bridge),
            "none" => Ok(Mode::None),
            "host" => Ok(Mode::Host),
            other => Err(Error::NetworkNotFound { name: other.into() }),
        }
    }
}

/// A container's wish.
#[derive(Debug, Clone, Default)]
pub struct AttachRequest {
    /// Id of the container: the key for [`crate::Networks::detach`].
    pub container: String,
    /// Name of the container, for error texts only.
    pub name: String,
    /// Network to join.
    pub mode: Mode,
    /// Ports to publish; ignored for [`Mode::Host`], refused by nobody.
    pub ports: Vec<PortRequest>,
    /// Hardware address of `eth0`; derived from the address if absent.
    pub mac: Option<Mac>,
    /// Address to take; the next free one if absent.
    pub ip: Option<Ipv4Addr>,
    /// `net.*` sysctls, written inside the container's own namespace.
    pub sysctls: Vec<(String, String)>,
}

/// The outcome of [`crate::Networks::attach`].
#[derive(Debug)]
pub struct Attachment {
    /// The namespace to join; `None` for [`Mode::Host`]. Its links live as
    /// long as a process or descriptor holds it.
    pub netns: Option<OwnedFd>,
    /// What was given, to be stored with the container.
    pub endpoint: Endpoint,
}

/// One container's place in one network. Stored by the caller, so that
/// [`crate::Networks::adopt`] can take over after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Id of the container.
    pub container: String,
    /// Id of the network, 64 hex digits.
    pub network_id: String,
    /// Name of the network.
    pub network_name: String,
    /// Id of the endpoint, 64 hex digits.
    pub endpoint_id: String,
    /// Address; `None` in `none` and `host`.
    pub ip: Option<Ipv4Addr>,
    /// Prefix length of `ip`; 0 without one.
    pub prefix: u8,
    /// Default gateway.
    pub gateway: Option<Ipv4Addr>,
    /// Hardware address of `eth0`.
    pub mac: Option<Mac>,
    /// Name of the host side of the link; empty without one.
    pub host_link: String,
    /// Published ports.
    pub ports: Vec<PublishedPort>,
}
