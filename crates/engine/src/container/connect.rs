//! Networks of a container that is there: what start and end do with them, and
//! connecting and disconnecting by hand.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use budu_network::{Endpoint, Mode, Sandbox};
use budu_spec::docker::EndpointSettings;

use super::record::{Record, State, Status};
use super::{Container, endpoints, names_files};
use crate::{Engine, Error};

const SHARED: &str =
    "container sharing network namespace with another container or host cannot be connected to any other network";

impl Engine {
    /// Gives a container that is about to start its networks.
    pub(super) fn enter_networks(&self, record: &Record) -> Result<(Option<OwnedFd>, Sandbox), Error> {
        if let Some(name) = endpoints::donor(&record.host_config.network_mode) {
            let donor = self.network_donor(record, name)?;
            let pid = donor.state().pid;
            let netns = netns_of(pid).ok_or_else(|| Error::not_running(donor.id.as_str()))?;
            return Ok((Some(netns), Sandbox::default()));
        }
        let prefixed = |error: Error| Error::Networking { source: Box::new(error) };
        let request = self.attach_request(record).map_err(prefixed)?;
        let attachment = self.networks().attach(&request).map_err(|error| match error {
            error @ budu_network::Error::Publish { .. } => error.into(),
            error => prefixed(error.into()),
        })?;
        for endpoint in &attachment.sandbox.endpoints {
            self.tell_network("connect", endpoint);
        }
        Ok((attachment.netns, attachment.sandbox))
    }

    /// The record of a container that is about to start: one that shares
    /// another one's network has its host name, too.
    pub(super) fn with_shared_names(&self, container: &Container) -> Result<Arc<Record>, Error> {
        let record = container.record();
        let Some(name) = endpoints::donor(&record.host_config.network_mode) else { return Ok(record) };
        let donor = self.network_donor(&record, name)?.record();
        let (host, domain) = (&donor.config.hostname, &donor.config.domainname);
        if (&record.config.hostname, &record.config.domainname) == (host, domain) {
            return Ok(record);
        }
        let mut record = (*record).clone();
        record.config.hostname.clone_from(host);
        record.config.domainname.clone_from(domain);
        self.save_record(container, record)?;
        Ok(container.record())
    }

    /// Where a container finds the host: its own gateway, or that of the
    /// default bridge if it has none.
    pub(super) fn host_gateway(&self, record: &Record, sandbox: &Sandbox) -> Option<IpAddr> {
        // Looking costs a conversation with the kernel.
        record.host_config.extra_hosts.iter().flatten().find(|host| host.ends_with("host-gateway"))?;
        let own = sandbox.gateway().and_then(|endpoint| endpoint.gateway).map(IpAddr::V4);
        own.or_else(|| self.networks().get("bridge").ok()?.pool4()?.0.gateway)
    }

    /// Takes a container that ended, or could not start, out of its networks.
    pub(super) fn leave_networks(&self, container: &str) {
        let sandbox = self.networks().sandbox(container);
        if let Err(error) = self.networks().detach(container) {
            tracing::warn!(container, %error, "could not detach from the network");
        }
        for endpoint in sandbox.iter().flat_map(|sandbox| &sandbox.endpoints) {
            self.tell_network("disconnect", endpoint);
        }
    }

    fn tell_network(&self, action: &str, endpoint: &Endpoint) {
        let network = self.networks().definition(&endpoint.network_id);
        let driver = network.map_or(Mode::Bridge, |network| network.driver).driver();
        let attributes = [("container", &*endpoint.container), ("name", &*endpoint.network_name), ("type", driver)];
        let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.events().publish("network", action, &endpoint.network_id, attributes.into());
    }

