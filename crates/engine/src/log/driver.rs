//! The log drivers there are.

/// Names, as `docker info` lists them.
pub const DRIVERS: &[&str] = &["fluentd", "gelf", "journald", "json-file", "local", "none", "syslog"];

/// What a driver does with records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driver {
    /// Nothing.
    None,
    /// A file in Docker's JSON format.
    JsonFile,
    /// A file in Docker's own format.
    Local,
    /// Sends them to somebody.
    Syslog,
    Gelf,
    Fluentd,
    Journald,
}

impl Driver {
    /// The driver of a name; `None` when there is no such driver.
    pub(crate) fn named(name: &str) -> Option<Driver> {
        Some(match name {
            "none" => Driver::None,
            "json-file" => Driver::JsonFile,
            "local" => Driver::Local,
            "syslog" => Driver::Syslog,
            "gelf" => Driver::Gelf,
            "fluentd" => Driver::Fluentd,
            "journald" => Driver::Journald,
            _ => return None,
        })
    }

    /// Whether what it keeps is sent on by a forwarder.
    pub(crate) fn sends(self) -> bool {
        matches!(self, Driver::Syslog | Driver::Gelf | Driver::Fluentd | Driver::Journald)
    }
}
