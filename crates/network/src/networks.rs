//! The door: networks are listed, made and removed here; `attach.rs` has what
//! containers do with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::bridge::{self, host_ranges, open_route};
use crate::create::{self, CreateRequest, Taken};
use crate::keeper;
use crate::state::{Core, Place, default_pool};
use crate::store::Store;
use crate::{Config, Definition, Endpoint, Error, Mode, Network, Sandbox, wire};

/// All networks of one daemon. Cheap to clone; methods block for microseconds
/// to a few milliseconds and may be called from any thread that lives in the
/// host's network namespace.
///
/// When the last clone is dropped, background work ends. What running
/// containers use stays: see [`adopt`](Networks::adopt).
#[derive(Debug, Clone)]
pub struct Networks {
    pub(crate) core: Arc<Core>,
}

impl Networks {
    /// Opens the networks and reads the definitions. Cheap: host links and
    /// firewall are made when the first container needs them, or by
    /// [`reclaim`](Networks::reclaim).
    pub fn open(config: Config) -> Result<Networks, Error> {
        bridge::check_name(&config.bridge)?;
        if let Some(bip) = config.bip {
            crate::addresses::check_bridge_address(bip)?;
        }
        let store = Store::open(config.state.clone())?;
        let loaded = store.load()?;
        for half in &loaded.half {
            tracing::info!(network = half.name, "undoing a network that was never whole");
            bridge::delete(&half.link)?;
            store.delete(&half.id)?;
        }
        let predefined = predefined(&config);
        let default = predefined[0].id.clone();
        let definitions = predefined.into_iter().chain(loaded.whole).collect();
        Ok(Networks { core: Arc::new(Core::new(config, store, definitions, default)) })
    }

    /// Lists the networks: `bridge` (unless disabled), `host`, `none`, then the
    /// users' own, oldest first.
    pub fn list(&self) -> Vec<Network> {
        let enabled = self.core.config.bridge != "none";
        let state = self.core.state();
        let mut members: BTreeMap<&str, Vec<Endpoint>> = BTreeMap::new();
        for endpoint in state.sandboxes.values().flat_map(|held| &held.sandbox.endpoints) {
            members.entry(&endpoint.network_id).or_default().push(endpoint.clone());
        }
        let places = state.places.values().filter(|place| !place.closed);
        let known = places.map(|place| {
            let mut endpoints = members.remove(place.definition.id.as_str()).unwrap_or_default();
            endpoints.sort_by(|a, b| a.container.cmp(&b.container));
            Network { definition: Arc::clone(&place.definition), endpoints }
        });
        let mut networks: Vec<Network> = known.filter(|n| enabled || n.id != self.core.default).collect();
        drop(state);
        if let Some(bridge) = networks.iter_mut().find(|n| n.id == self.core.default && n.pools.is_empty()) {
            self.foresee(bridge);
        }
        let rank = |network: &Network| ["bridge", "host", "none"].iter().position(|name| network.name == *name);
        networks.sort_by_key(|network| (rank(network).unwrap_or(3), network.created));
        networks
    }

    /// Fills in the range that the default bridge would get now.
    fn foresee(&self, bridge: &mut Network) {
        let config = &self.core.config;
        let address = open_route().and_then(|mut route| {
            let link = bridge::find(&mut route, &config.bridge)?;
            bridge::default_address(&mut route, config, link.as_ref(), &self.core.subnets())
        });
        if let Ok(address) = address {
            Arc::make_mut(&mut bridge.definition).pools = vec![default_pool(address)];
        }
    }

    /// Finds a network by id, name or unique id prefix, in this order.
    pub fn get(&self, name_or_id: &str) -> Result<Network, Error> {
        let name = name_or_id.to_owned();
        let mut networks = self.list();
        let exact = networks.iter().position(|network| network.id == name);
        if let Some(index) = exact.or_else(|| networks.iter().position(|network| network.name == name)) {
            return Ok(networks.swap_remove(index));
        }
        networks.retain(|network| !name.is_empty() && network.id.starts_with(&name));
        match networks.len() {
            0 => Err(Error::NetworkNotFound { name }),
            1 => Ok(networks.swap_remove(0)),
            matches => Err(Error::Ambiguous { name, matches }),
        }
    }

