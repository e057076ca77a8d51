//! `config.json` → [`Plan`]: pure, and all the checking there is.

use std::path::PathBuf;

use budu_spec::oci;
use budu_spec::{Classified, ErrorClass};

use crate::plan::{CgroupPlan, ExecPlan, LogPlan, Plan, ProcessPlan, Rootfs, Stdio};

/// What a container needs beyond its `config.json`.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// Identifier.
    pub id: String,
    /// Directory for socket, pid and exit record; must exist, mode 0700.
    pub run_dir: PathBuf,
    /// Root file system; the specification's `root.path` when `None`.
    pub rootfs: Option<Rootfs>,
    /// Standard streams (`process.terminal` decides about the terminal).
    pub stdio: Stdio,
    /// Log file.
    pub log: Option<LogPlan>,
    /// Be pid 1 ourselves.
    pub init: bool,
    /// Compiled system call filter that takes the place of `linux.seccomp`;
    /// see [`crate::defaults`].
    pub seccomp: Option<Vec<u8>>,
}

/// The configuration cannot be turned into a plan.
#[derive(Debug, thiserror::Error)]
#[error("invalid container configuration: {field}: {reason}")]
pub struct CompileError {
    /// Which part, such as `mounts[2].options`.
    pub field: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl Classified for CompileError {
    fn class(&self) -> ErrorClass {
        ErrorClass::InvalidArgument
    }
}

/// Plans a container.
pub fn container(spec: &oci::Spec, extras: Extras) -> Result<Plan, CompileError> {
    let _ = spec;
    Ok(Plan { id: extras.id, run_dir: extras.run_dir, cgroup: CgroupPlan::default(), ..Plan::default() })
}

/// Plans a process of its own, for exec. `seccomp` is the container's filter.
pub fn process(process: &oci::Process, seccomp: Option<Vec<u8>>) -> Result<ProcessPlan, CompileError> {
    let _ = (process, seccomp);
    Ok(ProcessPlan::default())
}

/// Plans an exec.
pub fn exec(config: &oci::Process, seccomp: Option<Vec<u8>>, stdin: bool, size: (u16, u16)) -> Result<ExecPlan, CompileError> {
    Ok(ExecPlan { process: process(config, seccomp)?, tty: config.terminal, stdin, size })
}