    /// The container whose network another one is about to share.
    fn network_donor(&self, record: &Record, name: &str) -> Result<Arc<Container>, Error> {
        let donor = self
            .find(name)
            .map_err(|error| Error::Runtime { message: format!("joining network namespace of container: {error}") })?;
        if donor.id == record.id {
            return Err(Error::Runtime { message: "cannot join own network namespace".to_owned() });
        }
        let status = donor.state().status;
        match status {
            Status::Running | Status::Paused => Ok(donor),
            Status::Restarting => Err(Error::conflict(format!(
                "cannot join network namespace of container: Container {name} is restarting, wait until the container is running"
            ))),
            status => Err(Error::conflict(format!(
                "cannot join network namespace of a non running container: container {} is {}",
                donor.record().name,
                status.word()
            ))),
        }
    }

    /// The container whose name files another one uses; itself, mostly.
    pub(super) fn files_owner(&self, record: &Record) -> Option<Arc<Record>> {
        let mut owner = self.find(endpoints::donor(&record.host_config.network_mode)?).ok()?.record();
        // A donor may itself share another one's network.
        while let Some(next) = endpoints::donor(&owner.host_config.network_mode) {
            owner = self.find(next).ok()?.record();
        }
        Some(owner)
    }

    /// Takes over the networks of a container that kept running.
    pub(super) fn adopt_networks(&self, container: &Arc<Container>) {
        let (pid, sandbox) = {
            let state = container.state();
            (state.pid, state.sandbox.clone())
        };
        let Some(sandbox) = sandbox.filter(|sandbox| !sandbox.endpoints.is_empty()) else { return };
        let netns = netns_of(pid);
        match self.networks().adopt(&sandbox, netns.as_ref().map(AsFd::as_fd)) {
            Ok(adopted) if adopted == sandbox => {}
            Ok(adopted) => {
                container.state().sandbox = Some(adopted);
                self.keep_state(container, false);
            }
            Err(error) => {
                tracing::warn!(container = %container.id, %error, "its network could not be taken over");
            }
        }
    }

    /// Connects a container to a network; at once if it runs, else when it starts.
    ///
    /// # Errors
    /// [`Error::Network`] for unknown networks, [`Error::Invalid`] for wishes
    /// the network cannot fulfil or that contradict its other networks.
    pub async fn connect(&self, network: &str, name: &str, settings: EndpointSettings) -> Result<(), Error> {
        let container = self.find(name)?;
        let _turn = container.turn.lock().await;
        refuse_removal(&container)?;
        let mut record = (*container.record()).clone();
        if endpoints::donor(&record.host_config.network_mode).is_some() {
            return Err(Error::invalid(SHARED));
        }
        let network = self.networks().definition(network)?;
        endpoints::check(&network.name, &settings, Some(&network))?;
        let wishes = &record.networking.endpoints_config;
        let connected = wishes.contains_key(&network.name);
        if !connected {
            self.check_company(&record, network.driver)?;
        }
        let live = running(&container.state());
        if connected && !live {
            return Ok(());
        }
        let before = container.record();
        record.networking.endpoints_config.insert(network.name.clone(), Some(settings.clone()));
        self.save_record(&container, record)?;
        if live && let Err(error) = self.connect_live(&container, &before, &network.name, &settings) {
            self.restore_record(&container, before);
            return Err(error);
        }
        Ok(())
    }

