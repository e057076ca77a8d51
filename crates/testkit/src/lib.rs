//! What tests and benchmarks stand on: throw-away machines, temporary engines, a terminal, test images.
//!
//! Nothing here is part of the product, and nothing here knows how the product works inside: an [`Engine`]
//! is a daemon behind a socket, whichever program that is. The same tests run against Budu and against
//! a real `dockerd`, which is how we know that a test asks for the right thing.
//!
//! - [`Cage`]: a process that owns a network, mount and cgroup namespace of its own and every process
//!   started in it. When the test ends, or dies, nothing of it is left.
//! - [`Engine`]: a daemon in a cage, with its own directories and socket, and a census when it goes.
//! - [`Terminal`]: a program on a pseudo terminal, driven as a person would.
//! - [`http`]: the Engine API without a client library in between.
//! - [`oci`], [`images`], [`Registry`], [`FaultyRegistry`]: images made by code and places to pull them from.
//! - [`peers`]: other engines in a Debian root directory, to compare with.
//!
//! ```no_run
//! let engine = budu_testkit::Engine::start(budu_testkit::Options::default())?;
//! let out = engine.client(budu_testkit::Client::Docker).run(["version"])?;
//! assert!(out.success());
//! engine.finish()?;
//! # anyhow::Ok(())
//! ```

mod cache;
mod cage;
mod census;
mod engine;
mod faulty;
pub mod http;
pub mod images;
pub mod oci;
pub mod peers;
mod program;
mod registry;
pub mod suite;
mod terminal;
pub mod wait;

pub use cache::cache_dir;
pub use cage::{Cage, Mount, World, enter_if_caged, in_network_of};
pub use census::Census;
pub use engine::{Backend, Client, ClientHandle, Engine, HOST, NEIGHBOUR, Options};
pub use faulty::{Fault, FaultyRegistry};
pub use program::{Output, program};
pub use registry::Registry;
pub use terminal::Terminal;
