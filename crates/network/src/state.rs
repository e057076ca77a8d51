//! What is shared by the door and the background thread.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::{IpNet, Ipv4Net};

use crate::addresses::Addresses;
use crate::addresses6::Addresses6;
use crate::bridge::{self, Bridge, open_route};
use crate::dns::Resolver;
use crate::firewall::Firewall;
use crate::keeper::Keeper;
use crate::reserve::Reservation;
use crate::ruleset::{Elements, Guarded, Plan};
use crate::store::Store;
use crate::wire::{self, Plug, Wired};
use crate::{Config, Definition, Endpoint, Error, Mac, Mode, Pool, Protocol, Sandbox};

/// Locks: `firewall` before `state`; `keeper`'s and `resolver`'s own are never
/// held while taking one of these.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) store: Store,
    /// Id of the default bridge network.
    pub(crate) default: String,
    state: Mutex<State>,
    firewall: Mutex<Option<Firewall>>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) resolver: Resolver,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// By network id.
    pub(crate) places: BTreeMap<String, Place>,
    /// By container id.
    pub(crate) sandboxes: HashMap<String, Held>,
    /// Host links that somebody owns, or is just making.
    pub(crate) links: HashSet<String>,
    /// Where the search for a free host port goes on.
    pub(crate) ephemeral: u16,
}

/// A network and what there is of it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) definition: Arc<Definition>,
    /// Known once it is in place.
    pub(crate) bridge: Option<Bridge>,
    pub(crate) addresses: Option<Addresses>,
    pub(crate) addresses6: Option<Addresses6>,
    /// It is being made or removed: nobody may join.
    pub(crate) closed: bool,
}

/// A sandbox and what keeps its host ports.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) sandbox: Sandbox,
    pub(crate) reservations: Vec<Reservation>,
}

impl Place {
    pub(crate) fn new(definition: Definition) -> Place {
        let mut place =
            Place { definition: Arc::new(definition), bridge: None, addresses: None, addresses6: None, closed: false };
        place.account();
        place
    }

    /// Sets up the book of addresses.
    fn account(&mut self) {
        if let Some((pool, subnet)) = self.definition.pool6() {
            let range = match pool.range {
                Some(IpNet::V6(range)) => Some(range),
                _ => None,
            };
            let mut addresses = Addresses6::new(&self.definition.name, subnet, range);
            for taken in pool.gateway.iter().chain(pool.auxiliary.values()) {
                addresses.reserve(*taken);
            }
            self.addresses6 = Some(addresses);
        }
        let Some((pool, subnet)) = self.definition.pool4() else { return };
        let range = match pool.range {
            Some(IpNet::V4(range)) => Some(range),
            _ => None,
        };
        let mut addresses = Addresses::new(&self.definition.name, subnet, range);
        for taken in pool.gateway.iter().chain(pool.auxiliary.values()) {
            if let IpAddr::V4(ip) = taken {
                addresses.reserve(*ip);
            }
        }
        self.addresses = Some(addresses);
    }
}

impl State {
    /// A network by id.
    pub(crate) fn place(&mut self, id: &str) -> Result<&mut Place, Error> {
        self.places.get_mut(id).ok_or_else(|| Error::NetworkNotFound { name: id.to_owned() })
    }

    /// Refuses a sandbox in a network that is being removed, or is gone: it was there when its links were made.
    pub(crate) fn admit(&self, sandbox: &Sandbox) -> Result<(), Error> {
        for endpoint in sandbox.endpoints.iter().filter(|endpoint| !endpoint.host_link.is_empty()) {
            match self.places.get(&endpoint.network_id) {
                Some(place) if !place.closed => {}
                Some(place) => return Err(Error::NetworkNotFound { name: place.definition.name.clone() }),
                None => return Err(Error::NetworkNotFound { name: endpoint.network_name.clone() }),
            }
        }
        Ok(())
    }

