//! `top`.

use budu_spec::docker::TopAnswer;

use super::Command;
use super::run::path_of;
use crate::cli::Cli;
use crate::client::{Call, Query};
use crate::error::Error;
use crate::flags::Arity;
use crate::table::{align_wide, put};

/// `top`.
#[derive(Debug, clap::Args)]
pub(super) struct Top {
    args: Vec<String>,
}

impl Command for Top {
    const ABOUT: &'static str = "Show the processes of a container";
    const USAGE: &'static str = "CONTAINER [ps OPTIONS]";
    const ARITY: Arity = Arity::AtLeast(1);
    const OPTIONS_FIRST: bool = true;

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let options = self.args[1..].join(" ");
        let query = Query::new(format!("{}/top", path_of(&self.args[0]))).maybe("ps_args", Some(&options));
        let answer: TopAnswer = cli.client()?.json(Call::get(query)).await?;
        let mut text = answer.titles.join("\t") + "\n";
        for process in &answer.processes {
            text += &(process.join("\t") + "\n");
        }
        put(&align_wide(&text))?;
        Ok(0)
    }
}