    /// The definition of a network, by id, name or unique id prefix; cheaper
    /// than [`get`](Networks::get).
    pub fn definition(&self, name_or_id: &str) -> Result<Arc<Definition>, Error> {
        let state = self.core.state();
        let open = || state.places.values().filter(|place| !place.closed).map(|place| &place.definition);
        let exact = open().find(|definition| definition.id == name_or_id);
        if let Some(definition) = exact.or_else(|| open().find(|definition| definition.name == name_or_id)) {
            return Ok(Arc::clone(definition));
        }
        drop(state);
        Ok(self.get(name_or_id)?.definition)
    }

    /// Makes a network. Nothing is left on error; durable on return.
    pub fn create(&self, request: CreateRequest) -> Result<Arc<Definition>, Error> {
        let mut taken = Taken {
            host: host_ranges(&mut open_route()?)?,
            instance: format!("{} {}", machine(), self.core.config.bridge),
            ..Taken::default()
        };
        let definition = {
            let mut state = self.core.state();
            if state
                .places
                .values()
                .any(|place| place.definition.name == request.name && !place.definition.is_predefined())
            {
                return Err(Error::NameTaken { name: request.name });
            }
            taken.subnets = state.places.values().filter_map(|place| Some(place.definition.pool4()?.1)).collect();
            taken.subnets6 = state.places.values().filter_map(|place| Some(place.definition.pool6()?.1)).collect();
            let definition = create::plan(request, &self.core.config.pools, &taken)?;
            let same_link = |place: &&Place| place.definition.link == definition.link;
            if let Some(other) = state.places.values().find(same_link) {
                let (id, link, other) = (&definition.id, &definition.link, &other.definition.id);
                return Err(Error::Forbidden {
                    message: format!(
                        "cannot create network {id} ({link}): conflicts with network {other} ({link}): networks have same bridge name"
                    ),
                });
            }
            // From here on name and range are taken, and nobody sees it yet.
            let place = Place { closed: true, ..Place::new(definition.clone()) };
            state.places.insert(definition.id.clone(), place);
            Arc::new(definition)
        };
        let made = self.core.store.save(&definition, false).and_then(|()| {
            self.core.state().place(&definition.id)?.closed = false;
            self.core.prepare(&definition.id)?;
            self.core.store.save(&definition, true)
        });
        if let Err(error) = made {
            self.undo(&definition);
            return Err(error);
        }
        Ok(definition)
    }

    fn undo(&self, definition: &Definition) {
        let lowered = self.core.lower(definition).and_then(|()| self.core.store.delete(&definition.id));
        if let Err(error) = lowered {
            tracing::warn!(network = definition.name, %error, "a network that could not be made left something behind");
        }
        self.core.state().places.remove(&definition.id);
    }

    /// Removes a network nobody is in.
    pub fn remove(&self, name_or_id: &str) -> Result<Arc<Definition>, Error> {
        let definition = self.definition(name_or_id)?;
        if definition.is_predefined() {
            let message = format!("{} is a pre-defined network and cannot be removed", definition.name);
            return Err(Error::Forbidden { message });
        }
        {
            let mut state = self.core.state();
            let members = state.sandboxes.values().filter_map(|held| {
                let endpoint = held.sandbox.endpoint(&definition.id)?;
                Some(format!("name:\"{}\" id:\"{}\"", held.sandbox.name, &endpoint.endpoint_id[..12]))
            });
            let mut members: Vec<String> = members.collect();
            members.sort();
            if !members.is_empty() {
                return Err(Error::Active { name: definition.name.clone(), endpoints: members.join(", ") });
            }
            state.place(&definition.id)?.closed = true;
        }
        let removed = self.core.store.save(&definition, false).and_then(|()| {
            self.core.lower(&definition)?;
            self.core.store.delete(&definition.id)
        });
        let mut state = self.core.state();
        match removed {
            Ok(()) => drop(state.places.remove(&definition.id)),
            Err(error) => {
                state.place(&definition.id)?.closed = false;
                return Err(error);
            }
        }
        Ok(definition)
    }

    /// Starts making ready namespaces in the background, so that the next
    /// attach finds one. Returns at once; a good moment is container create.
    pub fn warm(&self) {
        if self.core.config.bridge != "none" {
            self.core.keeper.fill(&self.core, self.core.config.warm);
        }
    }

