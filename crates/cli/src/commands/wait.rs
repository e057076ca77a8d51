//! `wait`.

use budu_spec::docker::WaitAnswer;

use super::Command;
use super::run::path_of;
use crate::cli::Cli;
use crate::client::Call;
use crate::error::Error;
use crate::flags::Arity;
use crate::table::put_line;

/// `wait`.
#[derive(Debug, clap::Args)]
pub(super) struct Wait {
    args: Vec<String>,
}

impl Command for Wait {
    const ABOUT: &'static str = "Wait until containers end, then print their exit codes";
    const USAGE: &'static str = "CONTAINER [CONTAINER...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let client = cli.client()?;
        let mut code = 0;
        for name in &self.args {
            match client.json::<WaitAnswer>(Call::post(format!("{}/wait", path_of(name)))).await {
                Ok(answer) => match answer.error.filter(|error| !error.message.is_empty()) {
                    None => put_line(&answer.status_code.to_string())?,
                    Some(error) => {
                        eprintln!("{}", error.message);
                        code = 1;
                    }
                },
                Err(error) => {
                    eprintln!("{error}");
                    code = 1;
                }
            }
        }
        Ok(code)
    }
}
