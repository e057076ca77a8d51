//! The event loop of a shim: waiting, and moving bytes.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use budu_sys::cgroup::Cgroup;
use budu_sys::process::{self, SingleThreaded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::connection::{Connection, Role};
use super::create::Parts;
use super::hooks::Told;
use super::log::Log;
use super::process::{CHUNK, Phase, Process};
use crate::birth::CLONE_NEWPID;
use crate::plan::Plan;
use crate::protocol::{ExitRecord, STDERR, STDOUT};

/// How long a finished shim waits for clients to take the last output.
pub(super) const LINGER: Duration = Duration::from_secs(10);

/// The state of a shim.
#[derive(Debug)]
pub(super) struct Shim {
    pub(super) token: SingleThreaded,
    pub(super) cgroup: Option<Cgroup>,
    /// CLONE_NEW* bits in which the container differs from us.
    pub(super) namespaces: u64,
    /// The container has a pid namespace of its own.
    pub(super) own_pids: bool,
    /// For hooks, if there are any.
    pub(super) told: Option<Box<Told>>,
    /// The container's first process, then exec'd ones.
    pub(super) processes: Vec<Process>,
    pub(super) connections: Vec<Connection>,
    pub(super) listener: Option<OwnedFd>,
    pub(super) run_dir: OwnedFd,
    pub(super) log: Option<Log>,
    pub(super) stdin_once: bool,
    pub(super) size: (u16, u16),
    pub(super) next_key: u64,
    pub(super) exit: Option<ExitRecord>,
    /// When to end without having delivered everything.
    pub(super) deadline: Option<Instant>,
}

/// Something to look at, with its place in the list it is in.
#[derive(Debug, Clone, Copy)]
enum Source {
    Listener,
    Connection(usize),
    Report(usize),
    End(usize),
    Output(usize),
    Stdin(usize),
}

impl Shim {
    pub(super) fn new(token: SingleThreaded, plan: Plan, parts: Parts, control: Connection) -> Shim {
        Shim {
            token,
            cgroup: parts.cgroup,
            namespaces: parts.namespaces,
            own_pids: plan.namespaces.new & CLONE_NEWPID != 0,
            told: Told::of(&plan),
            processes: vec![parts.first],
            connections: vec![control],
            listener: Some(parts.listener),
            run_dir: parts.run_dir,
            log: parts.log,
            stdin_once: plan.stdio.stdin_once,
            size: plan.stdio.size,
            next_key: 1,
            exit: None,
            deadline: None,
        }
    }

    /// Serves until the container has ended and everything is told.
    pub(super) fn serve(mut self) -> ! {
        while !self.is_done() {
            for source in self.wait() {
                self.handle(source);
            }
            self.tidy();
        }
        process::exit_now(0)
    }

    fn is_done(&self) -> bool {
        let told = !self.connections.iter().any(Connection::is_pending);
        let ended = self.exit.is_some() && self.processes.iter().all(Process::is_over);
        ended && (told || self.deadline.is_some_and(|deadline| Instant::now() > deadline))
    }

    /// Waits until something happens. Places stay valid until [`Shim::tidy`].
    fn wait(&self) -> Vec<Source> {
        let mut watched: Vec<(Source, PollFd<'_>)> = Vec::new();
        if let Some(listener) = &self.listener {
            watched.push((Source::Listener, PollFd::new(listener, PollFlags::IN)));
        }
        for (at, connection) in self.connections.iter().enumerate() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, !self.is_input_blocked(connection));
            flags.set(PollFlags::OUT, connection.is_pending());
            watched.push((Source::Connection(at), PollFd::new(connection, flags)));
        }
        for (at, process) in self.processes.iter().enumerate() {
            if let Some(report) = &process.report {
                watched.push((Source::Report(at), PollFd::new(report, PollFlags::IN)));
            }
            if !matches!(process.phase, Phase::Ended(_)) {
                watched.push((Source::End(at), PollFd::new(&process.pidfd, PollFlags::IN)));
            }
            if !self.is_output_blocked(process) {
                for (_, output) in &process.outputs {
                    watched.push((Source::Output(at), PollFd::new(output, PollFlags::IN)));
                }
            }
            if let Some(stdin) = process.blocked_stdin() {
                watched.push((Source::Stdin(at), PollFd::from_borrowed_fd(stdin, PollFlags::OUT)));
            }
        }
        let (sources, mut fds): (Vec<_>, Vec<_>) = watched.into_iter().unzip();
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        let _ = poll(&mut fds, self.deadline.as_ref().map(|_| &second));
        sources.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty()).map(|(source, _)| source).collect()
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Listener => self.accept(),
            Source::Connection(at) => self.serve_connection(at),
            Source::Report(at) => self.read_report(at),
            Source::Output(at) => self.move_output(at),
            Source::Stdin(at) => self.resume_input(at),
            Source::End(at) => self.reap(at),
        }
    }

    /// Forgets connections that are closed and exec'd processes that are over.
    fn tidy(&mut self) {
        for at in 0..self.connections.len() {
            if self.connections[at].is_dead() {
                self.disconnected(self.connections[at].role);
            }
        }
        self.connections.retain(|connection| !connection.is_dead());
        self.processes.retain(|process| process.key == 0 || !process.is_over());
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        if let Ok(fd) = rustix::net::accept_with(listener, rustix::net::SocketFlags::CLOEXEC)
            && let Ok(connection) = Connection::new(fd, Role::New)
        {
            self.connections.push(connection);
        }
    }

    fn serve_connection(&mut self, at: usize) {
        self.connections[at].flush();
        if self.is_input_blocked(&self.connections[at]) {
            return;
        }
        self.connections[at].fill();
        self.take_frames(at);
    }

    fn take_frames(&mut self, at: usize) {
        while !self.is_input_blocked(&self.connections[at]) {
            let Some(frame) = self.connections[at].next_frame() else { break };
            self.take_frame(at, frame);
        }
    }

    /// A process takes input again: what waits, then what its clients sent
    /// meanwhile, which no socket will announce a second time.
    fn resume_input(&mut self, at: usize) {
        self.processes[at].feed_pending();
        for connection in 0..self.connections.len() {
            self.take_frames(connection);
        }
    }

    /// A connection is not read while the process it feeds has not taken what it already got.
    fn is_input_blocked(&self, connection: &Connection) -> bool {
        self.process_of(connection.role).is_some_and(|process| process.blocked_stdin().is_some())
    }

    /// A process is not read while a client that wants its output lags behind.
    fn is_output_blocked(&self, process: &Process) -> bool {
        self.connections.iter().any(|connection| connection.is_full() && connection.role.wants(process.key, None))
    }

    /// The process whose streams a connection carries.
    pub(super) fn process_of(&self, role: Role) -> Option<&Process> {
        let key = role.process_key()?;
        self.processes.iter().find(|process| process.key == key)
    }

    /// Moves one chunk of each of a process's outputs to log and clients.
    fn move_output(&mut self, at: usize) {
        let mut buffer = [0u8; CHUNK];
        let mut output = 0;
        while output < self.processes[at].outputs.len() {
            match self.processes[at].read(output, &mut buffer) {
                None => output += 1,
                Some((_, 0)) => {}
                Some((kind, n)) => {
                    self.deliver(at, kind, &buffer[..n]);
                    output += 1;
                }
            }
        }
    }

    /// Reads everything a process that has ended still left in its streams.
    pub(super) fn drain_output(&mut self, at: usize) {
        let mut buffer = [0u8; CHUNK];
        while !self.processes[at].outputs.is_empty() {
            match self.processes[at].read(0, &mut buffer) {
                Some((_, 0)) => {}
                Some((kind, n)) => self.deliver(at, kind, &buffer[..n]),
                // Held open by somebody who is not of the container's first
                // process any more: what the process itself wrote is read.
                None => drop(self.processes[at].outputs.remove(0)),
            }
        }
    }

    fn deliver(&mut self, at: usize, kind: u8, data: &[u8]) {
        let key = self.processes[at].key;
        if let Some(log) = self.log.as_mut().filter(|_| key == 0) {
            log.write(kind, data);
        }
        for connection in &mut self.connections {
            if connection.role.wants(key, Some(kind)) {
                connection.send_stream(kind, data);
            }
        }
    }
}

impl Role {
    /// The key of the process whose streams it carries.
    fn process_key(self) -> Option<u64> {
        match self {
            Role::New | Role::Control => None,
            Role::Attach { .. } => Some(0),
            Role::Exec(key) => Some(key),
        }
    }

    /// Whether it wants a stream (any, when `None`) of process `key`.
    fn wants(self, key: u64, kind: Option<u8>) -> bool {
        match self {
            Role::New | Role::Control => false,
            Role::Exec(own) => own == key,
            Role::Attach { stdout, stderr, .. } => {
                key == 0
                    && match kind {
                        Some(STDOUT) => stdout,
                        Some(STDERR) => stderr,
                        _ => stdout || stderr,
                    }
            }
        }
    }
}
