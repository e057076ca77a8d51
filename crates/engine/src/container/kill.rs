//! Kill: any signal.

use std::sync::Arc;
use std::time::Duration;

use budu_runtime::protocol::Request;
use budu_spec::signal;
use tokio::sync::watch;

use super::record::Status;
use super::why::By;
use super::{Container, Progress};
use crate::{Engine, Error};

/// SIGKILL.
pub(super) const KILL: i32 = 9;
/// How long a killed container may take to end; its last log lines alone get ten seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// SIGTERM, what asks a container to stop unless its image says otherwise.
const TERM: i32 = 15;

impl Engine {
    /// Sends a signal; none means SIGKILL, which is waited for.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it does not run, [`Error::Invalid`] for a
    /// signal that does not exist.
    pub async fn kill(&self, name: &str, signal: Option<&str>) -> Result<(), Error> {
        let killed = self.kill_container(name, signal).await;
        killed.map_err(|error| error.prefixed(&format!("cannot kill container: {name}")))
    }

    async fn kill_container(&self, name: &str, signal: Option<&str>) -> Result<(), Error> {
        let container = self.find(name)?;
        let number = match signal.filter(|s| !s.is_empty()) {
            Some(text) => parse(text)?,
            None => KILL,
        };
        let runs = || matches!(container.state().status, Status::Running | Status::Paused);
        if !runs() {
            // A program can be heard before its start is noted down here; whoever heard it may signal it.
            drop(container.turn.lock().await);
        }
        if !runs() {
            return Err(Error::not_running(container.id.as_str()));
        }
        if number == KILL || number == stop_signal(&container) {
            container.state().stopped_by_hand = true;
        }
        container.intend(By::Kill, number, None);
        let mut progress = container.progress.subscribe();
        let before = progress.borrow().exits;
        self.signal(&container, number).await?;
        if number == KILL {
            killed(&mut progress, before).await?;
        }
        Ok(())
    }

    /// Sends a signal and says so.
    pub(super) async fn signal(&self, container: &Arc<Container>, number: i32) -> Result<(), Error> {
        let control = container.running_control()?;
        control.ask(container.id.as_str(), Request::Signal { signal: number, all: false }).await?;
        self.tell(container, "kill", &[("signal", number.to_string())]);
        // Frozen processes do not even die, and a pause may be under way.
        let ends = number == KILL || number == stop_signal(container);
        if ends && (container.state().status == Status::Paused || container.turn.try_lock().is_err()) {
            // It is not paused any more, or not there any more: as wished.
            let _ = self.thaw(container).await;
        }
        Ok(())
    }
}

/// Waits until a container ended that was sent SIGKILL: more often than `before`.
///
/// # Errors
/// [`Error::Runtime`] when the kernel does not let go of it, as of a process that waits for a dead disk.
pub(super) async fn killed(progress: &mut watch::Receiver<Progress>, before: u64) -> Result<(), Error> {
    let end = progress.wait_for(|p| p.exits > before || !p.running || p.removed);
    match tokio::time::timeout(PATIENCE, end).await {
        Ok(_) => Ok(()),
        Err(_) => {
            Err(Error::Runtime { message: "tried to kill container, but did not receive an exit event".to_owned() })
        }
    }
}

/// Parses a signal of a request.
pub(super) fn parse(text: &str) -> Result<i32, Error> {
    signal::parse(text).ok_or_else(|| Error::invalid(format!("invalid signal: {text}")))
}

/// What asks this container to stop.
pub(super) fn stop_signal(container: &Container) -> i32 {
    container.record().config.stop_signal.as_deref().and_then(signal::parse).unwrap_or(TERM)
}
