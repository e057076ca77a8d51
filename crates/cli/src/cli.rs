//! What all commands share: global flags, configuration, the way to the daemon.

use std::cell::OnceCell;
use std::path::PathBuf;

use budu_dial::tls;
use clap::{Args as _, FromArgMatches as _};

use crate::client::Client;
use crate::config::Config;
use crate::error::Error;
use crate::flags::{self, Subject};
use crate::host::{self, Choice, Flags, Tls, variable};

/// Flags before the command.
#[derive(Debug, Default, clap::Args)]
struct Global {
    /// Directory of the client's configuration
    #[arg(long, value_name = "string")]
    config: Option<PathBuf>,
    /// Context to use, instead of DOCKER_HOST and the configured one
    #[arg(short, long, value_name = "string")]
    context: Option<String>,
    /// Enable debug mode
    #[arg(short = 'D', long)]
    debug: bool,
    /// Socket of the daemon
    #[arg(short = 'H', long, value_name = "string")]
    host: Vec<String>,
    /// Logging level ("debug", "info", "warn", "error", "fatal")
    #[arg(short, long, value_name = "string", default_value = "info")]
    log_level: String,
    /// Use TLS; implied by --tlsverify
    #[arg(long)]
    tls: bool,
    /// Use TLS and verify the daemon
    #[arg(long)]
    tlsverify: bool,
    /// Trust certificates of this authority only (default ca.pem in DOCKER_CERT_PATH or ~/.docker)
    #[arg(long, value_name = "string")]
    tlscacert: Option<PathBuf>,
    /// TLS certificate (default cert.pem)
    #[arg(long, value_name = "string")]
    tlscert: Option<PathBuf>,
    /// TLS key (default key.pem)
    #[arg(long, value_name = "string")]
    tlskey: Option<PathBuf>,
    /// Print version information and quit
    #[arg(short, long)]
    version: bool,
    #[arg(value_name = "COMMAND")]
    rest: Vec<String>,
}

/// One invocation of the program.
#[derive(Debug)]
pub(crate) struct Cli {
    /// `budu`, or `docker` when called so.
    pub(crate) program: &'static str,
    /// The user's settings.
    pub(crate) config: Config,
    /// `-D` was given.
    pub(crate) debug: bool,
    flags: Flags,
    choice: OnceCell<Choice>,
    client: OnceCell<Client>,
}

/// What the arguments before the command came to.
pub(crate) enum Parsed {
    /// Everything was done already (`--version`, `--help`).
    Done,
    /// The command and its arguments are still to be run.
    Run(Box<Cli>, Vec<String>),
}

impl Cli {
    /// Reads the global flags.
    pub(crate) fn parse(program: &'static str, args: &[String]) -> Result<Parsed, Error> {
        let global = if args.first().is_some_and(|arg| !arg.starts_with('-')) {
            Global { log_level: "info".to_owned(), rest: args.to_vec(), ..Global::default() }
        } else {
            let mut command = global_flags();
            let subject = Subject { name: program, usage: "[OPTIONS] COMMAND [ARG...]" };
            let matches = flags::parse(&mut command, args, subject)?;
            let global = Global::from_arg_matches(&matches).map_err(Error::new)?;
            if matches.get_flag("help") || (global.rest.is_empty() && !global.version) {
                crate::table::put(&crate::commands::overview(program, &global_flags()))?;
                return Ok(Parsed::Done);
            }
            global
        };
        if global.version {
            let version = env!("CARGO_PKG_VERSION");
            crate::table::put_line(&format!("Budu version {version}, build {}", crate::commands::BUILD))?;
            return Ok(Parsed::Done);
        }
        let rest = global.rest.clone();
        Ok(Parsed::Run(Box::new(Cli::new(program, global)?), rest))
    }

    fn new(program: &'static str, global: Global) -> Result<Cli, Error> {
        if !["debug", "info", "warn", "error", "fatal", "panic", "trace", "warning"]
            .contains(&global.log_level.as_str())
        {
            return Err(Error::new(format_args!("Unable to parse logging level: {}", global.log_level)));
        }
        if global.host.len() > 1 {
            return Err(Error::new("Specify only one -H"));
        }
        let tls = wished_tls(&global);
        let config = Config::load(&global.config.unwrap_or_else(Config::default_directory))?;
        let flags = host::Flags { host: global.host.first().cloned(), context: global.context, tls };
        Ok(Cli { program, config, debug: global.debug, flags, choice: OnceCell::new(), client: OnceCell::new() })
    }

    /// Where the daemon is. Looked up when it is needed: contexts can be
    /// repaired by commands that need no daemon.
    pub(crate) fn choice(&self) -> Result<&Choice, Error> {
        if self.choice.get().is_none() {
            let _ = self.choice.set(host::choose(&self.flags, &self.config)?);
        }
        self.choice.get().ok_or_else(|| Error::new("no daemon"))
    }

    /// The way to the daemon.
    pub(crate) fn client(&self) -> Result<&Client, Error> {
        if self.client.get().is_none() {
            let client = Client::new(self.choice()?, &self.config.http_headers)?;
            let _ = self.client.set(client);
        }
        self.client.get().ok_or_else(|| Error::new("no client"))
    }

    /// The daemon's address as it was chosen.
    pub(crate) fn host(&self) -> String {
        self.choice().map(|choice| choice.host.to_string()).unwrap_or_default()
    }

    /// Name of the context in use; it need not exist.
    pub(crate) fn context(&self) -> String {
        host::context_name(&self.flags, &self.config)
    }

    /// Detach keys: the flag, else the configuration, else the default (empty).
    pub(crate) fn detach_keys<'a>(&'a self, flag: &'a str) -> &'a str {
        if flag.is_empty() { &self.config.detach_keys } else { flag }
    }
}

/// What flags and variables say about TLS. Certificates that nobody named are
/// used when they are there.
fn wished_tls(global: &Global) -> Option<Tls> {
    let verify = global.tlsverify || variable("DOCKER_TLS_VERIFY").is_some();
    if !verify && !global.tls && variable("DOCKER_TLS").is_none() {
        return None;
    }
    let dir = variable("DOCKER_CERT_PATH").map_or_else(Config::default_directory, PathBuf::from);
    let file = |named: &Option<PathBuf>, name: &str| {
        named.clone().or_else(|| Some(dir.join(name)).filter(|path| path.exists()))
    };
    let files = tls::Files {
        ca: file(&global.tlscacert, "ca.pem"),
        cert: file(&global.tlscert, "cert.pem"),
        key: file(&global.tlskey, "key.pem"),
    };
    Some(Tls { files, verify })
}

fn global_flags() -> clap::Command {
    flags::adapt(Global::augment_args(clap::Command::new("budu")), true)
}
