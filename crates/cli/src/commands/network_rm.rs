//! `network rm` and `network prune`.

use budu_spec::docker::NetworksPruned;

use super::Command;
use super::confirm::confirm;
use super::lists::filters;
use crate::cli::Cli;
use crate::client::{Call, Query, escape};
use crate::error::Error;
use crate::flags::Arity;
use crate::table::put_line;

/// `network rm`.
#[derive(Debug, clap::Args)]
pub(super) struct Rm {
    /// Be content if there is no such network
    #[arg(short, long)]
    force: bool,
    args: Vec<String>,
}

/// `network prune`.
#[derive(Debug, clap::Args)]
pub(super) struct Prune {
    /// Only what matches these conditions
    #[arg(long, value_name = "filter", value_parser = crate::flags::parse_filter)]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    args: Vec<String>,
}

impl Command for Rm {
    const ABOUT: &'static str = "Remove networks";
    const USAGE: &'static str = "NETWORK [NETWORK...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let client = cli.client()?;
        let mut code = 0;
        for name in &self.args {
            let query = Query::new(format!("/networks/{}", escape(name)));
            match client.done(Call::delete(query)).await {
                Ok(()) => put_line(name)?,
                Err(error) if self.force && error.is_status(404) => {}
                Err(error) => {
                    eprintln!("{error}");
                    code = 1;
                }
            }
        }
        Ok(code)
    }
}

impl Command for Prune {
    const ABOUT: &'static str = "Remove all unused networks";
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::Exactly(0);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let warning = "This will remove all custom networks not used by at least one container.";
        if !self.force && !confirm(warning)? {
            return Err(Error::new("network prune has been cancelled"));
        }
        let filters = filters(&self.filter);
        let json = filters.to_json();
        let query = Query::new("/networks/prune").maybe("filters", (!filters.is_empty()).then_some(json.as_str()));
        let pruned: NetworksPruned = cli.client()?.json(Call::post(query)).await?;
        let names = pruned.networks_deleted.unwrap_or_default();
        if !names.is_empty() {
            put_line("Deleted Networks:")?;
            for name in names {
                put_line(&name)?;
            }
            put_line("")?;
        }
        Ok(0)
    }
}
