//! Containers as users know them.
//!
//! [`Engine`] creates, starts, watches, enters, stops and removes containers,
//! in Docker's vocabulary and with Docker's messages, as a plain Rust library:
//! it never hears of HTTP. It asks [`budu_image::Store`] for root file
//! systems, [`budu_network::Networks`] for network namespaces and
//! [`budu_runtime::Launcher`] for shims, and keeps one record per container.
//!
//! - `container/<verb>.rs`: what can be done with a container, one verb a file.
//! - `container/record.rs`: what is remembered about it, and how it survives.
//! - [`Plugins`]: programs outside that speak Docker's plugin protocol.
//! - [`Volumes`]: directories that outlive containers.
//! - [`Events`]: the one channel all happenings go through.
//!
//! ```no_run
//! # async fn example(engine: budu_engine::Engine) -> Result<(), budu_engine::Error> {
//! use budu_spec::docker::{ApiVersion, ContainerCreate};
//! let mut wish = ContainerCreate::default();
//! wish.config.image = "hello".into();
//! let created = engine.create(Some("first"), wish, ApiVersion::MAX).await?;
//! let exit = engine.wait(&created.id, budu_engine::WaitCondition::NextExit)?;
//! engine.start(&created.id).await?;
//! println!("exit code {}", exit.await.status_code);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod caller;
mod clock;
mod container;
mod engine;
mod error;
mod events;
mod host;
pub mod log;
mod network;
mod plugin;
mod volume;

pub use container::archive::{Download, Upload};
pub use container::attach::{AttachOptions, AttachSession, End};
pub use container::commit::Commit;
pub use container::exec::{ExecSession, ExecStarted};
pub use container::inspect::Inspected;
pub use container::list::ListOptions;
pub use container::logs::{LogOptions, LogStream};
pub use container::usage::{Pressure, Usage};
pub use container::wait::WaitCondition;
pub use container::{Peer, read_by_peer};
pub use engine::{Engine, Options, Parts, Tally};
pub use error::Error;
pub use events::{EventStream, Events};
pub use host::{Host, inherited_descriptor};
pub use plugin::{Plugin, PluginError, PluginPlaces, Plugins};
pub use volume::{Snapshot, Volumes};
