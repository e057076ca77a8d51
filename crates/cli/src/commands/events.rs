//! `events`.

use budu_spec::docker::Event;
use budu_spec::units::rfc3339_nano_padded;

use super::Command;
use super::lists::filters;
use super::logs::unix_time;
use crate::cli::Cli;
use crate::client::{Call, Query};
use crate::data::Data;
use crate::error::Error;
use crate::flags::Arity;
use crate::progress::JsonStream;
use crate::table::put_line;
use crate::template::Template;

/// `events`.
#[derive(Debug, clap::Args)]
pub(super) struct Events {
    /// Show what matches these conditions
    #[arg(short, long, value_name = "filter", value_parser = crate::flags::parse_filter)]
    filter: Vec<String>,
    /// Print with a Go template, or 'json'
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// From this time on
    #[arg(long, value_name = "string")]
    since: Option<String>,
    /// Until this time
    #[arg(long, value_name = "string")]
    until: Option<String>,
    args: Vec<String>,
}

impl Command for Events {
    const ABOUT: &'static str = "Show what happens in the engine, as it happens";
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::Exactly(0);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let template = Template::of_object(self.format.as_deref())?;
        let filters = filters(&self.filter);
        let json = filters.to_json();
        let query = Query::new("/events")
            .maybe("since", unix_time("since", self.since.as_deref())?.as_deref())
            .maybe("until", unix_time("until", self.until.as_deref())?.as_deref())
            .maybe("filters", (!filters.is_empty()).then_some(json.as_str()));
        let mut streaming = cli.client()?.stream(Call::get(query)).await?;
        let mut values = JsonStream::default();
        while let Some(piece) = streaming.next().await? {
            values.take(&piece, &mut |json| {
                let broken = |error: serde_json::Error| Error::Transport { reason: error.to_string() };
                match &template {
                    Some(template) => put_line(&template.render(&Data::parse(json).map_err(broken)?)?),
                    None => put_line(&line(&serde_json::from_slice(json).map_err(broken)?)),
                }
            })?;
        }
        Ok(0)
    }
}

fn line(event: &Event) -> String {
    let time = if event.time_nano == 0 {
        jiff::Timestamp::from_second(event.time)
    } else {
        jiff::Timestamp::from_nanosecond(i128::from(event.time_nano))
    };
    let time = time.map(rfc3339_nano_padded).unwrap_or_default();
    let mut text = format!("{time} {} {} {}", event.kind, event.action, event.actor.id);
    if !event.actor.attributes.is_empty() {
        let pairs: Vec<String> = event.actor.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        text += &format!(" ({})", pairs.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_an_event() {
        let json = r#"{"Type":"container","Action":"die","Actor":{"ID":"abc","Attributes":{"image":"x","exitCode":"1"}},"timeNano":1700000000120000000}"#;
        assert_eq!(
            line(&serde_json::from_str(json).unwrap()),
            "2023-11-14T22:13:20.120000000Z container die abc (exitCode=1, image=x)"
        );
    }
}
