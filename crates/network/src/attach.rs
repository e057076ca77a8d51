//! What containers do with networks: attach, connect, disconnect, detach, and
//! being taken over by another daemon.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use ipnet::Ipv6Net;

use crate::dns::{self, View};
use crate::flows::forget_flows;
use crate::publish::elements;
use crate::reserve::{self, Reservation};
use crate::state::Held;
use crate::wire::{self, Plug, Wired};
use crate::wiring::Wiring;
use crate::{AttachRequest, Attachment, Definition, Dns, Endpoint, Error, Join, Mac, Mode, Networks, Sandbox, keeper};

impl Networks {
    /// Gives a container its networks. Undone on error.
    ///
    /// Bridges: a namespace with `lo` and a link for each, addressed, routed
    /// through one of them, ports published. `none`: a namespace with `lo` up.
    /// `host`: no namespace. Errors name the step; those of ports are
    /// [`Error::Publish`].
    pub fn attach(&self, request: &AttachRequest) -> Result<Attachment, Error> {
        let container = &request.container;
        if self.core.state().sandboxes.contains_key(container) {
            return Err(Error::Attached { container: container.clone() });
        }
        let definitions: Vec<Arc<Definition>> =
            request.joins.iter().map(|join| self.definition(&join.network)).collect::<Result<_, _>>()?;
        let mode = definitions.first().map_or(Mode::None, |definition| definition.driver);
        check_sysctls(request, mode)?;
        match mode {
            Mode::Bridge => self.attach_bridges(request, &definitions),
            Mode::None | Mode::Host => {
                let netns = if mode == Mode::None { Some(wire::isolated()?) } else { None };
                if let Some(netns) = &netns {
                    wire::set_sysctls(netns, &request.sysctls)?;
                }
                let endpoints = definitions.iter().take(1).map(|definition| endpoint_of(request, definition));
                let sandbox = Sandbox {
                    endpoints: endpoints.collect(),
                    netns: netns.as_ref().map(inode).transpose()?.unwrap_or_default(),
                    ..sandbox_of(request)
                };
                self.hold(sandbox.clone(), Vec::new())?;
                Ok(Attachment { netns, sandbox })
            }
        }
    }

    fn attach_bridges(&self, request: &AttachRequest, definitions: &[Arc<Definition>]) -> Result<Attachment, Error> {
        let mut wiring = Wiring::new(&self.core, &request.container);
        let mut netns: Option<OwnedFd> = None;
        for (join, definition) in request.joins.iter().zip(definitions) {
            match &netns {
                None if definition.id == self.core.default && join.inside.is_none() && join.link_local.is_empty() => {
                    netns = Some(self.ready(request, join, definition, &mut wiring)?);
                }
                None => {
                    let made = wire::isolated()?;
                    self.plug(request, join, definition, made.as_fd(), &mut wiring)?;
                    netns = Some(made);
                }
                Some(netns) => self.plug(request, join, definition, netns.as_fd(), &mut wiring)?,
            }
        }
        let netns = netns.ok_or_else(|| Error::invalid("a container needs a network"))?;
        wire::set_sysctls(&netns, &request.sysctls)?;
        let mut sandbox = Sandbox { endpoints: wiring.endpoints.clone(), netns: inode(&netns)?, ..sandbox_of(request) };
        if definitions.len() > 1 || definitions.first().is_some_and(|definition| definition.id != self.core.default) {
            let gateway = sandbox.gateway().and_then(|endpoint| endpoint.gateway);
            let mut inside = wire::route_inside(netns.as_fd())?;
            wire::set_gateway(&mut inside, gateway)?;
            if let Some(gateway) = sandbox.gateway6().and_then(|endpoint| endpoint.gateway6) {
                wire::set_gateway6(&mut inside, gateway)?;
            }
        }
        self.serve_names(&mut sandbox, netns.as_fd())?;
        self.publish(&mut sandbox)?;
        wiring.keep();
        self.warm();
        Ok(Attachment { netns: Some(netns), sandbox })
    }

