//! Making a network: the wish, checked, becomes a definition.

use std::collections::BTreeMap;
use std::net::IpAddr;

use budu_spec::Id;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::addresses6::{self, Addresses6};
use crate::definition::{check_options, is_predefined};
use crate::{Definition, Error, Mode, Pool, addresses};

/// What is asked for, in the words of the request.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// Name.
    pub name: String,
    /// Driver; empty means `bridge`.
    pub driver: String,
    /// No way out.
    pub internal: bool,
    /// Swarm's flag.
    pub attachable: bool,
    /// With IPv4; `None` means yes.
    pub ipv4: Option<bool>,
    /// With IPv6; `None` means no.
    pub ipv6: Option<bool>,
    /// Address management driver; empty means `default`.
    pub ipam_driver: String,
    /// Its options.
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// Address ranges.
    pub pools: Vec<PoolRequest>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Unix time, nanoseconds.
    pub now: i64,
}

/// One address range, in the words of the request; empty means not given.
#[derive(Debug, Clone, Default)]
pub struct PoolRequest {
    /// Range.
    pub subnet: String,
    /// Part of it to hand out.
    pub range: String,
    /// Gateway.
    pub gateway: String,
    /// Addresses of others.
    pub auxiliary: BTreeMap<String, String>,
}

/// What a new network must not collide with.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Ranges of other networks of this daemon.
    pub(crate) subnets: Vec<Ipv4Net>,
    /// Addresses and routes of the host.
    pub(crate) host: Vec<Ipv4Net>,
    /// IPv6 ranges of other networks of this daemon.
    pub(crate) subnets6: Vec<Ipv6Net>,
    /// Tells machines, and daemons on one, apart.
    pub(crate) instance: String,
}

/// Decides what the network will be.
pub(crate) fn plan(request: CreateRequest, pools: &[(Ipv4Net, u8)], taken: &Taken) -> Result<Definition, Error> {
    if is_predefined(&request.name) {
        return Err(Error::Forbidden {
            message: format!("operation is not permitted on predefined {} network ", request.name),
        });
    }
    let driver = driver(&request)?;
    let flag = |wish: Option<bool>, option: &str, default: bool| match (wish, request.options.get(option)) {
        (Some(wish), _) => Ok(wish),
        (None, Some(text)) => crate::definition::boolean(text)
            .ok_or_else(|| Error::invalid(format!("driver-opt \"{option}\" is not a valid bool"))),
        (None, None) => Ok(default),
    };
    let ipv4 = flag(request.ipv4, "com.docker.network.enable_ipv4", true)?;
    let ipv6 = flag(request.ipv6, "com.docker.network.enable_ipv6", false)?;
    check_pools(&request.pools, ipv6)?;
    if request.name.trim().is_empty() {
        return Err(Error::invalid("invalid name: name is empty"));
    }
    if !ipv4 {
        return Err(Error::Unsupported { feature: "a network without IPv4".into() });
    }
    let ipam_driver = match request.ipam_driver.as_str() {
        "" => "default".to_owned(),
        known @ ("default" | "null") => known.to_owned(),
        other => return Err(Error::NotFound { message: format!("plugin {other:?} not found") }),
    };
    let mut pools = choose_pools(&request.pools, &ipam_driver, pools, taken)?;
    if ipv6 && ipam_driver != "null" {
        pools.push(choose_pool6(&request.pools, taken)?);
    }
    let id = Id::random().to_string();
    let named = request.options.get("com.docker.network.bridge.name").filter(|name| !name.is_empty());
    let definition = Definition {
        link: named.cloned().unwrap_or_else(|| format!("br-{}", &id[..12])),
        id,
        name: request.name,
        driver,
        created: request.now,
        internal: request.internal,
        attachable: request.attachable,
        ipv4,
        ipv6,
        ipam_driver,
        ipam_options: request.ipam_options,
        pools,
        options: request.options,
        labels: request.labels,
    };
    check_options(&definition)?;
    Ok(definition)
}

