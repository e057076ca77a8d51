//! The door: attach, detach, adopt, reclaim.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use budu_spec::Id;
use budu_sys::conntrack::{self, Flow};
use budu_sys::netlink::Batch;
use ipnet::Ipv4Net;
use sha2::{Digest, Sha256};

use crate::bridge::{self, open_route};
use crate::keeper;
use crate::reserve::{self, Reservation};
use crate::ruleset::Elements;
use crate::state::{Core, Held};
use crate::wire::{self, Wired};
use crate::{AttachRequest, Attachment, Config, Endpoint, Error, Mac, Mode, Network, Protocol, PublishedPort};

/// All networks of one daemon. Cheap to clone; methods block for microseconds
/// to a few milliseconds and may be called from any thread that lives in the
/// host's network namespace.
///
/// When the last clone is dropped, background work ends. What running
/// containers use stays: see [`adopt`](Networks::adopt).
#[derive(Debug, Clone)]
pub struct Networks {
    core: Arc<Core>,
}

impl Networks {
    /// Opens the networks. Cheap: host links and firewall are made when the
    /// first container needs them.
    pub fn open(config: Config) -> Result<Networks, Error> {
        bridge::check_name(&config.bridge)?;
        if let Some(bip) = config.bip {
            crate::addresses::check_bridge_address(bip)?;
        }
        Ok(Networks { core: Arc::new(Core::new(config)) })
    }

    /// Lists the networks: `bridge` (unless disabled), `host`, `none`.
    pub fn list(&self) -> Vec<Network> {
        let enabled = self.core.config.bridge != "none";
        [Mode::Bridge, Mode::Host, Mode::None]
            .into_iter()
            .filter(|mode| enabled || *mode != Mode::Bridge)
            .map(|mode| self.describe(mode))
            .collect()
    }

    /// Finds a network by name, id or unique id prefix.
    pub fn get(&self, name_or_id: &str) -> Result<Network, Error> {
        let name = name_or_id.to_owned();
        let mut networks = self.list();
        if let Some(index) = networks.iter().position(|network| network.name == name) {
            return Ok(networks.swap_remove(index));
        }
        networks.retain(|network| !name.is_empty() && network.id.starts_with(&name));
        match networks.len() {
            0 => Err(Error::NetworkNotFound { name }),
            1 => Ok(networks.swap_remove(0)),
            _ => Err(Error::Ambiguous { name }),
        }
    }

    /// Starts making ready namespaces in the background, so that the next
    /// attach finds one. Returns at once; a good moment is container create.
    pub fn warm(&self) {
        if self.core.config.bridge != "none" {
            self.core.keeper.fill(&self.core, self.core.config.warm);
        }
    }

    /// Gives a container its network. Undone on error.
    ///
    /// `bridge`: a namespace with `lo` and `eth0` up, addressed, routed to the
    /// bridge, ports published. `none`: a namespace with `lo` up. `host`: no
    /// namespace. Errors name the step; those of ports are [`Error::Publish`].
    pub fn attach(&self, request: &AttachRequest) -> Result<Attachment, Error> {
        let container = &request.container;
        if self.core.state().endpoints.contains_key(container) {
            return Err(Error::Attached { container: container.clone() });
        }
        check_sysctls(request)?;
        match request.mode {
            Mode::Bridge => self.attach_bridge(request),
            Mode::None => {
                let netns = wire::isolated()?;
                wire::set_sysctls(&netns, &request.sysctls)?;
                let endpoint = self.endpoint_of(request);
                self.hold(endpoint.clone(), Vec::new())?;
                Ok(Attachment { netns: Some(netns), endpoint })
            }
            Mode::Host => {
                let endpoint = self.endpoint_of(request);
                self.hold(endpoint.clone(), Vec::new())?;
                Ok(Attachment { netns: None, endpoint })
            }
        }
    }

    /// Takes over a container that kept running while no daemon did: its
    /// address and host ports are reserved again. Follow with
    /// [`reclaim`](Networks::reclaim) after the last one.
    pub fn adopt(&self, endpoint: &Endpoint) -> Result<(), Error> {
        let mut reservations = Vec::new();
        if let Some(ip) = endpoint.ip {
            let bridge = self.core.prepare()?;
            let mut state = self.core.state();
            if state.endpoints.contains_key(&endpoint.container) {
                return Err(Error::Attached { container: endpoint.container.clone() });
            }
            state.addresses(bridge.address).take_given(ip)?;
            state.links.insert(endpoint.host_link.clone());
            drop(state);
            reservations = endpoint.ports.iter().copied().map(reserve::take_over).collect();
        }
        self.hold(endpoint.clone(), reservations)
    }

