//! Wait: for the next end, for any end, for the removal.

use std::future::Future;

use budu_spec::docker::{WaitAnswer, WaitError};

use crate::{Engine, Error};

/// What to wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// It does not run; true at once when it does not.
    #[default]
    NotRunning,
    /// It ends, after now.
    NextExit,
    /// It exists no more.
    Removed,
}

impl std::str::FromStr for WaitCondition {
    type Err = Error;

    fn from_str(text: &str) -> Result<WaitCondition, Error> {
        match text {
            "" | "not-running" => Ok(WaitCondition::NotRunning),
            "next-exit" => Ok(WaitCondition::NextExit),
            "removed" => Ok(WaitCondition::Removed),
            other => Err(Error::invalid(format!("invalid condition: \"{other}\""))),
        }
    }
}

impl Engine {
    /// Waits for a container. What happens after this call is never missed,
    /// even when the future is polled much later.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`].
    pub fn wait(
        &self,
        name: &str,
        condition: WaitCondition,
    ) -> Result<impl Future<Output = WaitAnswer> + Send + 'static, Error> {
        let container = self.find(name)?;
        let mut progress = container.progress.subscribe();
        let before = progress.borrow().exits;
        Ok(async move {
            // The container is held, so that the channel cannot close.
            let reached = progress
                .wait_for(|p| match condition {
                    // An end counts, even when a policy starts it again at once.
                    WaitCondition::NotRunning => !p.running || p.exits > before || p.removed,
                    WaitCondition::NextExit => p.exits > before || p.removed,
                    WaitCondition::Removed => p.removed || p.stuck,
                })
                .await
                .map(|p| *p)
                .unwrap_or_default();
            let stuck = condition == WaitCondition::Removed && !reached.removed;
            let error = stuck.then(|| WaitError { message: container.state().error.clone() });
            WaitAnswer { status_code: reached.exit_code, error }
        })
    }
}