fn driver(request: &CreateRequest) -> Result<Mode, Error> {
    match request.driver.as_str() {
        "" | "default" | "bridge" => Ok(Mode::Bridge),
        one @ ("host" | "null") => {
            Err(Error::Forbidden { message: format!("only one instance of \"{one}\" network is allowed") })
        }
        "overlay" => Err(Error::Forbidden {
            message: "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.".into(),
        }),
        known @ ("macvlan" | "ipvlan") => Err(Error::Unsupported { feature: format!("network driver {known}") }),
        other => Err(Error::NotFound {
            message: format!("plugin \"{other}\" not found"),
        }),
    }
}

/// All complaints at once, as Docker lists them.
fn check_pools(pools: &[PoolRequest], ipv6: bool) -> Result<(), Error> {
    let mut complaints = Vec::new();
    for pool in pools {
        let Ok(subnet) = pool.subnet.parse::<IpNet>() else {
            complaints.push(format!("invalid subnet {}: invalid CIDR block notation", pool.subnet));
            continue;
        };
        if !ipv6 && matches!(subnet, IpNet::V6(_)) {
            continue;
        }
        if subnet != subnet.trunc() {
            complaints.push(format!("invalid subnet {subnet}: it should be {}", subnet.trunc()));
        }
        complaints.extend(range_complaints(&pool.range, subnet));
        if let Some(why) = address_complaint(&pool.gateway, subnet) {
            complaints.push(format!("invalid gateway {}: {why}", pool.gateway));
        }
        for (name, address) in &pool.auxiliary {
            if let Some(why) = address_complaint(address, subnet) {
                complaints.push(format!("invalid auxiliary address {name}: {why}"));
            }
        }
    }
    match complaints.as_slice() {
        [] => Ok(()),
        [one] => Err(Error::invalid(format!("invalid network config:\n{one}"))),
        many => Err(Error::invalid(format!("invalid network config:\n* {}", many.join("\n* ")))),
    }
}

fn family(subnet: IpNet) -> &'static str {
    if matches!(subnet, IpNet::V4(_)) { "IPv4" } else { "IPv6" }
}

fn range_complaints(text: &str, subnet: IpNet) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    let Ok(range) = text.parse::<IpNet>() else {
        return vec![format!("invalid ip-range {text}: invalid CIDR block notation")];
    };
    if family(range) != family(subnet) {
        return vec![format!("invalid ip-range {text}: parent subnet is an {} block", family(subnet))];
    }
    let mut complaints = Vec::new();
    if range.prefix_len() < subnet.prefix_len() {
        complaints.push(format!("invalid ip-range {text}: CIDR block is bigger than its parent subnet {subnet}"));
    }
    if range != range.trunc() {
        complaints.push(format!("invalid ip-range {range}: it should be {}", range.trunc()));
    }
    if !subnet.contains(&range.network()) && !range.contains(&subnet.network()) {
        complaints.push(format!("invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range"));
    }
    complaints
}

fn address_complaint(text: &str, subnet: IpNet) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    let Ok(address) = text.parse::<IpAddr>() else { return Some("invalid address".into()) };
    if address.is_ipv4() != matches!(subnet, IpNet::V4(_)) {
        return Some(format!("parent subnet is an {} block", family(subnet)));
    }
    let inside = subnet.contains(&address);
    (!inside).then(|| format!("parent subnet {subnet} doesn't contain this address"))
}

