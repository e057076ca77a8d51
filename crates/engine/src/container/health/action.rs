//! What is done about an unhealthy container; Docker only says so.

use std::sync::Arc;

use budu_runtime::protocol::Request;
use budu_spec::docker::ContainerConfig;

use crate::container::why::By;
use crate::container::{Container, kill};
use crate::{Engine, Error};

/// Label that asks for an action.
const LABEL: &str = "budu.health.action";

/// What to do with a container that became unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Stop and start it.
    Restart,
    /// Stop it, for good.
    Stop,
    /// Kill it; its restart policy decides what follows.
    Kill,
}

impl Action {
    /// The action a container asks for, if it does.
    pub(super) fn of(config: &ContainerConfig) -> Option<Action> {
        parse(config.labels.get(LABEL)?).ok().flatten()
    }

    /// What was done, in words.
    fn done(self) -> &'static str {
        match self {
            Action::Restart => "restarted",
            Action::Stop => "stopped",
            Action::Kill => "killed",
        }
    }

    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Action::Restart => "restart",
            Action::Stop => "stop",
            Action::Kill => "kill",
        }
    }
}

fn parse(text: &str) -> Result<Option<Action>, Error> {
    match text {
        "" | "none" => Ok(None),
        "restart" => Ok(Some(Action::Restart)),
        "stop" => Ok(Some(Action::Stop)),
        "kill" => Ok(Some(Action::Kill)),
        other => Err(Error::invalid(format!(
            "invalid value {other:?} of label {LABEL}: use one of 'none', 'restart', 'stop' or 'kill'"
        ))),
    }
}

/// Refuses a label with another value.
pub(crate) fn check_label(config: &ContainerConfig) -> Result<(), Error> {
    config.labels.get(LABEL).map_or(Ok(()), |text| parse(text).map(|_| ()))
}

/// Acts, in a task of its own: the end of the container ends the probing task.
pub(super) fn act(engine: &Engine, container: &Arc<Container>, action: Action) {
    let (engine, container) = (engine.clone(), Arc::clone(container));
    let first = if action == Action::Kill { kill::KILL } else { kill::stop_signal(&container) };
    container.intend(By::Health(action.done()), first, None);
    tracing::info!(container = %container.id, action = action.word(), "unhealthy");
    tokio::spawn(async move {
        let id = container.id.as_str();
        let done = match action {
            Action::Restart => engine.restart(id, None, None).await,
            Action::Stop => engine.stop(id, None, None).await,
            Action::Kill => kill_it(&engine, &container).await,
        };
        if let Err(error) = done {
            tracing::warn!(container = id, %error, action = action.word(), "could not act on an unhealthy container");
        }
    });
}

/// Unlike a kill by hand, this leaves the restart policy in force.
async fn kill_it(engine: &Engine, container: &Container) -> Result<(), Error> {
    let signal = Request::Signal { signal: kill::KILL, all: false };
    container.running_control()?.ask(container.id.as_str(), signal).await?;
    engine.tell(container, "kill", &[("signal", kill::KILL.to_string())]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for action in [Action::Restart, Action::Stop, Action::Kill] {
            assert_eq!(parse(action.word()).unwrap(), Some(action));
        }
        assert_eq!(parse("none").unwrap(), None);
        assert!(parse("explode").unwrap_err().to_string().contains("use one of"));
    }
}
