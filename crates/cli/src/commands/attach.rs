//! `attach`.

use budu_spec::docker::ContainerInspect;

use super::Command;
use super::interact::{self, SignalProxy};
use super::run::{exit_code, path_of};
use crate::attach::{Ended, Streams, carry};
use crate::cli::Cli;
use crate::client::{Call, Query};
use crate::detach::DetachKeys;
use crate::error::Error;
use crate::flags::Arity;
use crate::terminal::{self, RawMode};

/// `attach`.
#[derive(Debug, clap::Args)]
pub(super) struct Attach {
    /// Key sequence that detaches
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Do not attach standard input
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to the process
    #[arg(long, value_name = "bool", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    args: Vec<String>,
}

impl Command for Attach {
    const ABOUT: &'static str = "Attach to a running container";
    const USAGE: &'static str = "[OPTIONS] CONTAINER";
    const ARITY: Arity = Arity::Exactly(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let client = cli.client()?;
        let path = path_of(&self.args[0]);
        let mut waiting = client.stream(Call::post(format!("{path}/wait"))).await?;
        let container: ContainerInspect = client.json(Call::get(format!("{path}/json"))).await?;
        check(&container)?;
        let tty = container.config.tty;
        let stdin = !self.no_stdin && container.config.open_stdin;
        if stdin && tty && !terminal::stdin_is_tty() {
            return Err(Error::new("the input device is not a TTY"));
        }
        let keys = cli.detach_keys(self.detach_keys.as_deref().unwrap_or_default());
        let watcher = DetachKeys::new(keys)?;
        let signals = (self.sig_proxy && !tty).then(SignalProxy::catch);
        let attach = Query::new(format!("{path}/attach"))
            .maybe("detachKeys", Some(keys))
            .flag("stream", true)
            .flag("stdin", stdin)
            .flag("stdout", true)
            .flag("stderr", true);
        let hijacked = client.hijack(Call::post(attach)).await?;
        let raw = if tty && stdin { RawMode::enter()? } else { None };
        if tty && let Some((rows, columns)) = terminal::size() {
            // A changed size makes full-screen programs draw themselves again.
            let larger = Some((rows.saturating_add(1), columns.saturating_add(1)));
            let _ = interact::resize(client, &path, larger).await;
        }
        let keys = (tty && stdin && terminal::stdin_is_tty()).then_some(watcher);
        let streams = Streams { stdin, stdout: true, stderr: true, tty, keys };
        let main = async {
            match carry(hijacked, streams).await? {
                Ended::Detached => {
                    drop(raw);
                    eprintln!("read escape sequence");
                    Ok(0)
                }
                Ended::Finished => {
                    drop(raw);
                    exit_code(&mut waiting).await
                }
            }
        };
        interact::beside(main, interact::companion(client, &path, tty, signals)).await
    }
}

fn check(container: &ContainerInspect) -> Result<(), Error> {
    let state = &container.state;
    let complaint = if !state.running {
        "cannot attach to a stopped container, start it first"
    } else if state.paused {
        "cannot attach to a paused container, unpause it first"
    } else if state.restarting {
        "cannot attach to a restarting container, wait until it is running"
    } else {
        return Ok(());
    };
    Err(Error::new(complaint))
}
