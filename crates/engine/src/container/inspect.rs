//! Inspect: everything about one container.

use std::collections::BTreeMap;

use budu_network::Endpoint;
use budu_runtime::plan::LogFormat;
use budu_spec::docker::{ApiVersion, ContainerInspect, ContainerState, EndpointSettings, GraphDriver, NetworkSettings};

use super::record::{Record, State, Status};
use super::{Container, endpoints, mounts, ports};
use crate::{Engine, Error, clock};

/// What inspect answers.
pub type Inspected = ContainerInspect;

impl Engine {
    /// Describes a container in the shape of an API version. `size` walks its
    /// writable layer.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`].
    pub fn inspect(&self, name: &str, size: bool, version: ApiVersion) -> Result<Inspected, Error> {
        let container = self.find(name)?;
        let (record, state) = (container.record(), container.state().clone());
        let (size_rw, size_root_fs) = if size { self.sizes(&container)? } else { (None, None) };
        let run_dir = self.run_dir(&container.id);
        let file = |name: &str| run_dir.join(name).to_string_lossy().into_owned();
        let log = self.log_files(&record).filter(|files| files.format == LogFormat::Json);
        Ok(ContainerInspect {
            id: container.id.to_string(),
            created: clock::print(record.created),
            path: record.path.clone(),
            args: record.args.clone(),
            state: state_of(&state),
            image: record.image_id.clone(),
            resolv_conf_path: file("resolv.conf"),
            hostname_path: file("hostname"),
            hosts_path: file("hosts"),
            log_path: log.map(|files| files.path.to_string_lossy().into_owned()).unwrap_or_default(),
            name: format!("/{}", record.name),
            restart_count: state.restart_count,
            driver: "overlayfs".to_owned(),
            platform: "linux".to_owned(),
            exec_ids: self.0.execs.of_container(container.id.as_str()),
            host_config: record.host_config.clone(),
            graph_driver: self.graph_driver(&record),
            size_rw,
            size_root_fs,
            mounts: mounts::shapes(&record.points),
            config: record.config.clone(),
            network_settings: self.network_settings(&record, &state, version),
            ..ContainerInspect::default()
        })
    }

    /// Bytes of the writable layer and of the whole root file system.
    pub(super) fn sizes(&self, container: &Container) -> Result<(Option<i64>, Option<i64>), Error> {
        let (rw, all) = self.images().container_size(container.id.as_str())?;
        let narrow = |n: u64| Some(i64::try_from(n).unwrap_or(i64::MAX));
        Ok((narrow(rw), narrow(all)))
    }

    fn graph_driver(&self, record: &Record) -> Option<GraphDriver> {
        let data = self.images().rootfs(record.id.as_str()).ok().map(|rootfs| {
            let lower: Vec<_> = rootfs.lower.iter().map(|p| p.to_string_lossy()).collect();
            [
                ("LowerDir".to_owned(), lower.join(":")),
                ("UpperDir".to_owned(), rootfs.upper.to_string_lossy().into_owned()),
                ("WorkDir".to_owned(), rootfs.work.to_string_lossy().into_owned()),
            ]
            .into()
        });
        Some(GraphDriver { data, name: "overlayfs".to_owned() })
    }
}

fn state_of(state: &State) -> ContainerState {
    ContainerState {
        status: state.status.word().to_owned(),
        running: state.status.is_running(),
        paused: state.status == Status::Paused,
        restarting: state.status == Status::Restarting,
        oom_killed: state.oom_killed,
        dead: state.status == Status::Dead,
        pid: state.pid,
        exit_code: i64::from(state.exit_code),
        error: state.error.clone(),
        started_at: clock::print(state.started_at),
        finished_at: clock::print(state.finished_at),
        health: state.health.clone(),
        why: super::why::now(state),
    }
}

