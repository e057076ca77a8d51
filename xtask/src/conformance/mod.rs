//! `cargo xtask conformance`: other people's tests of what an engine and an OCI runtime must do.

mod compose;
mod contest;
mod docker_py;
mod engines;
mod runc;
pub(crate) mod verdict;

use anyhow::Result;

const USAGE: &str = "usage: cargo xtask conformance SUITE [ARGS]

  compose   Docker's Compose with five services
  contest   youki's contest suite
  docker-py  integration tests of Docker's Python library
  engines   containerd and podman, driven with the runtime underneath
  runc      runc's own integration tests
";

/// Runs the suite that `args` name.
pub(crate) fn command(args: &[String]) -> Result<()> {
    let (suite, rest) = args.split_first().map_or(("help", args), |(suite, rest)| (suite.as_str(), rest));
    match suite {
        "compose" => compose::command(rest),
        "contest" => contest::command(rest),
        "docker-py" => docker_py::command(rest),
        "engines" => engines::command(rest),
        "runc" => runc::command(rest),
        _ => {
            print!("{USAGE}");
            Ok(())
        }
    }
}
