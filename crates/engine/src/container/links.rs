//! Links of the default bridge, as they were before networks had names: lines
//! in /etc/hosts and variables, made when the container starts.

use std::net::IpAddr;
use std::sync::Arc;

use budu_network::Protocol;
use budu_spec::docker::HostConfig;

use super::endpoints::parse_link;
use super::merge::key;
use super::record::Record;
use super::{Container, ports};
use crate::{Engine, Error};

/// A container that another one is linked to, while it runs.
#[derive(Debug, Clone)]
pub(super) struct Linked {
    /// What it is called, separated by blanks.
    pub(super) names: String,
    /// Its address on the default bridge.
    pub(super) ip: IpAddr,
    alias: String,
    parent: String,
    record: Arc<Record>,
}

impl Engine {
    /// Checks the links of a create request and brings them into Docker's form.
    pub(super) fn settle_links(&self, host: &mut HostConfig, parent: &str) -> Result<(), Error> {
        for link in host.links.iter_mut().flatten() {
            let (name, alias) = parse_link(link);
            if name.is_empty() || alias.is_empty() || link.split(':').count() > 2 {
                return Err(Error::invalid(format!("bad format for links: {link}")));
            }
            let child =
                self.find(&name).map_err(|e| Error::invalid(format!("could not get container for {name}: {e}")))?;
            let child = child.record();
            if child.host_config.network_mode == "host" {
                return Err(Error::invalid(
                    "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
                ));
            }
            *link = format!("/{}:/{parent}/{alias}", child.name);
        }
        Ok(())
    }

    /// The containers that one is linked to; all must run.
    pub(super) fn linked(&self, record: &Record) -> Result<Vec<Linked>, Error> {
        if record.host_config.network_mode != "bridge" {
            return Ok(Vec::new());
        }
        let mut list = Vec::new();
        for link in record.host_config.links.iter().flatten() {
            let (name, alias) = parse_link(link);
            let child = self.find(&name)?;
            let Some(linked) = linked_to(&child, alias, record) else {
                let (child, parent) = link.split_once(':').unwrap_or((link, ""));
                return Err(Error::Runtime {
                    message: format!("Cannot link to a non running container: {child} AS {parent}"),
                });
            };
            list.push(linked);
        }
        Ok(list)
    }

    /// Tells those linked to a container that just started where it is now.
    pub(super) fn tell_linked(&self, child: &Container) {
        let name = child.record().name.clone();
        for parent in self.all() {
            let record = parent.record();
            let links = record.host_config.links.iter().flatten().map(|link| parse_link(link));
            for (_, alias) in links.filter(|(target, _)| *target == name) {
                let running = parent.state().pid != 0;
                if let Some(linked) = linked_to(child, alias, &record).filter(|_| running)
                    && let Err(error) = super::names_files::move_name(&linked, &self.run_dir(&parent.id))
                {
                    tracing::warn!(container = %parent.id, %error, "a link leads to an old address");
                }
            }
        }
    }

    /// Removes a link by its name `parent/alias`.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::Invalid`] when there is no such link.
    pub async fn remove_link(&self, name: &str) -> Result<(), Error> {
        let path = name.trim_start_matches('/');
        let (parent, alias) = path
            .rsplit_once('/')
            .filter(|(parent, _)| !parent.is_empty())
            .ok_or_else(|| Error::invalid("Conflict, cannot remove the default link name of the container"))?;
        let container = self.find(parent)?;
        let _turn = container.turn.lock().await;
        let mut record = (*container.record()).clone();
        let links = record.host_config.links.get_or_insert_default();
        let before = links.len();
        links.retain(|link| parse_link(link).1 != alias);
        if links.len() == before {
            return Err(Error::Runtime { message: format!("Could not get entity for /{path}") });
        }
        self.save_record(&container, record)
    }
}

fn linked_to(child: &Container, alias: String, parent: &Record) -> Option<Linked> {
    let ip = {
        let state = child.state();
        let endpoint = state.sandbox.as_ref()?.endpoints.iter().find(|endpoint| endpoint.network_name == "bridge");
        endpoint?.ip?.into()
    };
    let record = child.record();
    let mut names = format!("{alias} {}", record.config.hostname);
    if alias != record.name {
        names = format!("{names} {}", record.name);
    }
    Some(Linked { names, ip, alias, parent: parent.name.clone(), record })
}

/// Adds the variables of links; the container's own win.
pub(super) fn extend(env: &mut Vec<String>, links: &[Linked]) {
    for variable in links.iter().flat_map(variables) {
        if env.iter().all(|own| key(own) != key(&variable)) {
            env.push(variable);
        }
    }
}

fn variables(link: &Linked) -> Vec<String> {
    let prefix = link.alias.to_uppercase().replace('-', "_");
    let ip = link.ip;
    let exposed = link.record.config.exposed_ports.iter().flatten().filter_map(|(text, _)| ports::port(text).ok());
    let mut exposed: Vec<(u16, Protocol)> = exposed.collect();
    exposed.sort();
    let mut list = Vec::new();
    if let Some((port, protocol)) = exposed.first() {
        list.push(format!("{prefix}_PORT={protocol}://{ip}:{port}"));
    }
    for (port, protocol) in exposed {
        let name = format!("{prefix}_PORT_{port}_{}", protocol.to_string().to_uppercase());
        list.push(format!("{name}={protocol}://{ip}:{port}"));
        list.push(format!("{name}_ADDR={ip}"));
        list.push(format!("{name}_PORT={port}"));
        list.push(format!("{name}_PROTO={protocol}"));
    }
    list.push(format!("{prefix}_NAME=/{}/{}", link.parent, link.alias));
    let own = link.record.config.env.iter().flatten().filter(|entry| !matches!(key(entry), "HOME" | "PATH"));
    list.extend(own.map(|entry| format!("{prefix}_ENV_{entry}")));
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::record::tests::record;
    use budu_spec::docker::Empty;

    #[test]
    fn variables_are_those_of_old() {
        let mut child = record("db-1");
        child.config.exposed_ports = Some([("5432/tcp".to_owned(), Empty {})].into());
        child.config.env = Some(vec!["PATH=/bin".into(), "USER=me".into()]);
        let link = Linked {
            names: String::new(),
            ip: "172.17.0.5".parse().unwrap(),
            alias: "the-db".into(),
            parent: "web".into(),
            record: Arc::new(child),
        };
        let mut env = vec!["THE_DB_PORT=mine".to_owned()];
        extend(&mut env, &[link]);
        assert_eq!(
            env,
            [
                "THE_DB_PORT=mine",
                "THE_DB_PORT_5432_TCP=tcp://172.17.0.5:5432",
                "THE_DB_PORT_5432_TCP_ADDR=172.17.0.5",
                "THE_DB_PORT_5432_TCP_PORT=5432",
                "THE_DB_PORT_5432_TCP_PROTO=tcp",
                "THE_DB_NAME=/web/the-db",
                "THE_DB_ENV_USER=me",
            ]
        );
    }
}
