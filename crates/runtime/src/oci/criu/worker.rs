//! One run of CRIU, driven over a socket (`criu swrk FD`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};

use budu_sys::socket;
use rustix::io::FdFlags;

use super::message::{Kind, Message, Response};
use crate::init::{Failing, failed, invalid};
use crate::protocol::{Failure, FailureClass};

/// Largest message CRIU sends.
const MAX_MESSAGE: usize = 40 << 10;

/// A running CRIU that does one request.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    socket: OwnedFd,
}

/// Whose standard streams CRIU has: what it restores gets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    Ours,
    None,
}

/// Lets a descriptor go to the next program that is executed.
fn pass(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::io::fcntl_setfd(fd, FdFlags::empty())?)
}

impl Worker {
    /// Starts it. `passed` descriptors are its own under the same numbers.
    pub(crate) fn start(streams: Streams, passed: &[BorrowedFd<'_>]) -> Failing<Worker> {
        let what = failed("start criu");
        let (ours, theirs) = socket::seqpacket_pair().map_err(&what)?;
        pass(theirs.as_fd()).map_err(&what)?;
        passed.iter().try_for_each(|fd| pass(*fd)).map_err(&what)?;
        let mut command = Command::new("criu");
        command.args(["swrk", &theirs.as_raw_fd().to_string()]);
        if streams == Streams::None {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        }
        let child = command.spawn().map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => invalid("criu not found in $PATH: install the package criu".to_owned()),
            _ => what(e),
        })?;
        Ok(Worker { child, socket: ours })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a request and follows its progress until it is answered. `step` is
    /// called whenever CRIU announces one and waits.
    pub(crate) fn ask(
        &self,
        request: &Message,
        mut step: impl FnMut(&Response, Vec<OwnedFd>) -> Failing<()>,
    ) -> Failing<Response> {
        let what = failed("talk to criu");
        socket::send_with_fds(&self.socket, request.as_bytes(), &[]).map_err(&what)?;
        let mut buffer = vec![0; MAX_MESSAGE];
        loop {
            let (n, fds) = socket::receive_with_fds(&self.socket, &mut buffer).map_err(&what)?;
            if n == 0 {
                return Err(failure("criu failed: it ended without an answer".to_owned()));
            }
            let response = Response::parse(&buffer[..n]);
            if !response.success {
                let why = response.message.lines().next().map(|line| format!(": {line}")).unwrap_or_default();
                let kind = name(response.kind);
                return Err(failure(format!("criu failed: type {kind} errno {}{why}", response.errno)));
            }
            if response.kind != Kind::Notify as i32 {
                return Ok(response);
            }
            step(&response, fds)?;
            let mut go_on = Message::request(Kind::Notify);
            go_on.flag(3, true);
            socket::send_with_fds(&self.socket, go_on.as_bytes(), &[]).map_err(&what)?;
        }
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Failing<ExitStatus> {
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write);
        self.child.wait().map_err(failed("wait for criu"))
    }

    /// Gives up: CRIU undoes what it did when nobody listens any more.
    pub(crate) fn abandon(self) {
        let Worker { mut child, socket } = self;
        drop(socket);
        let _ = child.wait();
    }
}

fn failure(message: String) -> Failure {
    Failure { class: FailureClass::Internal, message }
}

fn name(kind: i32) -> String {
    let known = [
        (Kind::Dump, "DUMP"),
        (Kind::Restore, "RESTORE"),
        (Kind::PreDump, "PRE_DUMP"),
        (Kind::Notify, "NOTIFY"),
        (Kind::FeatureCheck, "FEATURE_CHECK"),
        (Kind::Version, "VERSION"),
    ];
    let found = known.iter().find(|(known, _)| *known as i32 == kind);
    found.map_or_else(|| kind.to_string(), |(_, name)| (*name).to_owned())
}

/// A question that changes nothing.
fn query(request: &Message) -> Failing<Response> {
    let worker = Worker::start(Streams::None, &[])?;
    match worker.ask(request, |_, _| Ok(())) {
        Ok(response) => {
            worker.finish()?;
            Ok(response)
        }
        Err(failure) => {
            worker.abandon();
            Err(failure)
        }
    }
}

/// CRIU's version, as 31701 for 3.17.1.
pub(crate) fn version() -> Failing<i32> {
    let response = query(&Message::request(Kind::Version)).map_err(|e| e.about("CRIU version check failed"))?;
    Ok(response.version)
}

/// Refuses when CRIU, or the kernel under it, cannot track changes of memory or
/// deliver pages late, where that is asked for.
pub(crate) fn require(track_memory: bool, lazy_pages: bool) -> Failing<()> {
    let mut features = Message::default();
    features.flag(1, track_memory);
    features.flag(2, lazy_pages);
    let mut request = Message::request(Kind::FeatureCheck);
    request.nested(5, &features);
    let has = query(&request).map_err(|e| e.about("CRIU feature check failed"))?.features;
    let wanted = [(track_memory, has.0, "MemTrack"), (lazy_pages, has.1, "LazyPages")];
    let missing: Vec<&str> =
        wanted.iter().filter(|(wanted, has, _)| *wanted && !has).map(|(_, _, name)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(failure(format!("criu is missing features: [{}]", missing.join(" "))))
}
