//! Watching a running container, and what happens when it ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use budu_runtime::protocol::{self, Event, ExitRecord, Failure};
use budu_sys::cgroup::{Cgroup, CgroupPath, Layout};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::record::Status;
use super::shim::{Command, Frames};
use super::{Container, health, restart, spec, why};
use crate::{Engine, Error, clock};

/// Exit code of a container whose shim vanished: as if killed.
const KILLED: i32 = 137;

/// Watches a running container in a task of its own.
pub(super) fn watch(
    engine: Engine,
    container: Arc<Container>,
    frames: Frames<UnixStream>,
    commands: mpsc::Receiver<Command>,
) {
    tokio::spawn(async move {
        let exit = converse(frames, commands).await;
        // Boxed: this future exists once per running container, the rest of
        // its life once per end.
        Box::pin(async move { engine.ended(&container, exit).await }).await;
    });
}

/// Passes requests on and returns how the container ended; `None` when the
/// shim vanished.
async fn converse(mut frames: Frames<UnixStream>, mut commands: mpsc::Receiver<Command>) -> Option<ExitRecord> {
    let mut asked: VecDeque<oneshot::Sender<Result<(), Failure>>> = VecDeque::new();
    loop {
        tokio::select! {
            event = frames.event() => match event {
                Ok(Some(Event::Exited(record))) => return Some(record),
                Ok(Some(Event::Done)) => answer(&mut asked, Ok(())),
                Ok(Some(Event::Failed(failure))) => answer(&mut asked, Err(failure)),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return None,
            },
            Some(command) = commands.recv() => {
                asked.push_back(command.answer);
                let frame = protocol::encode(&command.request);
                if frames.connection().write_all(&frame).await.is_err() {
                    return exit_in(&mut frames).await;
                }
            }
        }
    }
}

/// The shim may have said its last words before it closed the connection.
async fn exit_in(frames: &mut Frames<UnixStream>) -> Option<ExitRecord> {
    while let Ok(Some(event)) = frames.event().await {
        if let Event::Exited(record) = event {
            return Some(record);
        }
    }
    None
}

fn answer(asked: &mut VecDeque<oneshot::Sender<Result<(), Failure>>>, result: Result<(), Failure>) {
    if let Some(sender) = asked.pop_front() {
        let _ = sender.send(result);
    }
}

impl Engine {
    /// Finishes a container that ended: state, event, network; then removal,
    /// restart or rest.
    pub(super) async fn ended(&self, container: &Arc<Container>, exit: Option<ExitRecord>) {
        let _turn = container.turn.lock().await;
        container.set_control(None);
        health::stop(container);
        let exit = match exit {
            Some(exit) => exit,
            None => self.reconstruct(container),
        };
        let before = why::Before::of(&container.state());
        let ran = {
            let mut state = container.state();
            state.status = Status::Exited;
            state.pid = 0;
            state.exit_code = exit.code;
            state.oom_killed = exit.oom_killed;
            state.finished_at = if exit.finished_at > 0 { exit.finished_at } else { clock::now() };
            state.sandbox = None;
            health::end(&mut state);
            state.finished_at.saturating_sub(state.started_at)
        };
        why::note(self, container, &exit, before).await;
        self.0.execs.forget_unstarted(container.id.as_str());
        if exit.oom_killed {
            self.tell(container, "oom", &[]);
        }
        let seconds = ran / 1_000_000_000;
        self.tell(container, "die", &[("exitCode", exit.code.to_string()), ("execDuration", seconds.to_string())]);
        self.leave_networks(container.id.as_str());
        self.finish_log(container).await;
        self.unready_mounts(container).await;
        if let Err(error) = self.settle(container, ran) {
            tracing::error!(container = %container.id, %error, "could not finish an ended container");
        }
    }

    fn settle(&self, container: &Arc<Container>, ran: i64) -> Result<(), Error> {
        let record = container.record();
        if record.host_config.auto_remove && !container.comes_back.load(Ordering::Relaxed) {
            return self.remove_now(container, true);
        }
        let wait = restart::decide(&record.host_config.restart_policy, &mut container.state(), ran);
        // On disk before anybody is told; synced after, since that takes long.
        self.keep_state(container, false);
        container.ended(wait.is_some());
        if let Some(wait) = wait {
            self.restart_later(container, wait);
        }
        self.sync_state_later(container);
        Ok(())
    }

    /// How a container ended whose shim did not say so on the connection.
    pub(super) fn reconstruct(&self, container: &Container) -> ExitRecord {
        if let Ok(Some(exit)) = protocol::read_exit(&self.run_dir(&container.id)) {
            return exit;
        }
        let path = spec::cgroup_path(&container.record(), &self.0.options.cgroup_parent);
        let killed = kill_cgroup(&path);
        tracing::warn!(container = %container.id, ?killed, "the shim vanished without an exit record; what was left is killed");
        ExitRecord { code: KILLED, signal: Some(9), oom_killed: false, finished_at: clock::now() }
    }
}

impl Container {
    /// Wakes everybody who waits for the end; `again` when its policy starts it again.
    pub(super) fn ended(&self, again: bool) {
        let code = i64::from(self.state().exit_code);
        self.progress.send_modify(|p| {
            p.running = again;
            p.exits += 1;
            p.exit_code = code;
        });
    }
}

/// Kills what is left in a cgroup and removes it.
fn kill_cgroup(path: &str) -> Result<(), budu_sys::cgroup::Error> {
    let layout = Layout::detect()?;
    let mut cgroup = Cgroup::open(&layout, &CgroupPath::parse(path)?)?;
    cgroup.kill_all()?;
    cgroup.remove()
}
