//! `network create`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use budu_spec::docker::{ConfigReference, IpamPool, IpamRequest, NetworkCreate, NetworkCreated};
use ipnet::IpNet;

use super::Command;
use crate::cli::Cli;
use crate::client::{Call, Query};
use crate::error::Error;
use crate::flags::Arity;
use crate::table::put_line;

/// `network create`.
#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// Let containers be attached by hand
    #[arg(long)]
    attachable: bool,
    /// Address that belongs to another host (name=address)
    #[arg(long, value_name = "map")]
    aux_address: Vec<String>,
    /// Network to copy the configuration from
    #[arg(long, value_name = "string")]
    config_from: Option<String>,
    /// Make a configuration, no network
    #[arg(long)]
    config_only: bool,
    /// Driver
    #[arg(short, long, value_name = "string", default_value = "bridge")]
    driver: String,
    /// Gateway of the subnet
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    gateway: Vec<String>,
    /// Make the routing mesh of a swarm
    #[arg(long)]
    ingress: bool,
    /// Let nothing in or out
    #[arg(long)]
    internal: bool,
    /// Part of the subnet to hand out
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// Address management driver
    #[arg(long, value_name = "string", default_value = "default")]
    ipam_driver: String,
    /// Option of the address management driver
    #[arg(long, value_name = "map")]
    ipam_opt: Vec<String>,
    /// Give containers IPv4 addresses (default true)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ipv4: Option<String>,
    /// Give containers IPv6 addresses
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ipv6: Option<String>,
    /// Label
    #[arg(long, value_name = "list")]
    label: Vec<String>,
    /// Option of the driver
    #[arg(short, long, value_name = "map")]
    opt: Vec<String>,
    /// Scope
    #[arg(long, value_name = "string")]
    scope: Option<String>,
    /// Subnet
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    subnet: Vec<String>,
    args: Vec<String>,
}

impl Command for Create {
    const ABOUT: &'static str = "Create a network";
    const USAGE: &'static str = "[OPTIONS] NETWORK";
    const ARITY: Arity = Arity::Exactly(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let request = self.request()?;
        let created: NetworkCreated =
            cli.client()?.json(Call::post(Query::new("/networks/create")).json(&request)).await?;
        put_line(&created.id)?;
        Ok(0)
    }
}

impl Create {
    fn request(self) -> Result<NetworkCreate, Error> {
        let flag = |text: &Option<String>| match text.as_deref() {
            None => Ok(None),
            Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(Some(true)),
            Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(Some(false)),
            Some(text) => Err(Error::new(format_args!("strconv.ParseBool: parsing {text:?}: invalid syntax"))),
        };
        let aux = pairs(&self.aux_address);
        Ok(NetworkCreate {
            name: self.args.into_iter().next().unwrap_or_default(),
            driver: self.driver,
            scope: self.scope.unwrap_or_default(),
            enable_ipv4: flag(&self.ipv4)?,
            enable_ipv6: flag(&self.ipv6)?,
            ipam: Some(IpamRequest {
                driver: self.ipam_driver,
                options: Some(pairs(&self.ipam_opt)),
                config: pools(&self.subnet, &self.ip_range, &self.gateway, &aux)?,
            }),
            internal: self.internal,
            attachable: self.attachable,
            ingress: self.ingress,
            config_only: self.config_only,
            config_from: self.config_from.map(|network| ConfigReference { network }),
            options: pairs(&self.opt),
            labels: pairs(&self.label),
            ..NetworkCreate::default()
        })
    }
}

fn pairs(list: &[String]) -> BTreeMap<String, String> {
    let split = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    };
    list.iter().map(split).collect()
}

/// Brings ranges, gateways and addresses together with the subnets they lie in.
fn pools(
    subnets: &[String],
    ranges: &[String],
    gateways: &[String],
    aux: &BTreeMap<String, String>,
) -> Result<Vec<IpamPool>, Error> {
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        return Err(Error::new("every ip-range or gateway must have a corresponding subnet"));
    }
    let mut pools: Vec<(IpNet, IpamPool)> = Vec::new();
    for text in subnets {
        let subnet: IpNet = text
            .parse()
            .map_err(|_| Error::new(format_args!("invalid subnet {text}: invalid CIDR address: {text}")))?;
        if pools.iter().any(|(other, _)| other.contains(&subnet.network()) || subnet.contains(&other.network())) {
            return Err(Error::new("multiple overlapping subnet configuration is not supported"));
        }
        pools.push((subnet, IpamPool { subnet: text.clone(), ..IpamPool::default() }));
    }
    let place = |address: Option<IpAddr>, what: &str, text: &str| {
        let index = pools.iter().position(|(subnet, _)| address.is_some_and(|address| subnet.contains(&address)));
        index.ok_or_else(|| Error::new(format_args!("no matching subnet for {what} {text}")))
    };
    let mut found = Vec::new();
    for range in ranges {
        found.push((place(range.parse::<IpNet>().ok().map(|net| net.network()), "range", range)?, 0, range.clone()));
    }
    for gateway in gateways {
        found.push((place(gateway.parse().ok(), "gateway", gateway)?, 1, gateway.clone()));
    }
    let mut named = Vec::new();
    for (name, address) in aux {
        named.push((place(address.parse().ok(), "aux-address", address)?, name.clone(), address.clone()));
    }
    for (index, kind, text) in found {
        let (_, pool) = &mut pools[index];
        let subnet = pool.subnet.clone();
        let (slot, what, place) =
            if kind == 0 { (&mut pool.ip_range, "ranges", "on") } else { (&mut pool.gateway, "gateways", "for") };
        if !slot.is_empty() {
            return Err(Error::new(format_args!(
                "cannot configure multiple {what} ({text}, {slot}) {place} the same subnet ({subnet})"
            )));
        }
        *slot = text;
    }
    for (index, name, address) in named {
        pools[index].1.auxiliary_addresses.get_or_insert_default().insert(name, address);
    }
    Ok(pools.into_iter().map(|(_, pool)| pool).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn addresses_find_their_subnets() {
        let subnets = list(&["10.1.0.0/16", "10.2.0.0/16"]);
        let aux = pairs(&list(&["router=10.1.0.5"]));
        let made = pools(&subnets, &list(&["10.2.5.0/24"]), &list(&["10.1.0.9"]), &aux).unwrap();
        assert_eq!((made[0].gateway.as_str(), made[1].ip_range.as_str()), ("10.1.0.9", "10.2.5.0/24"));
        assert_eq!(made[0].auxiliary_addresses.as_ref().unwrap()["router"], "10.1.0.5");
        for (subnets, ranges, gateways, complaint) in [
            (
                &["10.0.0.0/8", "10.1.0.0/16"][..],
                &[][..],
                &[][..],
                "multiple overlapping subnet configuration is not supported",
            ),
            (&[], &["10.0.0.0/24"], &[], "every ip-range or gateway must have a corresponding subnet"),
            (&["10.1.0.0/16"], &[], &["10.2.0.1"], "no matching subnet for gateway 10.2.0.1"),
            (
                &["10.1.0.0/16", "10.2.0.0/16"],
                &["10.1.1.0/24", "10.1.2.0/24"],
                &[],
                "cannot configure multiple ranges (10.1.2.0/24, 10.1.1.0/24) on the same subnet (10.1.0.0/16)",
            ),
        ] {
            let error = pools(&list(subnets), &list(ranges), &list(gateways), &BTreeMap::new()).unwrap_err();
            assert_eq!(error.to_string(), complaint);
        }
    }
}
