//! Pause, unpause, resize: small requests to the shim.

use std::sync::Arc;

use budu_runtime::protocol::Request;

use super::Container;
use super::record::Status;
use crate::{Engine, Error};

impl Engine {
    /// Freezes all processes of a container.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it does not run or is paused already.
    pub async fn pause(&self, name: &str) -> Result<(), Error> {
        let container = self.find(name)?;
        // An end that comes meanwhile is noted after this.
        let _turn = container.turn.lock().await;
        match container.state().status {
            Status::Running => {}
            Status::Paused => return Err(Error::conflict(format!("Container {} is already paused", container.id))),
            Status::Restarting => {
                return Err(Error::conflict(format!(
                    "Container {} is restarting, wait until the container is running",
                    container.id
                )));
            }
            _ => return Err(Error::not_running(container.id.as_str())),
        }
        container.running_control()?.ask(container.id.as_str(), Request::Pause).await?;
        container.state().status = Status::Paused;
        self.tell(&container, "pause", &[]);
        self.keep_state(&container, false);
        Ok(())
    }

    /// Thaws a paused container.
    ///
    /// # Errors
    /// [`Error::Runtime`] when it is not paused.
    pub async fn unpause(&self, name: &str) -> Result<(), Error> {
        let container = self.find(name)?;
        self.thaw(&container).await
    }

    /// [`Engine::unpause`] of a container that was found.
    pub(super) async fn thaw(&self, container: &Arc<Container>) -> Result<(), Error> {
        let _turn = container.turn.lock().await;
        if container.state().status != Status::Paused {
            // No conflict, as Docker sees it.
            return Err(Error::Runtime { message: format!("Container {} is not paused", container.id) });
        }
        container.running_control()?.ask(container.id.as_str(), Request::Resume).await?;
        container.state().status = Status::Running;
        self.tell(container, "unpause", &[]);
        self.keep_state(container, false);
        Ok(())
    }

    /// Sets the size of a container's terminal.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it does not run.
    pub async fn resize(&self, name: &str, rows: u16, cols: u16) -> Result<(), Error> {
        let container = self.find(name)?;
        let control = container.running_control()?;
        control.ask(container.id.as_str(), Request::Resize { rows, cols }).await?;
        self.tell(&container, "resize", &[("height", rows.to_string()), ("width", cols.to_string())]);
        Ok(())
    }
}