    /// Puts all networks in place, removes links and firewall elements that no
    /// container owns and restores those that are missing. Traffic of owned
    /// ones is never interrupted.
    pub fn reclaim(&self) -> Result<(), Error> {
        let mut route = open_route()?;
        let links = route.links()?;
        let bridges: Vec<(String, String)> = {
            let state = self.core.state();
            let bridges = state.places.values().filter(|place| place.definition.driver == Mode::Bridge);
            bridges.map(|place| (place.definition.id.clone(), place.definition.link.clone())).collect()
        };
        let there = |link: &str| links.iter().any(|found| found.name == link && found.kind == "bridge");
        let wanted = |(id, link): &&(String, String)| *id != self.core.default || there(link);
        let wanted: Vec<&(String, String)> = bridges.iter().filter(wanted).collect();
        if wanted.is_empty() {
            // Without a bridge nobody is attached: at most a table is left.
            return match self.core.remove_firewall() {
                Err(Error::Feature { .. }) => Ok(()),
                outcome => outcome,
            };
        }
        for (id, link) in &wanted {
            if let Err(error) = self.core.prepare(id) {
                tracing::warn!(bridge = link, %error, "a network could not be put in place");
            }
        }
        let masters: Vec<u32> = links
            .iter()
            .filter(|link| bridges.iter().any(|(_, name)| *name == link.name))
            .map(|link| link.index)
            .collect();
        let state = self.core.state();
        let stale = links.into_iter().filter(|found| {
            found.master.is_some_and(|master| masters.contains(&master))
                && wire::is_link_name(&found.name)
                && !state.links.contains(&found.name)
        });
        let stale: Vec<String> = stale.map(|found| found.name).collect();
        drop(state);
        if !stale.is_empty() {
            tracing::info!(count = stale.len(), "deleting links nobody owns");
            keeper::delete(stale);
        }
        self.core.reconcile()
    }

    /// The sandbox of a container, if it is attached.
    pub fn sandbox(&self, container: &str) -> Option<Sandbox> {
        self.core.state().sandboxes.get(container).map(|held| held.sandbox.clone())
    }

    /// Stops background work. With `remove`, deletes bridges and firewall table
    /// too, unless endpoints remain.
    pub fn shutdown(&self, remove: bool) -> Result<(), Error> {
        let (ready, mut links) = self.core.keeper.stop();
        for wired in &ready {
            self.core.release(&self.core.default, Some(wired.ip), &wired.host_link);
        }
        links.extend(ready.into_iter().map(|wired| wired.host_link));
        if !links.is_empty() {
            keeper::delete(links);
        }
        if !remove || !self.core.state().sandboxes.is_empty() {
            return Ok(());
        }
        let bridges: Vec<String> =
            self.core.state().places.values().map(|place| place.definition.link.clone()).collect();
        for link in bridges.iter().filter(|link| !link.is_empty()) {
            bridge::delete(link)?;
        }
        self.core.remove_firewall()
    }
}

/// What tells this machine from others, as far as it says: local IPv6 ranges
/// of two machines that are connected one day should not be the same.
fn machine() -> String {
    std::fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_owned()
}

/// The networks every daemon has; the default bridge comes first.
fn predefined(config: &Config) -> [Definition; 3] {
    let one = |mode: Mode| Definition {
        id: predefined_id(config, mode),
        name: mode.name().into(),
        driver: mode,
        created: 0,
        internal: false,
        attachable: false,
        ipv4: true,
        ipv6: false,
        ipam_driver: "default".into(),
        ipam_options: None,
        pools: Vec::new(),
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
        link: String::new(),
    };
    let bridge = Definition {
        link: if config.bridge == "none" { String::new() } else { config.bridge.clone() },
        pools: config.bip.map(default_pool).into_iter().collect(),
        options: bridge_options(config),
        ..one(Mode::Bridge)
    };
    [bridge, one(Mode::Host), one(Mode::None)]
}

fn predefined_id(config: &Config, mode: Mode) -> String {
    let instance = if config.instance.is_empty() { &config.bridge } else { &config.instance };
    let mut hash = Sha256::new();
    for part in ["network", instance, mode.name()] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    budu_spec::id::hex(&hash.finalize())
}

fn bridge_options(config: &Config) -> BTreeMap<String, String> {
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