impl Engine {
    fn network_settings(&self, record: &Record, state: &State, version: ApiVersion) -> NetworkSettings {
        let sandbox = state.sandbox.as_ref();
        let published = sandbox.map_or(&[][..], |s| &s.ports);
        let ports = if sandbox.is_some() { ports::settings(&record.config, published) } else { Default::default() };
        let left = if has_left(state) { self.network_ids() } else { BTreeMap::new() };
        let networks = networks_of(record, state, version, &left);
        let bridge = networks.get("bridge").cloned().unwrap_or_default();
        let first = sandbox.and_then(|s| s.endpoints.first());
        NetworkSettings {
            sandbox_id: first.map(|e| e.endpoint_id.clone()).unwrap_or_default(),
            sandbox_key: if state.pid == 0 { String::new() } else { format!("/proc/{}/ns/net", state.pid) },
            ports,
            endpoint_id: bridge.endpoint_id,
            gateway: bridge.gateway,
            ip_address: bridge.ip_address,
            ip_prefix_len: bridge.ip_prefix_len,
            mac_address: bridge.mac_address,
            networks,
            ..NetworkSettings::default()
        }
    }

    /// Ids of all networks by name.
    pub(super) fn network_ids(&self) -> BTreeMap<String, String> {
        self.networks().list().iter().map(|network| (network.name.clone(), network.id.clone())).collect()
    }
}

/// Whether a container has been on its networks, and is not any more.
pub(super) fn has_left(state: &State) -> bool {
    state.started_at != 0 && state.sandbox.is_none()
}

/// Endpoints by network name. What has run goes on telling which networks it was on, as Docker does: `ids` has them.
pub(super) fn networks_of(
    record: &Record,
    state: &State,
    version: ApiVersion,
    ids: &BTreeMap<String, String>,
) -> BTreeMap<String, EndpointSettings> {
    let mut networks = networks(record, state, version);
    if has_left(state) {
        for (name, settings) in &mut networks {
            settings.network_id = ids.get(name).cloned().unwrap_or_default();
        }
    }
    networks
}

/// Endpoints by network name; there without addresses while it does not run.
fn networks(record: &Record, state: &State, version: ApiVersion) -> BTreeMap<String, EndpointSettings> {
    let disabled = record.config.network_disabled == Some(true);
    let none = [("none".to_owned(), None)].into();
    let wishes = if disabled { &none } else { &record.networking.endpoints_config };
    let found = |name: &str| state.sandbox.iter().flat_map(|s| &s.endpoints).find(|e| e.network_name == name);
    let one = |(name, wish): (&String, &Option<EndpointSettings>)| {
        let mut settings = wish.clone().unwrap_or_default();
        if endpoints::is_user_defined(name) {
            settings.dns_names = Some(endpoints::names(record, &settings));
            // Below 1.45 the short id is among the aliases; the default bridge has none.
            if version < ApiVersion::new(45) {
                settings.aliases.get_or_insert_default().push(record.id.short().to_owned());
            }
        }
        let settings = match found(name) {
            Some(endpoint) => settled(settings, endpoint),
            None => settings,
        };
        (name.clone(), settings)
    };
    wishes.iter().map(one).collect()
}

/// Whether a container is on one of these networks, by name or id prefix.
pub(super) fn is_on(record: &Record, state: &State, networks: &[String]) -> bool {
    let mut names = record.networking.endpoints_config.keys();
    let mut ids = state.sandbox.iter().flat_map(|s| &s.endpoints).map(|e| e.network_id.as_str());
    let mode = &record.host_config.network_mode;
    let by_id = |wish: &String, id: &str| !wish.is_empty() && id.starts_with(wish.as_str());
    networks.is_empty()
        || networks.contains(mode)
        || names.any(|name| networks.contains(name))
        || ids.any(|id| networks.iter().any(|wish| by_id(wish, id)))
}

fn settled(wish: EndpointSettings, endpoint: &Endpoint) -> EndpointSettings {
    let text = |ip: Option<std::net::Ipv4Addr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    EndpointSettings {
        network_id: endpoint.network_id.clone(),
        endpoint_id: endpoint.endpoint_id.clone(),
        gateway: text(endpoint.gateway),
        ip_address: text(endpoint.ip),
        ip_prefix_len: i64::from(endpoint.prefix),
        ipv6_gateway: endpoint.gateway6.map(|ip| ip.to_string()).unwrap_or_default(),
        global_ipv6_address: endpoint.ip6.map(|ip| ip.to_string()).unwrap_or_default(),
        global_ipv6_prefix_len: i64::from(endpoint.prefix6),
        mac_address: endpoint.mac.map(|m| m.to_string()).unwrap_or_default(),
        ..wish
    }
}
