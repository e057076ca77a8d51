//! Exec: further processes in a running container.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use budu_runtime::compile;
use budu_runtime::plan::ExecPlan;
use budu_runtime::protocol::{self, Event, ExitRecord, FailureClass, Request};
use budu_spec::docker::{ExecCreate, ExecInspect, ExecProcess, ExecStart};
use budu_spec::{Id, oci};
use budu_sys::capability::CapSet;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::detach_keys::Scanner;
use super::pump::{self, Manner, Peer, Reason};
use super::shim::{self, Frames};
use super::{Container, mounts, spec, start};
use crate::{Engine, Error};

/// From so many instances on, over all containers, those that ended long ago are dropped.
const KEPT: usize = 1024;
/// As long an ended instance is kept, since its client is about to ask for its exit code.
const FRESH: Duration = Duration::from_secs(300);

/// All exec instances.
#[derive(Debug, Default)]
pub(crate) struct Execs(Mutex<HashMap<String, Arc<Exec>>>);

/// One exec instance.
#[derive(Debug)]
struct Exec {
    id: Id,
    container: Arc<Container>,
    wish: ExecCreate,
    state: Mutex<Running>,
    /// Where resize requests go while it runs.
    requests: Mutex<Option<mpsc::Sender<Request>>>,
}

/// How far an exec instance is.
#[derive(Debug, Clone, Copy, Default)]
struct Running {
    started: bool,
    running: bool,
    exit_code: Option<i32>,
    pid: u32,
    ended: Option<Instant>,
}

impl Running {
    /// Refuses what was started before.
    fn require_fresh(self, id: &str) -> Result<(), Error> {
        match (self.running, self.started) {
            (true, _) => Err(Error::conflict(format!("exec command {id} is already running"))),
            (false, true) => Err(Error::conflict(format!("exec command {id} has already run"))),
            (false, false) => Ok(()),
        }
    }
}

impl Execs {
    fn map(&self) -> MutexGuard<'_, HashMap<String, Arc<Exec>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: &str) -> Result<Arc<Exec>, Error> {
        self.map().get(id).cloned().ok_or_else(|| Error::NoSuchExec { id: id.to_owned() })
    }

    fn remove(&self, id: &str) {
        self.map().remove(id);
    }

    fn insert(&self, exec: Arc<Exec>) {
        let mut map = self.map();
        if map.len() >= KEPT {
            map.retain(|_, e| e.state().ended.is_none_or(|ended| ended.elapsed() < FRESH));
        }
        map.insert(exec.id.to_string(), exec);
    }

    /// Drops the instances of a container that ended before they were started. Of the others somebody is about to ask
    /// how they ended, maybe because the container ended with them.
    pub(crate) fn forget_unstarted(&self, id: &str) {
        self.map().retain(|_, e| e.container.id.as_str() != id || e.state().started);
    }

    /// Drops the instances of a container that is removed.
    pub(crate) fn forget_container(&self, id: &str) {
        self.map().retain(|_, e| e.container.id.as_str() != id || e.state().running);
    }

    /// Ids of the instances of a container that run.
    pub(crate) fn of_container(&self, id: &str) -> Option<Vec<String>> {
        let map = self.map();
        let ids: Vec<String> = map
            .values()
            .filter(|e| e.container.id.as_str() == id && e.state().running)
            .map(|e| e.id.to_string())
            .collect();
        (!ids.is_empty()).then_some(ids)
    }
}