    /// Takes a ready namespace of the default bridge, or makes one.
    fn ready(
        &self,
        request: &AttachRequest,
        join: &Join,
        definition: &Definition,
        wiring: &mut Wiring<'_>,
    ) -> Result<OwnedFd, Error> {
        let mut wired = self.wired(join)?;
        wiring.endpoints.push(Endpoint {
            ip: Some(wired.ip),
            host_link: wired.host_link.clone(),
            ..endpoint_of(request, definition)
        });
        let mac = join.mac.unwrap_or(Mac::of(wired.ip));
        if mac != wired.mac {
            wire::set_mac(&mut wired, mac)?;
        }
        let address = self.core.prepare(&definition.id)?.address;
        let endpoint = wiring.endpoints.last_mut().expect("it was just put there");
        endpoint.prefix = address.map_or(0, |address| address.prefix_len());
        endpoint.gateway = address.map(|address| address.addr());
        endpoint.mac = Some(mac);
        endpoint.inside = wire::INSIDE.to_owned();
        endpoint.gw_priority = join.gw_priority;
        wire::set_link_sysctls(wired.netns.as_fd(), wire::INSIDE, &join.sysctls)?;
        Ok(wired.netns)
    }

    fn wired(&self, join: &Join) -> Result<Wired, Error> {
        if let Some(ready) = self.core.keeper.take(join.ip) {
            return Ok(ready);
        }
        match self.core.make(join.ip, join.mac) {
            // The last addresses may be with namespaces made meanwhile.
            Err(error @ Error::Exhausted { .. }) => self.core.keeper.take_or_wait().ok_or(error),
            outcome => outcome,
        }
    }

    /// Puts a link to one network into a namespace.
    fn plug(
        &self,
        request: &AttachRequest,
        join: &Join,
        definition: &Definition,
        netns: BorrowedFd<'_>,
        wiring: &mut Wiring<'_>,
    ) -> Result<(), Error> {
        let mut inside = wire::route_inside(netns)?;
        let name = match &join.inside {
            Some(name) => name.clone(),
            None => wire::free_name(&mut inside, definition.inside_prefix())?,
        };
        self.core.prepare(&definition.id)?;
        let (ip, host_link) = self.core.claim(&definition.id, join.ip)?;
        let mac = join.mac.or(ip.map(Mac::of)).unwrap_or_else(Mac::random);
        let gateway = definition.address().filter(|_| !definition.internal).map(|address| address.addr());
        let prefix6 = definition.address6().map_or(0, |address| address.prefix_len());
        let gateway6 = definition.address6().filter(|_| !definition.internal).map(|address| address.addr());
        wiring.endpoints.push(Endpoint {
            ip,
            prefix6,
            gateway6,
            prefix: definition.address().map_or(0, |address| address.prefix_len()),
            gateway,
            mac: Some(mac),
            host_link: host_link.clone(),
            inside: name.clone(),
            names: join.names.clone(),
            links: join.links.clone(),
            gw_priority: join.gw_priority,
            resolves: !definition.is_predefined(),
            ..endpoint_of(request, definition)
        });
        let ip6 = self.core.claim6(&definition.id, join.ip6)?;
        wiring.endpoints.last_mut().expect("it was just put there").ip6 = ip6;
        self.core.on_bridge(&definition.id, |bridge| {
            let plug = Plug {
                bridge,
                bridge_name: &definition.link,
                mtu: definition.mtu(self.core.config.mtu),
                host_link: &host_link,
                inside: &name,
                ip,
                ip6: ip6.map(|ip6| Ipv6Net::new_assert(ip6, prefix6)),
                link_local: &join.link_local,
                mac,
                isolated: !definition.talks(),
            };
            wire::plug(netns, &mut wire::route_inside(netns)?, &plug)
        })?;
        wire::set_link_sysctls(netns, &name, &join.sysctls)
    }

    /// Connects a running container to one more network. `netns` is its
    /// namespace, `dns` what its name server is to ask if this is the first
    /// network that has names. Returns all its places. Undone on error.
    pub fn connect(&self, container: &str, netns: BorrowedFd<'_>, join: &Join, dns: &Dns) -> Result<Sandbox, Error> {
        let definition = self.definition(&join.network)?;
        let mut sandbox = self.known(container, netns)?;
        if sandbox.endpoint(&definition.id).is_some() {
            let message = format!("endpoint with name {} already exists in network {}", sandbox.name, definition.name);
            return Err(Error::Forbidden { message });
        }
        let request =
            AttachRequest { container: container.to_owned(), name: sandbox.name.clone(), ..AttachRequest::default() };
        let before = sandbox.clone();
        let mut wiring = Wiring::new(&self.core, container);
        wiring.running = true;
        self.plug(&request, join, &definition, netns, &mut wiring)?;
        sandbox.endpoints.extend(wiring.endpoints.iter().cloned());
        if !before.resolves() {
            sandbox.dns = dns.clone();
        }
        wiring.before = Some(before.clone());
        self.serve_names(&mut sandbox, netns)?;
        self.move_gateway(&before, &mut sandbox, &mut wire::route_inside(netns)?)?;
        wiring.keep();
        Ok(sandbox)
    }

