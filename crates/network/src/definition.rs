//! What a network is: the part that outlives containers and daemons.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::{Error, Mode};

/// One network, as it was made. Stored by this crate for user-defined networks;
/// the predefined ones follow from the daemon's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// 64 hex digits.
    pub id: String,
    /// Name.
    pub name: String,
    /// What it is made of.
    pub driver: Mode,
    /// Unix time of creation, nanoseconds; 0 for predefined networks.
    pub created: i64,
    /// No way out.
    pub internal: bool,
    /// Swarm's flag; kept and shown, without effect on one machine.
    pub attachable: bool,
    /// Has IPv4 addresses.
    pub ipv4: bool,
    /// Has IPv6 addresses.
    pub ipv6: bool,
    /// Who manages its addresses: `default`, or `null` for nobody.
    pub ipam_driver: String,
    /// Options of the address management; kept and shown.
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// Address ranges, at most one per family.
    pub pools: Vec<Pool>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Name of its bridge link; empty without one.
    pub link: String,
}

/// One address range of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The whole range.
    pub subnet: IpNet,
    /// Addresses are handed out of this part.
    pub range: Option<IpNet>,
    /// The bridge's own address.
    pub gateway: Option<IpAddr>,
    /// Addresses taken by others, by name.
    pub auxiliary: BTreeMap<String, IpAddr>,
    /// Whether the user chose it: only then may containers ask for addresses.
    pub given: bool,
}

/// `com.docker.network.` + this.
const PREFIX: &str = "com.docker.network.";

impl Definition {
    /// A driver option by the part of its name behind `com.docker.network.`.
    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        let matches = |key: &str| key.strip_prefix(PREFIX) == Some(name);
        self.options.iter().find(|(key, _)| matches(key)).map(|(_, value)| value.as_str())
    }

    /// The IPv4 range.
    pub fn pool4(&self) -> Option<(&Pool, Ipv4Net)> {
        self.pools.iter().find_map(|pool| match pool.subnet {
            IpNet::V4(subnet) => Some((pool, subnet)),
            IpNet::V6(_) => None,
        })
    }

    /// The IPv6 range.
    pub fn pool6(&self) -> Option<(&Pool, Ipv6Net)> {
        self.pools.iter().find_map(|pool| match pool.subnet {
            IpNet::V6(subnet) => Some((pool, subnet)),
            IpNet::V4(_) => None,
        })
    }

    /// The bridge's IPv6 address and prefix.
    pub(crate) fn address6(&self) -> Option<Ipv6Net> {
        let (pool, subnet) = self.pool6()?;
        match pool.gateway {
            Some(IpAddr::V6(gateway)) => Some(Ipv6Net::new_assert(gateway, subnet.prefix_len())),
            _ => None,
        }
    }

    /// The bridge's IPv4 address and prefix.
    pub(crate) fn address(&self) -> Option<Ipv4Net> {
        let (pool, subnet) = self.pool4()?;
        match pool.gateway {
            Some(IpAddr::V4(gateway)) => Some(Ipv4Net::new_assert(gateway, subnet.prefix_len())),
            _ => None,
        }
    }

    /// Whether it is one of the networks every daemon has.
    pub fn is_predefined(&self) -> bool {
        is_predefined(&self.name)
    }

    /// Whether containers on it may talk to each other.
    pub(crate) fn talks(&self) -> bool {
        self.option("bridge.enable_icc").and_then(boolean) != Some(false)
    }

    /// Whether what leaves it gets the host's address.
    pub(crate) fn masquerades(&self) -> bool {
        let wished = self.option("bridge.enable_ip_masquerade").and_then(boolean) != Some(false);
        wished && !self.internal
    }

    /// Maximum transmission unit of its links, bytes.
    pub(crate) fn mtu(&self, default: u32) -> u32 {
        self.option("driver.mtu").and_then(|text| text.parse().ok()).filter(|mtu| *mtu > 0).unwrap_or(default)
    }

    /// Host address its containers' ports are published on by default.
    pub(crate) fn bind_ip(&self) -> Option<Ipv4Addr> {
        self.option("bridge.host_binding_ipv4").and_then(|text| text.parse().ok())
    }

    /// Name of links inside, without the number.
    pub(crate) fn inside_prefix(&self) -> &str {
        self.option("container_iface_prefix").filter(|prefix| !prefix.is_empty()).unwrap_or("eth")
    }

    /// Whether the bridge link itself stays without an address.
    pub(crate) fn unaddressed(&self) -> bool {
        self.option("bridge.inhibit_ipv4").and_then(boolean) == Some(true)
            || self.option("bridge.gateway_mode_ipv4") == Some("isolated")
    }

    /// The same for the IPv6 address.
    pub(crate) fn unaddressed6(&self) -> bool {
        self.option("bridge.gateway_mode_ipv6") == Some("isolated")
    }

    /// Whether every port of its containers can be reached from outside, by a
    /// version of IP.
    pub(crate) fn open(&self, version: u8) -> bool {
        self.option(&format!("bridge.gateway_mode_ipv{version}")) == Some("nat-unprotected")
    }
}

/// Whether a name is that of a network every daemon has.
pub fn is_predefined(name: &str) -> bool {
    matches!(name, "bridge" | "host" | "none" | "default")
}

/// Go's `strconv.ParseBool`.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Refuses option values that would have no or another effect than meant.
pub(crate) fn check_options(definition: &Definition) -> Result<(), Error> {
    let bad = |name: &str, value: &str, why: &str| {
        Err(Error::invalid(format!("failed to parse {PREFIX}{name} value: {value} ({why})")))
    };
    for name in ["bridge.enable_icc", "bridge.enable_ip_masquerade", "bridge.inhibit_ipv4"] {
        if let Some(value) = definition.option(name).filter(|value| boolean(value).is_none()) {
            return bad(name, value, &format!("strconv.ParseBool: parsing \"{value}\": invalid syntax"));
        }
    }
    if let Some(value) = definition.option("driver.mtu")
        && value.parse::<u32>().is_err()
    {
        return bad("driver.mtu", value, &format!("strconv.Atoi: parsing \"{value}\": invalid syntax"));
    }
    if let Some(value) = definition.option("bridge.host_binding_ipv4")
        && value.parse::<Ipv4Addr>().is_err()
    {
        return bad("bridge.host_binding_ipv4", value, "nil ip");
    }
    if let Some(value) = definition.option("bridge.name") {
        crate::bridge::check_name(value)?;
    }
    for version in ["4", "6"] {
        match definition.option(&format!("bridge.gateway_mode_ipv{version}")) {
            None | Some("nat" | "nat-unprotected") => {}
            Some("isolated") if definition.internal => {}
            Some("isolated") => {
                return Err(Error::invalid("gateway mode 'isolated' can only be used for an internal network"));
            }
            Some("routed") => {
                return Err(Error::Unsupported { feature: "gateway mode 'routed'".into() });
            }
            Some(other) => return Err(Error::invalid(format!("unknown gateway mode {other}"))),
        }
    }
    for name in ["bridge.trusted_host_interfaces", "host_ipv4", "host_ipv6"] {
        if definition.option(name).is_some() {
            return Err(Error::Unsupported { feature: format!("network option {PREFIX}{name}") });
        }
    }
    Ok(())
}
