//! Restart policies.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use budu_spec::docker::RestartPolicy;

use super::Container;
use super::record::{State, Status};
use super::why::By;
use crate::{Engine, Error};

/// First pause before a restart; doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause before a restart.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A container that ran this long (nanoseconds) starts over with the first pause.
const STABLE: i64 = 10_000_000_000;

/// Decides whether a container that ended after `ran` nanoseconds is started
/// again, and after which pause; notes it in the state.
pub(super) fn decide(policy: &RestartPolicy, state: &mut State, ran: i64) -> Option<Duration> {
    let again = match policy.name.as_str() {
        "always" | "unless-stopped" => true,
        "on-failure" => {
            let left = policy.maximum_retry_count == 0 || state.restart_count < policy.maximum_retry_count;
            state.exit_code != 0 && left
        }
        _ => false,
    };
    if !again || state.stopped_by_hand {
        return None;
    }
    if ran >= STABLE {
        state.failures = 0;
    }
    let pause = FIRST_PAUSE.saturating_mul(1 << state.failures.min(10)).min(LONGEST_PAUSE);
    state.failures += 1;
    state.restart_count += 1;
    state.status = Status::Restarting;
    Some(pause)
}

/// Tells whether a container is started when the daemon starts.
pub(super) fn at_daemon_start(policy: &RestartPolicy, state: &State) -> bool {
    let ran = state.started_at != 0;
    match policy.name.as_str() {
        "always" => ran,
        "unless-stopped" => ran && !state.stopped_by_hand,
        "on-failure" => ran && state.exit_code != 0,
        _ => false,
    }
}

impl Engine {
    /// Starts a container again after a pause, unless it is stopped meanwhile.
    pub(super) fn restart_later(&self, container: &Arc<Container>, pause: Duration) {
        let engine = self.clone();
        let container = Arc::clone(container);
        let round = container.state().restart_count;
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let _turn = container.turn.lock().await;
            let due = {
                let state = container.state();
                state.status == Status::Restarting && state.restart_count == round
            };
            if due && let Err(error) = engine.launch(&container).await {
                tracing::warn!(container = %container.id, %error, "restart by policy failed");
                container.ended(false);
            }
        });
    }

    /// Stops (unless it is stopped) and starts a container.
    ///
    /// # Errors
    /// Those of stop and start.
    pub async fn restart(&self, name: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<(), Error> {
        let container = self.find(name)?;
        if container.state().status.is_running() {
            container.intend(By::Restart, super::kill::stop_signal(&container), timeout);
        }
        container.comes_back.store(true, Ordering::Relaxed);
        let done = match self.stop_container(&container, signal, timeout).await {
            Ok(()) | Err(Error::NotModified { .. }) => self.start(container.id.as_str()).await,
            Err(error) => Err(error),
        };
        container.comes_back.store(false, Ordering::Relaxed);
        done?;
        self.tell(&container, "restart", &[]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, maximum_retry_count: i64) -> RestartPolicy {
        RestartPolicy { name: name.into(), maximum_retry_count }
    }

    #[test]
    fn pauses_double_and_start_over_after_a_stable_run() {
        let mut state = State::default();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            pauses.push(decide(&policy("always", 0), &mut state, 0).unwrap().as_millis());
        }
        assert_eq!(pauses[..4], [100, 200, 400, 800]);
        assert_eq!(pauses[11], 60_000);
        assert_eq!(decide(&policy("always", 0), &mut state, STABLE).unwrap().as_millis(), 100);
    }

    #[test]
    fn on_failure_counts_and_stopping_by_hand_ends_it() {
        let mut state = State { exit_code: 1, ..State::default() };
        assert!(decide(&policy("on-failure", 1), &mut state, 0).is_some());
        assert!(decide(&policy("on-failure", 1), &mut state, 0).is_none());
        assert!(decide(&policy("on-failure", 0), &mut State::default(), 0).is_none());
        assert!(decide(&policy("always", 0), &mut State { stopped_by_hand: true, ..State::default() }, 0).is_none());
        assert!(decide(&policy("no", 0), &mut state, 0).is_none());
    }

    #[test]
    fn what_the_daemon_starts() {
        let stopped = State { started_at: 1, stopped_by_hand: true, exit_code: 1, ..State::default() };
        assert!(at_daemon_start(&policy("always", 0), &stopped));
        assert!(!at_daemon_start(&policy("unless-stopped", 0), &stopped));
        assert!(at_daemon_start(&policy("on-failure", 0), &stopped));
        assert!(!at_daemon_start(&policy("always", 0), &State::default()));
    }
}
