//! What is remembered about a container, and how it survives.
//!
//! `record.json` is what was asked for: written once at create, again when the
//! container is renamed. `state.json` is what became of it: written at every
//! start and end. Both are replaced by rename, so that killing the
//! daemon never leaves half a file. Only what must survive a power cut is
//! synced; a container with `AutoRemove` never is. A state that was lost in a
//! power cut reads as "not running", which after a power cut is true.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use budu_network::Sandbox;
use budu_spec::Id;
use budu_spec::docker::{ContainerConfig, Health, HostConfig, NetworkingConfig, Why};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::mounts::Point;
use crate::Error;

/// Name of the file with a [`Record`].
pub(crate) const RECORD_FILE: &str = "record.json";
/// Name of the file with a [`State`].
pub(crate) const STATE_FILE: &str = "state.json";

/// What was asked for, with the image's defaults merged in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Id.
    pub(crate) id: Id,
    /// Name, without slash.
    pub(crate) name: String,
    /// Unix time of creation, nanoseconds.
    pub(crate) created: i64,
    /// Id of the image.
    pub(crate) image_id: String,
    /// Program.
    pub(crate) path: String,
    /// Its arguments.
    pub(crate) args: Vec<String>,
    /// Merged configuration.
    pub(crate) config: ContainerConfig,
    /// Host part, with the defaults filled in.
    pub(crate) host_config: HostConfig,
    /// Wished endpoints.
    #[serde(default)]
    pub(crate) networking: NetworkingConfig,
    /// What is mounted, resolved.
    #[serde(default)]
    pub(crate) points: Vec<Point>,
}

impl Record {
    /// Whether its records must survive a power cut.
    pub(crate) fn durable(&self) -> bool {
        !self.host_config.auto_remove
    }
}

/// The states a container can be in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// Never started, or its start failed.
    #[default]
    Created,
    /// Its process lives.
    Running,
    /// Its processes are frozen.
    Paused,
    /// It ended and will be started again by its policy.
    Restarting,
    /// It is being removed.
    Removing,
    /// Its process ended.
    Exited,
    /// It could not be removed.
    Dead,
}

impl Status {
    /// The word Docker uses.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Restarting => "restarting",
            Status::Removing => "removing",
            Status::Exited => "exited",
            Status::Dead => "dead",
        }
    }

    /// Docker calls paused and restarting containers running too.
    pub(crate) fn is_running(self) -> bool {
        matches!(self, Status::Running | Status::Paused | Status::Restarting)
    }
}

/// What became of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    /// State.
    pub(crate) status: Status,
    /// Process id on the host, 0 when not running.
    pub(crate) pid: u32,
    /// Exit code of the last run.
    pub(crate) exit_code: i32,
    /// Why the last start failed.
    pub(crate) error: String,
    /// The kernel killed it for want of memory.
    pub(crate) oom_killed: bool,
    /// Unix time, nanoseconds; 0 is never.
    pub(crate) started_at: i64,
    /// Unix time, nanoseconds; 0 is never.
    pub(crate) finished_at: i64,
    /// Restarts by policy since it was last started by hand.
    pub(crate) restart_count: i64,
    /// Ends in a row, each soon after its start.
    pub(crate) failures: u32,
    /// Somebody stopped it: the policy `unless-stopped` leaves it alone.
    pub(crate) stopped_by_hand: bool,
    /// Its places in its networks, while it runs.
    pub(crate) sandbox: Option<Sandbox>,
    /// What its probes said, once it was started with a health check.
    pub(crate) health: Option<Health>,
    /// Why it ended last, or could not be started.
    pub(crate) why: Option<Why>,
}

/// Writes `value` to `dir/name` by rename; `durable` syncs file and directory.
pub(crate) fn save<T: Serialize>(dir: &Path, name: &str, value: &T, durable: bool) -> Result<(), Error> {
    let path = dir.join(name);
    let bytes = serde_json::to_vec(value).expect("records are plain data with string keys");
    replace(dir, &path, &bytes, durable).map_err(Error::io("write", &path))
}

fn replace(dir: &Path, path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let publish = || {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        if durable {
            file.sync_data()?;
        }
        fs::rename(&temporary, path)
    };
    publish().inspect_err(|_| _ = fs::remove_file(&temporary))?;
    if durable { File::open(dir)?.sync_all() } else { Ok(()) }
}

/// Reads `dir/name`; `None` when it is missing or no whole record.
pub(crate) fn load<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<Option<T>, Error> {
    let path = dir.join(name);
    match fs::read(&path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", &path)(e)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn record(name: &str) -> Record {
        Record {
            id: Id::random(),
            name: name.to_owned(),
            created: 1_700_000_000_000_000_000,
            image_id: "sha256:0".to_owned(),
            path: "true".to_owned(),
            args: Vec::new(),
            config: ContainerConfig::default(),
            host_config: HostConfig::default(),
            networking: NetworkingConfig::default(),
            points: Vec::new(),
        }
    }

    #[test]
    fn records_come_back_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let written = record("web");
        save(dir.path(), RECORD_FILE, &written, true).unwrap();
        assert_eq!(load::<Record>(dir.path(), RECORD_FILE).unwrap(), Some(written));
        assert_eq!(load::<State>(dir.path(), STATE_FILE).unwrap(), None);
    }

    #[test]
    fn half_a_file_reads_as_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(STATE_FILE), b"{\"status\":\"runn").unwrap();
        assert_eq!(load::<State>(dir.path(), STATE_FILE).unwrap(), None);
    }

    #[test]
    fn a_state_of_an_older_version_still_loads() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(STATE_FILE), b"{\"status\":\"exited\",\"exit_code\":3,\"unknown\":1}").unwrap();
        let state = load::<State>(dir.path(), STATE_FILE).unwrap().unwrap();
        assert_eq!((state.status, state.exit_code), (Status::Exited, 3));
    }
}
