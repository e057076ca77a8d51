//! The place of a container in its networks.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::{Mac, PortRequest, PublishedPort};

/// What networks are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A bridge: own namespace, address, outgoing masquerade.
    #[default]
    Bridge,
    /// Own namespace with nothing but loopback.
    None,
    /// The host's namespace.
    Host,
}

impl Mode {
    /// The name of the predefined network of this kind.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Bridge => "bridge",
            Mode::None => "none",
            Mode::Host => "host",
        }
    }

    /// Docker's name of the driver.
    pub fn driver(self) -> &'static str {
        match self {
            Mode::Bridge => "bridge",
            Mode::None => "null",
            Mode::Host => "host",
        }
    }
}

/// The wish to be in one network.
#[derive(Debug, Clone, Default)]
pub struct Join {
    /// Name or id of the network.
    pub network: String,
    /// Address to take; the next free one if absent.
    pub ip: Option<Ipv4Addr>,
    /// IPv6 address to take; the next free one if absent.
    pub ip6: Option<Ipv6Addr>,
    /// Further link-local addresses.
    pub link_local: Vec<Ipv4Addr>,
    /// Hardware address; derived from the address if absent.
    pub mac: Option<Mac>,
    /// Names others find it by; the first is what its address is called.
    pub names: Vec<String>,
    /// Names only this container knows others by: alias to name.
    pub links: BTreeMap<String, String>,
    /// The highest gives the default gateway; then the first name.
    pub gw_priority: i64,
    /// Name of the link inside; the next free `eth` if absent.
    pub inside: Option<String>,
    /// Sysctls of the link: names with `IFNAME` for its own.
    pub sysctls: Vec<(String, String)>,
}

/// A container's wish.
#[derive(Debug, Clone, Default)]
pub struct AttachRequest {
    /// Id of the container: the key for [`crate::Networks::detach`].
    pub container: String,
    /// Name of the container, for error texts only.
    pub name: String,
    /// Networks, in the order in which links are made. Several only of bridges.
    pub joins: Vec<Join>,
    /// Ports to publish; ignored on [`Mode::Host`], refused by nobody.
    pub ports: Vec<PortRequest>,
    /// `net.*` sysctls, written inside the container's own namespace.
    pub sysctls: Vec<(String, String)>,
    /// What the name server inside asks others.
    pub dns: Dns,
}

/// How names are found that belong to no container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Servers, tried in this order.
    pub servers: Vec<Upstream>,
    /// The user set `ndots`: names without a dot are not asked for outside.
    pub ndots: bool,
}

/// One name server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// Address.
    pub ip: IpAddr,
    /// Asked from the host's namespace: it listens on the host's loopback.
    pub from_host: bool,
}

/// The outcome of [`crate::Networks::attach`].
#[derive(Debug)]
pub struct Attachment {
    /// The namespace to join; `None` for [`Mode::Host`]. Its links live as
    /// long as a process or descriptor holds it.
    pub netns: Option<OwnedFd>,
    /// What was given, to be stored with the container.
    pub sandbox: Sandbox,
}

/// A container's places in all its networks. Stored by the caller, so that
/// [`crate::Networks::adopt`] can take over after a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sandbox {
    /// Id of the container.
    pub container: String,
    /// Name of the container.
    pub name: String,
    /// One per network, in the order in which links were made.
    pub endpoints: Vec<Endpoint>,
    /// Ports as wished.
    pub wishes: Vec<PortRequest>,
    /// Ports that are published now.
    pub ports: Vec<PublishedPort>,
    /// What the name server inside asks others.
    pub dns: Dns,
    /// Where the name server listens inside: ports of UDP and TCP. `None`
    /// without one.
    pub name_server: Option<(u16, u16)>,
    /// Inode of the namespace; 0 for the host's.
    pub netns: u64,
}

impl Endpoint {
    /// Its addresses of both families.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.ip.map(IpAddr::V4).into_iter().chain(self.ip6.map(IpAddr::V6))
    }
}

impl Sandbox {
    /// The endpoint in a network, by the network's id.
    pub fn endpoint(&self, network_id: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.network_id == network_id)
    }

    /// The endpoint that leads outside, and on which ports are published.
    pub fn gateway(&self) -> Option<&Endpoint> {
        self.leading(|endpoint| endpoint.gateway.is_some())
    }

    /// The same for IPv6: it may be another one.
    pub fn gateway6(&self) -> Option<&Endpoint> {
        self.leading(|endpoint| endpoint.gateway6.is_some())
    }

    /// The addresses its published ports lead to, at most one of a family.
    pub fn reached_at(&self) -> Vec<IpAddr> {
        let ip = self.gateway().and_then(|endpoint| endpoint.ip).map(IpAddr::V4);
        let ip6 = self.gateway6().and_then(|endpoint| endpoint.ip6).map(IpAddr::V6);
        ip.into_iter().chain(ip6).collect()
    }

    fn leading(&self, leads: impl Fn(&Endpoint) -> bool) -> Option<&Endpoint> {
        let leading = self.endpoints.iter().filter(|endpoint| leads(endpoint));
        leading.min_by(|a, b| b.gw_priority.cmp(&a.gw_priority).then_with(|| a.network_name.cmp(&b.network_name)))
    }

    /// Whether it has a name server of its own.
    pub fn resolves(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.resolves)
    }
}

/// One container's place in one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
    /// Gateway it offers.
    pub gateway: Option<Ipv4Addr>,
    /// IPv6 address, on networks that have them.
    pub ip6: Option<Ipv6Addr>,
    /// Prefix length of `ip6`; 0 without one.
    pub prefix6: u8,
    /// IPv6 gateway it offers.
    pub gateway6: Option<Ipv6Addr>,
    /// Hardware address of its link.
    pub mac: Option<Mac>,
    /// Name of the host side of the link; empty without one.
    pub host_link: String,
    /// Name of the link inside.
    pub inside: String,
    /// Names others find it by.
    pub names: Vec<String>,
    /// Names only this container knows others by.
    pub links: BTreeMap<String, String>,
    /// Priority as default gateway.
    pub gw_priority: i64,
    /// Whether names are served on this network.
    pub resolves: bool,
}
