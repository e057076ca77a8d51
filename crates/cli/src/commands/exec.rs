//! `exec`.

use budu_spec::docker::{ExecCreate, ExecInspect, ExecStart, IdAnswer};

use super::run::path_of;
use super::{Command, interact};
use crate::attach::{Ended, Streams, carry};
use crate::cli::Cli;
use crate::client::Call;
use crate::create::environment;
use crate::detach::DetachKeys;
use crate::error::Error;
use crate::flags::Arity;
use crate::terminal::{self, RawMode};

/// `exec`.
#[derive(Debug, clap::Args)]
pub(super) struct Exec {
    /// Leave the command in the background
    #[arg(short, long)]
    detach: bool,
    /// Key sequence that detaches
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "list")]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "list")]
    env_file: Vec<String>,
    /// Keep standard input open even if not attached
    #[arg(short, long)]
    interactive: bool,
    /// Give the command all privileges
    #[arg(long)]
    privileged: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// User name or number, with an optional group (name|uid[:group|gid])
    #[arg(short, long, value_name = "string")]
    user: Option<String>,
    /// Working directory
    #[arg(short, long, value_name = "string")]
    workdir: Option<String>,
    args: Vec<String>,
}

impl Command for Exec {
    const ABOUT: &'static str = "Run a command in a running container";
    const USAGE: &'static str = "[OPTIONS] CONTAINER COMMAND [ARG...]";
    const ARITY: Arity = Arity::AtLeast(2);
    const OPTIONS_FIRST: bool = true;

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let keys = cli.detach_keys(self.detach_keys.as_deref().unwrap_or_default()).to_owned();
        let watcher = DetachKeys::new(&keys)?;
        if !self.detach && self.interactive && self.tty && !terminal::stdin_is_tty() {
            return Err(Error::new("the input device is not a TTY"));
        }
        let console_size =
            terminal::size().filter(|_| self.tty).map(|(rows, columns)| [u32::from(rows), u32::from(columns)]);
        let create = ExecCreate {
            user: self.user.clone().unwrap_or_default(),
            privileged: self.privileged,
            tty: self.tty,
            console_size,
            attach_stdin: !self.detach && self.interactive,
            attach_stderr: !self.detach,
            attach_stdout: !self.detach,
            detach_keys: keys,
            env: Some(environment(&self.env_file, &self.env)?).filter(|env| !env.is_empty()),
            working_dir: self.workdir.clone().unwrap_or_default(),
            cmd: self.args[1..].to_vec(),
        };
        let client = cli.client()?;
        let created: IdAnswer =
            client.json(Call::post(format!("{}/exec", path_of(&self.args[0]))).json(&create)).await?;
        let path = format!("/exec/{}", created.id);
        let start = ExecStart { detach: self.detach, tty: self.tty, console_size };
        let call = Call::post(format!("{path}/start")).json(&start);
        if self.detach {
            client.done(call).await?;
            return Ok(0);
        }
        let hijacked = client.hijack(call).await?;
        let raw = if self.tty && self.interactive { RawMode::enter()? } else { None };
        let keys = (self.tty && self.interactive && terminal::stdin_is_tty()).then_some(watcher);
        let streams = Streams { stdin: self.interactive, stdout: true, stderr: true, tty: self.tty, keys };
        let companion = interact::companion(client, &path, self.tty, None);
        let ended = interact::beside(carry(hijacked, streams), companion).await;
        drop(raw);
        if ended? == Ended::Detached {
            eprintln!("read escape sequence");
            return Ok(0);
        }
        let inspect: ExecInspect = client.json(Call::get(format!("{path}/json"))).await?;
        Ok(i32::try_from(inspect.exit_code.unwrap_or_default()).unwrap_or(125))
    }
}
