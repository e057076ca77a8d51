//! `tag`.

use budu_spec::Reference;

use super::Command;
use crate::cli::Cli;
use crate::client::{Call, Query, escape_name};
use crate::error::Error;
use crate::flags::Arity;

/// `tag`.
#[derive(Debug, clap::Args)]
pub(super) struct Tag {
    args: Vec<String>,
}

impl Command for Tag {
    const ABOUT: &'static str = "Give an image a further name";
    const USAGE: &'static str = "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]";
    const ARITY: Arity = Arity::Exactly(2);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let target = Reference::parse(&self.args[1]).map_err(|error| {
            Error::new(format_args!(
                "Error parsing reference: {:?} is not a valid repository/tag: {error}",
                self.args[1]
            ))
        })?;
        if target.digest().is_some() {
            return Err(Error::new("refusing to create a tag with a digest reference"));
        }
        let target = target.with_default_tag();
        let query = Query::new(format!("/images/{}/tag", escape_name(&self.args[0])))
            .set("repo", &target.familiar_name())
            .maybe("tag", target.tag());
        cli.client()?.done(Call::post(query)).await?;
        Ok(0)
    }
}
