//! One OCI container: planned, created, started, entered, signalled, ended.
//!
//! The engine describes a container as an OCI `config.json` in memory,
//! [`compile`]s it into a [`plan::Plan`] (pure), asks the [`Launcher`] for a
//! shim and talks to that shim in [`protocol`] frames. The shim owns standard
//! streams, log file and exit status for as long as the container lives, with
//! or without a daemon. This crate never hears of images, networks or users'
//! names for containers.
//!
//! - [`Launcher`]: the daemon's hold on the small process shims are forked from.
//! - [`compile`]: `config.json` → plan; `defaults`: Docker's default profile.
//! - [`limits`]: other limits for a container that runs.
//! - `birth`: the parent's side of making a process; `shim`, `init`: what runs in the forked ones.
//! - [`log`]: log files, as the shim writes and the engine reads them.
//! - [`oci`]: the command line of an OCI runtime.
#![forbid(unsafe_code)]

mod birth;
mod cgroup;
pub mod compile;
pub mod defaults;
mod init;
mod launcher;
pub mod limits;
pub mod log;
mod mount_options;
pub mod oci;
#[doc(hidden)]
pub mod parsers;
pub mod plan;
pub mod protocol;
mod shim;

pub use launcher::{Launcher, PERSONALITY as LAUNCHER_PERSONALITY, main as launcher_main};
