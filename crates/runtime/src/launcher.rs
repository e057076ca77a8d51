//! The launcher: a tiny single-threaded process that shims are forked from.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

/// The daemon's hold on the launcher process.
#[derive(Debug)]
pub struct Launcher {}

impl Launcher {
    /// Starts the launcher: our own binary, executed through a read-only
    /// detached mount, so that nothing that ever runs in a container can reach
    /// a writable handle of it.
    pub fn spawn() -> io::Result<Launcher> {
        Err(io::Error::other("written next"))
    }

    /// Forks a shim and returns its control connection. `netns` is the network
    /// namespace its container joins. Blocks for a few dozen microseconds.
    pub fn new_shim(&self, netns: Option<BorrowedFd<'_>>) -> io::Result<UnixStream> {
        let _ = netns;
        Err(io::Error::other("written next"))
    }
}
