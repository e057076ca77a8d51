//! `network connect` and `network disconnect`.

use budu_spec::docker::{EndpointIpam, EndpointSettings, NetworkConnect, NetworkDisconnect};

use super::Command;
use crate::cli::Cli;
use crate::client::{Call, Query, escape};
use crate::error::Error;
use crate::flags::Arity;

/// `network connect`.
#[derive(Debug, clap::Args)]
pub(super) struct Connect {
    /// Further name in the network
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    alias: Vec<String>,
    /// Option of the driver
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    driver_opt: Vec<String>,
    /// Highest gives the default gateway
    #[arg(long, value_name = "int", value_parser = crate::flags::parse_int)]
    gw_priority: Option<i64>,
    /// IPv4 address
    #[arg(long, value_name = "string")]
    ip: Option<String>,
    /// IPv6 address
    #[arg(long, value_name = "string")]
    ip6: Option<String>,
    /// Add a link to another container
    #[arg(long, value_name = "list")]
    link: Vec<String>,
    /// Link-local address
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    link_local_ip: Vec<String>,
    args: Vec<String>,
}

/// `network disconnect`.
#[derive(Debug, clap::Args)]
pub(super) struct Disconnect {
    /// Even if container or network are gone
    #[arg(short, long)]
    force: bool,
    args: Vec<String>,
}

impl Command for Connect {
    const ABOUT: &'static str = "Connect a container to a network";
    const USAGE: &'static str = "[OPTIONS] NETWORK CONTAINER";
    const ARITY: Arity = Arity::Exactly(2);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let (network, container) = two(&self.args);
        let settings = EndpointSettings {
            ipam_config: Some(EndpointIpam {
                ipv4_address: self.ip.unwrap_or_default(),
                ipv6_address: self.ip6.unwrap_or_default(),
                link_local_ips: some(self.link_local_ip),
            }),
            links: some(self.link),
            aliases: some(self.alias),
            driver_opts: match self.driver_opt.as_slice() {
                [] => None,
                options => Some(options.iter().map(|option| pair(option)).collect::<Result<_, _>>()?),
            },
            gw_priority: self.gw_priority.unwrap_or_default(),
            ..EndpointSettings::default()
        };
        let body = NetworkConnect { container: container.to_owned(), endpoint_config: Some(settings) };
        let query = Query::new(format!("/networks/{}/connect", escape(network)));
        cli.client()?.done(Call::post(query).json(&body)).await?;
        Ok(0)
    }
}

impl Command for Disconnect {
    const ABOUT: &'static str = "Disconnect a container from a network";
    const USAGE: &'static str = "[OPTIONS] NETWORK CONTAINER";
    const ARITY: Arity = Arity::Exactly(2);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let (network, container) = two(&self.args);
        let body = NetworkDisconnect { container: container.to_owned(), force: self.force };
        let query = Query::new(format!("/networks/{}/disconnect", escape(network)));
        cli.client()?.done(Call::post(query).json(&body)).await?;
        Ok(0)
    }
}

fn two(args: &[String]) -> (&str, &str) {
    let at = |index: usize| args.get(index).map(String::as_str).unwrap_or_default();
    (at(0), at(1))
}

fn some(list: Vec<String>) -> Option<Vec<String>> {
    (!list.is_empty()).then_some(list)
}

fn pair(text: &str) -> Result<(String, String), Error> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
        None => Err(Error::new("invalid key/value pair format in driver options")),
    }
}
