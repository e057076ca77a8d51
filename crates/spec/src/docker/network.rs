//! Networks and endpoints.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::nullable;

/// Endpoint settings per network name, in a create request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkingConfig {
    /// By network name or id.
    #[serde(deserialize_with = "nullable")]
    pub endpoints_config: BTreeMap<String, Option<EndpointSettings>>,
}

/// A container's place in one network: wishes and what came of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointSettings {
    /// Wished addresses.
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: Option<EndpointIpam>,
    /// Legacy links.
    pub links: Option<Vec<String>>,
    /// Further names.
    pub aliases: Option<Vec<String>>,
    /// MAC address, wished or given.
    #[serde(deserialize_with = "nullable")]
    pub mac_address: String,
    /// Driver options.
    pub driver_opts: Option<BTreeMap<String, String>>,
    /// Highest gives the default gateway.
    #[serde(deserialize_with = "nullable")]
    pub gw_priority: i64,
    /// Id of the network.
    #[serde(rename = "NetworkID", deserialize_with = "nullable")]
    pub network_id: String,
    /// Id of the endpoint.
    #[serde(rename = "EndpointID", deserialize_with = "nullable")]
    pub endpoint_id: String,
    /// Gateway.
    #[serde(deserialize_with = "nullable")]
    pub gateway: String,
    /// Address.
    #[serde(rename = "IPAddress", deserialize_with = "nullable")]
    pub ip_address: String,
    /// Its prefix length.
    #[serde(rename = "IPPrefixLen", deserialize_with = "nullable")]
    pub ip_prefix_len: i64,
    /// IPv6 gateway.
    #[serde(rename = "IPv6Gateway", deserialize_with = "nullable")]
    pub ipv6_gateway: String,
    /// IPv6 address.
    #[serde(rename = "GlobalIPv6Address", deserialize_with = "nullable")]
    pub global_ipv6_address: String,
    /// Its prefix length.
    #[serde(rename = "GlobalIPv6PrefixLen", deserialize_with = "nullable")]
    pub global_ipv6_prefix_len: i64,
    /// Names this endpoint answers to.
    #[serde(rename = "DNSNames")]
    pub dns_names: Option<Vec<String>>,
}

/// Wished addresses of an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointIpam {
    /// IPv4 address.
    #[serde(rename = "IPv4Address", deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub ipv4_address: String,
    /// IPv6 address.
    #[serde(rename = "IPv6Address", deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub ipv6_address: String,
    /// Link-local addresses.
    #[serde(rename = "LinkLocalIPs", skip_serializing_if = "Option::is_none")]
    pub link_local_ips: Option<Vec<String>>,
}

/// A network as lists and inspect show it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Network {
    /// Name.
    pub name: String,
    /// 64 hexadecimal digits.
    pub id: String,
    /// RFC 3339 instant.
    pub created: String,
    /// `local` or `swarm`.
    pub scope: String,
    /// `bridge`, `host`, `null`, …
    pub driver: String,
    /// Has IPv4, from API 1.47.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: bool,
    /// Has IPv6.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// Address management.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// No way out.
    pub internal: bool,
    /// Containers may be attached by hand (swarm).
    pub attachable: bool,
    /// Routing mesh (swarm).
    pub ingress: bool,
    /// Source of the configuration.
    pub config_from: ConfigReference,
    /// Configuration only.
    pub config_only: bool,
    /// Endpoints by container id (inspect only).
    #[serde(deserialize_with = "nullable")]
    pub containers: BTreeMap<String, NetworkContainer>,
    /// Driver options.
    #[serde(deserialize_with = "nullable")]
    pub options: BTreeMap<String, String>,
    /// Labels.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
}

/// Name of a configuration network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConfigReference {
    /// Network name.
    pub network: String,
}

/// Address management of a network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ipam {
    /// Driver.
    pub driver: String,
    /// Driver options.
    pub options: Option<BTreeMap<String, String>>,
    /// Pools.
    pub config: Option<Vec<IpamPool>>,
}

/// One address pool.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamPool {
    /// CIDR.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub subnet: String,
    /// Addresses are handed out of this range.
    #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub ip_range: String,
    /// Gateway.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub gateway: String,
    /// Addresses taken by others.
    #[serde(rename = "AuxiliaryAddresses", skip_serializing_if = "Option::is_none")]
    pub auxiliary_addresses: Option<BTreeMap<String, String>>,
}

/// An endpoint in a network's inspect.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkContainer {
    /// Container name.
    pub name: String,
    /// Endpoint id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// MAC address.
    pub mac_address: String,
    /// CIDR.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    /// CIDR.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

/// Body of `POST /networks/create`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkCreate {
    /// Name.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// Refuse names that exist; always done since API 1.44.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_duplicate: Option<bool>,
    /// Driver.
    #[serde(deserialize_with = "nullable")]
    pub driver: String,
    /// `local` or `swarm`.
    #[serde(deserialize_with = "nullable")]
    pub scope: String,
    /// With IPv4, from API 1.48.
    #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    /// With IPv6.
    #[serde(rename = "EnableIPv6", skip_serializing_if = "Option::is_none")]
    pub enable_ipv6: Option<bool>,
    /// Address management.
    #[serde(rename = "IPAM")]
    pub ipam: Option<IpamRequest>,
    /// No way out.
    #[serde(deserialize_with = "nullable")]
    pub internal: bool,
    /// Containers may be attached by hand (swarm).
    #[serde(deserialize_with = "nullable")]
    pub attachable: bool,
    /// Routing mesh (swarm).
    #[serde(deserialize_with = "nullable")]
    pub ingress: bool,
    /// Configuration only.
    #[serde(deserialize_with = "nullable")]
    pub config_only: bool,
    /// Source of the configuration.
    pub config_from: Option<ConfigReference>,
    /// Driver options.
    #[serde(deserialize_with = "nullable")]
    pub options: BTreeMap<String, String>,
    /// Labels.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
}

/// Address management of a network to be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamRequest {
    /// Driver.
    #[serde(deserialize_with = "nullable")]
    pub driver: String,
    /// Driver options.
    pub options: Option<BTreeMap<String, String>>,
    /// Pools.
    #[serde(deserialize_with = "nullable")]
    pub config: Vec<IpamPool>,
}

/// Answer of `POST /networks/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkCreated {
    /// Id.
    pub id: String,
    /// Always empty.
    pub warning: String,
}

/// Body of `POST /networks/{id}/connect`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkConnect {
    /// Name or id.
    #[serde(deserialize_with = "nullable")]
    pub container: String,
    /// Wishes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_config: Option<EndpointSettings>,
}

/// Body of `POST /networks/{id}/disconnect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkDisconnect {
    /// Name or id.
    #[serde(deserialize_with = "nullable")]
    pub container: String,
    /// Even if it is broken.
    #[serde(deserialize_with = "nullable")]
    pub force: bool,
}

/// Answer of `POST /networks/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworksPruned {
    /// Names.
    pub networks_deleted: Option<Vec<String>>,
}
