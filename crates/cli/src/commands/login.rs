//! `login` and `logout`.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};

use budu_spec::docker::AuthConfig;
use serde::Deserialize;

use super::Command;
use crate::cli::Cli;
use crate::client::Call;
use crate::config::HUB;
use crate::credentials;
use crate::error::Error;
use crate::flags::Arity;
use crate::table::put_line;

/// `login`.
#[derive(Debug, clap::Args)]
pub(super) struct Login {
    /// Password or token
    #[arg(short, long, value_name = "string")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    /// User name
    #[arg(short, long, value_name = "string")]
    username: Option<String>,
    args: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Answer {
    status: String,
    identity_token: String,
}

/// The key that credentials of a server are kept under.
fn key(server: Option<&String>) -> String {
    match server.map(String::as_str) {
        None | Some("" | "docker.io" | "index.docker.io" | "registry-1.docker.io") => HUB.to_owned(),
        Some(HUB) => HUB.to_owned(),
        Some(server) => {
            let host = server.trim_start_matches("https://").trim_start_matches("http://");
            host.split('/').next().unwrap_or_default().to_owned()
        }
    }
}

impl Command for Login {
    const ABOUT: &'static str = "Keep credentials for a registry";
    const USAGE: &'static str = "[OPTIONS] [SERVER]";
    const ARITY: Arity = Arity::AtMost(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let server = key(self.args.first());
        let helper = cli.config.helper(&server);
        let password = match (&self.password, self.password_stdin) {
            (Some(_), true) => {
                return Err(Error::new("conflicting options: cannot specify both --password and --password-stdin"));
            }
            (_, true) if self.username.as_deref().unwrap_or_default().is_empty() => {
                return Err(Error::new("the --password-stdin option requires --username to be set"));
            }
            (_, true) => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text)?;
                text.trim_end_matches(['\n', '\r']).to_owned()
            }
            (Some(password), false) => {
                eprintln!("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
                password.clone()
            }
            (None, false) => String::new(),
        };
        let username = match self.username.filter(|name| !name.is_empty()) {
            Some(name) => name,
            None => prompt("Username: ", true)?,
        };
        let password = if password.is_empty() { prompt("Password: ", false)? } else { password };
        let mut auth = AuthConfig { username, password, serveraddress: server, ..AuthConfig::default() };
        let answer: Answer = cli.client()?.json(Call::post("/auth").json(&auth)).await?;
        if !answer.identity_token.is_empty() {
            auth.password.clear();
            auth.identitytoken = answer.identity_token;
        }
        credentials::store(helper, &cli.config.directory, &auth)?;
        if helper.is_none() {
            let path = cli.config.directory.join("config.json");
            eprintln!(
                "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning.\n",
                path.display()
            );
        }
        put_line(if answer.status.is_empty() { "Login Succeeded" } else { &answer.status })?;
        Ok(0)
    }
}

/// Asks on the terminal.
fn prompt(text: &str, echo: bool) -> Result<String, Error> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(Error::new("Error: Cannot perform an interactive login from a non TTY device"));
    }
    print!("{text}");
    std::io::stdout().flush()?;
    let before = if echo { None } else { silence(&input) };
    let mut line = String::new();
    let read = input.lock().read_line(&mut line);
    if let Some(before) = before {
        let _ = rustix::termios::tcsetattr(&input, rustix::termios::OptionalActions::Now, &before);
        println!();
    }
    read?;
    let line = line.trim_end_matches(['\n', '\r']).to_owned();
    match line.is_empty() {
        true => Err(Error::new(if echo { "username is required" } else { "password is required" })),
        false => Ok(line),
    }
}

/// Stops the terminal from showing what is typed; the settings as they were.
fn silence(input: &std::io::Stdin) -> Option<rustix::termios::Termios> {
    let before = rustix::termios::tcgetattr(input).ok()?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(rustix::termios::LocalModes::ECHO);
    rustix::termios::tcsetattr(input, rustix::termios::OptionalActions::Now, &quiet).ok()?;
    Some(before)
}

/// `logout`.
#[derive(Debug, clap::Args)]
pub(super) struct Logout {
    args: Vec<String>,
}

impl Command for Logout {
    const ABOUT: &'static str = "Forget the credentials for a registry";
    const USAGE: &'static str = "[SERVER]";
    const ARITY: Arity = Arity::AtMost(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let server = key(self.args.first());
        let helper = cli.config.helper(&server);
        let shown = self.args.first().map_or(HUB, String::as_str);
        if helper.is_none() && !cli.config.knows(&server) {
            put_line(&format!("Not logged in to {shown}"))?;
            return Ok(0);
        }
        put_line(&format!("Removing login credentials for {shown}"))?;
        credentials::erase(helper, &cli.config.directory, &server)?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_servers() {
        for (server, want) in [
            (None, HUB),
            (Some("docker.io"), HUB),
            (Some("https://r.example:5000/v2/"), "r.example:5000"),
            (Some("localhost:5000"), "localhost:5000"),
        ] {
            assert_eq!(key(server.map(str::to_owned).as_ref()), want);
        }
    }
}