    /// Whether a container of ours has a host port.
    pub(crate) fn publishes(&self, ip: IpAddr, port: u16, protocol: Protocol) -> bool {
        let overlaps = |other: IpAddr| {
            other == ip || other.is_ipv4() == ip.is_ipv4() && (other.is_unspecified() || ip.is_unspecified())
        };
        self.sandboxes.values().flat_map(|held| &held.reservations).any(|held| {
            let held = held.port;
            held.host_port == port && held.protocol == protocol && overlaps(held.host_ip)
        })
    }

    fn elements(&self) -> Elements {
        let mut elements = Elements::default();
        for held in self.sandboxes.values() {
            elements.extend(&held.sandbox.ports, &held.sandbox.reached_at());
        }
        elements
    }
}

impl Core {
    pub(crate) fn new(config: Config, store: Store, definitions: Vec<Definition>, default: String) -> Core {
        let places = definitions.into_iter().map(|definition| (definition.id.clone(), Place::new(definition)));
        let state = State { places: places.collect(), ..State::default() };
        Core {
            config,
            store,
            default,
            state: Mutex::new(state),
            firewall: Mutex::default(),
            keeper: Arc::default(),
            resolver: Resolver::default(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn firewall(&self) -> MutexGuard<'_, Option<Firewall>> {
        self.firewall.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Name of the daemon's firewall table.
    pub(crate) fn table(&self) -> String {
        format!("budu-{}", self.config.bridge)
    }

    fn plan(&self) -> Plan {
        let mut state = self.state();
        let networks = state.places.values_mut().filter(|place| place.bridge.is_some() && !place.closed);
        let networks = networks.map(|place| Guarded {
            bridge: place.definition.link.clone(),
            address: place.bridge.and_then(|bridge| bridge.address),
            address6: place.definition.address6(),
            masquerade: place.definition.masquerades(),
            talks: place.definition.talks(),
            internal: place.definition.internal,
            open: place.definition.open(4),
            open6: place.definition.open(6),
        });
        let mut networks: Vec<Guarded> = networks.collect();
        networks.sort_by(|a, b| a.bridge.cmp(&b.bridge));
        Plan { table: self.table(), networks }
    }

    /// Puts a network's bridge and the firewall in place, once. The first time
    /// this is done for all networks that are known, so that the firewall
    /// never knows less than it did under an earlier daemon.
    pub(crate) fn prepare(&self, id: &str) -> Result<Bridge, Error> {
        if let Some(bridge) = self.state().place(id)?.bridge {
            return Ok(bridge);
        }
        let mut firewall = self.firewall();
        if let Some(bridge) = self.state().place(id)?.bridge {
            return Ok(bridge);
        }
        let bridge = self.raise(id)?;
        if firewall.is_none() {
            self.raise_others();
        }
        let plan = self.plan();
        let elements = self.state().elements();
        match firewall.as_mut() {
            Some(firewall) => firewall.replan(plan, &elements)?,
            None => {
                let mut made = Firewall::open(plan)?;
                made.ensure(&elements)?;
                *firewall = Some(made);
            }
        }
        Ok(bridge)
    }

    fn raise_others(&self) {
        let ids: Vec<String> = {
            let state = self.state();
            let waiting = state.places.values().filter(|place| {
                place.bridge.is_none() && place.definition.driver == Mode::Bridge && !place.definition.link.is_empty()
            });
            waiting.map(|place| place.definition.id.clone()).collect()
        };
        for id in ids {
            let there = || open_route().and_then(|mut route| bridge::find(&mut route, &self.config.bridge));
            if id == self.default && !there().is_ok_and(|link| link.is_some()) {
                continue;
            }
            if let Err(error) = self.raise(&id) {
                tracing::warn!(network = id, %error, "the network could not be put in place");
            }
        }
    }

    /// Makes the bridge of one network.
    fn raise(&self, id: &str) -> Result<Bridge, Error> {
        if id == self.default {
            self.settle_default()?;
        }
        let definition = Arc::clone(&self.state().place(id)?.definition);
        let bridge = bridge::ensure(&bridge::Wish {
            name: &definition.link,
            address: definition.address(),
            address6: definition.address6(),
            addressed: !definition.unaddressed(),
            addressed6: !definition.unaddressed6(),
            alone: id != self.default || self.config.bip.is_some(),
            mtu: definition.mtu(self.config.mtu),
            ip_forward: self.config.ip_forward && !definition.internal,
        })?;
        self.state().place(id)?.bridge = Some(bridge);
        Ok(bridge)
    }

    /// Decides which range the default bridge has.
    fn settle_default(&self) -> Result<(), Error> {
        if self.config.bridge == "none" {
            return Err(Error::BridgeDisabled);
        }
        let others = self.subnets();
        let mut route = open_route()?;
        let link = bridge::find(&mut route, &self.config.bridge)?;
        let mut state = self.state();
        let place = state.place(&self.default)?;
        if place.addresses.is_some() {
            return Ok(());
        }
        let address = bridge::default_address(&mut route, &self.config, link.as_ref(), &others)?;
        Arc::make_mut(&mut place.definition).pools = vec![default_pool(address)];
        place.account();
        Ok(())
    }

    /// Ranges of all user-defined networks, and of the default bridge if it
    /// has one already.
    pub(crate) fn subnets(&self) -> Vec<Ipv4Net> {
        let state = self.state();
        state.places.values().filter_map(|place| Some(place.definition.pool4()?.1)).collect()
    }

    /// Forgets that a bridge is in place: somebody deleted it.
    fn forget_bridge(&self, id: &str, known: Bridge) {
        if let Ok(place) = self.state().place(id)
            && place.bridge == Some(known)
        {
            place.bridge = None;
        }
    }

    /// Makes a wired namespace on the default bridge with this address and
    /// hardware address, or the next free ones.
    pub(crate) fn make(&self, ip: Option<Ipv4Addr>, mac: Option<Mac>) -> Result<Wired, Error> {
        self.on_bridge(&self.default, |bridge| {
            let (ip, host_link) = self.claim(&self.default, ip)?;
            let mac = mac.or(ip.map(Mac::of)).unwrap_or_else(Mac::random);
            let plug = Plug {
                bridge,
                bridge_name: &self.config.bridge,
                mtu: self.config.mtu,
                host_link: &host_link,
                inside: wire::INSIDE,
                ip,
                ip6: None,
                link_local: &[],
                mac,
                isolated: false,
            };
            wire::wired(&plug).inspect_err(|_| self.release(&self.default, ip, &host_link))
        })
    }

    /// Does something on a network's bridge, again if the bridge was deleted
    /// behind our back.
    pub(crate) fn on_bridge<T>(&self, id: &str, work: impl Fn(Bridge) -> Result<T, Error>) -> Result<T, Error> {
        let bridge = self.prepare(id)?;
        let name = self.state().place(id)?.definition.link.clone();
        match work(bridge) {
            Err(Error::Kernel { .. }) if !bridge::is_there(bridge, &name) => {
                self.forget_bridge(id, bridge);
                work(self.prepare(id)?)
            }
            outcome => outcome,
        }
    }

    /// Takes an address of a network and draws the name of a link.
    pub(crate) fn claim(&self, id: &str, ip: Option<Ipv4Addr>) -> Result<(Option<Ipv4Addr>, String), Error> {
        let host_link = wire::link_name();
        let mut state = self.state();
        let place = state.place(id)?;
        if place.closed {
            return Err(Error::NetworkNotFound { name: place.definition.name.clone() });
        }
        let ip = match (&mut place.addresses, ip) {
            (Some(addresses), Some(ip)) => addresses.take_given(ip).map(|()| Some(ip))?,
            (Some(addresses), None) => Some(addresses.take()?),
            (None, _) => None,
        };
        state.links.insert(host_link.clone());
        Ok((ip, host_link))
    }

    /// Returns an address and a link's name.
    pub(crate) fn release(&self, id: &str, ip: Option<Ipv4Addr>, host_link: &str) {
        let mut state = self.state();
        state.links.remove(host_link);
        if let Some(ip) = ip
            && let Some(addresses) = state.places.get_mut(id).and_then(|place| place.addresses.as_mut())
        {
            addresses.release(ip);
        }
    }

    /// Takes an IPv6 address of a network, if it has any.
    pub(crate) fn claim6(&self, id: &str, ip: Option<Ipv6Addr>) -> Result<Option<Ipv6Addr>, Error> {
        match (&mut self.state().place(id)?.addresses6, ip) {
            (Some(addresses), Some(ip)) => addresses.take_given(ip).map(|()| Some(ip)),
            (Some(addresses), None) => addresses.take().map(Some),
            (None, _) => Ok(None),
        }
    }

    /// Returns all that an endpoint had.
    pub(crate) fn give_back(&self, endpoint: &Endpoint) {
        self.release(&endpoint.network_id, endpoint.ip, &endpoint.host_link);
        if let Some(ip) = endpoint.ip6
            && let Ok(place) = self.state().place(&endpoint.network_id)
            && let Some(addresses) = &mut place.addresses6
        {
            addresses.release(ip);
        }
    }

    /// Publishes elements of a sandbox that is held already.
    pub(crate) fn publish(&self, elements: &Elements) -> Result<(), Error> {
        let mut firewall = self.firewall();
        let Some(firewall) = firewall.as_mut() else { return Ok(()) };
        firewall.add(elements).or_else(|error| {
            // Somebody flushed the table, or left an element behind.
            tracing::debug!(%error, "restoring the firewall table");
            firewall.reconcile(&self.state().elements())
        })
    }

    /// Withdraws elements of a sandbox that is held no more.
    pub(crate) fn withdraw(&self, elements: &Elements) -> Result<(), Error> {
        let mut firewall = self.firewall();
        let Some(firewall) = firewall.as_mut() else { return Ok(()) };
        firewall.delete(elements).or_else(|error| {
            tracing::debug!(%error, "restoring the firewall table");
            firewall.reconcile(&self.state().elements())
        })
    }

    /// Makes the firewall equal what the sandboxes need.
    pub(crate) fn reconcile(&self) -> Result<(), Error> {
        let mut firewall = self.firewall();
        match firewall.as_mut() {
            Some(firewall) => firewall.reconcile(&self.state().elements()),
            None => Ok(()),
        }
    }

    /// Takes a network's rules out of the firewall, then its bridge away.
    pub(crate) fn lower(&self, definition: &Definition) -> Result<(), Error> {
        let mut firewall = self.firewall();
        if let Ok(place) = self.state().place(&definition.id) {
            place.bridge = None;
        }
        if let Some(firewall) = firewall.as_mut() {
            let plan = self.plan();
            firewall.replan(plan, &self.state().elements())?;
        }
        bridge::delete(&definition.link)
    }

    /// Deletes the firewall table and forgets all bridges.
    pub(crate) fn remove_firewall(&self) -> Result<(), Error> {
        let mut firewall = self.firewall();
        let mut made = match firewall.take() {
            Some(made) => made,
            None => Firewall::open(Plan { table: self.table(), networks: Vec::new() })?,
        };
        made.remove()?;
        for place in self.state().places.values_mut() {
            place.bridge = None;
        }
        Ok(())
    }
}

/// The range of the default bridge.
pub(crate) fn default_pool(address: Ipv4Net) -> Pool {
    Pool {
        subnet: IpNet::V4(address.trunc()),
        range: None,
        gateway: Some(address.addr().into()),
        auxiliary: BTreeMap::new(),
        given: true,
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Namespaces kept ready die with their descriptors.
        drop(self.keeper.stop());
    }
}
