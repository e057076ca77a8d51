//! What a process is given besides rights: how it is scheduled, where its memory lies, what machine it sees.

use budu_spec::oci;

use super::{CompileError, numbers, wrong};
use crate::plan::{MemoryPolicyPlan, SchedulerPlan};

const DEADLINE: u32 = 6;
const POLICIES: [(&str, u32); 7] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", DEADLINE),
];
const SCHEDULER_FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];
const IO_CLASSES: [(&str, u16); 3] = [("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];

/// set_mempolicy(2) by name, sorted: mode, and whether it takes no nodes (`Some(false)`) or at least one (`Some(true)`).
pub(crate) const MEMORY_MODES: [(&str, u32, Option<bool>); 7] = [
    ("MPOL_BIND", 2, Some(true)),
    ("MPOL_DEFAULT", 0, Some(false)),
    ("MPOL_INTERLEAVE", 3, Some(true)),
    ("MPOL_LOCAL", 4, Some(false)),
    ("MPOL_PREFERRED", 1, None),
    ("MPOL_PREFERRED_MANY", 5, Some(true)),
    ("MPOL_WEIGHTED_INTERLEAVE", 6, Some(true)),
];
/// By name, sorted.
pub(crate) const MEMORY_FLAGS: [(&str, u32); 3] =
    [("MPOL_F_NUMA_BALANCING", 1 << 13), ("MPOL_F_RELATIVE_NODES", 1 << 14), ("MPOL_F_STATIC_NODES", 1 << 15)];

fn named<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

/// sched_setattr(2).
pub(super) fn scheduler(config: &oci::Scheduler) -> Result<SchedulerPlan, CompileError> {
    let at = |member: &str, reason: String| wrong(format!("process.scheduler.{member}"), reason);
    if config.policy.is_empty() {
        return Err(at("policy", "scheduler policy is required".to_owned()));
    }
    let policy = named(&POLICIES, &config.policy)
        .ok_or_else(|| at("policy", format!("invalid scheduler policy: {}", config.policy)))?;
    let mut flags = 0;
    for flag in &config.flags {
        flags |= named(&SCHEDULER_FLAGS, flag).ok_or_else(|| at("flags", format!("invalid scheduler flag: {flag}")))?;
    }
    if matches!(policy, 0 | 3) && !(-20..=19).contains(&config.nice) {
        let reason = format!("invalid scheduler.nice: {} when scheduler.policy is {}", config.nice, config.policy);
        return Err(at("nice", reason));
    }
    if config.priority != 0 && !matches!(policy, 1 | 2) {
        let reason = "scheduler.priority can only be specified for SchedFIFO or SchedRR policy";
        return Err(at("priority", reason.to_owned()));
    }
    let priority = u32::try_from(config.priority).map_err(|_| at("priority", "must not be negative".to_owned()))?;
    if policy != DEADLINE && (config.runtime != 0 || config.deadline != 0 || config.period != 0) {
        let reason = "scheduler runtime/deadline/period can only be specified for SchedDeadline policy";
        return Err(at("runtime", reason.to_owned()));
    }
    Ok(SchedulerPlan {
        policy,
        flags,
        nice: config.nice,
        priority,
        runtime: config.runtime,
        deadline: config.deadline,
        period: config.period,
    })
}

/// ioprio_set(2).
pub(super) fn io_priority(config: &oci::IoPriority) -> Result<u16, CompileError> {
    let class = named(&IO_CLASSES, &config.class)
        .ok_or_else(|| wrong("process.ioPriority.class", format!("invalid ioPriority.Class: {:?}", config.class)))?;
    let level = u16::try_from(config.priority).ok().filter(|level| *level <= 7);
    let level = level.ok_or_else(|| {
        wrong("process.ioPriority.priority", format!("invalid ioPriority.Priority: {}", config.priority))
    })?;
    Ok(class << 13 | level)
}

/// Processors before the cgroup is entered, and after.
pub(super) fn affinity(config: Option<&oci::CpuAffinity>) -> Result<(Vec<u32>, Vec<u32>), CompileError> {
    let Some(config) = config else { return Ok((Vec::new(), Vec::new())) };
    let list = |member: &str, told: &str, text: &str| {
        numbers::list(text).map_err(|reason| {
            wrong(format!("process.execCPUAffinity.{member}"), format!("bad CPUAffinity.{told}: {reason}"))
        })
    };
    Ok((list("initial", "Initial", &config.initial)?, list("final", "Final", &config.last)?))
}

/// personality(2).
pub(super) fn personality(config: &oci::Personality) -> Result<u64, CompileError> {
    match config.domain.as_str() {
        "LINUX" => Ok(0),
        "LINUX32" => Ok(8),
        other => Err(wrong("linux.personality.domain", format!("invalid personality domain {other:?}"))),
    }
}

/// set_mempolicy(2).
pub(super) fn memory_policy(config: &oci::MemoryPolicy) -> Result<MemoryPolicyPlan, CompileError> {
    let at = |member: &str, reason: String| wrong(format!("linux.memoryPolicy.{member}"), reason);
    let (_, mode, wants_nodes) = MEMORY_MODES
        .iter()
        .find(|(known, ..)| *known == config.mode)
        .ok_or_else(|| at("mode", format!("invalid memory policy mode {:?}", config.mode)))?;
    let nodes = numbers::list(&config.nodes)
        .map_err(|reason| at("nodes", format!("invalid memory policy nodes {:?}: {reason}", config.nodes)))?;
    match wants_nodes {
        Some(false) if !nodes.is_empty() => {
            return Err(at("nodes", format!("memory policy mode requires 0 nodes but got {}", nodes.len())));
        }
        Some(true) if nodes.is_empty() => {
            return Err(at("nodes", "memory policy mode requires at least one node but got 0".to_owned()));
        }
        _ => {}
    }
    let mut flags = 0;
    for flag in &config.flags {
        flags |=
            named(&MEMORY_FLAGS, flag).ok_or_else(|| at("flags", format!("invalid memory policy flag {flag:?}")))?;
    }
    Ok(MemoryPolicyPlan { mode: *mode, flags, nodes })
}
