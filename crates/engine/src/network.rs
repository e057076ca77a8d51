//! Networks as users make and remove them: what changes is told to everybody.

use budu_network::{CreateRequest, Definition};
use budu_spec::Filters;
use budu_spec::units::parse_time;

use crate::{Engine, Error, clock};

impl Engine {
    /// Makes a network and returns its id.
    ///
    /// # Errors
    /// [`Error::Network`] for names, drivers and ranges that cannot be.
    pub fn create_network(&self, request: CreateRequest) -> Result<String, Error> {
        let definition = self.networks().create(CreateRequest { now: clock::now(), ..request })?;
        self.tell_of_network("create", &definition);
        Ok(definition.id.clone())
    }

    /// Removes a network.
    ///
    /// # Errors
    /// [`Error::Network`] when it is unknown, predefined or in use.
    pub fn remove_network(&self, name: &str) -> Result<(), Error> {
        let definition = self.networks().remove(name)?;
        self.tell_of_network("destroy", &definition);
        Ok(())
    }

    /// Removes networks that no running container is in; returns their names.
    ///
    /// # Errors
    /// [`Error::Filter`] and [`Error::Invalid`] for bad filters.
    pub fn prune_networks(&self, filters: &Filters) -> Result<Vec<String>, Error> {
        filters.check_keys(&["label", "label!", "until"])?;
        let until = filters.values("until").first();
        let bad = |text: &String| Error::invalid(format!("failed to parse value as time or duration: \"{text}\""));
        let until = until.map(|t| parse_time(t, jiff::Timestamp::now()).map_err(|_| bad(t))).transpose()?;
        let until = until.map_or(i64::MAX, clock::nanos);
        let mut names = Vec::new();
        for network in self.networks().list() {
            let idle = !network.is_predefined() && network.endpoints.is_empty();
            if idle
                && network.created <= until
                && filters.labels_match(&network.labels)
                && self.remove_network(&network.id).is_ok()
            {
                names.push(network.name.clone());
            }
        }
        self.events().publish("network", "prune", "", [("reclaimed".to_owned(), "0".to_owned())].into());
        Ok(names)
    }

    fn tell_of_network(&self, action: &str, definition: &Definition) {
        let attributes = [("name", definition.name.as_str()), ("type", definition.driver.driver())];
        let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.events().publish("network", action, &definition.id, attributes.into());
    }
}
