//! Programs of the host that are told of a container's life.

use budu_spec::oci::Status;
use budu_sys::socket::send_with_fds;

use super::process::Phase;
use super::serve::Shim;
use crate::init::{self, Failing, HOOKED, Stage, failed};
use crate::plan::{About, Hook, Hooks, Plan};

/// What a shim keeps for hooks; most containers have none.
#[derive(Debug)]
pub(super) struct Told {
    id: String,
    about: About,
    hooks: Hooks,
}

impl Told {
    /// Keeps what a plan's hooks need.
    pub(super) fn of(plan: &Plan) -> Option<Box<Told>> {
        (plan.hooks != Hooks::default())
            .then(|| Box::new(Told { id: plan.id.clone(), about: plan.about.clone(), hooks: plan.hooks.clone() }))
    }

    fn run(&self, point: &str, hooks: &[Hook], status: Status, pid: i32) -> Failing<()> {
        let state = init::state(&self.id, &self.about, status, pid);
        init::run_hooks(hooks, &Stage { point, state: &state, cwd: &self.about.bundle, env: &[] })
    }
}

impl Shim {
    /// The first process waits for the hooks of the host.
    pub(super) fn run_creation_hooks(&mut self, at: usize) {
        let pid = self.processes[at].pid.as_raw_nonzero().get();
        let outcome = self.told.as_ref().map_or(Ok(()), |told| {
            told.run("prestart", &told.hooks.prestart, Status::Creating, pid)?;
            told.run("createRuntime", &told.hooks.create_runtime, Status::Creating, pid)
        });
        let answered = outcome.and_then(|()| match &self.processes[at].report {
            Some(report) => send_with_fds(report, &[HOOKED], &[]).map_err(failed("answer the first process")),
            None => Ok(()),
        });
        if let Err(failure) = answered {
            self.preparation_failed(at, failure);
        }
    }

    /// The program runs. A hook that fails ends it, as the specification asks.
    pub(super) fn run_started_hooks(&mut self, at: usize) {
        let process = &self.processes[at];
        let Some(told) = self.told.as_ref().filter(|_| process.key == 0) else { return };
        let pid = process.pid.as_raw_nonzero().get();
        if told.run("poststart", &told.hooks.poststart, Status::Running, pid).is_err()
            && process.phase == Phase::Running
        {
            let _ = budu_sys::process::signal(std::os::fd::AsFd::as_fd(&process.pidfd), 9);
        }
    }

    /// The container is gone. All of these run, whatever happens to the others.
    pub(super) fn run_last_hooks(&self) {
        let Some(told) = &self.told else { return };
        for hook in &told.hooks.poststop {
            let _ = told.run("poststop", std::slice::from_ref(hook), Status::Stopped, 0);
        }
    }
}
