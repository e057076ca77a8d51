//! Kill: any signal.

use std::sync::Arc;

use budu_runtime::protocol::Request;
use budu_spec::signal;

use super::Container;
use super::record::Status;
use super::why::By;
use crate::{Engine, Error};

/// SIGKILL.
pub(super) const KILL: i32 = 9;
/// SIGTERM, what asks a container to stop unless its image says otherwise.
const TERM: i32 = 15;

impl Engine {
    /// Sends a signal; none means SIGKILL, which is waited for.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it does not run, [`Error::Invalid`] for a
    /// signal that does not exist.
    pub async fn kill(&self, name: &str, signal: Option<&str>) -> Result<(), Error> {
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
            return Err(Error::conflict(format!(
                "cannot kill container: {name}: container {} is not running",
                container.id
            )));
        }
        if number == KILL || number == stop_signal(&container) {
            container.state().stopped_by_hand = true;
        }
        container.intend(By::Kill, number, None);
        let mut progress = container.progress.subscribe();
        let before = progress.borrow().exits;
        self.signal(&container, number).await?;
        if number == KILL {
            let _ = progress.wait_for(|p| p.exits > before || p.removed).await;
        }
        Ok(())
    }

    /// Sends a signal and says so.
    pub(super) async fn signal(&self, container: &Arc<Container>, number: i32) -> Result<(), Error> {
        let control = container.running_control()?;
        control.ask(container.id.as_str(), Request::Signal { signal: number, all: false }).await?;
        self.tell(container, "kill", &[("signal", number.to_string())]);
        // Frozen processes do not even die.
        if number == KILL && container.state().status == Status::Paused {
            let _ = control.ask(container.id.as_str(), Request::Resume).await;
        }
        Ok(())
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
