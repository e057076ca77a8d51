//! What clients ask of a shim, and what its processes report.

use std::io;
use std::os::fd::AsFd;

use budu_sys::process;

use super::connection::{Frame, Role};
use super::create;
use super::process::Phase;
use super::serve::Shim;
use crate::init::{Failing, START, failed, invalid};
use crate::plan::ExecPlan;
use crate::protocol::{self, Event, Failure, FailureClass, MESSAGE, Request, STDIN, STDIN_EOF};

impl Shim {
    /// Carries out one frame of a connection.
    pub(super) fn take_frame(&mut self, at: usize, frame: Frame) {
        let role = self.connections[at].role;
        match frame.kind {
            STDIN => {
                if let Some(process) = self.fed_by(role) {
                    process.feed(&frame.payload);
                }
            }
            STDIN_EOF => self.end_stdin(role),
            MESSAGE => match protocol::decode(&frame.payload) {
                Ok(request) => self.take_request(at, request),
                Err(error) => self.refuse(at, invalid(error.to_string())),
            },
            other => self.refuse(at, invalid(format!("unknown frame kind {other}"))),
        }
    }

    /// A client that speaks another protocol is told so and dropped.
    fn refuse(&mut self, at: usize, failure: Failure) {
        self.connections[at].send(&Event::Failed(failure));
        self.connections[at].close();
    }

    /// The process that input from a connection is for.
    fn fed_by(&mut self, role: Role) -> Option<&mut super::process::Process> {
        let key = match role {
            Role::Attach { stdin: true, .. } => 0,
            Role::Exec(key) => key,
            _ => return None,
        };
        self.processes.iter_mut().find(|process| process.key == key)
    }

    /// A connection will send no more input, or is gone.
    fn end_stdin(&mut self, role: Role) {
        let ends = match role {
            Role::Attach { stdin, .. } => stdin && self.stdin_once,
            Role::Exec(_) => true,
            _ => false,
        };
        if let Some(process) = self.fed_by(role).filter(|_| ends) {
            process.end_stdin();
        }
    }

    /// A connection is gone.
    pub(super) fn disconnected(&mut self, role: Role) {
        self.end_stdin(role);
        // An engine that went away before it was told of the start leaves a container nobody knows to run.
        let waiting = matches!(self.processes[0].phase, Phase::Preparing | Phase::Waiting | Phase::Starting);
        if role == Role::Control && waiting && !self.has_other_control() {
            let _ = process::signal(self.processes[0].pidfd.as_fd(), 9);
        }
    }

    fn has_other_control(&self) -> bool {
        self.connections.iter().any(|connection| connection.role == Role::Control && !connection.is_dead())
    }

    fn take_request(&mut self, at: usize, request: Request) {
        let role = self.connections[at].role;
        let outcome = match (role, request) {
            (Role::New, Request::Watch) => {
                self.connections[at].role = Role::Control;
                Some(Ok(Event::Created { pid: self.first_pid() }))
            }
            (Role::New, Request::Attach { stdin, stdout, stderr }) => {
                self.connections[at].send(&Event::Attached);
                if let Some(directory) = &self.spill {
                    self.connections[at].keep_in(directory);
                }
                self.connections[at].role = Role::Attach { stdin, stdout, stderr };
                None
            }
            (Role::New, Request::Exec(plan)) => self.exec(at, &plan).err().map(Err),
            (Role::Control, Request::Start) => self.start().err().map(Err),
            (Role::Control, Request::Signal { signal, all }) => Some(self.signal(signal, all)),
            (Role::Control, Request::Resize { rows, cols }) => {
                self.size = (rows, cols);
                Some(done(self.processes[0].resize(rows, cols)))
            }
            (Role::Control, Request::Pause) => Some(self.freeze(true)),
            (Role::Control, Request::Resume) => Some(self.freeze(false)),
            (Role::Attach { .. } | Role::Exec(_), Request::Resize { rows, cols }) => {
                if let Some(process) = self.process_of(role) {
                    let _ = process.resize(rows, cols);
                }
                None
            }
            (Role::Exec(_), Request::Signal { signal, .. }) => {
                if let Some(process) = self.process_of(role) {
                    let _ = process::signal(process.pidfd.as_fd(), signal);
                }
                None
            }
            (role, request) => Some(Err(invalid(format!("{request:?} does not belong on a {role:?} connection")))),
        };
        match outcome {
            None => {}
            Some(Ok(event)) => self.connections[at].send(&event),
            Some(Err(failure)) if role == Role::New => self.refuse(at, failure),
            Some(Err(failure)) => self.connections[at].send(&Event::Failed(failure)),
        }
    }

    fn first_pid(&self) -> u32 {
        self.processes[0].pid.as_raw_nonzero().get().cast_unsigned()
    }

