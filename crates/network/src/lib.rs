//! Who can talk to whom: networks, addresses, published ports, name files.
//!
//! This crate knows links, addresses, routes, firewall elements and the two
//! text files a resolver reads. It never knows what a container is beyond an
//! opaque id, never touches processes, images or mounts, and never runs an
//! external program: everything goes through `budu_sys::netlink` and
//! `budu_sys::nft`.
//!
//! - [`Networks`]: the door. [`attach`](Networks::attach) gives a container a
//!   network namespace that is wired, addressed and published;
//!   [`detach`](Networks::detach) takes it back; after a daemon restart
//!   [`adopt`](Networks::adopt) takes over what still runs and
//!   [`reclaim`](Networks::reclaim) removes what nobody owns.
//! - [`Definition`]: a network as it was made; those of users are kept on disk.
//! - [`Sandbox`] and [`Endpoint`]: the places of one container in its networks,
//!   as plain data that the caller stores.
//! - `dns`: the name server at 127.0.0.11 inside containers.
//! - [`PortRequest`] and [`PublishedPort`]: the wish and the outcome of `-p`.
//! - [`files`]: contents of `/etc/hosts` and `/etc/resolv.conf`.
//!
//! Published ports are elements of nf_tables maps, so that adding or removing
//! one costs a single netlink message whatever the number of containers; see
//! `docs/decisions/0005-firewall-as-data.md`.
//!
//! ```no_run
//! use budu_network::{AttachRequest, Config, Join, Networks};
//! let networks = Networks::open(Config::default())?;
//! let attachment = networks.attach(&AttachRequest {
//!     container: "f00d".repeat(16),
//!     name: "web".into(),
//!     joins: vec![Join { network: "bridge".into(), ..Join::default() }],
//!     ..AttachRequest::default()
//! })?;
//! println!("{:?}", attachment.sandbox.endpoints[0].ip);
//! networks.detach(&attachment.sandbox.container)?;
//! # Ok::<(), budu_network::Error>(())
//! ```
#![forbid(unsafe_code)]

mod addresses;
mod addresses6;
mod attach;
mod bridge;
mod config;
mod create;
mod definition;
mod dns;
mod endpoint;
mod error;
pub mod files;
mod firewall;
mod flows;
mod keeper;
mod mac;
mod network;
mod networks;
mod port;
mod publish;
mod reserve;
mod ruleset;
mod state;
mod store;
mod wire;
mod wiring;

pub use config::Config;
pub use create::{CreateRequest, PoolRequest};
pub use definition::{Definition, Pool, is_predefined};
pub use endpoint::{AttachRequest, Attachment, Dns, Endpoint, Join, Mode, Sandbox, Upstream};
pub use error::Error;
pub use mac::Mac;
pub use network::Network;
pub use networks::Networks;
pub use port::{HostPort, PortRequest, Protocol, PublishedPort};
