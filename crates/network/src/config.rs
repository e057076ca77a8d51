//! What the daemon decides about networking.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;

/// Settings of one daemon's networks. Several daemons on one machine differ in
/// `bridge`; everything on the host (link, table) is named after it.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the bridge link, at most 15 bytes. `"none"` disables the
    /// default bridge: attaching to it is then an error.
    pub bridge: String,
    /// Address and prefix of the bridge (`--bip`). Without it: the first of the
    /// local pools that overlaps no route and no address of the host.
    pub bip: Option<Ipv4Net>,
    /// Maximum transmission unit of bridge and container links, in bytes.
    pub mtu: u32,
    /// Where definitions of user-defined networks are kept, one file each;
    /// without it they last as long as this object.
    pub state: Option<PathBuf>,
    /// Ranges that networks without a wish are cut from, each with the prefix
    /// length of a cut (`default-address-pools`).
    pub pools: Vec<(Ipv4Net, u8)>,
    /// Distinguishes daemons in network ids. Empty: derived from `bridge`.
    pub instance: String,
    /// Masquerade container traffic that leaves the host.
    pub ip_masq: bool,
    /// Switch on `net.ipv4.ip_forward` with the first container on a bridge.
    pub ip_forward: bool,
    /// Host address a port is published on when the request names none.
    pub default_bind_ip: Ipv4Addr,
    /// Wired network namespaces kept ready for the next containers; 0 makes
    /// each one when it is asked for.
    pub warm: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            bridge: "budu0".into(),
            bip: None,
            mtu: 1500,
            state: None,
            pools: crate::addresses::default_pools(),
            instance: String::new(),
            ip_masq: true,
            ip_forward: true,
            default_bind_ip: Ipv4Addr::UNSPECIFIED,
            warm: 4,
        }
    }
}
