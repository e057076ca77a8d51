//! Start: network and files, one specification, one shim.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use budu_image::RootFs;
use budu_network::Sandbox;
use budu_runtime::compile::{self, Extras};
use budu_runtime::plan::{Plan, Rootfs, Stdio};
use budu_runtime::protocol::{self, Event, Failure, FailureClass, Request};
use budu_spec::oci;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::record::{Record, Status, save};
use super::shim::{Control, Frames, adopt};
use super::{Container, attach, cdi, exit, health, links, mounts, names_files, spec, why};
use crate::engine::private_dir;
use crate::{Engine, Error, clock};

impl Engine {
    /// Starts a container.
    ///
    /// # Errors
    /// [`Error::NotModified`] when it runs already, [`Error::Command`] when
    /// its program cannot be executed. After an error nothing of it runs.
    pub async fn start(&self, name: &str) -> Result<(), Error> {
        let container = self.find(name)?;
        let _turn = container.turn.lock().await;
        {
            let mut state = container.state();
            match state.status {
                Status::Running | Status::Restarting => {
                    return Err(Error::NotModified { id: container.id.to_string() });
                }
                Status::Paused => {
                    return Err(Error::conflict("cannot start a paused container, try unpause instead"));
                }
                Status::Removing | Status::Dead => {
                    return Err(Error::conflict("container is marked for removal and cannot be started"));
                }
                Status::Created | Status::Exited => {}
            }
            state.restart_count = 0;
            state.failures = 0;
            state.stopped_by_hand = false;
            state.why = None;
        }
        self.launch(&container).await
    }

    /// Starts a container whose turn the caller holds. After a failure the
    /// record says why, and a container with `AutoRemove` is gone.
    pub(super) async fn launch(&self, container: &Arc<Container>) -> Result<(), Error> {
        let Err(error) = self.bring_up(container).await else { return Ok(()) };
        let code = match &error {
            Error::Command { code, .. } => *code,
            _ => 128,
        };
        {
            let mut state = container.state();
            state.error = error.to_string();
            state.why = Some(why::start_failed(&state.error));
            state.exit_code = code;
            state.pid = 0;
            state.sandbox = None;
            state.status = match state.status {
                Status::Exited | Status::Restarting => Status::Exited,
                _ => Status::Created,
            };
        }
        let _ = fs::remove_dir_all(self.run_dir(&container.id));
        self.unready_mounts(container).await;
        container.take_waiting().clear();
        if container.record().host_config.auto_remove {
            self.remove_now(container, true)?;
        } else {
            self.keep_state(container, false);
        }
        Err(error)
    }

    async fn bring_up(&self, container: &Arc<Container>) -> Result<(), Error> {
        let record = self.ready_mounts(self.with_shared_names(container)?).await?;
        let run_dir = self.run_dir(&container.id);
        fresh_dir(&run_dir)?;
        let (netns, sandbox) = self.enter_networks(&record)?;
        let wired = Wired { engine: self, id: container.id.as_str(), kept: false };
        let plan = self.plan(&record, &sandbox)?;
        let receiver = self.reach_log_receiver(&record).await?;
        let stream = self.0.parts.launcher.new_shim(netns.as_ref().map(std::os::fd::AsFd::as_fd));
        let stream = stream.and_then(adopt).map_err(shim_gone)?;
        drop(netns);
        let mut frames = Frames::messages(stream);
        let failed = |failure| explain(failure, &record.path, "create");
        let mut requests = protocol::encode(&Request::Create(Box::new(plan)));
        let started = if container.has_waiting() {
            // Who waits for output is connected before there can be any.
            ask(&mut frames, &requests).await.map_err(failed)?;
            attach::connect_waiting(container, &run_dir).await;
            ask(&mut frames, &protocol::encode(&Request::Start)).await.map_err(failed)?
        } else {
            requests.extend(protocol::encode(&Request::Start));
            ask(&mut frames, &requests).await.map_err(failed)?;
            ask(&mut frames, &[]).await.map_err(failed)?
        };
        wired.keep();
        self.commit(container, started, sandbox, frames);
        self.forward_log(container, receiver);
        // Clients that came after the first look and before it was running.
        attach::connect_waiting(container, &run_dir).await;
        Ok(())
    }

    /// The container runs: says so to everybody, and watches it from now on.
    fn commit(&self, container: &Arc<Container>, pid: u32, sandbox: Sandbox, frames: Frames<UnixStream>) {
        {
            let mut state = container.state();
            state.status = Status::Running;
            state.pid = pid;
            state.exit_code = 0;
            state.error.clear();
            state.oom_killed = false;
            state.started_at = clock::now();
            state.sandbox = Some(sandbox);
            health::begin(&mut state, &container.record().config);
        }
        let (control, commands) = Control::pair();
        container.set_control(Some(control));
        container.take_intent();
        container.progress.send_modify(|p| p.running = true);
        self.keep_state(container, false);
        self.tell_linked(container);
        self.tell(container, "start", &[]);
        health::start(self, container);
        exit::watch(self.clone(), Arc::clone(container), frames, commands);
    }

