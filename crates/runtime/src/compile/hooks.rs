//! `hooks` (config.md "POSIX-platform Hooks").

use budu_spec::oci;

use super::{CompileError, wrong};
use crate::plan::{Hook, Hooks};

/// Names of the points, in the order they come.
pub(crate) const POINTS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Plans all of them.
pub(super) fn plan(config: Option<&oci::Hooks>) -> Result<Hooks, CompileError> {
    let Some(config) = config else { return Ok(Hooks::default()) };
    let list = |point: usize, hooks: &[oci::Hook]| {
        hooks.iter().enumerate().map(|(n, one)| hook(point, n, one)).collect::<Result<Vec<_>, _>>()
    };
    Ok(Hooks {
        prestart: list(0, &config.prestart)?,
        create_runtime: list(1, &config.create_runtime)?,
        create_container: list(2, &config.create_container)?,
        start_container: list(3, &config.start_container)?,
        poststart: list(4, &config.poststart)?,
        poststop: list(5, &config.poststop)?,
    })
}

fn hook(point: usize, n: usize, config: &oci::Hook) -> Result<Hook, CompileError> {
    let at = |member: &str, reason: String| Err(wrong(format!("hooks.{}[{n}].{member}", POINTS[point]), reason));
    if !config.path.is_absolute() {
        return at("path", format!("{:?} is not absolute", config.path));
    }
    let timeout = match config.timeout {
        None => None,
        Some(seconds) => match u32::try_from(seconds) {
            Ok(seconds) if seconds > 0 => Some(seconds),
            _ => return at("timeout", format!("{seconds} is not a number of seconds above 0")),
        },
    };
    Ok(Hook { path: config.path.clone(), args: config.args.clone(), env: config.env.clone(), timeout })
}
