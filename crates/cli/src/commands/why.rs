//! `why`: what Docker has no word for.

use budu_spec::docker::{ContainerInspect, ContainerState};
use jiff::Timestamp;

use super::Command;
use super::run::path_of;
use crate::cli::Cli;
use crate::client::Call;
use crate::error::Error;
use crate::flags::Arity;
use crate::table::put;

/// `why`.
#[derive(Debug, clap::Args)]
pub(super) struct Why {
    /// Print JSON
    #[arg(long)]
    json: bool,
    args: Vec<String>,
}

impl Command for Why {
    const ABOUT: &'static str = "Say why containers ended, failed to start or are unwell";
    const USAGE: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let client = cli.client()?;
        let mut code = 0;
        for name in &self.args {
            match client.json::<ContainerInspect>(Call::get(format!("{}/json", path_of(name)))).await {
                Ok(container) if self.json => {
                    let text = serde_json::to_string_pretty(&container.state.why).map_err(Error::new)?;
                    put(&format!("{text}\n"))?;
                }
                Ok(container) => put(&page(&container))?,
                Err(error) => {
                    eprintln!("{error}");
                    code = 1;
                }
            }
        }
        Ok(code)
    }
}

fn page(container: &ContainerInspect) -> String {
    let (state, name) = (&container.state, container.name.trim_start_matches('/'));
    let mut page = format!("{name}: {}\n", standing(state));
    if container.restart_count > 0 {
        page.push_str(&format!("  restarted {} times by its policy\n", container.restart_count));
    }
    if let Some(why) = &state.why {
        let before = if state.running && why.kind != "unhealthy" { "before: " } else { "" };
        page.push_str(&format!("  {before}{}\n", why.summary));
        why.details.iter().for_each(|line| page.push_str(&format!("    {line}\n")));
        why.advice.iter().for_each(|line| page.push_str(&format!("  try: {line}\n")));
    } else if !state.error.is_empty() {
        page.push_str(&format!("  {}\n", state.error));
    }
    page
}

/// Where it stands, in a few words.
fn standing(state: &ContainerState) -> String {
    let ago = |text: &str| {
        let then: Option<Timestamp> = text.parse().ok();
        let seconds = then.map_or(0, |then| Timestamp::now().as_second() - then.as_second());
        budu_spec::units::human_duration(seconds)
    };
    let health = state.health.as_ref().map(|health| format!(", {}", health.status)).unwrap_or_default();
    match state.status.as_str() {
        "running" | "paused" => format!("{} for {}{health}", state.status, ago(&state.started_at)),
        "exited" => format!("ended {} ago with exit code {}", ago(&state.finished_at), state.exit_code),
        "restarting" => {
            format!("ended {} ago with exit code {}, will be restarted", ago(&state.finished_at), state.exit_code)
        }
        "created" if state.exit_code != 0 => format!("could not be started (exit code {})", state.exit_code),
        "created" => "was not started yet".to_owned(),
        other => other.to_owned(),
    }
}
