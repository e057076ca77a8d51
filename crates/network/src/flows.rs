//! Flows that connection tracking remembers.

use std::net::IpAddr;

use budu_sys::conntrack::{self, Flow};

use crate::bridge::open_route;
use crate::{Protocol, PublishedPort};

/// Makes the kernel forget what it knows about UDP flows to these ports: they
/// would go on to where they went before.
pub(crate) fn forget_flows(ports: &[PublishedPort]) {
    let udp = ports.iter().filter(|port| port.protocol == Protocol::Udp);
    let udp: Vec<&PublishedPort> = udp.collect();
    if udp.is_empty() {
        return;
    }
    let outcome = open_route().and_then(|mut route| {
        let mut local: Vec<IpAddr> = route.addresses()?.into_iter().map(|address| address.ip.into()).collect();
        if udp.iter().any(|port| port.host_ip.is_ipv6()) {
            local.extend(route.addresses6()?.into_iter().map(IpAddr::from));
        }
        let here = |ip: IpAddr| ip.is_loopback() || local.contains(&ip);
        let anywhere = |port: &PublishedPort, ip: IpAddr| {
            port.host_ip.is_unspecified() && port.host_ip.is_ipv4() == ip.is_ipv4() && here(ip)
        };
        let published = |flow: &Flow, port: &PublishedPort| {
            let to = flow.destination;
            flow.port == port.host_port && (to == port.host_ip || anywhere(port, to))
        };
        let forgotten = conntrack::forget(|flow| {
            flow.protocol == Protocol::Udp.number() && udp.iter().any(|port| published(flow, port))
        });
        Ok(forgotten?)
    });
    if let Err(error) = outcome {
        tracing::warn!(%error, "clients that go on sending from one UDP port may not be heard");
    }
}
