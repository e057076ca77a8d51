//! One probe: an exec whose output and exit code are kept.

use std::time::Duration;

use budu_spec::docker::{ExecCreate, ExecStart, HealthResult};

use super::Check;
use crate::clock;
use crate::container::Container;
use crate::container::exec::{ExecStarted, Kept};
use crate::{Engine, Error};

/// Bytes of output kept, as in Docker.
const OUTPUT: usize = 4096;
/// Exit code of what could not be run or took too long.
const NO_CODE: i64 = -1;

/// Probes once. It always comes to a result.
pub(super) async fn run(engine: &Engine, container: &Container, check: &Check) -> HealthResult {
    let start = clock::now();
    let (exit_code, output) = match attempt(engine, container, check).await {
        Ok(Kept { code: Some(code), output }) => (i64::from(code), text(&output)),
        Ok(Kept { code: None, output }) => (NO_CODE, late(check.timeout, &text(&output))),
        Err(error) => (NO_CODE, error.to_string()),
    };
    HealthResult { start: clock::print(start), end: clock::print(clock::now()), exit_code, output }
}

async fn attempt(engine: &Engine, container: &Container, check: &Check) -> Result<Kept, Error> {
    let wish =
        ExecCreate { cmd: check.command.clone(), attach_stdout: true, attach_stderr: true, ..ExecCreate::default() };
    let probe = Probe { engine, id: engine.exec_create(container.id.as_str(), wish)? };
    match engine.exec_start(&probe.id, &ExecStart::default()).await {
        Ok(ExecStarted::Attached(session)) => Ok(session.keep(OUTPUT, check.timeout).await),
        Ok(ExecStarted::Detached) => Err(Error::not_running(container.id.as_str())),
        Err(error) => Err(error),
    }
}

/// An exec instance that nobody asks for once its probe is over, or given up because the container ended.
struct Probe<'a> {
    engine: &'a Engine,
    id: String,
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.engine.forget_exec(&self.id);
    }
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

fn late(timeout: Duration, output: &str) -> String {
    let complaint = format!("Health check exceeded timeout ({})", budu_spec::units::go_duration(timeout));
    if output.is_empty() { complaint } else { format!("{complaint}: {output}") }
}
