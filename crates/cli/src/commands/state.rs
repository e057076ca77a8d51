//! `stop`, `restart`, `pause`, `unpause`.

use super::Command;
use super::lists::each;
use super::run::path_of;
use crate::cli::Cli;
use crate::client::{Call, Query};
use crate::error::Error;
use crate::flags::Arity;

const USAGE: &str = "[OPTIONS] CONTAINER [CONTAINER...]";

/// Flags of stop and restart.
#[derive(Debug, clap::Args)]
struct StopFlags {
    /// Signal to send
    #[arg(short, long, value_name = "string")]
    signal: Option<String>,
    /// Seconds to wait before killing
    #[arg(short, long, value_name = "int", value_parser = crate::flags::parse_int)]
    timeout: Option<i64>,
    /// Same as --timeout
    #[arg(long, value_name = "int", hide = true, value_parser = crate::flags::parse_int)]
    time: Option<i64>,
    args: Vec<String>,
}

impl StopFlags {
    async fn send(&self, cli: &Cli, action: &str) -> Result<i32, Error> {
        let client = cli.client()?;
        if self.timeout.is_some() && self.time.is_some() {
            return Err(Error::new("conflicting options: cannot specify both --timeout and --time"));
        }
        let timeout = self.timeout.or(self.time).map(|seconds| seconds.to_string());
        each(&self.args, |name| {
            let query = Query::new(format!("{}/{action}", path_of(name)))
                .maybe("signal", self.signal.as_deref())
                .maybe("t", timeout.as_deref());
            client.done(Call::post(query))
        })
        .await
    }
}

/// `stop`.
#[derive(Debug, clap::Args)]
pub(super) struct Stop {
    #[command(flatten)]
    flags: StopFlags,
}

impl Command for Stop {
    const ABOUT: &'static str = "Stop running containers";
    const USAGE: &'static str = USAGE;
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        self.flags.send(cli, "stop").await
    }
}

/// `restart`.
#[derive(Debug, clap::Args)]
pub(super) struct Restart {
    #[command(flatten)]
    flags: StopFlags,
}

impl Command for Restart {
    const ABOUT: &'static str = "Stop containers and start them again";
    const USAGE: &'static str = USAGE;
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        self.flags.send(cli, "restart").await
    }
}

/// `pause`.
#[derive(Debug, clap::Args)]
pub(super) struct Pause {
    args: Vec<String>,
}

impl Command for Pause {
    const ABOUT: &'static str = "Freeze all processes of containers";
    const USAGE: &'static str = "CONTAINER [CONTAINER...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let client = cli.client()?;
        each(&self.args, |name| client.done(Call::post(format!("{}/pause", path_of(name))))).await
    }
}

/// `unpause`.
#[derive(Debug, clap::Args)]
pub(super) struct Unpause {
    args: Vec<String>,
}

impl Command for Unpause {
    const ABOUT: &'static str = "Let frozen containers go on";
    const USAGE: &'static str = "CONTAINER [CONTAINER...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let client = cli.client()?;
        each(&self.args, |name| client.done(Call::post(format!("{}/unpause", path_of(name))))).await
    }
}
