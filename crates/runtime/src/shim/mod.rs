//! The shim: one small process per container that owns its standard streams,
//! its log file and its exit status.
//!
//! It is a fork of the launcher and shares that process's pages; what it
//! allocates is what a container costs. It serves any number of connections
//! (see [`crate::protocol`]) and needs none: a container whose daemon is gone
//! runs on, is logged, and leaves an exit record when it ends.
//!
//! - `create`: from plan to a process that waits to be let go; exec.
//! - `serve`: the event loop; `request`: what clients ask; `ending`: how it ends.
//! - `process`, `connection`, `backlog`: what the loop moves bytes between.

mod backlog;
mod connection;
mod create;
mod ending;
mod hooks;
mod process;
mod request;
mod serve;

use std::os::fd::OwnedFd;

use budu_sys::cgroup::Layout;
use budu_sys::process::SingleThreaded;

use crate::protocol::{self, Event, Failure, Request};

/// What a shim has from birth.
#[derive(Debug)]
pub(crate) struct Birth {
    /// Proof that it may copy itself.
    pub(crate) token: SingleThreaded,
    /// Connection to the engine that asked for it.
    pub(crate) control: OwnedFd,
    /// Network namespace of its container.
    pub(crate) netns: Option<OwnedFd>,
    /// What the host mounts as cgroup file system.
    pub(crate) layout: Option<Layout>,
}

/// Runs a shim until its container is gone. Never returns into the launcher's code.
pub(crate) fn run(birth: Birth) -> ! {
    budu_sys::process::keep_children();
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"budu-shim");
    let Birth { token, control, netns, layout } = birth;
    let plan = match protocol::receive(rustix_read(&control)) {
        Ok(Some(Request::Create(plan))) => plan,
        Ok(Some(_)) => refuse(&control, crate::init::invalid("a new shim wants a plan first".to_owned())),
        // The engine is gone before it said what it wanted.
        Ok(None) | Err(_) => budu_sys::process::exit_now(1),
    };
    match create::container(token, *plan, control, netns, layout) {
        Ok(shim) => shim.serve(),
        Err((control, failure)) => refuse(&control, failure),
    }
}

/// A blocking reader of a borrowed socket.
fn rustix_read(fd: &OwnedFd) -> impl std::io::Read + '_ {
    struct Reader<'a>(&'a OwnedFd);
    impl std::io::Read for Reader<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            Ok(rustix::io::read(self.0, buffer)?)
        }
    }
    Reader(fd)
}

/// Reports a failure and ends. What was made is undone by its guards already.
fn refuse(control: &OwnedFd, failure: Failure) -> ! {
    let _ = rustix::io::ioctl_fionbio(control, false);
    let frame = protocol::encode(&Event::Failed(failure));
    let _ = rustix::net::send(control, &frame, rustix::net::SendFlags::NOSIGNAL);
    budu_sys::process::exit_now(1)
}
