//! Update: other limits and another restart policy, also while it runs.

use budu_runtime::limits;
use budu_spec::docker::{ApiVersion, ContainerUpdate, HostConfig, Resources};
use budu_spec::oci;

use super::record::{Record, Status};
use super::{Container, resources, spec, validate};
use crate::{Engine, Error};

impl Engine {
    /// Changes what a request has; everything else stays. Returns warnings.
    /// When the kernel refuses, all is as before.
    ///
    /// # Errors
    /// [`Error::Invalid`] for values that make no sense, [`Error::Conflict`]
    /// for those that do not go with the others.
    pub async fn update(&self, name: &str, wish: ContainerUpdate, version: ApiVersion) -> Result<Vec<String>, Error> {
        let mut wish = wish;
        let mut warnings = Vec::new();
        if version < ApiVersion::new(55) {
            forget_devices(&mut wish.resources);
        }
        resources::validate(&mut wish.resources, resources::Purpose::Update, &mut warnings)?;
        validate::restart(&HostConfig { restart_policy: wish.restart_policy.clone(), ..HostConfig::default() })?;
        let container = self.find(name)?;
        let cannot = |error: Error| error.prefixed(&format!("Cannot update container {}", container.id));
        let _turn = container.turn.lock().await;
        let status = container.state().status;
        if matches!(status, Status::Removing | Status::Dead) {
            return Err(cannot(Error::conflict("container is marked for removal and cannot be \"update\"")));
        }
        let before = container.record();
        let mut host = before.host_config.clone();
        merge(&mut host, &wish).map_err(cannot)?;
        validate::restart(&host)?;
        self.save_record(&container, Record { host_config: host, ..Record::clone(&before) }).map_err(cannot)?;
        if matches!(status, Status::Running | Status::Paused)
            && let Err(error) = self.limit(&container, &before, &wish.resources)
        {
            self.restore_record(&container, before);
            return Err(cannot(error));
        }
        self.tell(&container, "update", &[]);
        Ok(warnings)
    }

    /// Tells the kernel.
    fn limit(&self, container: &Container, before: &Record, wish: &Resources) -> Result<(), Error> {
        let path = spec::cgroup_path(before, &self.options().cgroup_parent);
        let asked = HostConfig { resources: wish.clone(), ..HostConfig::default() };
        let change = oci::Resources { pids: pids(wish), devices: Vec::new(), ..resources::oci(&asked)? };
        limits::change(&path, &resources::oci(&before.host_config)?, &change).map_err(|failure| {
            tracing::warn!(container = %container.id, message = failure.message, "limits were not changed");
            Error::Runtime { message: failure.message }
        })
    }
}

/// No limit is also something to ask for.
fn pids(wish: &Resources) -> Option<oci::Pids> {
    wish.pids_limit.map(|limit| oci::Pids { limit: if limit <= 0 { -1 } else { limit } })
}

/// Older clients could not ask for these.
fn forget_devices(wish: &mut Resources) {
    wish.blkio_weight_device.clear();
    wish.blkio_device_read_bps.clear();
    wish.blkio_device_write_bps.clear();
    wish.blkio_device_read_iops.clear();
    wish.blkio_device_write_iops.clear();
}

/// Takes over what a request has, where it goes with what is there.
fn merge(host: &mut HostConfig, wish: &ContainerUpdate) -> Result<(), Error> {
    let (all, new) = (&mut host.resources, &wish.resources);
    let both = |what: &str, with: &str| {
        Err(Error::conflict(format!("Conflicting options: {what} cannot be updated as {with} has already been set")))
    };
    if new.nano_cpus > 0 && all.cpu_period > 0 {
        return both("Nano CPUs", "CPU Period");
    }
    if new.nano_cpus > 0 && all.cpu_quota > 0 {
        return both("Nano CPUs", "CPU Quota");
    }
    if new.cpu_period > 0 && all.nano_cpus > 0 {
        return both("CPU Period", "NanoCPUs");
    }
    if new.cpu_quota > 0 && all.nano_cpus > 0 {
        return both("CPU Quota", "NanoCPUs");
    }
    if new.memory != 0 && new.memory > all.memory_swap && new.memory_swap == 0 {
        return Err(Error::conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ));
    }
    if host.auto_remove && !matches!(wish.restart_policy.name.as_str(), "" | "no") {
        return Err(Error::conflict(
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        ));
    }
    numbers(all, new);
    lists(all, new);
    if !wish.restart_policy.name.is_empty() {
        host.restart_policy = wish.restart_policy.clone();
    }
    Ok(())
}

