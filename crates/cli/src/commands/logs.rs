//! `logs`.

use budu_spec::units::parse_time;

use super::Command;
use super::run::path_of;
use crate::attach::{Demux, show};
use crate::cli::Cli;
use crate::client::{Call, Query};
use crate::error::Error;
use crate::flags::Arity;

/// `logs`.
#[derive(Debug, clap::Args)]
pub(super) struct Logs {
    /// Show the details of the log driver
    #[arg(long)]
    details: bool,
    /// Go on as output comes
    #[arg(short, long)]
    follow: bool,
    /// From this time on ("2026-01-02T13:23:37Z", "42m" for 42 minutes ago)
    #[arg(long, value_name = "string")]
    since: Option<String>,
    /// Number of lines from the end
    #[arg(short = 'n', long, value_name = "string", default_value = "all")]
    tail: String,
    /// Show the time of each line
    #[arg(short, long)]
    timestamps: bool,
    /// Until this time
    #[arg(long, value_name = "string")]
    until: Option<String>,
    args: Vec<String>,
}

/// A time flag as the seconds and nanoseconds the API takes.
pub(super) fn unix_time(flag: &str, text: Option<&str>) -> Result<Option<String>, Error> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let time = parse_time(text, jiff::Timestamp::now())
        .map_err(|error| Error::new(format_args!("invalid value for {flag:?}: {error}")))?;
    Ok(Some(format!("{}.{:09}", time.as_second(), time.subsec_nanosecond())))
}

impl Command for Logs {
    const ABOUT: &'static str = "Show the output of a container";
    const USAGE: &'static str = "[OPTIONS] CONTAINER";
    const ARITY: Arity = Arity::Exactly(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let client = cli.client()?;
        let path = path_of(&self.args[0]);
        let query = Query::new(format!("{path}/logs"))
            .flag("details", self.details)
            .flag("follow", self.follow)
            .maybe("since", unix_time("since", self.since.as_deref())?.as_deref())
            .flag("stderr", true)
            .flag("stdout", true)
            .set("tail", &self.tail)
            .flag("timestamps", self.timestamps)
            .maybe("until", unix_time("until", self.until.as_deref())?.as_deref());
        let mut streaming = client.stream(Call::get(query)).await?;
        let raw = match streaming.content_type() {
            "application/vnd.docker.multiplexed-stream" => false,
            // Below API 1.42 every answer is called raw: ask whether there is a terminal.
            _ if client.version().minor >= 42 => true,
            _ => {
                let container: budu_spec::docker::ContainerInspect =
                    client.json(Call::get(format!("{path}/json"))).await?;
                container.config.tty
            }
        };
        let mut demux = Demux::new(raw);
        while let Some(piece) = streaming.next().await? {
            demux.take(&piece, &mut show)?;
        }
        demux.end()?;
        Ok(0)
    }
}