    /// Takes a running container out of a network. Returns what remains.
    pub fn disconnect(&self, container: &str, netns: BorrowedFd<'_>, network: &str) -> Result<Sandbox, Error> {
        let definition = self.definition(network)?;
        let before = self.known(container, netns)?;
        let Some(leaving) = before.endpoint(&definition.id).cloned() else {
            return Err(Error::NotConnected { container: container.to_owned(), network: definition.name.clone() });
        };
        let mut sandbox = before.clone();
        sandbox.endpoints.retain(|endpoint| endpoint.network_id != definition.id);
        self.core.resolver.remove(&leaving);
        keeper::delete(vec![leaving.host_link.clone()]);
        self.core.give_back(&leaving);
        let moved = self.move_gateway(&before, &mut sandbox, &mut wire::route_inside(netns)?);
        if !sandbox.resolves() {
            self.core.resolver.stop(container);
            sandbox.name_server = None;
        }
        self.core.resolver.update(container, View::of(&sandbox));
        if let Some(held) = self.core.state().sandboxes.get_mut(container) {
            held.sandbox = sandbox.clone();
        }
        moved.map(|()| sandbox)
    }

    /// Calls a container otherwise on all its networks.
    pub fn rename(&self, container: &str, name: &str) -> Option<Sandbox> {
        let mut state = self.core.state();
        let held = state.sandboxes.get_mut(container)?;
        let old = std::mem::replace(&mut held.sandbox.name, name.to_owned());
        for endpoint in &mut held.sandbox.endpoints {
            self.core.resolver.remove(endpoint);
            for known in endpoint.names.iter_mut().filter(|known| **known == old) {
                name.clone_into(known);
            }
            self.core.resolver.add(endpoint);
        }
        Some(held.sandbox.clone())
    }

    /// Takes over a container that kept running while no daemon did: its
    /// addresses, host ports and name server. `netns` is its namespace. Follow
    /// with [`reclaim`](Networks::reclaim) after the last one.
    pub fn adopt(&self, sandbox: &Sandbox, netns: Option<BorrowedFd<'_>>) -> Result<Sandbox, Error> {
        for endpoint in sandbox.endpoints.iter().filter(|endpoint| !endpoint.host_link.is_empty()) {
            self.core.prepare(&endpoint.network_id)?;
            let mut state = self.core.state();
            if state.sandboxes.contains_key(&sandbox.container) {
                return Err(Error::Attached { container: sandbox.container.clone() });
            }
            if let (Some(ip), Some(addresses)) = (endpoint.ip, &mut state.place(&endpoint.network_id)?.addresses) {
                addresses.take_given(ip)?;
            }
            if let (Some(ip), Some(addresses)) = (endpoint.ip6, &mut state.place(&endpoint.network_id)?.addresses6) {
                addresses.take_given(ip)?;
            }
            state.links.insert(endpoint.host_link.clone());
        }
        let mut sandbox = sandbox.clone();
        let reservations = sandbox.ports.iter().copied().map(reserve::take_over).collect();
        self.hold(sandbox.clone(), reservations)?;
        for endpoint in &sandbox.endpoints {
            self.core.resolver.add(endpoint);
        }
        if let Some(netns) = netns.filter(|_| sandbox.resolves()) {
            self.open_names(&mut sandbox, netns)?;
            if let Some(held) = self.core.state().sandboxes.get_mut(&sandbox.container) {
                held.sandbox = sandbox.clone();
            }
        }
        Ok(sandbox)
    }

    /// Returns a container's addresses and ports. Idempotent: an unknown
    /// container is no error. Its links go when its namespace does, and in a
    /// few seconds at the latest.
    pub fn detach(&self, container: &str) -> Result<(), Error> {
        let Some(held) = self.core.state().sandboxes.remove(container) else {
            return Ok(());
        };
        let Held { sandbox, reservations } = held;
        self.core.resolver.stop(container);
        for endpoint in &sandbox.endpoints {
            self.core.resolver.remove(endpoint);
        }
        let withdrawn = match sandbox.ports.is_empty() {
            false => self.core.withdraw(&elements(&sandbox)),
            true => Ok(()),
        };
        forget_flows(&sandbox.ports);
        // Only now may somebody else take the ports.
        drop(reservations);
        for endpoint in sandbox.endpoints.into_iter().filter(|endpoint| !endpoint.host_link.is_empty()) {
            self.core.give_back(&endpoint);
            self.core.keeper.watch(&self.core, endpoint.host_link);
        }
        withdrawn
    }