    /// Removes links and firewall elements that no endpoint owns and restores
    /// those that are missing. Traffic of owned endpoints is never interrupted.
    pub fn reclaim(&self) -> Result<(), Error> {
        if self.core.config.bridge == "none" {
            return Ok(());
        }
        let mut route = open_route()?;
        let Some(link) = bridge::find(&mut route, &self.core.config.bridge)? else {
            // Without a bridge nobody is attached: at most a table is left.
            return match self.core.remove_firewall() {
                Err(Error::Feature { .. }) => Ok(()),
                outcome => outcome,
            };
        };
        self.core.prepare()?;
        let links = route.links()?;
        let state = self.core.state();
        let stale = links.into_iter().filter(|found| {
            found.master == Some(link.index) && wire::is_link_name(&found.name) && !state.links.contains(&found.name)
        });
        let stale: Vec<String> = stale.map(|found| found.name).collect();
        drop(state);
        if !stale.is_empty() {
            tracing::info!(count = stale.len(), "deleting links nobody owns");
            keeper::delete(stale);
        }
        self.core.reconcile()
    }

    /// Returns a container's address and ports. Idempotent: an unknown
    /// container is no error. Its link goes when its namespace does, and in a
    /// few seconds at the latest.
    pub fn detach(&self, container: &str) -> Result<(), Error> {
        let Some(held) = self.core.state().endpoints.remove(container) else {
            return Ok(());
        };
        let Held { endpoint, reservations } = held;
        let Some(ip) = endpoint.ip else { return Ok(()) };
        let withdrawn = match endpoint.ports.as_slice() {
            [] => Ok(()),
            ports => self.core.withdraw(Elements::of(ports, ip)),
        };
        forget_flows(&endpoint.ports);
        // Only now may somebody else take the ports.
        drop(reservations);
        self.core.release(Some(ip), &endpoint.host_link);
        self.core.keeper.watch(&self.core, endpoint.host_link);
        withdrawn
    }

    /// The endpoint of a container, if it is attached.
    pub fn endpoint(&self, container: &str) -> Option<Endpoint> {
        self.core.state().endpoints.get(container).map(|held| held.endpoint.clone())
    }

    /// Stops background work. With `remove`, deletes bridge and firewall table
    /// too, unless endpoints remain.
    pub fn shutdown(&self, remove: bool) -> Result<(), Error> {
        let (ready, mut links) = self.core.keeper.stop();
        for wired in &ready {
            self.core.release(Some(wired.ip), &wired.host_link);
        }
        links.extend(ready.into_iter().map(|wired| wired.host_link));
        if !links.is_empty() {
            keeper::delete(links);
        }
        if !remove || self.core.config.bridge == "none" || !self.core.state().endpoints.is_empty() {
            return Ok(());
        }
        let mut route = open_route()?;
        if bridge::find(&mut route, &self.core.config.bridge)?.is_some() {
            let mut batch = Batch::new();
            batch.delete_link(&self.core.config.bridge);
            route.apply(batch)?;
        }
        self.core.remove_firewall()
    }

    fn attach_bridge(&self, request: &AttachRequest) -> Result<Attachment, Error> {
        let wired = self.wire(request)?;
        let address = self.core.prepare()?.address;
        let undo = Undo { core: &self.core, container: &request.container, wired: &wired, armed: true };
        wire::set_sysctls(&wired.netns, &request.sysctls)?;
        let mut endpoint = Endpoint {
            ip: Some(wired.ip),
            prefix: address.prefix_len(),
            gateway: Some(address.addr()),
            mac: Some(wired.mac),
            host_link: wired.host_link.clone(),
            ..self.endpoint_of(request)
        };
        self.publish(request, &mut endpoint, wired.ip).map_err(|source| Error::Publish {
            name: request.name.clone(),
            endpoint_id: endpoint.endpoint_id.clone(),
            source: Box::new(source),
        })?;
        undo.keep();
        self.warm();
        Ok(Attachment { netns: Some(wired.netns), endpoint })
    }

    /// Takes a ready namespace, or makes one.
    fn wire(&self, request: &AttachRequest) -> Result<Wired, Error> {
        let ready = self.core.keeper.take(request.ip);
        let mut wired = match ready {
            Some(wired) => wired,
            None => match self.core.make(request.ip, request.mac) {
                // The last addresses may be with namespaces made meanwhile.
                Err(error @ Error::Exhausted { .. }) => self.core.keeper.take_or_wait().ok_or(error)?,
                outcome => return outcome,
            },
        };
        let mac = request.mac.unwrap_or(Mac::of(wired.ip));
        if mac != wired.mac
            && let Err(error) = wire::set_mac(&mut wired, mac)
        {
            self.core.release(Some(wired.ip), &wired.host_link);
            return Err(error);
        }
        Ok(wired)
    }

