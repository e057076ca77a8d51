//! Command line clients of an engine.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::Backend;
use crate::{Output, Terminal, program};

/// A command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// The stock `docker` program.
    Docker,
    /// Our own.
    Budu,
}

/// A command line, pointed at one engine, with a configuration directory of its own.
#[derive(Debug, Clone)]
pub struct ClientHandle {
    program: PathBuf,
    env: Vec<(String, String)>,
}

impl ClientHandle {
    pub(super) fn new(client: Client, socket: &Path, home: &Path) -> ClientHandle {
        let program = match client {
            Client::Docker => PathBuf::from("docker"),
            Client::Budu => Backend::budu_binary(),
        };
        let text = |path: &Path| path.display().to_string();
        let env = vec![
            ("DOCKER_HOST".to_owned(), format!("unix://{}", text(socket))),
            ("DOCKER_CONFIG".to_owned(), text(home)),
            ("DOCKER_CLI_HINTS".to_owned(), "false".to_owned()),
            ("HOME".to_owned(), text(home)),
            ("PATH".to_owned(), std::env::var("PATH").unwrap_or_default()),
            ("TERM".to_owned(), "xterm".to_owned()),
        ];
        ClientHandle { program, env }
    }

    /// The same with one more environment variable.
    #[must_use]
    pub fn with_env(mut self, name: &str, value: &str) -> ClientHandle {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another program that takes the engine's address from its environment.
    #[must_use]
    pub fn with_program(mut self, program: PathBuf) -> ClientHandle {
        self.program = program;
        self
    }

    /// The command with `args`, not started yet.
    pub fn command<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(self.env.iter().cloned());
        for arg in args {
            command.arg(arg.as_ref());
        }
        command
    }

    /// Runs it to its end, with nothing to read.
    pub fn run<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Result<Output> {
        self.feed(args, b"")
    }

    /// Runs it to its end, with `input` to read.
    pub fn feed<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>, input: &[u8]) -> Result<Output> {
        program::finish(&mut self.command(args), input, Duration::from_secs(60))
    }

    /// Runs it and returns what it printed; panics when its exit code is not 0.
    #[track_caller]
    pub fn ok<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> String {
        match self.run(args) {
            Ok(output) => output.ok().to_owned(),
            Err(error) => panic!("{error:#}"),
        }
    }

    /// Starts it in the background with pipes.
    pub fn spawn<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Result<Child> {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().context("start a client")
    }

    /// Starts it on a terminal of 24 × 80.
    pub fn terminal<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Result<Terminal> {
        Terminal::start(self.command(args), 24, 80)
    }
}
