//! Hooks that run in the host's namespaces.

use super::container::{Container, Status};
use super::log::Log;
use super::seams;
use crate::init::Failing;
use crate::plan::Hook;

/// Runs hooks in order; the first that fails ends it.
pub(super) fn run(hooks: &[Hook], container: &Container, status: Status) -> Failing<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    seams::run_hooks(hooks, &container.told(status), &container.state.bundle)
}

/// Runs the poststop hooks of a container that is gone: all of them, whatever
/// happens (runtime.md "Lifecycle", step 13: failures are logged).
pub(super) fn poststop(container: &Container, log: &Log) -> Failing<()> {
    if !container.state.poststop {
        return Ok(());
    }
    let config = container.config()?;
    let hooks = seams::hooks(&config)?;
    for hook in &hooks.poststop {
        if let Err(failure) = run(std::slice::from_ref(hook), container, Status::Stopped) {
            log.warning(&format!("poststop hook: {}", failure.message));
        }
    }
    Ok(())
}
