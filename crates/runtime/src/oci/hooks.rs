//! Hooks that run in the host's namespaces.

use budu_spec::oci;

use super::container::Container;
use super::log::Log;
use crate::compile;
use crate::init::{self, Failing, Stage};
use crate::plan::Hook;

/// Runs hooks in order; the first that fails ends it. `point` is their name in
/// the configuration.
pub(super) fn run(point: &str, hooks: &[Hook], container: &Container, status: oci::Status) -> Failing<()> {
    let state = container.told(status);
    init::run_hooks(hooks, &Stage { point, state: &state, cwd: &container.state.bundle, env: &[] })
}

/// Runs the poststop hooks of a container that is gone: all of them, whatever
/// happens (runtime.md "Lifecycle", step 13: failures are logged).
pub(super) fn poststop(container: &Container, log: &Log) -> Failing<()> {
    if !container.state.poststop {
        return Ok(());
    }
    let hooks = compile::hooks(&container.config()?)?;
    for hook in &hooks.poststop {
        if let Err(failure) = run("poststop", std::slice::from_ref(hook), container, oci::Status::Stopped) {
            log.warning(&failure.message);
        }
    }
    Ok(())
}
