//! Stop: ask, wait, kill.

use std::sync::Arc;
use std::time::Duration;

use super::record::Status;
use super::why::By;
use super::{Container, kill};
use crate::{Engine, Error};

/// Seconds between the stop signal and SIGKILL when nobody says otherwise.
const GRACE: i64 = 10;

impl Container {
    /// Notes that somebody stops a container that runs. False when it does not.
    fn mark_stopped(&self) -> bool {
        let mut state = self.state();
        let runs = matches!(state.status, Status::Running | Status::Paused);
        state.stopped_by_hand |= runs;
        runs
    }

    /// Lets a container rest that waits for its restart. False when it does not; the caller holds its turn.
    pub(super) fn give_up_restart(&self) -> bool {
        let mut state = self.state();
        if state.status != Status::Restarting {
            return false;
        }
        state.stopped_by_hand = true;
        state.status = Status::Exited;
        drop(state);
        self.ended(false);
        true
    }
}

impl Engine {
    /// Stops a container: `signal` or its own stop signal, then, after
    /// `timeout` seconds or its own, SIGKILL. A negative timeout waits forever.
    ///
    /// # Errors
    /// [`Error::NotModified`] when it does not run.
    pub async fn stop(&self, name: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<(), Error> {
        let container = self.find(name)?;
        self.stop_container(&container, signal, timeout).await.map_err(|error| match error {
            Error::NotModified { .. } => error,
            error => error.prefixed(&format!("cannot stop container: {name}")),
        })
    }

    pub(super) async fn stop_container(
        &self,
        container: &Arc<Container>,
        signal: Option<&str>,
        timeout: Option<i64>,
    ) -> Result<(), Error> {
        let number = match signal.filter(|s| !s.is_empty()) {
            Some(text) => kill::parse(text)?,
            None => kill::stop_signal(container),
        };
        let mut progress = container.progress.subscribe();
        if !container.mark_stopped() {
            // A start, or an end that a policy follows, may be under way: they hold the turn.
            let _turn = container.turn.lock().await;
            if !container.mark_stopped() {
                if !container.give_up_restart() {
                    return Err(Error::NotModified { id: container.id.to_string() });
                }
                self.keep_state(container, true);
                return Ok(());
            }
        }
        let timeout = timeout.or(container.record().config.stop_timeout).unwrap_or(GRACE);
        container.intend(By::Stop, number, Some(timeout));
        let before = progress.borrow().exits;
        let sent = self.signal(container, number).await;
        let ended = progress.wait_for(|p| p.exits > before || !p.running || p.removed);
        let in_time = match u64::try_from(timeout) {
            // The signal could not be sent, most often because it just ended.
            _ if sent.is_err() => tokio::time::timeout(Duration::from_secs(1), ended).await.is_ok(),
            Err(_) => ended.await.is_ok(),
            Ok(seconds) => tokio::time::timeout(Duration::from_secs(seconds), ended).await.is_ok(),
        };
        if !in_time {
            container.intend_by_force();
            // Whoever ends between the two signals is as stopped as wished.
            let _ = self.signal(container, kill::KILL).await;
            kill::killed(&mut progress, before).await?;
        }
        self.tell(container, "stop", &[]);
        Ok(())
    }

    /// Stops all running containers at once, as a daemon that ends does. Their
    /// restart policies will see them as stopped by nobody.
    pub async fn stop_all(&self, grace: Duration) {
        let mut stops = Vec::new();
        for container in self.all() {
            if !container.state().status.is_running() {
                continue;
            }
            let engine = self.clone();
            let seconds = i64::try_from(grace.as_secs()).unwrap_or(GRACE);
            let timeout = container.record().config.stop_timeout.unwrap_or(GRACE).min(seconds);
            stops.push(tokio::spawn(async move {
                let by_hand = container.state().stopped_by_hand;
                container.intend(By::Shutdown, kill::stop_signal(&container), Some(timeout));
                let _ = engine.stop_container(&container, None, Some(timeout)).await;
                container.state().stopped_by_hand = by_hand;
                engine.keep_state(&container, true);
            }));
        }
        for stop in stops {
            let _ = stop.await;
        }
    }
}
