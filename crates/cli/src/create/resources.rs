//! Limits, devices and the health check.

use std::collections::BTreeMap;

use budu_spec::docker::{DeviceMapping, DeviceRequest, HealthConfig, Resources, Ulimit};

use super::flags::ContainerFlags;
use crate::error::Error;

/// The limits.
pub(super) fn plan(flags: &ContainerFlags) -> Result<Resources, Error> {
    let swappiness = flags.memory_swappiness;
    if swappiness != -1 && !(0..=100).contains(&swappiness) {
        return Err(Error::new(format_args!("invalid value: {swappiness}. Valid memory swappiness range is 0-100")));
    }
    let (requests, devices): (Vec<&String>, Vec<&String>) = flags.device.iter().partition(|text| is_cdi(text));
    let mut device_requests = flags.gpus.clone();
    if !requests.is_empty() {
        device_requests.push(DeviceRequest {
            driver: "cdi".to_owned(),
            device_ids: Some(requests.into_iter().cloned().collect()),
            ..DeviceRequest::default()
        });
    }
    let text = |flag: &Option<String>| flag.clone().unwrap_or_default();
    Ok(Resources {
        cpu_shares: flags.cpu_shares.unwrap_or_default(),
        memory: flags.memory.unwrap_or_default(),
        nano_cpus: flags.cpus.unwrap_or_default(),
        cgroup_parent: text(&flags.cgroup_parent),
        blkio_weight: flags.blkio_weight.unwrap_or_default(),
        blkio_weight_device: flags.blkio_weight_device.clone(),
        blkio_device_read_bps: flags.device_read_bps.clone(),
        blkio_device_write_bps: flags.device_write_bps.clone(),
        blkio_device_read_iops: flags.device_read_iops.clone(),
        blkio_device_write_iops: flags.device_write_iops.clone(),
        cpu_period: flags.cpu_period.unwrap_or_default(),
        cpu_quota: flags.cpu_quota.unwrap_or_default(),
        cpu_realtime_period: flags.cpu_rt_period.unwrap_or_default(),
        cpu_realtime_runtime: flags.cpu_rt_runtime.unwrap_or_default(),
        cpuset_cpus: text(&flags.cpuset_cpus),
        cpuset_mems: text(&flags.cpuset_mems),
        devices: devices.into_iter().map(|text| device(text)).collect::<Result<_, _>>()?,
        device_cgroup_rules: some(&flags.device_cgroup_rule),
        device_requests: (!device_requests.is_empty()).then_some(device_requests),
        memory_reservation: flags.memory_reservation.unwrap_or_default(),
        memory_swap: flags.memory_swap.unwrap_or_default(),
        memory_swappiness: Some(swappiness),
        oom_kill_disable: Some(flags.oom_kill_disable),
        pids_limit: Some(flags.pids_limit.unwrap_or_default()),
        ulimits: ulimits(&flags.ulimit),
        cpu_count: flags.cpu_count.unwrap_or_default(),
        cpu_percent: flags.cpu_percent.unwrap_or_default(),
        io_maximum_iops: flags.io_maxiops.unwrap_or_default(),
        io_maximum_bandwidth: flags.io_maxbandwidth.and_then(|n| u64::try_from(n).ok()).unwrap_or_default(),
    })
}

/// One limit per name, the last one given, in the order of names.
fn ulimits(given: &[Ulimit]) -> Vec<Ulimit> {
    let by_name: BTreeMap<&str, &Ulimit> = given.iter().map(|limit| (limit.name.as_str(), limit)).collect();
    by_name.into_values().cloned().collect()
}

/// A list, or `null` when it is empty.
pub(super) fn some(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}

/// `vendor.com/class=name` asks for a device by its CDI name.
fn is_cdi(text: &str) -> bool {
    !text.starts_with('/') && text.contains('=') && text.contains('/')
}

/// `path[:path inside][:rwm]`
fn device(text: &str) -> Result<DeviceMapping, Error> {
    let invalid = || Error::new(format_args!("invalid device specification: {text}"));
    let access = |text: &str| !text.is_empty() && text.bytes().all(|b| b"rwm".contains(&b));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, inside, permissions) = match parts.as_slice() {
        [source, inside, permissions] if access(permissions) => (*source, *inside, *permissions),
        [_, _, permissions] => return Err(Error::new(format_args!("invalid device mode: {permissions}"))),
        [source, second] if access(second) => (*source, "", *second),
        [source, inside] => (*source, *inside, "rwm"),
        [source] if !source.is_empty() => (*source, "", "rwm"),
        _ => return Err(invalid()),
    };
    let inside = if inside.is_empty() { source } else { inside };
    if !inside.starts_with('/') {
        return Err(Error::new(format_args!("{inside} is not an absolute path")));
    }
    Ok(DeviceMapping {
        path_on_host: source.to_owned(),
        path_in_container: inside.to_owned(),
        cgroup_permissions: permissions.to_owned(),
    })
}

/// The health check, when any of its flags is given.
pub(super) fn health(flags: &ContainerFlags) -> Result<Option<HealthConfig>, Error> {
    let durations = [
        (&flags.health_interval, "--health-interval"),
        (&flags.health_timeout, "--health-timeout"),
        (&flags.health_start_period, "--health-start-period"),
        (&flags.health_start_interval, "--health-start-interval"),
    ];
    let set =
        flags.health_cmd.is_some() || flags.health_retries.is_some() || durations.iter().any(|(d, _)| d.is_some());
    if flags.no_healthcheck {
        if set {
            return Err(Error::new("--no-healthcheck conflicts with --health-* options"));
        }
        return Ok(Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }));
    }
    if !set {
        return Ok(None);
    }
    if let Some((_, name)) = durations.iter().find(|(duration, _)| duration.is_some_and(|nanos| nanos < 0)) {
        return Err(Error::new(format_args!("{name} cannot be negative")));
    }
    if flags.health_retries.is_some_and(|retries| retries < 0) {
        return Err(Error::new("--health-retries cannot be negative"));
    }
    let command = flags.health_cmd.clone().filter(|text| !text.is_empty());
    let positive = |value: Option<i64>| value.filter(|n| *n != 0);
    Ok(Some(HealthConfig {
        test: command.map(|command| vec!["CMD-SHELL".to_owned(), command]),
        interval: positive(flags.health_interval),
        timeout: positive(flags.health_timeout),
        start_period: positive(flags.health_start_period),
        start_interval: positive(flags.health_start_interval),
        retries: positive(flags.health_retries),
    }))
}
