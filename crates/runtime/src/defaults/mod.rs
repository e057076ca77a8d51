//! Docker's default profile, as data: what a container may do when nobody says otherwise.
//!
//! - [`capabilities`]: the fourteen, and `--cap-add`, `--cap-drop`, `--privileged`.
//! - [`seccomp`]: the default system call filter, and filters that users bring.
//! - [`paths`]: what is hidden and what is read-only below /proc and /sys.
//! - [`devices`]: the nodes of /dev and what may be opened.

pub mod capabilities;
pub mod devices;
pub mod paths;
pub mod seccomp;