    fn start(&mut self) -> Failing<()> {
        let first = &mut self.processes[0];
        let (Phase::Preparing | Phase::Waiting, Some(report), false) = (first.phase, &first.report, first.let_go)
        else {
            return Err(state("the container is not waiting to be started"));
        };
        // One that still prepares itself finds the byte when it is ready.
        first.let_go = true;
        if first.phase == Phase::Waiting {
            first.phase = Phase::Starting;
        }
        budu_sys::socket::send_with_fds(report, &[START], &[]).map_err(failed("start the program"))
    }

    fn signal(&self, signal: i32, all: bool) -> Failing<Event> {
        let first = &self.processes[0];
        if matches!(first.phase, Phase::Ended(_)) {
            return Err(state("the container has ended"));
        }
        match &self.cgroup {
            Some(cgroup) if all && signal == 9 => cgroup.kill_all()?,
            Some(cgroup) if all => {
                for pid in cgroup.procs()? {
                    let _ = process::signal_child(pid, signal);
                }
            }
            _ => process::signal(first.pidfd.as_fd(), signal).map_err(failed("send the signal"))?,
        }
        Ok(Event::Done)
    }

    fn freeze(&self, freeze: bool) -> Failing<Event> {
        let cgroup = self.cgroup.as_ref().ok_or_else(|| state("the container has no cgroup of its own to freeze"))?;
        if freeze { cgroup.freeze() } else { cgroup.thaw() }?;
        Ok(Event::Done)
    }

    fn exec(&mut self, at: usize, plan: &ExecPlan) -> Failing<()> {
        if self.processes[0].phase != Phase::Running {
            return Err(state("the container is not running"));
        }
        let key = self.next_key;
        let mut process = create::exec(self, key, plan)?;
        process.size = plan.size;
        self.next_key += 1;
        self.processes.push(process);
        self.connections[at].role = Role::Exec(key);
        Ok(())
    }

    /// Reads what a process that sets itself up reports.
    pub(super) fn read_report(&mut self, at: usize) {
        let Some(report) = &self.processes[at].report else { return };
        let mut buffer = [0u8; 16 << 10];
        match budu_sys::socket::receive_with_fds(report, &mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok((n, mut fds)) if n > 0 => {
                let event = protocol::decode(buffer.get(protocol::HEADER..n).unwrap_or_default());
                match event {
                    Ok(Event::Hooks) => self.run_creation_hooks(at),
                    Ok(Event::Created { .. }) => self.prepared(at, fds.pop()),
                    Ok(Event::Failed(failure)) => self.preparation_failed(at, failure),
                    _ => self.preparation_failed(at, state("the container's first process reported nonsense")),
                }
            }
            // Closed by exec, or by a death that its pidfd will tell of.
            _ => self.started(at),
        }
    }

    fn prepared(&mut self, at: usize, terminal: Option<std::os::fd::OwnedFd>) {
        let size = if at == 0 { self.size } else { self.processes[at].size };
        if let Some(master) = terminal {
            let _ = self.processes[at].use_terminal(master, size);
        }
        if self.processes[at].key == 0 {
            let first = &mut self.processes[at];
            first.phase = if first.let_go { Phase::Starting } else { Phase::Waiting };
            let event = Event::Created { pid: self.first_pid() };
            self.tell_control(&event);
        } else {
            self.processes[at].phase = Phase::Starting;
        }
    }

    /// The report socket is closed: the program runs, unless its pidfd says otherwise.
    fn started(&mut self, at: usize) {
        let process = &mut self.processes[at];
        process.report = None;
        if process.phase == Phase::Starting {
            process.phase = Phase::Running;
            let event = Event::Started { pid: process.pid.as_raw_nonzero().get().cast_unsigned() };
            self.run_started_hooks(at);
            self.tell_owner(at, &event);
        } else if !matches!(process.phase, Phase::Ended(_)) {
            self.preparation_failed(at, state("the container's process was killed before it could start"));
        }
    }

    pub(super) fn preparation_failed(&mut self, at: usize, failure: Failure) {
        self.processes[at].report = None;
        if self.processes[at].key == 0 {
            self.give_up(failure);
        }
        self.tell_owner(at, &Event::Failed(failure));
        // An exec'd process is reaped and forgotten when its pidfd tells of its end.
        let key = self.processes[at].key;
        for connection in self.connections.iter_mut().filter(|c| c.role == Role::Exec(key)) {
            connection.close();
        }
    }

    /// Tells the connection that asked for a process.
    pub(super) fn tell_owner(&mut self, at: usize, event: &Event) {
        match self.processes[at].key {
            0 => self.tell_control(event),
            key => self.connections.iter_mut().filter(|c| c.role == Role::Exec(key)).for_each(|c| c.send(event)),
        }
    }

    /// Tells every control connection.
    pub(super) fn tell_control(&mut self, event: &Event) {
        self.connections.iter_mut().filter(|c| c.role == Role::Control).for_each(|c| c.send(event));
    }
}

fn state(message: &str) -> Failure {
    Failure { class: FailureClass::State, message: message.to_owned() }
}

fn done(outcome: io::Result<()>) -> Failing<Event> {
    outcome.map(|()| Event::Done).map_err(|error| state(&error.to_string()))
}
