//! The event loop of a shim: waiting, and moving bytes.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use budu_sys::cgroup::Cgroup;
use budu_sys::process::{self, SingleThreaded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::connection::{Connection, Role};
use super::create::Parts;
use super::hooks::Told;
use super::process::{BULK, CHUNK, Phase, Process, read_rest};
use crate::birth::CLONE_NEWPID;
use crate::log::Log;
use crate::plan::Plan;
use crate::protocol::{ExitRecord, STDERR, STDOUT};

/// How long a finished shim waits for a client that takes nothing of the last output.
const LINGER: Duration = Duration::from_secs(60);
/// How often a log that is full is looked at.
const LOG_PAUSE: Duration = Duration::from_millis(20);
/// How long buffers are kept after a busy time, and how often clients are looked after.
const PAUSE: Duration = Duration::from_secs(1);
/// Reads in a row from a process before others get their turn.
const TURNS: u32 = 16;

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
    /// Where a file may be made for what clients do not take.
    pub(super) spill: Option<PathBuf>,
    /// What output is read into; grows with what is said.
    buffer: Vec<u8>,
    pub(super) stdin_once: bool,
    pub(super) size: (u16, u16),
    pub(super) next_key: u64,
    pub(super) exit: Option<ExitRecord>,
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
    Packer,
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
            spill: plan.log.as_ref().and_then(|log| log.path.parent()).map(PathBuf::from),
            buffer: Vec::new(),
            stdin_once: plan.stdio.stdin_once,
            size: plan.stdio.size,
            next_key: 1,
            exit: None,
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
        while let Some(log) = self.log.as_mut().filter(|log| log.packer().is_some()) {
            log.look_after_packer(Some(&self.token), true);
        }
        process::exit_now(0)
    }

    /// Everything is over, and told to everybody who listens.
    fn is_done(&self) -> bool {
        let listens = |c: &Connection| c.is_pending() && c.progress().elapsed() < LINGER;
        let ended = self.exit.is_some() && self.processes.iter().all(Process::is_over);
        ended && !self.connections.iter().any(listens)
    }

    /// How long to wait at most; for good, when nothing is to be looked after.
    fn patience(&mut self) -> Option<Duration> {
        if self.is_log_blocked() {
            return Some(LOG_PAUSE);
        }
        let clients = self.connections.iter().any(|c| c.is_full() || self.exit.is_some() && c.is_pending());
        (clients || !self.buffer.is_empty()).then_some(PAUSE)
    }

    fn is_log_blocked(&mut self) -> bool {
        self.log.as_mut().is_some_and(Log::is_blocked)
    }

    /// Gives back what a busy time needed.
    fn rest(&mut self) {
        self.buffer = Vec::new();
        if let Some(log) = &mut self.log {
            log.rest();
        }
    }

    /// Waits until something happens. Places stay valid until [`Shim::tidy`].
    fn wait(&mut self) -> Vec<Source> {
        let patience = self.patience();
        let sources = self.poll(patience);
        if sources.is_empty() && patience == Some(PAUSE) {
            self.rest();
        }
        sources
    }

    fn poll(&self, patience: Option<Duration>) -> Vec<Source> {
        let mut watched: Vec<(Source, PollFd<'_>)> = Vec::new();
        if let Some(listener) = &self.listener {
            watched.push((Source::Listener, PollFd::new(listener, PollFlags::IN)));
        }
        for (at, connection) in self.connections.iter().enumerate() {
            let blocked = self.is_input_blocked(connection);
            if blocked && connection.has_left() {
                continue;
            }
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, !blocked);
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
            let log_blocked = process.key == 0 && patience == Some(LOG_PAUSE);
            if !log_blocked && !self.is_output_blocked(process) {
                for (_, output) in &process.outputs {
                    watched.push((Source::Output(at), PollFd::new(output, PollFlags::IN)));
                }
            }
            if let Some(stdin) = process.blocked_stdin() {
                watched.push((Source::Stdin(at), PollFd::from_borrowed_fd(stdin, PollFlags::OUT)));
            }
        }
        if let Some(packer) = self.log.as_ref().and_then(Log::packer) {
            watched.push((Source::Packer, PollFd::new(packer, PollFlags::IN)));
        }
        let (sources, mut fds): (Vec<_>, Vec<_>) = watched.into_iter().unzip();
        let timeout = patience.and_then(|patience| Timespec::try_from(patience).ok());
        let _ = poll(&mut fds, timeout.as_ref());
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
            Source::Packer => self.log.iter_mut().for_each(|log| log.look_after_packer(Some(&self.token), false)),
        }
    }

    /// Forgets connections that are closed and exec'd processes that are over.
    fn tidy(&mut self) {
        self.connections.iter_mut().for_each(Connection::drop_stalled);
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
            self.connections[at].look_whether_left();
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
        let feeds = !matches!(connection.role, Role::Attach { stdin: false, .. });
        feeds && self.process_of(connection.role).is_some_and(|process| process.blocked_stdin().is_some())
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

    /// Moves what each of a process's outputs holds to log and clients; not
    /// without end, others have their turn, too.
    fn move_output(&mut self, at: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut output = 0;
        while output < self.processes[at].outputs.len() {
            let before = self.processes[at].outputs.len();
            for _ in 0..TURNS {
                if !self.move_once(at, output, &mut buffer) || self.is_output_blocked(&self.processes[at]) {
                    break;
                }
            }
            // One that ended is not in the list any more.
            output += usize::from(self.processes[at].outputs.len() == before);
        }
        self.buffer = buffer;
    }

    /// Moves what one read yields. False when there may be no more for now.
    fn move_once(&mut self, at: usize, output: usize, buffer: &mut Vec<u8>) -> bool {
        if buffer.is_empty() {
            buffer.resize(CHUNK, 0);
        }
        let Some((kind, count)) = self.processes[at].read(output, buffer) else { return false };
        if count == 0 {
            return false;
        }
        self.deliver(at, kind, &buffer[..count]);
        let full = count == buffer.len();
        if full && buffer.len() < BULK {
            self.processes[at].widen(output);
            buffer.resize(BULK, 0);
        }
        full && !(self.processes[at].key == 0 && self.is_log_blocked())
    }

    /// Reads everything a process that has ended still left in its streams, and closes them.
    pub(super) fn drain_output(&mut self, at: usize) {
        for (kind, output) in std::mem::take(&mut self.processes[at].outputs) {
            read_rest(&output, |data| self.deliver(at, kind, data));
        }
    }

    fn deliver(&mut self, at: usize, kind: u8, data: &[u8]) {
        let key = self.processes[at].key;
        if let Some(log) = self.log.as_mut().filter(|_| key == 0) {
            log.write(Some(&self.token), kind, data);
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