impl Exec {
    fn state(&self) -> MutexGuard<'_, Running> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn command(&self) -> String {
        self.wish.cmd.join(" ")
    }

    fn finish(&self, code: i32) {
        let mut state = self.state();
        state.running = false;
        state.exit_code = Some(code);
        state.ended = Some(Instant::now());
        state.pid = 0;
        drop(state);
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// [`Container::require_running`] with the container named as it was asked for.
fn require_running(container: &Container, name: &str) -> Result<(), Error> {
    if container.state().status == super::record::Status::Paused {
        return Err(Error::conflict(format!("Container {name} is paused, unpause the container before exec")));
    }
    container.require_running("exec")
}

/// What became of starting an exec instance.
#[derive(Debug)]
pub enum ExecStarted {
    /// It runs, and nobody listens.
    Detached,
    /// It runs; the session carries its streams.
    Attached(Box<ExecSession>),
}

/// What became of an exec instance that was waited for.
#[derive(Debug)]
pub(super) struct Kept {
    /// Exit code; `None` when it took too long.
    pub(super) code: Option<i32>,
    /// The first bytes of its output.
    pub(super) output: Vec<u8>,
}

/// A client's place at the streams of an exec instance.
#[derive(Debug)]
pub struct ExecSession {
    engine: Engine,
    exec: Arc<Exec>,
    frames: Frames<UnixStream>,
    requests: mpsc::Receiver<Request>,
    manner: Manner,
}

impl Engine {
    /// Prepares a process in a running container.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the container does not run.
    pub fn exec_create(&self, name: &str, wish: ExecCreate) -> Result<String, Error> {
        // Judged before the container is looked up, as Docker does.
        if wish.cmd.first().is_none_or(String::is_empty) {
            return Err(Error::invalid("No exec command specified"));
        }
        let container = self.find(name)?;
        require_running(&container, name)?;
        Scanner::new(&wish.detach_keys)?;
        if !wish.working_dir.is_empty() && !wish.working_dir.starts_with('/') {
            return Err(Error::invalid(format!(
                "the working directory '{}' is invalid, it needs to be an absolute path",
                wish.working_dir
            )));
        }
        let exec = Arc::new(Exec {
            id: Id::random(),
            container: Arc::clone(&container),
            wish,
            state: Mutex::default(),
            requests: Mutex::default(),
        });
        self.tell_exec(&exec, &format!("exec_create: {}", exec.command()), &[]);
        let id = exec.id.to_string();
        self.0.execs.insert(exec);
        Ok(id)
    }

    /// Tells whether an exec instance may be started.
    ///
    /// # Errors
    /// [`Error::NoSuchExec`]; [`Error::Conflict`] when it was started before
    /// or its container does not run.
    pub fn exec_startable(&self, id: &str) -> Result<(), Error> {
        let exec = self.0.execs.find(id)?;
        require_running(&exec.container, exec.container.id.as_str())?;
        exec.state().require_fresh(id)
    }

    /// Starts an exec instance. The stream has the form that this request's `Tty` names, whatever the process has.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it was started before or the container does
    /// not run; [`Error::Command`] when the program cannot be executed.
    pub async fn exec_start(&self, id: &str, how: &ExecStart) -> Result<ExecStarted, Error> {
        let exec = self.0.execs.find(id)?;
        require_running(&exec.container, exec.container.id.as_str())?;
        {
            let mut state = exec.state();
            state.require_fresh(id)?;
            state.started = true;
            state.running = true;
        }
        self.tell_exec(&exec, &format!("exec_start: {}", exec.command()), &[]);
        match self.run_exec(&exec, how).await {
            Ok(session) if how.detach => {
                tokio::spawn(async move { session.finish(Reason::Client).await });
                Ok(ExecStarted::Detached)
            }
            Ok(session) => Ok(ExecStarted::Attached(Box::new(session))),
            Err(error) => {
                exec.finish(if let Error::Command { code, .. } = error { code } else { 126 });
                Err(error)
            }
        }
    }

    async fn run_exec(&self, exec: &Arc<Exec>, how: &ExecStart) -> Result<ExecSession, Error> {
        let plan = exec_plan(exec, how.detach, how.console_size)?;
        let gone = |e: std::io::Error| Error::Runtime { message: format!("cannot reach the shim: {e}") };
        let request = Request::Exec(Box::new(plan));
        let mut frames = Frames::streams(shim::open(&self.run_dir(&exec.container.id), &request).await.map_err(gone)?);
        match frames.event().await.map_err(gone)? {
            Some(Event::Started { pid }) => exec.state().pid = pid,
            Some(Event::Failed(failure)) => return Err(explain(&failure, &exec.wish.cmd[0])),
            _ => return Err(Error::not_running(exec.container.id.as_str())),
        }
        let (sender, requests) = mpsc::channel(4);
        *exec.requests.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        let wish = &exec.wish;
        let manner = Manner {
            plain: how.tty,
            stdin: wish.attach_stdin && !how.detach,
            stdout: wish.attach_stdout || wish.tty,
            // Without frames the two could not be told apart, and Docker sends the one.
            stderr: wish.attach_stderr && !how.tty,
            keys: if wish.tty && wish.attach_stdin { Some(Scanner::new(&wish.detach_keys)?) } else { None },
        };
        Ok(ExecSession { engine: self.clone(), exec: Arc::clone(exec), frames, requests, manner })
    }

    /// Sets the size of an exec instance's terminal.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it does not run.
    pub async fn exec_resize(&self, id: &str, rows: u16, cols: u16) -> Result<(), Error> {
        let exec = self.0.execs.find(id)?;
        let sender = exec.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let idle = || Error::conflict(format!("exec process {id} is not running"));
        sender.ok_or_else(idle)?.send(Request::Resize { rows, cols }).await.map_err(|_| idle())
    }

    /// Looks at an exec instance.
    ///
    /// # Errors
    /// [`Error::NoSuchExec`].
    pub fn exec_inspect(&self, id: &str) -> Result<ExecInspect, Error> {
        let exec = self.0.execs.find(id)?;
        let (state, wish) = (*exec.state(), &exec.wish);
        Ok(ExecInspect {
            id: exec.id.to_string(),
            running: state.running,
            exit_code: state.exit_code.map(i64::from),
            process_config: ExecProcess {
                tty: wish.tty,
                entrypoint: wish.cmd[0].clone(),
                arguments: wish.cmd[1..].to_vec(),
                privileged: wish.privileged,
                user: wish.user.clone(),
            },
            open_stdin: wish.attach_stdin,
            open_stderr: wish.attach_stderr,
            open_stdout: wish.attach_stdout,
            can_remove: state.started && !state.running,
            container_id: exec.container.id.to_string(),
            detach_keys: String::new(),
            pid: state.pid,
        })
    }

    /// Drops an instance that nobody will ask for again.
    pub(super) fn forget_exec(&self, id: &str) {
        self.0.execs.remove(id);
    }

    fn tell_exec(&self, exec: &Exec, action: &str, more: &[(&str, String)]) {
        let mut attributes = vec![("execID", exec.id.to_string())];
        attributes.extend_from_slice(more);
        self.tell(&exec.container, action, &attributes);
    }
}

impl ExecSession {
    /// Carries the bytes until the process ends or the client goes; the
    /// process goes on without client. Its exit code is visible before the
    /// writer is closed.
    pub async fn run<R, W, G>(mut self, mut client: Peer<R, W, G>)
    where
        R: AsyncRead + Unpin + Send,
        W: AsyncWrite + Unpin + Send,
        G: Future<Output = ()> + Unpin + Send,
    {
        let (mut frames, mut to) = self.frames.split();
        let reason = pump::run(&mut frames, &mut to, Some(&mut self.requests), &mut self.manner, &mut client).await;
        let over = matches!(reason, Reason::Shim(_));
        if over {
            note(&self.engine, &self.exec, exit_of(reason));
            let _ = client.writer.shutdown().await;
            return;
        }
        if matches!(reason, Reason::Keys) {
            self.engine.tell_exec(&self.exec, "exec_detach", &[]);
        }
        let _ = client.writer.shutdown().await;
        drop(client);
        let exit = pump::drain(&mut frames).await;
        note(&self.engine, &self.exec, exit);
    }

    /// Waits for the end and keeps the first `limit` bytes of output. A
    /// process that takes longer than `timeout` is killed.
    pub(super) async fn keep(self, limit: usize, timeout: Duration) -> Kept {
        let (mut frames, mut to) = self.frames.split();
        let mut output = Vec::new();
        let mut read = async || loop {
            match frames.next().await {
                Ok(Some(frame)) if matches!(frame.kind(), protocol::STDOUT | protocol::STDERR) => {
                    let room = limit - output.len();
                    output.extend(frame.payload().iter().take(room));
                }
                Ok(Some(frame)) => {
                    if let Ok(Event::Exited(exit)) = protocol::decode(frame.payload()) {
                        return Some(exit);
                    }
                }
                Ok(None) | Err(_) => return None,
            }
        };
        let (exit, code) = match tokio::time::timeout(timeout, read()).await {
            Ok(exit) => (exit, Some(exit.map_or(137, |e| e.code))),
            Err(_) => {
                let kill = Request::Signal { signal: super::kill::KILL, all: false };
                let _ = to.write_all(&protocol::encode(&kill)).await;
                (read().await, None)
            }
        };
        note(&self.engine, &self.exec, exit);
        Kept { code, output }
    }

    /// Waits for the end without client.
    async fn finish(self, _reason: Reason) {
        let (mut frames, _to) = self.frames.split();
        let exit = pump::drain(&mut frames).await;
        note(&self.engine, &self.exec, exit);
    }
}

fn exit_of(reason: Reason) -> Option<ExitRecord> {
    match reason {
        Reason::Shim(exit) => exit,
        Reason::Keys | Reason::Client => None,
    }
}

/// Writes down how it ended. A shim that goes without a word took the
/// process with it.
fn note(engine: &Engine, exec: &Exec, exit: Option<ExitRecord>) {
    let code = exit.map_or(137, |e| e.code);
    exec.finish(code);
    engine.tell_exec(exec, "exec_die", &[("exitCode", code.to_string())]);
}

/// What the shim needs to know.
fn exec_plan(exec: &Exec, detach: bool, size: Option<[u32; 2]>) -> Result<ExecPlan, Error> {
    let (record, wish) = (exec.container.record(), &exec.wish);
    let host = &record.host_config;
    let mut config = record.config.clone();
    config.tty = wish.tty;
    let mut env = spec::environment(&config);
    spec::extend(&mut env, wish.env.iter().flatten());
    let set = if wish.privileged { CapSet::ALL } else { spec::capabilities(host)? };
    let cwd = if wish.working_dir.is_empty() { &config.working_dir } else { &wish.working_dir };
    let security = super::security::parse(host.security_opt.as_deref().unwrap_or_default())?;
    let process = oci::Process {
        terminal: wish.tty,
        user: spec::user(if wish.user.is_empty() { &config.user } else { &wish.user }, host),
        args: wish.cmd.clone(),
        env,
        cwd: if cwd.is_empty() { "/".to_owned() } else { mounts::clean(cwd) },
        capabilities: Some(spec::capability_sets(set.intersection(spec::available()))),
        rlimits: host.resources.ulimits.iter().map(super::resources::rlimit).collect::<Result<_, _>>()?,
        no_new_privileges: security.no_new_privileges,
        apparmor_profile: security.profile(wish.privileged),
        oom_score_adj: Some(host.oom_score_adj),
        ..oci::Process::default()
    };
    let narrow = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    let [rows, cols] = size.or(wish.console_size).unwrap_or_default();
    let filter = spec::filter(host, wish.privileged)?;
    Ok(compile::exec(&process, filter, wish.attach_stdin && !detach, (narrow(rows), narrow(cols)))?)
}

/// A failure in Docker's words.
fn explain(failure: &budu_runtime::protocol::Failure, path: &str) -> Error {
    let message = format!(
        "OCI runtime exec failed: exec failed: unable to start container process: {}: unknown",
        start::cause(failure, path)
    );
    match failure.class {
        FailureClass::CommandNotFound => Error::Command { code: 127, message },
        FailureClass::CommandNotExecutable => Error::Command { code: 126, message },
        FailureClass::Invalid => Error::Invalid { message },
        FailureClass::State => Error::Conflict { message },
        FailureClass::Internal => Error::Runtime { message },
    }
}