    /// The sandbox of a running container, if `netns` is really its namespace.
    fn known(&self, container: &str, netns: BorrowedFd<'_>) -> Result<Sandbox, Error> {
        let gone = || Error::NotFound { message: format!("sandbox for container {container} not found") };
        let sandbox = self.sandbox(container).ok_or_else(gone)?;
        let netns = netns.try_clone_to_owned().map_err(|error| Error::kernel("hold a network namespace", error))?;
        if sandbox.netns == inode(&netns)? { Ok(sandbox) } else { Err(gone()) }
    }

    /// Makes the name server know a sandbox, and opens it with the first
    /// network that has names.
    fn serve_names(&self, sandbox: &mut Sandbox, netns: BorrowedFd<'_>) -> Result<(), Error> {
        if !sandbox.resolves() {
            return Ok(());
        }
        for endpoint in &sandbox.endpoints {
            self.core.resolver.add(endpoint);
        }
        match sandbox.name_server {
            None => self.open_names(sandbox, netns),
            Some(_) => {
                self.core.resolver.update(&sandbox.container, View::of(sandbox));
                Ok(())
            }
        }
    }

    fn open_names(&self, sandbox: &mut Sandbox, netns: BorrowedFd<'_>) -> Result<(), Error> {
        let door = dns::open(netns, sandbox.name_server)?;
        sandbox.name_server = Some(door.ports()?);
        let netns = netns.try_clone_to_owned().map_err(|error| Error::kernel("hold a network namespace", error))?;
        self.core.resolver.serve(&sandbox.container, door, netns, View::of(sandbox))
    }

    pub(crate) fn hold(&self, sandbox: Sandbox, reservations: Vec<Reservation>) -> Result<(), Error> {
        let mut state = self.core.state();
        let container = sandbox.container.clone();
        if state.sandboxes.contains_key(&container) {
            return Err(Error::Attached { container });
        }
        state.admit(&sandbox)?;
        state.sandboxes.insert(container, Held { sandbox, reservations });
        Ok(())
    }
}

fn endpoint_of(request: &AttachRequest, definition: &Definition) -> Endpoint {
    Endpoint {
        container: request.container.clone(),
        network_id: definition.id.clone(),
        network_name: definition.name.clone(),
        endpoint_id: budu_spec::Id::random().to_string(),
        ..Endpoint::default()
    }
}

fn sandbox_of(request: &AttachRequest) -> Sandbox {
    Sandbox {
        container: request.container.clone(),
        name: request.name.clone(),
        wishes: request.ports.clone(),
        dns: request.dns.clone(),
        ..Sandbox::default()
    }
}

fn inode(netns: &OwnedFd) -> Result<u64, Error> {
    let metadata = netns.try_clone().and_then(|netns| File::from(netns).metadata());
    Ok(metadata.map_err(|error| Error::kernel("look at a network namespace", error))?.ino())
}

fn check_sysctls(request: &AttachRequest, mode: Mode) -> Result<(), Error> {
    for (name, _) in &request.sysctls {
        let refuse = |why: &str| Error::Sysctl { name: name.clone(), why: why.into() };
        if !name.starts_with("net.") {
            return Err(refuse("only net.* belongs to a network namespace"));
        }
        if mode == Mode::Host {
            return Err(refuse("the container shares the host's"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    /// A removal asks who is in the network and closes it, both at once; who was on the way in is turned back.
    #[test]
    fn nobody_is_held_in_a_network_that_is_being_removed() {
        let networks = Networks::open(Config::default()).unwrap();
        let definition = networks.definition("bridge").unwrap();
        let sandbox = |container: &str| Sandbox {
            container: container.to_owned(),
            endpoints: vec![Endpoint {
                network_id: definition.id.clone(),
                host_link: "link".to_owned(),
                ..Endpoint::default()
            }],
            ..Sandbox::default()
        };
        networks.hold(sandbox("before"), Vec::new()).unwrap();
        networks.core.state().place(&definition.id).unwrap().closed = true;
        let replaced = networks.replace(&sandbox("before"), None).map(drop);
        for outcome in [networks.hold(sandbox("after"), Vec::new()), replaced] {
            assert!(matches!(outcome, Err(Error::NetworkNotFound { name }) if name == "bridge"));
        }
        networks.core.state().places.clear();
        assert!(networks.hold(sandbox("late"), Vec::new()).is_err());
        assert!(networks.sandbox("after").is_none() && networks.sandbox("late").is_none());
    }
}