fn numbers(all: &mut Resources, new: &Resources) {
    for (place, value) in [
        (&mut all.cpu_shares, new.cpu_shares),
        (&mut all.nano_cpus, new.nano_cpus),
        (&mut all.cpu_period, new.cpu_period),
        (&mut all.cpu_quota, new.cpu_quota),
        (&mut all.cpu_realtime_period, new.cpu_realtime_period),
        (&mut all.cpu_realtime_runtime, new.cpu_realtime_runtime),
        (&mut all.memory, new.memory),
        (&mut all.memory_swap, new.memory_swap),
        (&mut all.memory_reservation, new.memory_reservation),
    ] {
        if value != 0 {
            *place = value;
        }
    }
    if new.blkio_weight != 0 {
        all.blkio_weight = new.blkio_weight;
    }
    if new.pids_limit.is_some() {
        all.pids_limit = new.pids_limit;
    }
    if new.memory_swappiness.is_some_and(|n| n >= 0) {
        all.memory_swappiness = new.memory_swappiness;
    }
}

fn lists(all: &mut Resources, new: &Resources) {
    for (place, value) in [(&mut all.cpuset_cpus, &new.cpuset_cpus), (&mut all.cpuset_mems, &new.cpuset_mems)] {
        if !value.is_empty() {
            place.clone_from(value);
        }
    }
    if !new.blkio_weight_device.is_empty() {
        all.blkio_weight_device.clone_from(&new.blkio_weight_device);
    }
    for (place, value) in [
        (&mut all.blkio_device_read_bps, &new.blkio_device_read_bps),
        (&mut all.blkio_device_write_bps, &new.blkio_device_write_bps),
        (&mut all.blkio_device_read_iops, &new.blkio_device_read_iops),
        (&mut all.blkio_device_write_iops, &new.blkio_device_write_iops),
    ] {
        if !value.is_empty() {
            place.clone_from(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(json: &str) -> ContainerUpdate {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_a_request_has_is_taken_over() {
        let mut host = HostConfig::default();
        host.resources.cpuset_cpus = "0".into();
        host.restart_policy.name = "no".into();
        merge(
            &mut host,
            &update(r#"{"CpuShares":512,"PidsLimit":0,"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":4}}"#),
        )
        .unwrap();
        assert_eq!((host.resources.cpu_shares, host.resources.pids_limit), (512, Some(0)));
        assert_eq!((host.restart_policy.name.as_str(), host.restart_policy.maximum_retry_count), ("on-failure", 4));
        assert_eq!(host.resources.cpuset_cpus, "0");
        assert_eq!(pids(&update(r#"{"PidsLimit":0}"#).resources).unwrap().limit, -1);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (have, wish, text) in [
            (
                r#"{"NanoCpus":1000}"#,
                r#"{"CpuQuota":5000}"#,
                "CPU Quota cannot be updated as NanoCPUs has already been set",
            ),
            (
                r#"{"CpuPeriod":5000}"#,
                r#"{"NanoCpus":1000}"#,
                "Nano CPUs cannot be updated as CPU Period has already been set",
            ),
            (
                r#"{"MemorySwap":8388608}"#,
                r#"{"Memory":16777216}"#,
                "Memory limit should be smaller than already set memoryswap limit",
            ),
            (
                r#"{"AutoRemove":true}"#,
                r#"{"RestartPolicy":{"Name":"always"}}"#,
                "Restart policy cannot be updated because AutoRemove is enabled",
            ),
        ] {
            let mut host: HostConfig = serde_json::from_str(have).unwrap();
            let error = merge(&mut host, &update(wish)).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
