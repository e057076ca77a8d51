//! `pull`.

use budu_spec::Reference;

use super::Command;
use crate::cli::Cli;
use crate::client::{Call, Query};
use crate::error::Error;
use crate::flags::Arity;
use crate::progress::{Progress, follow};
use crate::table::put_line;
use crate::terminal;

/// `pull`.
#[derive(Debug, clap::Args)]
pub(super) struct Pull {
    /// Download all tags of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Ignored
    #[arg(long, value_name = "bool", action = clap::ArgAction::Set, hide = true)]
    disable_content_trust: bool,
    /// Platform of the image, when there are several
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Do not show the progress
    #[arg(short, long)]
    quiet: bool,
    args: Vec<String>,
}

/// Where progress is shown.
#[derive(Debug, Clone, Copy)]
pub(super) enum Show {
    /// Nowhere.
    Nowhere,
    /// On standard output.
    Stdout,
    /// On standard error.
    Stderr,
}

impl Show {
    /// Standard error, unless quiet.
    pub(super) fn stderr(quiet: bool) -> Show {
        if quiet { Show::Nowhere } else { Show::Stderr }
    }
}

impl Command for Pull {
    const ABOUT: &'static str = "Download an image from a registry";
    const USAGE: &'static str = "[OPTIONS] NAME[:TAG|@DIGEST]";
    const ARITY: Arity = Arity::Exactly(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let mut reference = Reference::parse(&self.args[0]).map_err(Error::new)?;
        if self.all_tags {
            if reference.tag().is_some() || reference.digest().is_some() {
                return Err(Error::new("tag can't be used with --all-tags/-a"));
            }
        } else if reference.tag().is_none() && reference.digest().is_none() {
            reference = reference.with_default_tag();
            if !self.quiet {
                put_line(&format!("Using default tag: {}", reference.tag().unwrap_or_default()))?;
            }
        }
        let show = if self.quiet { Show::Nowhere } else { Show::Stdout };
        let platform = super::run::platform(self.platform.as_deref());
        fetch(cli, &reference, platform.as_deref(), show).await?;
        put_line(&reference.to_string())?;
        Ok(0)
    }
}

/// Has the daemon pull `reference`.
pub(super) async fn fetch(cli: &Cli, reference: &Reference, platform: Option<&str>, show: Show) -> Result<(), Error> {
    let digest = reference.digest().map(ToString::to_string);
    let query = Query::new("/images/create")
        .set("fromImage", &reference.familiar_name())
        .maybe("tag", digest.as_deref().or(reference.tag()))
        .maybe("platform", platform);
    let call = Call::post(query).header("x-registry-auth", cli.config.registry_auth(reference));
    let mut streaming = cli.client()?.stream(call).await?;
    let columns = || terminal::size().map(|(_, columns)| usize::from(columns));
    match show {
        Show::Nowhere => follow(&mut streaming, &mut Progress::new(std::io::sink(), None)).await,
        Show::Stdout => {
            let columns = columns().filter(|_| terminal::stdout_is_tty());
            follow(&mut streaming, &mut Progress::new(std::io::stdout(), columns)).await
        }
        Show::Stderr => {
            let columns = terminal::stderr_is_tty().then(|| columns().unwrap_or(80));
            follow(&mut streaming, &mut Progress::new(std::io::stderr(), columns)).await
        }
    }
}
