//! The kernel, spoken politely.
//!
//! The one crate where `unsafe` lives: every block says why it is sound.
//! Modules are named after what they are about in the manual pages; they hold
//! descriptors instead of paths, return guards instead of promises, and never
//! run a program. Nothing here knows what a container is.
//!
//! Admission: a system call, a kernel file format or a kernel protocol.

pub mod capability;
pub mod cgroup;
pub mod conntrack;
pub mod dbus;
pub mod ext4;
pub mod freeze;
pub mod kernel;
pub mod label;
pub mod loopdev;
pub mod memory;
pub mod mount;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod process;
pub mod quota;
pub mod rooted;
pub mod scheduling;
pub mod seccomp;
pub mod signal_trace;
pub mod socket;
mod start;
pub mod view;
