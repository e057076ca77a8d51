//! Flows that connection tracking remembers.

use std::net::Ipv4Addr;

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
        let local = route.addresses()?;
        let here = |ip: Ipv4Addr| ip.is_loopback() || local.iter().any(|address| address.ip == ip);
        let published = |flow: &Flow, port: &PublishedPort| {
            flow.port == port.host_port
                && (flow.destination == port.host_ip || port.host_ip.is_unspecified() && here(flow.destination))
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
