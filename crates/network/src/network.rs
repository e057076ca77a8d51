//! A network as users inspect it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::Endpoint;

/// One network and who is in it.
#[derive(Debug, Clone)]
pub struct Network {
    /// 64 hex digits, the same after every restart.
    pub id: String,
    /// Name: `bridge`, `host` or `none`.
    pub name: String,
    /// Driver: `bridge`, `host` or `null`.
    pub driver: String,
    /// Always `local` for now.
    pub scope: String,
    /// Address range; only `bridge` has one.
    pub subnet: Option<Ipv4Net>,
    /// The bridge's own address.
    pub gateway: Option<Ipv4Addr>,
    /// `com.docker.network.*` options, as in `network inspect`.
    pub options: BTreeMap<String, String>,
    /// Containers attached now.
    pub endpoints: Vec<Endpoint>,
}
