//! The engine itself.

use std::collections::BTreeMap;

use budu_spec::docker::{ApiVersion, Component, Info, InfoPlugins, PlatformName, Version};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderName, HeaderValue, PRAGMA};
use serde_json::json;

use crate::http::{Body, Call, Reply, ok, typed};
use crate::{VERSION, host};

/// `GET /_ping`, `HEAD /_ping`.
pub(crate) async fn ping(_: Call) -> Reply {
    let mut response = typed(StatusCode::OK, "text/plain; charset=utf-8", Body::full("OK"));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(HeaderName::from_static("builder-version"), HeaderValue::from_static("1"));
    headers.insert(HeaderName::from_static("swarm"), HeaderValue::from_static("inactive"));
    Ok(response)
}

/// `GET /version`.
pub(crate) async fn version(call: Call) -> Reply {
    let facts = &call.app.host;
    let details: BTreeMap<String, String> = [
        ("ApiVersion", ApiVersion::MAX.to_string()),
        ("Arch", host::arch().to_owned()),
        ("BuildTime", String::new()),
        ("Experimental", "false".to_owned()),
        ("GitCommit", String::new()),
        ("GoVersion", String::new()),
        ("KernelVersion", facts.kernel.clone()),
        ("MinAPIVersion", ApiVersion::MIN.to_string()),
        ("Os", "linux".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    ok(&Version {
        platform: PlatformName { name: "Budu".to_owned() },
        components: vec![Component { name: "Engine".to_owned(), version: VERSION.to_owned(), details }],
        version: VERSION.to_owned(),
        api_version: ApiVersion::MAX.to_string(),
        min_api_version: ApiVersion::MIN.to_string(),
        os: "linux".to_owned(),
        arch: host::arch().to_owned(),
        kernel_version: facts.kernel.clone(),
        ..Version::default()
    })
}

/// `GET /info`.
pub(crate) async fn info(call: Call) -> Reply {
    let (app, config) = (&call.app, &call.app.config);
    let (facts, limits) = (&app.host, &app.host.limits);
    let tally = app.engine.tally();
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let forwarding = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|t| t.trim() == "1");
    let v2 = limits.cgroup_version == 2;
    ok(&Info {
        id: app.id.clone(),
        containers: count(tally.running + tally.paused + tally.stopped),
        containers_running: count(tally.running),
        containers_paused: count(tally.paused),
        containers_stopped: count(tally.stopped),
        images: count(app.engine.images().list()?.len()),
        driver: "overlayfs".to_owned(),
        driver_status: vec![["driver-type".to_owned(), "io.containerd.snapshotter.v1".to_owned()]],
        plugins: plugins(),
        memory_limit: limits.memory,
        swap_limit: limits.memory,
        cpu_cfs_period: limits.cpu,
        cpu_cfs_quota: limits.cpu,
        cpu_shares: limits.cpu,
        cpu_set: limits.cpuset,
        pids_limit: limits.pids,
        oom_kill_disable: limits.memory && !v2,
        ipv4_forwarding: forwarding,
        debug: config.debug,
        n_fd: std::fs::read_dir("/proc/self/fd").map_or(-1, |d| count(d.count())),
        n_goroutines: count(tokio::runtime::Handle::current().metrics().num_alive_tasks()),
        system_time: budu_spec::units::rfc3339_nano(jiff::Timestamp::now()),
        logging_driver: config.log_driver.clone(),
        cgroup_driver: "cgroupfs".to_owned(),
        cgroup_version: limits.cgroup_version.to_string(),
        n_events_listener: count(app.engine.events().listeners()),
        kernel_version: facts.kernel.clone(),
        operating_system: facts.system.clone(),
        os_version: facts.system_version.clone(),
        os_type: "linux".to_owned(),
        architecture: facts.machine.clone(),
        index_server_address: "https://index.docker.io/v1/".to_owned(),
        registry_config: registries(&config.insecure_registries),
        ncpu: count(facts.cpus),
        mem_total: facts.memory,
        docker_root_dir: config.data_root.to_string_lossy().into_owned(),
        name: facts.name.clone(),
        labels: config.labels.clone(),
        server_version: VERSION.to_owned(),
        runtimes: [("budu".to_owned(), json!({"path": "budu"}))].into(),
        default_runtime: "budu".to_owned(),
        swarm: json!({"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "", "RemoteManagers": null}),
        live_restore_enabled: config.live_restore,
        init_binary: "budu".to_owned(),
        security_options: security_options(),
        ..Info::default()
    })
}

fn plugins() -> InfoPlugins {
    let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect();
    InfoPlugins {
        network: names(&["bridge", "host", "null"]),
        log: names(&["json-file", "none"]),
        ..InfoPlugins::default()
    }
}

/// What contains a container by default. A cgroup namespace is private on
/// cgroup version 1 too.
fn security_options() -> Vec<String> {
    ["name=seccomp,profile=builtin", "name=cgroupns"].map(str::to_owned).to_vec()
}

fn registries(insecure: &[String]) -> serde_json::Value {
    let mut index: serde_json::Map<String, serde_json::Value> = insecure
        .iter()
        .map(|name| (name.clone(), json!({"Name": name, "Mirrors": [], "Secure": false, "Official": false})))
        .collect();
    index.insert("docker.io".to_owned(), json!({"Name": "docker.io", "Mirrors": [], "Secure": true, "Official": true}));
    json!({"InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"], "IndexConfigs": index, "Mirrors": []})
}
