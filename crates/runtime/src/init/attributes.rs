//! What the kernel knows of a process besides its user: scheduling, limits,
//! file mode mask, labels of security modules.

use budu_sys::label::{Kind, Label};
use budu_sys::process;
use budu_sys::scheduling::{self, Scheduler};
use rustix::process::Pid;

use super::{Failing, failed, invalid};
use crate::plan::{ProcessPlan, SchedulerPlan};

/// Sets everything that needs the privileges about to be given up.
pub(super) fn apply(plan: &ProcessPlan) -> Failing<()> {
    if let Some(wish) = plan.scheduler {
        let SchedulerPlan { policy, flags, nice, priority, runtime, deadline, period } = wish;
        scheduling::set_scheduler(&Scheduler { policy, flags, nice, priority, runtime, deadline, period })
            .map_err(failed("error setting scheduler"))?;
    }
    if let Some(priority) = plan.io_priority {
        scheduling::set_io_priority(priority).map_err(failed("failed to set io priority"))?;
    }
    if let Some(domain) = plan.personality {
        scheduling::set_personality(domain).map_err(failed("set the personality"))?;
    }
    if let Some(policy) = &plan.memory_policy {
        scheduling::set_memory_policy(policy.mode, policy.flags, &policy.nodes)
            .map_err(failed("set the memory policy"))?;
    }
    if !plan.final_cpus.is_empty() {
        scheduling::set_affinity(&plan.final_cpus).map_err(failed("set the CPU affinity"))?;
    }
    if let Some(mask) = plan.umask {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask & 0o777));
    }
    // Last: they may be too low for anything but the program.
    for &(resource, soft, hard) in &plan.rlimits {
        process::set_rlimit(resource, soft, hard).map_err(failed(&format!("error setting rlimit type {resource}")))?;
    }
    Ok(())
}

/// Raises hard limits to what the plan wants, which a process in a user
/// namespace cannot do itself; it sets the exact values later. `None` is this process.
///
/// # Errors
/// When this process may not either.
pub(crate) fn raise_limits(pid: Option<Pid>, limits: &[(u32, u64, u64)]) -> Failing<()> {
    for &(resource, _, hard) in limits {
        process::raise_rlimit(pid, resource, hard).map_err(failed(&format!("error setting rlimit type {resource}")))?;
    }
    Ok(())
}

/// The labels of a plan, opened while /proc is the host's.
pub(super) struct Labels<'a> {
    wanted: Vec<(Label, &'a str)>,
    keys: Option<Label>,
}

impl Labels<'_> {
    pub(super) fn open(plan: &ProcessPlan) -> Failing<Labels<'_>> {
        let mut labels = Labels { wanted: Vec::new(), keys: None };
        let wanted = [
            (
                Kind::AppArmorExec,
                &plan.apparmor_profile,
                "unable to apply apparmor profile: apparmor: config provided but apparmor not supported",
            ),
            (
                Kind::SelinuxExec,
                &plan.selinux_label,
                "selinux label is specified in config, but selinux is disabled or not supported",
            ),
        ];
        for (kind, text, absent) in wanted {
            if !text.is_empty() {
                let label = Label::open(kind).map_err(failed("open the process's label"))?;
                labels.wanted.push((label.ok_or_else(|| invalid(absent.to_owned()))?, text));
            }
        }
        if !plan.selinux_label.is_empty() {
            labels.keys = Label::open(Kind::SelinuxKeys).map_err(failed("open the label of keys"))?;
        }
        Ok(labels)
    }

    /// Gives this process a session keyring that carries the process's label.
    pub(super) fn make_keyring(&self, plan: &ProcessPlan) -> Failing<()> {
        let what = failed("set the label of keys");
        if let Some(keys) = &self.keys {
            keys.set(&plan.selinux_label).map_err(&what)?;
        }
        let made = process::new_session_keyring().map_err(failed("unable to join session keyring"));
        if let Some(keys) = &self.keys {
            keys.set("").map_err(&what)?;
        }
        made
    }

    /// Labels the program that is executed next.
    pub(super) fn apply(&self) -> Failing<()> {
        for (label, text) in &self.wanted {
            label.set(text).map_err(failed(&format!("unable to apply label {text:?} to the process")))?;
        }
        Ok(())
    }
}