    /// Everything the shim needs to know.
    fn plan(&self, record: &Record, sandbox: &Sandbox) -> Result<Plan, Error> {
        let run_dir = self.run_dir(&record.id);
        let host = &record.host_config;
        let linked = self.linked(record)?;
        let owner = self.files_owner(record);
        let files = owner.as_ref().map_or(run_dir.clone(), |owner| self.run_dir(&owner.id));
        if owner.is_none() {
            let gateway = self.host_gateway(record, sandbox);
            names_files::write(record, sandbox, &linked, gateway, self.options(), &files)?;
        }
        let mut spec = spec::build(record, &files, &self.0.options.cgroup_parent, self.donors(record)?)?;
        if let Some(process) = &mut spec.process {
            links::extend(&mut process.env, &linked);
        }
        cdi::inject(record, &self.0.options.cdi_directories, &mut spec)?;
        let hooks_dir = self.hooks_dir(record, &spec)?;
        let RootFs { lower, upper, work } = self.images().rootfs(record.id.as_str())?;
        let size = host.console_size.map(|n| u16::try_from(n).unwrap_or(u16::MAX));
        let extras = Extras {
            id: record.id.to_string(),
            run_dir,
            rootfs: Some(Rootfs::Overlay { lower, upper, work, readonly: host.readonly_rootfs }),
            stdio: Stdio {
                tty: record.config.tty,
                open_stdin: record.config.open_stdin,
                stdin_once: record.config.stdin_once,
                size: (size[0], size[1]),
            },
            log: self.log_plan(record)?,
            init: host.init.unwrap_or(self.0.options.init) && host.pid_mode.is_empty(),
            seccomp: spec::filter(host, false)?,
            hooks_dir,
            bundle: None,
        };
        let mut plan = compile::container(&spec, extras)?;
        mounts::finish(self, &record.points, &mut plan)?;
        Ok(plan)
    }

    /// The directory that hooks are told of. There they find out where the root
    /// is: over the run directory, as long as it is not entered.
    fn hooks_dir(&self, record: &Record, spec: &oci::Spec) -> Result<PathBuf, Error> {
        let dir = self.data_dir(&record.id);
        if spec.hooks.is_some() {
            let root = oci::Root { path: self.run_dir(&record.id), readonly: record.host_config.readonly_rootfs };
            let told = oci::Spec { root: Some(root), ..spec.clone() };
            save(&dir, "config.json", &told, false)?;
        }
        Ok(dir)
    }
}

/// Takes the network back unless the container stands.
struct Wired<'a> {
    engine: &'a Engine,
    id: &'a str,
    kept: bool,
}

impl Wired<'_> {
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Wired<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.engine.leave_networks(self.id);
        }
    }
}

/// Makes the run directory; what an earlier life left there is removed.
fn fresh_dir(dir: &std::path::Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    let make = || fs::DirBuilder::new().mode(0o700).create(dir);
    match make() {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_dir_all(dir).and_then(|()| make()).map_err(Error::io("replace directory", dir))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => private_dir(dir),
        other => other.map_err(Error::io("create directory", dir)),
    }
}

/// Sends encoded requests on the control connection and waits for the next
/// `Created` or `Started`.
async fn ask(frames: &mut Frames<UnixStream>, requests: &[u8]) -> Result<u32, Failure> {
    let internal = |message: String| Failure { class: FailureClass::Internal, message };
    let gone = |e: io::Error| internal(format!("the shim is gone: {e}"));
    frames.connection().write_all(requests).await.map_err(gone)?;
    match frames.event().await.map_err(gone)? {
        Some(Event::Created { pid } | Event::Started { pid }) => Ok(pid),
        Some(Event::Failed(failure)) => Err(failure),
        Some(other) => Err(internal(format!("unexpected answer of the shim: {other:?}"))),
        None => Err(internal("the shim ended without an answer".to_owned())),
    }
}

fn shim_gone(error: io::Error) -> Error {
    Error::Runtime { message: format!("failed to create task for container: failed to start shim: {error}") }
}

/// A failure of the runtime in Docker's words, which clients derive exit
/// codes from.
fn explain(failure: Failure, path: &str, verb: &str) -> Error {
    // Docker looks users up before it asks its runtime for anything, and calls it its own failure.
    if failure.message.starts_with("unable to find ") {
        return Error::Runtime { message: failure.message };
    }
    let message = format!(
        "failed to create task for container: failed to create shim task: OCI runtime {verb} failed: unable to start container process: error during container init: {}: unknown",
        cause(&failure, path)
    );
    match failure.class {
        FailureClass::CommandNotFound => Error::Command { code: 127, message },
        FailureClass::CommandNotExecutable => Error::Command { code: 126, message },
        FailureClass::Invalid => Error::Invalid { message },
        FailureClass::State => Error::Conflict { message },
        FailureClass::Internal => Error::Runtime { message },
    }
}

/// Names the program, as runc does, if the shim did not.
pub(super) fn cause(failure: &Failure, path: &str) -> String {
    let command = matches!(failure.class, FailureClass::CommandNotFound | FailureClass::CommandNotExecutable);
    if command && !(failure.message.starts_with("exec: ") || failure.message.starts_with("exec ")) {
        format!("exec: \"{path}\": {}", failure.message)
    } else {
        failure.message.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_find_the_words_they_look_for() {
        let failure =
            Failure { class: FailureClass::CommandNotFound, message: "executable file not found in $PATH".into() };
        let error = explain(failure, "foo", "create");
        assert!(error.to_string().ends_with("exec: \"foo\": executable file not found in $PATH: unknown"), "{error}");
        assert!(error.to_string().contains("OCI runtime create failed"));
        assert!(matches!(error, Error::Command { code: 127, .. }));
    }
}