    /// Host and none go with no other network.
    fn check_company(&self, record: &Record, joining: Mode) -> Result<(), Error> {
        if joining == Mode::Host && record.host_config.network_mode != "host" {
            return Err(Error::invalid(
                "cannot connect container to host network - container must be created in host network mode",
            ));
        }
        for other in record.networking.endpoints_config.keys() {
            let driver = self.networks().definition(other).map(|network| network.driver);
            match (driver, joining) {
                (Ok(Mode::Host), _) | (_, Mode::Host) => return Err(Error::invalid(SHARED)),
                (Ok(Mode::None), _) | (_, Mode::None) => {
                    return Err(Error::invalid(
                        "container cannot be connected to multiple networks with one of the networks in private (none) mode",
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn connect_live(
        &self,
        container: &Arc<Container>,
        record: &Record,
        network: &str,
        settings: &EndpointSettings,
    ) -> Result<(), Error> {
        let (pid, before) = {
            let state = container.state();
            (state.pid, state.sandbox.clone().unwrap_or_default())
        };
        let netns = netns_of(pid).ok_or_else(|| Error::not_running(container.id.as_str()))?;
        let join = endpoints::join(record, network, settings)?;
        let dns = self.upstreams(record);
        let after = self.networks().connect(container.id.as_str(), netns.as_fd(), &join, &dns)?;
        self.changed(container, record, &before, &after);
        if let Some(endpoint) = after.endpoints.iter().find(|endpoint| endpoint.network_name == network) {
            self.tell_network("connect", endpoint);
        }
        Ok(())
    }

    /// Remembers where a running container is now, and tells it.
    fn changed(&self, container: &Arc<Container>, record: &Record, before: &Sandbox, after: &Sandbox) {
        container.state().sandbox = Some(after.clone());
        self.keep_state(container, false);
        if let Err(error) = names_files::refresh(record, before, after, self.options(), &self.run_dir(&container.id)) {
            tracing::warn!(container = %container.id, %error, "its /etc/hosts is not that of its networks");
        }
    }

    /// Disconnects a container from a network. `force` also works when
    /// container or network are gone.
    ///
    /// # Errors
    /// [`Error::Network`] when it is not connected.
    pub async fn disconnect(&self, network: &str, name: &str, force: bool) -> Result<(), Error> {
        let container = self.find(name)?;
        let known = self.networks().definition(network);
        let _turn = container.turn.lock().await;
        refuse_removal(&container)?;
        let mut record = (*container.record()).clone();
        let network_name = known.as_ref().map_or(network.to_owned(), |network| network.name.clone());
        let mut live = None;
        match known {
            Ok(known) if running(&container.state()) => {
                if record.host_config.network_mode == "host" && known.driver == Mode::Host {
                    return Err(Error::invalid(
                        "cannot disconnect container from host network - container was created in host network mode",
                    ));
                }
                live = Some(known.id.clone());
            }
            Err(error) if running(&container.state()) && !force => return Err(error.into()),
            _ if !record.networking.endpoints_config.contains_key(&network_name) => {
                return Err(Error::Runtime {
                    message: format!("container {} is not connected to the network {network_name}", container.id),
                });
            }
            _ => {}
        }
        let before = container.record();
        record.networking.endpoints_config.remove(&network_name);
        self.save_record(&container, record)?;
        if let Some(network) = live
            && let Err(error) = self.disconnect_live(&container, &before, &network)
        {
            self.restore_record(&container, before);
            return Err(error);
        }
        Ok(())
    }

    fn disconnect_live(&self, container: &Arc<Container>, record: &Record, network: &str) -> Result<(), Error> {
        let (pid, before) = {
            let state = container.state();
            (state.pid, state.sandbox.clone().unwrap_or_default())
        };
        let netns = netns_of(pid).ok_or_else(|| Error::not_running(container.id.as_str()))?;
        let after = self.networks().disconnect(container.id.as_str(), netns.as_fd(), network)?;
        self.changed(container, record, &before, &after);
        if let Some(endpoint) = before.endpoint(network) {
            self.tell_network("disconnect", endpoint);
        }
        Ok(())
    }
}

fn running(state: &State) -> bool {
    matches!(state.status, Status::Running | Status::Paused)
}

fn refuse_removal(container: &Container) -> Result<(), Error> {
    match container.state().status {
        Status::Removing | Status::Dead => Err(Error::Runtime {
            message: format!(
                "Container {} is marked for removal and cannot be connected or disconnected to the network",
                container.id
            ),
        }),
        _ => Ok(()),
    }
}

/// The network namespace of a process.
fn netns_of(pid: u32) -> Option<OwnedFd> {
    (pid != 0).then(|| File::open(format!("/proc/{pid}/ns/net")).ok()).flatten().map(OwnedFd::from)
}
