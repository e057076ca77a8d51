//! Namespaces that a container takes from another one: `container:NAME`.

use std::path::PathBuf;

use budu_spec::docker::HostConfig;

use super::record::{Record, Status};
use crate::{Engine, Error};

/// Namespaces of other containers that one joins; by process, while it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Donors {
    /// First process of the container whose IPC namespace and /dev/shm are joined.
    pub(crate) ipc: Option<u32>,
    /// First process of the container whose PID namespace is joined.
    pub(crate) pid: Option<u32>,
}

/// The container that a mode such as `container:web` names.
pub(crate) fn named(mode: &str) -> Option<&str> {
    mode.strip_prefix("container:").filter(|name| !name.is_empty())
}

/// The file that stands for a namespace of a process, namespaces(7).
pub(crate) fn namespace(pid: u32, kind: &str) -> String {
    format!("/proc/{pid}/ns/{kind}")
}

/// A path as another process sees it.
pub(crate) fn seen_by(pid: u32, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root{path}"))
}

impl Engine {
    /// Refuses to join containers that are not there. Whether they run is asked at the start.
    pub(super) fn check_donors(&self, host: &HostConfig) -> Result<(), Error> {
        for name in [&host.ipc_mode, &host.pid_mode].into_iter().filter_map(|mode| named(mode)) {
            self.find(name).map_err(|error| Error::invalid(error.to_string()))?;
        }
        Ok(())
    }

    /// Finds the processes whose namespaces a container joins.
    ///
    /// # Errors
    /// When one of them does not run, or keeps its namespace to itself.
    pub(crate) fn donors(&self, record: &Record) -> Result<Donors, Error> {
        let host = &record.host_config;
        let ipc = named(&host.ipc_mode).map(|name| self.ipc_donor(name)).transpose();
        let pid = named(&host.pid_mode).map(|name| self.donor(name).map(|(pid, _)| pid)).transpose();
        let joining = |what: &str| {
            let what = format!("failed to join {what} namespace");
            move |error: Error| Error::invalid(format!("{what}: {error}"))
        };
        Ok(Donors { ipc: ipc.map_err(joining("IPC"))?, pid: pid.map_err(joining("PID"))? })
    }

    /// The first process of a container that runs, and its IPC mode.
    fn donor(&self, name: &str) -> Result<(u32, String), Error> {
        let container = self.find(name)?;
        let (status, pid) = {
            let state = container.state();
            (state.status, state.pid)
        };
        match status {
            Status::Running | Status::Paused if pid != 0 => Ok((pid, container.record().host_config.ipc_mode.clone())),
            Status::Restarting => {
                Err(Error::conflict(format!("Container {name} is restarting, wait until the container is running")))
            }
            _ => Err(Error::not_running(container.id.as_str())),
        }
    }

    fn ipc_donor(&self, name: &str) -> Result<u32, Error> {
        let (pid, mode) = self.donor(name)?;
        // One that joined itself passes on what it joined.
        match mode.as_str() {
            "shareable" => Ok(pid),
            mode if named(mode).is_some() => Ok(pid),
            _ => Err(Error::invalid(format!(
                "container {name}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        assert_eq!(named("container:web"), Some("web"));
        assert_eq!(named("container:"), None);
        assert_eq!(named("host"), None);
    }
}