fn choose_pools(
    wishes: &[PoolRequest],
    ipam_driver: &str,
    pools: &[(Ipv4Net, u8)],
    taken: &Taken,
) -> Result<Vec<Pool>, Error> {
    // The texts were checked; without IPv6 its ranges mean nothing.
    let given: Vec<(&PoolRequest, Ipv4Net)> =
        wishes.iter().filter_map(|wish| Some((wish, wish.subnet.parse::<Ipv4Net>().ok()?))).collect();
    if ipam_driver == "null" {
        return match given.is_empty() {
            true => Ok(Vec::new()),
            false => Err(Error::invalid("null ipam driver does not handle specific address pool requests")),
        };
    }
    if given.len() > 1 {
        return Err(Error::Forbidden { message: "bridge driver doesn't support multiple subnets".into() });
    }
    let Some((wish, subnet)) = given.first().copied() else {
        let mut all = taken.subnets.clone();
        all.extend(&taken.host);
        let chosen = addresses::choose(pools, &all).ok_or(Error::NoMoreSubnets)?;
        let gateway = Some(chosen.addr().into());
        let subnet = IpNet::V4(chosen.trunc());
        return Ok(vec![Pool { subnet, range: None, gateway, auxiliary: BTreeMap::new(), given: false }]);
    };
    let overlaps = |other: &Ipv4Net| other.contains(&subnet) || subnet.contains(&other.trunc());
    if taken.subnets.iter().any(overlaps) {
        return Err(Error::Forbidden {
            message: "invalid pool request: Pool overlaps with other one on this address space".into(),
        });
    }
    let auxiliary: BTreeMap<String, IpAddr> =
        wish.auxiliary.iter().filter_map(|(name, ip)| Some((name.clone(), ip.parse().ok()?))).collect();
    let range: Option<Ipv4Net> = wish.range.parse().ok();
    let gateway = match wish.gateway.parse().ok() {
        Some(gateway) => Some(gateway),
        None => addresses::first_free(range.unwrap_or(subnet), subnet, &auxiliary).map(IpAddr::from),
    };
    let gateway = Some(gateway.ok_or_else(|| Error::invalid("no available addresses on this pool"))?);
    Ok(vec![Pool { subnet: IpNet::V4(subnet), range: range.map(IpNet::V4), gateway, auxiliary, given: true }])
}

