//! A container's links while they are being made.

use crate::dns::View;
use crate::state::{Core, Held};
use crate::{Endpoint, Sandbox, keeper};

/// Links made so far; taken back unless kept.
pub(crate) struct Wiring<'a> {
    core: &'a Core,
    container: &'a str,
    pub(crate) endpoints: Vec<Endpoint>,
    /// The container runs: its namespace does not go away with us.
    pub(crate) running: bool,
    /// What it was before, if something else than nothing.
    pub(crate) before: Option<Sandbox>,
    armed: bool,
}

impl<'a> Wiring<'a> {
    pub(crate) fn new(core: &'a Core, container: &'a str) -> Wiring<'a> {
        Wiring { core, container, endpoints: Vec::new(), running: false, before: None, armed: true }
    }

    pub(crate) fn keep(mut self) {
        self.armed = false;
    }
}

impl Drop for Wiring<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        for endpoint in &self.endpoints {
            self.core.resolver.remove(endpoint);
        }
        let ours = |held: &Held| self.endpoints.iter().any(|mine| held.sandbox.endpoints.contains(mine));
        let mut state = self.core.state();
        let held = state.sandboxes.get_mut(self.container).filter(|held| ours(held)).is_some();
        match (&self.before, held) {
            (Some(before), _) => {
                if let Some(held) = state.sandboxes.get_mut(self.container) {
                    held.sandbox = before.clone();
                }
                self.core.resolver.update(self.container, View::of(before));
            }
            (None, true) => drop(state.sandboxes.remove(self.container)),
            (None, false) => {}
        }
        drop(state);
        let resolved = self.before.as_ref().is_some_and(Sandbox::resolves);
        if !resolved && (!self.running || self.before.is_some()) {
            self.core.resolver.stop(self.container);
        }
        // A refused batch changed nothing; after anything else, make sure.
        if (held || self.before.is_some())
            && let Err(error) = self.core.reconcile()
        {
            tracing::warn!(%error, "firewall elements of a failed start may remain");
        }
        if self.running {
            keeper::delete(self.endpoints.iter().map(|endpoint| endpoint.host_link.clone()).collect());
        }
        for endpoint in &self.endpoints {
            self.core.give_back(endpoint);
        }
    }
}
