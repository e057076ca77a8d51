//! A plan's cgroup in the words of `sys`.

use budu_sys::cgroup::{self, Access, Cgroup, CgroupPath, DeviceKind, Layout};

use crate::init::{Failing, invalid};
use crate::plan::{CgroupPlan, DeviceRule, Resources};
use crate::protocol::{Failure, FailureClass};

impl From<cgroup::Error> for Failure {
    fn from(error: cgroup::Error) -> Failure {
        let class = match error {
            cgroup::Error::BadPath { .. } | cgroup::Error::BadValue { .. } => FailureClass::Invalid,
            _ => FailureClass::Internal,
        };
        Failure { class, message: error.to_string() }
    }
}

/// Makes the container's cgroup with its limits; `None` when the plan wants none.
pub(crate) fn make(layout: Option<&Layout>, plan: &CgroupPlan) -> Failing<Option<Cgroup>> {
    if plan.path.is_empty() {
        return Ok(None);
    }
    let layout = layout.ok_or(cgroup::Error::NotMounted)?;
    let path = CgroupPath::parse(&plan.path)?;
    let resources = translate(&plan.resources)?;
    Ok(Some(cgroup::plan(layout, &path, &resources)?.apply()?))
}

/// Asks systemd for a scope around `pid`.
pub(crate) fn make_scope(
    _layout: Option<&Layout>,
    _plan: &CgroupPlan,
    _id: &str,
    _pid: rustix::process::Pid,
) -> Failing<Option<Cgroup>> {
    Err(invalid("the systemd cgroup driver is not there yet".to_owned()))
}

fn translate(resources: &Resources) -> Failing<cgroup::Resources> {
    let non_empty = |text: &String| (!text.is_empty()).then(|| text.clone());
    Ok(cgroup::Resources {
        memory: cgroup::Memory {
            limit: resources.memory,
            reservation: resources.memory_reservation,
            swap: resources.memory_swap,
            swappiness: resources.memory_swappiness,
            disable_oom_killer: resources.oom_kill_disable,
        },
        cpu: cgroup::Cpu {
            shares: resources.cpu_shares,
            quota: resources.cpu_quota,
            period: resources.cpu_period,
            cpus: non_empty(&resources.cpuset_cpus),
            mems: non_empty(&resources.cpuset_mems),
            ..cgroup::Cpu::default()
        },
        pids: resources.pids,
        block_io: cgroup::BlockIo { weight: resources.block_io.weight, ..cgroup::BlockIo::default() },
        devices: match resources.devices.as_slice() {
            [] => None,
            rules => Some(rules.iter().map(rule).collect::<Failing<_>>()?),
        },
        huge_pages: Vec::new(),
        unified: resources.unified.iter().cloned().collect(),
    })
}

fn rule(rule: &DeviceRule) -> Failing<cgroup::DeviceRule> {
    let kind = match rule.kind {
        'c' => DeviceKind::Char,
        'b' => DeviceKind::Block,
        'a' => DeviceKind::All,
        other => return Err(invalid(format!("device rule type {other:?}: want a, b or c"))),
    };
    let access = Access::parse(&rule.access)
        .ok_or_else(|| invalid(format!("device rule access {:?}: want letters of rwm", rule.access)))?;
    Ok(cgroup::DeviceRule { allow: rule.allow, kind, major: rule.major, minor: rule.minor, access })
}
