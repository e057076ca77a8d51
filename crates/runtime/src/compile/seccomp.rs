//! `linux.seccomp`: the filter compiled, and who decides what it hands over.

use std::path::PathBuf;

use budu_spec::oci;

use super::{CompileError, wrong};
use crate::defaults::seccomp::oci_program;
use crate::plan::{ProcessPlan, SeccompAgent};

/// Calls that must work between installing the filter and telling the agent about it.
const UNANSWERABLE: [&str; 2] = ["write", "sendmsg"];

/// Puts the filter of a configuration into the plan of its program.
pub(super) fn apply(config: Option<&oci::Seccomp>, process: &mut ProcessPlan) -> Result<(), CompileError> {
    let Some(config) = config.filter(|config| !config.default_action.is_empty() || !config.syscalls.is_empty()) else {
        return Ok(());
    };
    for (n, rule) in config.syscalls.iter().enumerate() {
        if rule.names.is_empty() {
            return Err(wrong(format!("linux.seccomp.syscalls[{n}].names"), "must not be empty"));
        }
        if rule.action == "SCMP_ACT_NOTIFY"
            && let Some(name) = rule.names.iter().find(|name| UNANSWERABLE.contains(&name.as_str()))
        {
            let reason = format!("SCMP_ACT_NOTIFY cannot be used for the {name} syscall");
            return Err(wrong(format!("linux.seccomp.syscalls[{n}]"), reason));
        }
    }
    if config.default_action == "SCMP_ACT_NOTIFY" {
        return Err(wrong("linux.seccomp.defaultAction", "SCMP_ACT_NOTIFY cannot be used as default action"));
    }
    let mut program = oci_program(config).map_err(|error| wrong("linux.seccomp", error.to_string()))?;
    if config.flags.is_none() {
        // Nobody chose: the mitigation costs more than it protects a filtered program from.
        program.flags.spec_allow = true;
    }
    if program.notifies {
        if config.listener_path.is_empty() {
            return Err(wrong("linux.seccomp.listenerPath", "seccomp listenerPath is not set"));
        }
        let path = PathBuf::from(&config.listener_path);
        process.seccomp_agent = Some(SeccompAgent { path, metadata: config.listener_metadata.clone() });
    }
    process.seccomp = program.to_bytes();
    process.seccomp_flags = program.flag_bits();
    Ok(())
}
