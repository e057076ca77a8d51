//! What is shared by the door and the background thread.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::addresses::Addresses;
use crate::bridge::{self, Bridge};
use crate::firewall::Firewall;
use crate::keeper::Keeper;
use crate::reserve::Reservation;
use crate::ruleset::{Elements, Plan};
use crate::wire::{self, Wired};
use crate::{Config, Endpoint, Error, Mac, Protocol};

/// Locks: `firewall` before `state`; `keeper`'s own lock is never held while
/// taking one of these.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: Config,
    state: Mutex<State>,
    firewall: Mutex<Option<Firewall>>,
    pub(crate) keeper: Arc<Keeper>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// Known once bridge and firewall are in place.
    bridge: Option<Bridge>,
    addresses: Option<Addresses>,
    pub(crate) endpoints: HashMap<String, Held>,
    /// Host links that somebody owns, or is just making.
    pub(crate) links: HashSet<String>,
    /// Where the search for a free host port goes on.
    pub(crate) ephemeral: u16,
}

/// An endpoint and what keeps its host ports.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) endpoint: Endpoint,
    pub(crate) reservations: Vec<Reservation>,
}

impl State {
    /// The addresses of the bridge network; it is in place.
    pub(crate) fn addresses(&mut self, address: ipnet::Ipv4Net) -> &mut Addresses {
        self.addresses.get_or_insert_with(|| Addresses::new("bridge", address))
    }

    /// Whether a container of ours has a host port.
    pub(crate) fn publishes(&self, ip: Ipv4Addr, port: u16, protocol: Protocol) -> bool {
        let overlaps = |other: Ipv4Addr| other == ip || other.is_unspecified() || ip.is_unspecified();
        self.endpoints.values().flat_map(|held| &held.reservations).any(|held| {
            let held = held.port;
            held.host_port == port && held.protocol == protocol && overlaps(held.host_ip)
        })
    }

    fn elements(&self) -> Elements {
        let mut elements = Elements::default();
        for held in self.endpoints.values() {
            if let Some(ip) = held.endpoint.ip {
                elements.extend(&held.endpoint.ports, ip);
            }
        }
        elements
    }
}

impl Core {
    pub(crate) fn new(config: Config) -> Core {
        Core { config, state: Mutex::default(), firewall: Mutex::default(), keeper: Arc::default() }
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

    fn plan(&self, address: ipnet::Ipv4Net) -> Plan {
        Plan { table: self.table(), bridge: self.config.bridge.clone(), address, masquerade: self.config.ip_masq }
    }

    /// Puts bridge and firewall in place, once.
    pub(crate) fn prepare(&self) -> Result<Bridge, Error> {
        if let Some(bridge) = self.state().bridge {
            return Ok(bridge);
        }
        if self.config.bridge == "none" {
            return Err(Error::BridgeDisabled);
        }
        let mut firewall = self.firewall();
        if let Some(bridge) = self.state().bridge {
            return Ok(bridge);
        }
        let bridge = bridge::ensure(&self.config)?;
        let mut made = Firewall::open(self.plan(bridge.address))?;
        made.ensure(&self.state().elements())?;
        *firewall = Some(made);
        let mut state = self.state();
        state.bridge = Some(bridge);
        state.addresses(bridge.address);
        Ok(bridge)
    }

    /// Forgets that the bridge is in place: somebody deleted it.
    fn forget_bridge(&self, known: Bridge) {
        let mut state = self.state();
        if state.bridge == Some(known) {
            state.bridge = None;
        }
    }

    /// Makes a wired namespace with this address and hardware address, or the
    /// next free ones.
    pub(crate) fn make(&self, ip: Option<Ipv4Addr>, mac: Option<Mac>) -> Result<Wired, Error> {
        let bridge = self.prepare()?;
        match self.make_on(bridge, ip, mac) {
            Err(Error::Kernel { .. }) if !bridge::is_there(bridge, &self.config.bridge) => {
                self.forget_bridge(bridge);
                self.make_on(self.prepare()?, ip, mac)
            }
            outcome => outcome,
        }
    }

    fn make_on(&self, bridge: Bridge, ip: Option<Ipv4Addr>, mac: Option<Mac>) -> Result<Wired, Error> {
        let host_link = wire::link_name();
        let mut state = self.state();
        let addresses = state.addresses(bridge.address);
        let ip = match ip {
            Some(ip) => addresses.take_given(ip).map(|()| ip)?,
            None => addresses.take()?,
        };
        state.links.insert(host_link.clone());
        drop(state);
        let mac = mac.unwrap_or(Mac::of(ip));
        wire::wired(&self.config, bridge, ip, mac, &host_link).inspect_err(|_| self.release(Some(ip), &host_link))
    }

    /// Returns an address and a link's name.
    pub(crate) fn release(&self, ip: Option<Ipv4Addr>, host_link: &str) {
        let mut state = self.state();
        state.links.remove(host_link);
        if let Some(ip) = ip
            && let Some(addresses) = &mut state.addresses
        {
            addresses.release(ip);
        }
    }

    /// Publishes elements of an endpoint that is held already.
    pub(crate) fn publish(&self, elements: Elements) -> Result<(), Error> {
        let mut firewall = self.firewall();
        let Some(firewall) = firewall.as_mut() else { return Ok(()) };
        firewall.add(elements).or_else(|error| {
            // Somebody flushed the table, or left an element behind.
            tracing::debug!(%error, "restoring the firewall table");
            firewall.reconcile(&self.state().elements())
        })
    }

    /// Withdraws elements of an endpoint that is held no more.
    pub(crate) fn withdraw(&self, elements: Elements) -> Result<(), Error> {
        let mut firewall = self.firewall();
        let Some(firewall) = firewall.as_mut() else { return Ok(()) };
        firewall.delete(elements).or_else(|error| {
            tracing::debug!(%error, "restoring the firewall table");
            firewall.reconcile(&self.state().elements())
        })
    }

    /// Makes the firewall equal what the endpoints need.
    pub(crate) fn reconcile(&self) -> Result<(), Error> {
        let mut firewall = self.firewall();
        match firewall.as_mut() {
            Some(firewall) => firewall.reconcile(&self.state().elements()),
            None => Ok(()),
        }
    }

    /// Deletes the firewall table and forgets the bridge.
    pub(crate) fn remove_firewall(&self) -> Result<(), Error> {
        let mut firewall = self.firewall();
        let mut made = match firewall.take() {
            Some(made) => made,
            None => Firewall::open(self.plan(ipnet::Ipv4Net::default()))?,
        };
        made.remove()?;
        self.state().bridge = None;
        Ok(())
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Namespaces kept ready die with their descriptors.
        drop(self.keeper.stop());
    }
}
