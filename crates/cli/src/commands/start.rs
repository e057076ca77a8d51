//! `start`.

use budu_spec::docker::ContainerInspect;

use super::Command;
use super::interact::{self, SignalProxy};
use super::lists::each;
use super::run::{exit_code, path_of};
use crate::attach::{Ended, Streams, carry};
use crate::cli::Cli;
use crate::client::{Call, Query};
use crate::detach::DetachKeys;
use crate::error::Error;
use crate::flags::Arity;
use crate::terminal::{self, RawMode};

/// `start`.
#[derive(Debug, clap::Args)]
pub(super) struct Start {
    /// Attach to output and pass signals on
    #[arg(short, long)]
    attach: bool,
    /// Key sequence that detaches
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Attach to standard input
    #[arg(short, long)]
    interactive: bool,
    args: Vec<String>,
}

impl Command for Start {
    const ABOUT: &'static str = "Start containers";
    const USAGE: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        if self.attach || self.interactive {
            if self.args.len() > 1 {
                return Err(Error::new("you cannot start and attach multiple containers at once"));
            }
            return self.attached(cli).await;
        }
        let client = cli.client()?;
        let code = each(&self.args, |name| client.done(Call::post(format!("{}/start", path_of(name))))).await?;
        if code == 0 {
            return Ok(0);
        }
        Err(Error::new(format_args!("Error: failed to start containers: {}", self.args.join(", "))))
    }
}

impl Start {
    async fn attached(self, cli: &Cli) -> Result<i32, Error> {
        let client = cli.client()?;
        let path = path_of(&self.args[0]);
        let container: ContainerInspect = client.json(Call::get(format!("{path}/json"))).await?;
        let path = path_of(&container.id);
        let tty = container.config.tty;
        let stdin = self.interactive && container.config.open_stdin;
        let keys = cli.detach_keys(self.detach_keys.as_deref().unwrap_or_default());
        let watcher = DetachKeys::new(keys)?;
        let signals = (!tty).then(SignalProxy::catch);
        let attach = Query::new(format!("{path}/attach"))
            .maybe("detachKeys", Some(keys))
            .flag("stream", true)
            .flag("stdin", stdin)
            .flag("stdout", true)
            .flag("stderr", true);
        let condition = if container.host_config.auto_remove { "removed" } else { "next-exit" };
        let wait = Query::new(format!("{path}/wait")).set("condition", condition);
        let (hijacked, mut waiting) =
            tokio::try_join!(client.hijack(Call::post(attach)), client.stream(Call::post(wait)))?;
        let raw = if tty && stdin { RawMode::enter()? } else { None };
        client.done(Call::post(format!("{path}/start"))).await?;
        let keys = (tty && stdin && terminal::stdin_is_tty()).then_some(watcher);
        let streams = Streams { stdin, stdout: true, stderr: true, tty, keys };
        let main = async {
            match carry(hijacked, streams).await? {
                Ended::Detached => Ok(0),
                Ended::Finished => {
                    drop(raw);
                    exit_code(&mut waiting).await
                }
            }
        };
        interact::beside(main, interact::companion(client, &path, tty, signals)).await
    }
}
