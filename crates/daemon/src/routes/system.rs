//! The engine itself.

use std::collections::BTreeMap;
use std::iter;

use budu_spec::docker::{ApiVersion, Component, Info, InfoPlugins, PlatformName, Version};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderName, HeaderValue, PRAGMA};
use serde_json::{Value, json};

use crate::config::Config;
use crate::config::live::masked;
use crate::http::{Body, Call, Failure, Reply, ok, typed};
use crate::{App, VERSION, gate, host};

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

/// `GET /metrics`: what the port of the metrics serves.
pub(crate) async fn metrics(call: Call) -> Reply {
    Ok(crate::metrics::answer(&call.app).await)
}

/// `GET /version`.
pub(crate) async fn version(call: Call) -> Reply {
    let (facts, config) = (&call.app.host, call.app.config.get());
    let built = build_time();
    let details: BTreeMap<String, String> = [
        ("ApiVersion", ApiVersion::MAX.to_string()),
        ("Arch", host::arch().to_owned()),
        ("BuildTime", built.clone()),
        ("Experimental", config.experimental.to_string()),
        ("GitCommit", COMMIT.to_owned()),
        ("GoVersion", COMPILER.to_owned()),
        ("KernelVersion", facts.kernel.clone()),
        ("MinAPIVersion", config.min_api_version.to_string()),
        ("Os", "linux".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    ok(&Version {
        platform: PlatformName { name: "Budu".to_owned() },
        components: vec![Component { name: "Engine".to_owned(), version: VERSION.to_owned(), details }],
        version: VERSION.to_owned(),
        api_version: ApiVersion::MAX.to_string(),
        min_api_version: config.min_api_version.to_string(),
        git_commit: COMMIT.to_owned(),
        go_version: COMPILER.to_owned(),
        os: "linux".to_owned(),
        arch: host::arch().to_owned(),
        kernel_version: facts.kernel.clone(),
        experimental: config.experimental,
        build_time: built,
    })
}

/// Commit the binary was built from, where the build said so.
const COMMIT: &str = env!("BUDU_COMMIT");
/// The compiler, where Docker names its Go version.
const COMPILER: &str = env!("BUDU_COMPILER");

/// When the binary was built, where the build said so.
fn build_time() -> String {
    let seconds = env!("SOURCE_DATE_EPOCH").parse().ok();
    let time = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map(budu_spec::units::rfc3339_nano).unwrap_or_default()
}

/// `GET /info`.
pub(crate) async fn info(call: Call) -> Reply {
    let config = call.app.config.get();
    let info = facts(&call, &config)?;
    let mut value = serde_json::to_value(&info).map_err(|error| Failure::internal(error.to_string()))?;
    value["FirewallBackend"] = json!({"Driver": "nftables"});
    if !config.address_pools.is_empty() {
        let pools = config.address_pools.iter().map(|(base, size)| json!({"Base": base.to_string(), "Size": size}));
        value["DefaultAddressPools"] = pools.collect();
    }
    for runtime in value["Runtimes"].as_object_mut().into_iter().flat_map(|map| map.values_mut()) {
        runtime["status"] = json!({"org.opencontainers.runtime-spec.features": "{}"});
    }
    gate::info(&mut value, call.version);
    ok(&value)
}

fn facts(call: &Call, config: &Config) -> Result<Info, Failure> {
    let app = &call.app;
    let (facts, limits) = (&app.host, &app.host.limits);
    let tally = app.engine.tally();
    let v2 = limits.cgroup_version == 2;
    Ok(Info {
        id: app.id.clone(),
        containers: count(tally.running + tally.paused + tally.stopped),
        containers_running: count(tally.running),
        containers_paused: count(tally.paused),
        containers_stopped: count(tally.stopped),
        images: count(app.engine.images().list()?.len()),
        driver: "overlayfs".to_owned(),
        driver_status: vec![["driver-type".to_owned(), "io.containerd.snapshotter.v1".to_owned()]],
        plugins: plugins(app, config),
        memory_limit: limits.memory,
        swap_limit: limits.memory,
        cpu_cfs_period: limits.cpu,
        cpu_cfs_quota: limits.cpu,
        cpu_shares: limits.cpu,
        cpu_set: limits.cpuset,
        pids_limit: limits.pids,
        oom_kill_disable: limits.memory && !v2,
        ipv4_forwarding: config.ip_forward || forwards(),
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
        registry_config: registries(config),
        ncpu: count(facts.cpus),
        mem_total: facts.memory,
        docker_root_dir: config.data_root.to_string_lossy().into_owned(),
        http_proxy: masked(&proxy(&config.proxies.http, "HTTP_PROXY")),
        https_proxy: masked(&proxy(&config.proxies.https, "HTTPS_PROXY")),
        no_proxy: proxy(&config.proxies.none, "NO_PROXY"),
        name: facts.name.clone(),
        labels: config.labels.clone(),
        experimental_build: config.experimental,
        server_version: VERSION.to_owned(),
        runtimes: runtimes(config),
        default_runtime: config.default_runtime.clone(),
        swarm: json!({"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "", "RemoteManagers": null}),
        live_restore_enabled: config.live_restore,
        init_binary: "budu".to_owned(),
        security_options: security_options(config),
        cdi_spec_dirs: app.engine.options().cdi_directories.iter().map(|dir| dir.display().to_string()).collect(),
        warnings: Some(warnings(config, limits)).filter(|list| !list.is_empty()),
        ..Info::default()
    })
}

/// Whether the host forwards. Where the daemon may switch it on, the first container on a bridge does, and nobody need
/// be told that it is off.
fn forwards() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|text| text.trim() == "1")
}

/// What was configured, else what the environment says.
fn proxy(told: &str, name: &str) -> String {
    let variable = || std::env::var(name).or_else(|_| std::env::var(name.to_ascii_lowercase())).ok();
    Some(told.to_owned()).filter(|told| !told.is_empty()).or_else(variable).unwrap_or_default()
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn plugins(app: &App, config: &Config) -> InfoPlugins {
    let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect();
    let authorization = &config.authorization_plugins;
    InfoPlugins {
        volume: iter::once("local".to_owned()).chain(app.engine.plugins().known("VolumeDriver")).collect(),
        network: names(&["bridge", "host", "null"]),
        authorization: (!authorization.is_empty()).then(|| authorization.clone()),
        // That nothing is kept is no driver, as Docker sees it.
        log: names(budu_engine::log::DRIVERS).into_iter().filter(|name| name != "none").collect(),
    }
}

fn runtimes(config: &Config) -> BTreeMap<String, Value> {
    // Create takes Docker's names for the one runtime there is: tools look for them here before they ask.
    let own = ["budu", "runc", "io.containerd.runc.v2"].map(|name| (name.to_owned(), json!({"path": "budu"})));
    config.runtimes.clone().into_iter().chain(own).collect()
}

/// What contains a container by default. A cgroup namespace is private on
/// cgroup version 1 too.
fn security_options(config: &Config) -> Vec<String> {
    let mut options = vec!["name=seccomp,profile=builtin".to_owned()];
    if config.default_cgroupns_mode == "private" {
        options.push("name=cgroupns".to_owned());
    }
    if config.no_new_privileges {
        options.push("name=no-new-privileges".to_owned());
    }
    options
}

/// What this machine or its settings lack.
fn warnings(config: &Config, limits: &budu_engine::Host) -> Vec<String> {
    let mut list = Vec::new();
    for (there, what) in [
        (limits.memory, "memory limit"),
        (limits.memory, "swap limit"),
        (limits.cpu, "cpu cfs quota"),
        (limits.cpu, "cpu cfs period"),
        (limits.cpu, "cpu shares"),
        (limits.cpuset, "cpuset"),
        (limits.pids, "pids limit"),
    ] {
        if !there {
            list.push(format!("WARNING: No {what} support"));
        }
    }
    if config.unauthenticated_tcp && !config.tls_verify {
        for host in config.hosts.iter().filter(|host| host.starts_with("tcp://")) {
            list.push(format!(
                "WARNING: API is accessible on {host} without authentication: access to the remote API is equivalent to root access on the host"
            ));
        }
    }
    list
}

fn registries(config: &Config) -> Value {
    let mut index: serde_json::Map<String, Value> = config
        .insecure_registries
        .iter()
        .map(|name| (name.clone(), json!({"Name": name, "Mirrors": [], "Secure": false, "Official": false})))
        .collect();
    let mirrors = config.registry_mirrors.iter().map(|mirror| format!("{}/", mirror.trim_end_matches('/')));
    let mirrors: Vec<String> = mirrors.collect();
    index.insert(
        "docker.io".to_owned(),
        json!({"Name": "docker.io", "Mirrors": mirrors, "Secure": true, "Official": true}),
    );
    json!({"InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"], "IndexConfigs": index, "Mirrors": mirrors})
}
