//! `volume update`, and what Docker has no commands for: `rename`, `clone`, `snapshot`, `restore`.

use budu_spec::docker::Volume;

use super::super::Command;
use super::create::pairs;
use super::path_of;
use crate::cli::Cli;
use crate::client::{Call, Query};
use crate::error::Error;
use crate::flags::Arity;
use crate::table::put_line;

/// `volume update`.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Update {
    /// Availability of a volume of a swarm (active, pause, drain)
    #[arg(long, value_name = "string", default_value = "active")]
    availability: String,
    args: Vec<String>,
}

impl Command for Update {
    const ABOUT: &'static str = "Update a volume of a swarm";
    const USAGE: &'static str = "[OPTIONS] VOLUME";
    const ARITY: Arity = Arity::Exactly(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let body = serde_json::json!({ "Spec": { "Availability": self.availability } });
        cli.client()?.done(Call::put(path_of(&self.args[0])).json(&body)).await?;
        Ok(0)
    }
}

/// `volume rename`.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Rename {
    args: Vec<String>,
}

impl Command for Rename {
    const ABOUT: &'static str = "Give a volume another name";
    const USAGE: &'static str = "VOLUME NEW_NAME";
    const ARITY: Arity = Arity::Exactly(2);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let query = Query::new(format!("{}/rename", path_of(&self.args[0]))).maybe("name", Some(&self.args[1]));
        cli.client()?.done(Call::post(query)).await?;
        Ok(0)
    }
}

/// `volume clone`.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Clone {
    /// Set labels of the new volume
    #[arg(long, value_name = "list")]
    label: Vec<String>,
    /// Start from a snapshot of the volume
    #[arg(long, value_name = "string")]
    snapshot: Option<String>,
    args: Vec<String>,
}

impl Command for Clone {
    const ABOUT: &'static str = "Make a volume with the files of another one";
    const USAGE: &'static str = "[OPTIONS] VOLUME [NEW_VOLUME]";
    const ARITY: Arity = Arity::Between(1, 2);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let query = Query::new(format!("{}/clone", path_of(&self.args[0])))
            .maybe("name", self.args.get(1).map(String::as_str))
            .maybe("snapshot", self.snapshot.as_deref());
        let labels = (!self.label.is_empty()).then(|| pairs(&self.label));
        let body = serde_json::json!({ "Labels": labels });
        let volume: Volume = cli.client()?.json(Call::post(query).json(&body)).await?;
        put_line(&volume.name)?;
        Ok(0)
    }
}

/// `volume snapshot`.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Snapshot {
    /// Do not pause the containers that use the volume
    #[arg(long)]
    no_pause: bool,
    /// Remove the snapshot of this name
    #[arg(long)]
    rm: bool,
    args: Vec<String>,
}

impl Command for Snapshot {
    const ABOUT: &'static str = "Keep the files of a volume as they are now";
    const USAGE: &'static str = "[OPTIONS] VOLUME [SNAPSHOT]";
    const ARITY: Arity = Arity::Between(1, 2);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let client = cli.client()?;
        let name = self.args.get(1).map(String::as_str);
        let query = Query::new(format!("{}/snapshot", path_of(&self.args[0]))).maybe("name", name);
        if self.rm {
            let name = name.ok_or_else(|| Error::new("--rm needs the name of a snapshot"))?;
            client.done(Call::delete(query)).await?;
            put_line(name)?;
            return Ok(0);
        }
        let query = query.maybe("pause", self.no_pause.then_some("0"));
        let made: serde_json::Value = client.json(Call::post(query)).await?;
        put_line(made["Name"].as_str().unwrap_or_default())?;
        Ok(0)
    }
}

/// `volume restore`.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Restore {
    args: Vec<String>,
}

impl Command for Restore {
    const ABOUT: &'static str = "Give a volume the files of one of its snapshots";
    const USAGE: &'static str = "VOLUME SNAPSHOT";
    const ARITY: Arity = Arity::Exactly(2);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let query = Query::new(format!("{}/restore", path_of(&self.args[0]))).maybe("name", Some(&self.args[1]));
        cli.client()?.done(Call::post(query)).await?;
        put_line(&self.args[0])?;
        Ok(0)
    }
}