    /// Reserves the host ports, holds the endpoint and makes the ports work.
    fn publish(&self, request: &AttachRequest, endpoint: &mut Endpoint, ip: Ipv4Addr) -> Result<(), Error> {
        let mut state = self.core.state();
        let mut ephemeral = state.ephemeral;
        let mut reservations: Vec<Reservation> = Vec::new();
        for wish in &request.ports {
            let ours = |ip, port, protocol| {
                let same = |held: &PublishedPort| held.host_port == port && held.protocol == protocol;
                reservations.iter().any(|held| same(&held.port)) || state.publishes(ip, port, protocol)
            };
            let reservation = reserve::reserve(wish, &self.core.config, &ours, &mut ephemeral)?;
            reservations.push(reservation);
        }
        state.ephemeral = ephemeral;
        drop(state);
        endpoint.ports = reservations.iter().map(|held| held.port).collect();
        let elements = Elements::of(&endpoint.ports, ip);
        // Held before published: a concurrent clean-up sees the owner.
        self.hold(endpoint.clone(), reservations)?;
        if endpoint.ports.is_empty() {
            return Ok(());
        }
        // A container that calls its own published port gets its frames back
        // through the port of the bridge they came from.
        let mut batch = Batch::new();
        batch.set_hairpin(&endpoint.host_link);
        open_route()?.apply(batch)?;
        self.core.publish(elements)?;
        forget_flows(&endpoint.ports);
        Ok(())
    }

    fn hold(&self, endpoint: Endpoint, reservations: Vec<Reservation>) -> Result<(), Error> {
        let mut state = self.core.state();
        let container = endpoint.container.clone();
        if state.endpoints.contains_key(&container) {
            return Err(Error::Attached { container });
        }
        state.endpoints.insert(container, Held { endpoint, reservations });
        Ok(())
    }

    fn endpoint_of(&self, request: &AttachRequest) -> Endpoint {
        Endpoint {
            container: request.container.clone(),
            network_id: self.id(request.mode),
            network_name: request.mode.name().into(),
            endpoint_id: Id::random().to_string(),
            ip: None,
            prefix: 0,
            gateway: None,
            mac: None,
            host_link: String::new(),
            ports: Vec::new(),
        }
    }

    fn id(&self, mode: Mode) -> String {
        let config = &self.core.config;
        let instance = if config.instance.is_empty() { &config.bridge } else { &config.instance };
        let mut hash = Sha256::new();
        for part in ["network", instance, mode.name()] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        budu_spec::id::hex(&hash.finalize())
    }

    fn describe(&self, mode: Mode) -> Network {
        let address = if mode == Mode::Bridge { self.address() } else { None };
        let state = self.core.state();
        let here = state.endpoints.values().map(|held| &held.endpoint);
        let mut endpoints: Vec<Endpoint> =
            here.filter(|endpoint| endpoint.network_name == mode.name()).cloned().collect();
        endpoints.sort_by(|a, b| a.container.cmp(&b.container));
        Network {
            id: self.id(mode),
            name: mode.name().into(),
            driver: if mode == Mode::None { "null" } else { mode.name() }.into(),
            scope: "local".into(),
            subnet: address.map(|address| address.trunc()),
            gateway: address.map(|address| address.addr()),
            options: if mode == Mode::Bridge { self.options() } else { BTreeMap::new() },
            endpoints,
        }
    }

    /// The bridge's address, or the one it would get now.
    fn address(&self) -> Option<Ipv4Net> {
        let config = &self.core.config;
        let mut route = open_route().ok()?;
        let link = bridge::find(&mut route, &config.bridge).ok()?;
        bridge::address(&mut route, config, link.as_ref()).ok()
    }

    fn options(&self) -> BTreeMap<String, String> {
        let config = &self.core.config;
        [
            ("bridge.default_bridge", "true".into()),
            ("bridge.enable_icc", "true".into()),
            ("bridge.enable_ip_masquerade", config.ip_masq.to_string()),
            ("bridge.host_binding_ipv4", config.default_bind_ip.to_string()),
            ("bridge.name", config.bridge.clone()),
            ("driver.mtu", config.mtu.to_string()),
        ]
        .into_iter()
        .map(|(key, value)| (format!("com.docker.network.{key}"), value))
        .collect()
    }
}

/// Takes an attach back unless kept.
struct Undo<'a> {
    core: &'a Core,
    container: &'a str,
    wired: &'a Wired,
    armed: bool,
}

impl Undo<'_> {
    fn keep(mut self) {
        self.armed = false;
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let mut state = self.core.state();
        let ours =
            state.endpoints.get(self.container).is_some_and(|held| held.endpoint.host_link == self.wired.host_link);
        if ours {
            state.endpoints.remove(self.container);
        }
        drop(state);
        // A refused batch changed nothing; after anything else, make sure.
        if ours && let Err(error) = self.core.reconcile() {
            tracing::warn!(%error, "firewall elements of a failed start may remain");
        }
        self.core.release(Some(self.wired.ip), &self.wired.host_link);
    }
}

/// Makes the kernel forget what it knows about UDP flows to these ports: they
/// would go on to where they went before.
fn forget_flows(ports: &[PublishedPort]) {
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

fn check_sysctls(request: &AttachRequest) -> Result<(), Error> {
    for (name, _) in &request.sysctls {
        let refuse = |why: &str| Error::Sysctl { name: name.clone(), why: why.into() };
        if !name.starts_with("net.") {
            return Err(refuse("only net.* belongs to a network namespace"));
        }
        if request.mode == Mode::Host {
            return Err(refuse("the container shares the host's"));
        }
    }
    Ok(())
}
