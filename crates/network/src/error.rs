//! What can go wrong in a network.

use std::io;
use std::net::{IpAddr, SocketAddr};

use budu_spec::{Classified, ErrorClass};

use crate::Protocol;

/// Why a network request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No network has this name or id.
    #[error("network {name} not found")]
    NetworkNotFound {
        /// What was asked for.
        name: String,
    },
    /// Several networks match an id prefix.
    #[error("network {name} is ambiguous ({matches} matches found based on ID prefix)")]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// How many there are.
        matches: usize,
    },
    /// A network of this name exists.
    #[error("network with name {name} already exists")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// Containers are attached to a network that is to be removed.
    #[error("error while removing network: network {name} has active endpoints ({endpoints})")]
    Active {
        /// Name of the network.
        name: String,
        /// Who: `name:"…" id:"…"` of each.
        endpoints: String,
    },
    /// Every pool that networks are cut from is used up.
    #[error("all predefined address pools have been fully subnetted")]
    NoMoreSubnets,
    /// A value of the request is wrong.
    #[error("{message}")]
    Invalid {
        /// Which, and why.
        message: String,
    },
    /// Something that is never allowed.
    #[error("{message}")]
    Forbidden {
        /// What.
        message: String,
    },
    /// Something other than a network does not exist.
    #[error("{message}")]
    NotFound {
        /// What.
        message: String,
    },
    /// A feature of Docker that is not built yet.
    #[error("{feature} is not implemented")]
    Unsupported {
        /// Its name.
        feature: String,
    },
    /// The container is not connected to the network.
    #[error("container {container} is not connected to network {network}")]
    NotConnected {
        /// Id of the container.
        container: String,
        /// Name of the network.
        network: String,
    },
    /// A definition could not be kept.
    #[error("cannot {action} {}: {source}", path.display())]
    Store {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: std::path::PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The default bridge is switched off (`--bridge none`).
    #[error("the default bridge network is disabled on this daemon (--bridge none)")]
    BridgeDisabled,
    /// A link of that name exists and is no bridge.
    #[error("cannot use {name} as bridge: a link of that name exists and is no bridge")]
    NotABridge {
        /// Name of the link.
        name: String,
    },
    /// A name the kernel would refuse for a link.
    #[error("invalid bridge name {name:?}: 1 to 15 letters, digits, '_', '-' or '.'")]
    BridgeName {
        /// The refused name.
        name: String,
    },
    /// `bip` leaves no room for a container.
    #[error("invalid bridge address {bip}: it must be a host address in a network of at most /30")]
    BridgeAddress {
        /// The refused address.
        bip: ipnet::Ipv4Net,
    },
    /// Every local pool overlaps a route of the host.
    #[error(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network: set one with --bip"
    )]
    NoPool,
    /// Every address of the network is taken.
    #[error("no available addresses on network {network} ({subnet})")]
    Exhausted {
        /// Name of the network.
        network: String,
        /// Its range.
        subnet: ipnet::IpNet,
    },
    /// The requested address is in use.
    #[error("Address already in use")]
    AddressInUse {
        /// The address.
        ip: IpAddr,
        /// Name of the network.
        network: String,
    },
    /// The requested address cannot be given out on this network.
    #[error("address {ip} is not assignable on network {network} ({subnet})")]
    AddressOutside {
        /// The address.
        ip: IpAddr,
        /// Name of the network.
        network: String,
        /// Its range.
        subnet: ipnet::IpNet,
    },
    /// The container has an endpoint already.
    #[error("container {container} is already attached to a network")]
    Attached {
        /// Id of the container.
        container: String,
    },
    /// Publishing the ports of an endpoint failed.
    #[error(
        "failed to set up container networking: driver failed programming external connectivity on endpoint {name} ({endpoint_id}): {source}"
    )]
    Publish {
        /// Name of the container.
        name: String,
        /// Id of the endpoint.
        endpoint_id: String,
        /// Why.
        source: Box<Error>,
    },
    /// Somebody else on the host has the port.
    #[error("failed to bind host port {}/{protocol}: {}", SocketAddr::new(*ip, *port), describe(.source))]
    BindPort {
        /// Host address.
        ip: IpAddr,
        /// Host port.
        port: u16,
        /// Transport protocol.
        protocol: Protocol,
        /// Why.
        source: io::Error,
    },
    /// Another container of this daemon has the port.
    #[error("Bind for {ip}:{port} failed: port is already allocated")]
    PortAllocated {
        /// Host address.
        ip: IpAddr,
        /// Host port.
        port: u16,
    },
    /// Every port of a range is taken.
    #[error("all ports are allocated: no free {protocol} port in {first}-{last} on {ip}")]
    PortsExhausted {
        /// Host address.
        ip: IpAddr,
        /// First port of the range.
        first: u16,
        /// Last port of the range.
        last: u16,
        /// Transport protocol.
        protocol: Protocol,
    },
    /// Publishing on this address is not available.
    #[error(
        "publishing on IPv6 address {ip} is not available: use an IPv4 address, or a network with IPv6 and not the host's loopback"
    )]
    Ipv6Publish {
        /// The address.
        ip: IpAddr,
    },
    /// Unknown transport protocol.
    #[error("invalid protocol {text:?}: use tcp, udp or sctp")]
    Protocol {
        /// The refused text.
        text: String,
    },
    /// Malformed hardware address.
    #[error("invalid MAC address {text:?}")]
    MacAddress {
        /// The refused text.
        text: String,
    },
    /// A sysctl that is not the namespace's own, or a malformed one.
    #[error("sysctl {name:?} cannot be set in a container's network namespace: {why}")]
    Sysctl {
        /// Name as given.
        name: String,
        /// Why it was refused.
        why: String,
    },
    /// A kernel feature is missing.
    #[error("this kernel has no {feature}: {hint}")]
    Feature {
        /// Name of the feature.
        feature: &'static str,
        /// What to do about it.
        hint: &'static str,
    },
    /// The kernel refused a step.
    #[error("cannot {step}: {source}")]
    Kernel {
        /// What was tried, on what.
        step: String,
        /// Why.
        source: io::Error,
    },
}