fn choose_pool6(wishes: &[PoolRequest], taken: &Taken) -> Result<Pool, Error> {
    let mut given = wishes.iter().filter_map(|wish| Some((wish, wish.subnet.parse::<Ipv6Net>().ok()?)));
    let Some((wish, subnet)) = given.next() else {
        let subnet = addresses6::choose(&taken.instance, &taken.subnets6).ok_or(Error::NoMoreSubnets)?;
        let gateway = Some(addresses6::first(subnet).into());
        let subnet = IpNet::V6(subnet);
        return Ok(Pool { subnet, range: None, gateway, auxiliary: BTreeMap::new(), given: false });
    };
    if given.next().is_some() {
        return Err(Error::Forbidden { message: "bridge driver doesn't support multiple subnets".into() });
    }
    if taken.subnets6.iter().any(|other| other.contains(&subnet) || subnet.contains(&other.trunc())) {
        return Err(Error::Forbidden {
            message: "invalid pool request: Pool overlaps with other one on this address space".into(),
        });
    }
    let range: Option<Ipv6Net> = wish.range.parse().ok();
    let auxiliary: BTreeMap<String, IpAddr> =
        wish.auxiliary.iter().filter_map(|(name, ip)| Some((name.clone(), ip.parse().ok()?))).collect();
    let gateway = match wish.gateway.parse() {
        Ok(gateway) => gateway,
        Err(_) => {
            let mut book = Addresses6::new("", subnet, range);
            auxiliary.values().for_each(|ip| book.reserve(*ip));
            book.take().map_err(|_| Error::invalid("no available addresses on this pool"))?.into()
        }
    };
    Ok(Pool { subnet: IpNet::V6(subnet), range: range.map(IpNet::V6), gateway: Some(gateway), auxiliary, given: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(pool: PoolRequest) -> CreateRequest {
        CreateRequest { name: "n".into(), pools: vec![pool], ..CreateRequest::default() }
    }

    fn plan_with(request: CreateRequest, taken: &[&str]) -> Result<Definition, Error> {
        let subnets = taken.iter().map(|net| net.parse().unwrap()).collect();
        plan(request, &addresses::default_pools(), &Taken { subnets, ..Taken::default() })
    }

    fn pool(subnet: &str, range: &str, gateway: &str) -> PoolRequest {
        let text = |text: &str| text.to_owned();
        PoolRequest { subnet: text(subnet), range: text(range), gateway: text(gateway), ..PoolRequest::default() }
    }

    #[test]
    fn a_plain_network_gets_the_next_free_range() {
        let plain = || CreateRequest { name: "n".into(), ..CreateRequest::default() };
        let definition = plan_with(plain(), &["172.17.0.0/16", "172.18.4.0/24"]).unwrap();
        assert_eq!(definition.address().unwrap().to_string(), "172.19.0.1/16");
        assert_eq!(definition.link, format!("br-{}", &definition.id[..12]));
        let error = plan_with(plain(), &["172.16.0.0/12", "192.168.0.0/16"]).unwrap_err();
        assert_eq!(error.to_string(), "all predefined address pools have been fully subnetted");
    }

    #[test]
    fn a_network_with_ipv6_has_both_ranges() {
        let with = |pools: Vec<PoolRequest>, subnets6: &[&str]| {
            let request = CreateRequest { name: "n".into(), ipv6: Some(true), pools, ..CreateRequest::default() };
            let subnets6 = subnets6.iter().map(|net| net.parse().unwrap()).collect();
            plan(request, &addresses::default_pools(), &Taken { subnets6, ..Taken::default() })
        };
        let address6 = |definition: &Definition| definition.address6().unwrap().to_string();
        let local = with(Vec::new(), &[]).unwrap();
        assert_eq!((local.pools.len(), local.pool6().unwrap().0.given), (2, false));
        assert!(address6(&local).starts_with("fd") && address6(&local).ends_with("::1/64"));
        let auxiliary = [("router".to_owned(), "fd00:1::1".to_owned())].into();
        let given = with(vec![PoolRequest { auxiliary, ..pool("fd00:1::/64", "", "") }], &[]).unwrap();
        assert_eq!((address6(&given).as_str(), given.pool4().unwrap().0.given), ("fd00:1::2/64", false));
        let part = with(vec![pool("fd00:1::/64", "fd00:1::8000/113", ""), pool("10.0.0.0/24", "", "")], &[]).unwrap();
        assert_eq!(
            (address6(&part).as_str(), part.address().unwrap().to_string().as_str()),
            ("fd00:1::8000/64", "10.0.0.1/24")
        );
        let error = with(vec![pool("fd00:1::/64", "", "")], &["fd00::/16"]).unwrap_err();
        assert!(error.to_string().ends_with("Pool overlaps with other one on this address space"), "{error}");
        let error = with(vec![pool("fd00:1::/64", "", "fd00:2::1")], &[]).unwrap_err();
        assert!(error.to_string().contains("parent subnet fd00:1::/64 doesn't contain this address"), "{error}");
        // Without IPv6 such a range means nothing.
        let four = plan_with(request(pool("fd00:1::/64", "", "")), &[]).unwrap();
        assert!(four.pool6().is_none() && four.pool4().is_some());
    }

    #[test]
    fn bad_ranges_are_refused_in_dockers_words() {
        for (subnet, range, gateway, complaint) in [
            ("10.0.0.0", "", "", "invalid subnet 10.0.0.0: invalid CIDR block notation"),
            ("10.0.0.1/24", "", "", "invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24"),
            (
                "10.0.0.0/24",
                "10.0.1.0/25",
                "",
                "invalid ip-range 10.0.1.0/25: parent subnet 10.0.0.0/24 doesn't contain ip-range",
            ),
            (
                "10.0.0.0/24",
                "10.0.0.0/16",
                "",
                "invalid ip-range 10.0.0.0/16: CIDR block is bigger than its parent subnet 10.0.0.0/24",
            ),
            (
                "10.0.0.0/24",
                "",
                "10.0.1.1",
                "invalid gateway 10.0.1.1: parent subnet 10.0.0.0/24 doesn't contain this address",
            ),
            ("10.0.0.0/24", "", "x", "invalid gateway x: invalid address"),
        ] {
            let error = plan_with(request(pool(subnet, range, gateway)), &[]).unwrap_err();
            assert_eq!(error.to_string(), format!("invalid network config:\n{complaint}"));
        }
        let error = plan_with(request(pool("10.0.0.0/24", "", "")), &["10.0.0.128/25"]).unwrap_err();
        assert!(error.to_string().ends_with("Pool overlaps with other one on this address space"), "{error}");
    }
}