/// The kernel's words without Rust's `(os error N)`, in lower case as in the
/// C library's messages that scripts match.
fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".into(),
        io::ErrorKind::AddrNotAvailable => "cannot assign requested address".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}

impl Classified for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Error::NetworkNotFound { .. } | Error::NotFound { .. } => ErrorClass::NotFound,
            Error::NameTaken { .. } => ErrorClass::Conflict,
            Error::Active { .. } | Error::Forbidden { .. } | Error::AddressInUse { .. } => ErrorClass::Forbidden,
            Error::Unsupported { .. } => ErrorClass::NotImplemented,
            Error::NoMoreSubnets | Error::Invalid { .. } => ErrorClass::InvalidArgument,
            Error::NotConnected { .. } | Error::Store { .. } => ErrorClass::Internal,
            Error::Ambiguous { .. }
            | Error::BridgeName { .. }
            | Error::BridgeAddress { .. }
            | Error::AddressOutside { .. }
            | Error::Protocol { .. }
            | Error::MacAddress { .. }
            | Error::Sysctl { .. } => ErrorClass::InvalidArgument,
            Error::BridgeDisabled => ErrorClass::NotFound,
            Error::Attached { .. } => ErrorClass::Conflict,
            Error::Ipv6Publish { .. } => ErrorClass::NotImplemented,
            Error::Publish { source, .. } => match source.class() {
                ErrorClass::NotImplemented => ErrorClass::NotImplemented,
                _ => ErrorClass::Internal,
            },
            Error::NotABridge { .. }
            | Error::NoPool
            | Error::Exhausted { .. }
            | Error::BindPort { .. }
            | Error::PortAllocated { .. }
            | Error::PortsExhausted { .. }
            | Error::Feature { .. }
            | Error::Kernel { .. } => ErrorClass::Internal,
        }
    }
}

impl Error {
    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error::Invalid { message: message.into() }
    }

    pub(crate) fn kernel(step: impl Into<String>, source: io::Error) -> Error {
        Error::Kernel { step: step.into(), source }
    }
}

impl From<budu_sys::netlink::Error> for Error {
    fn from(error: budu_sys::netlink::Error) -> Error {
        let step = match error.detail {
            Some(detail) => format!("{} ({detail})", error.step),
            None => error.step.into_owned(),
        };
        Error::Kernel { step, source: error.source }
    }
}
