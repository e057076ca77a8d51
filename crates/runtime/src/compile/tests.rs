use serde_json::json;

use super::*;
use crate::plan::{CgroupPlan, DeviceRule, IdmapPlan, MountPlan, MountSource, UserPlan};

fn minimal() -> oci::Spec {
    let mount = oci::Namespace { kind: "mount".into(), path: String::new() };
    oci::Spec {
        root: Some(oci::Root { path: "/r".into(), readonly: true }),
        process: Some(oci::Process { args: vec!["sh".into()], cwd: "/".into(), ..Default::default() }),
        linux: Some(oci::Linux { namespaces: vec![mount], ..Default::default() }),
        ..Default::default()
    }
}

fn message(spec: &oci::Spec) -> String {
    container(spec, Extras::default()).unwrap_err().to_string()
}

#[test]
fn what_is_wrong_is_named() {
    let mut spec = minimal();
    spec.process.as_mut().unwrap().cwd = "relative".into();
    assert_eq!(message(&spec), "invalid container configuration: process.cwd: \"relative\" is not absolute");
    let mut spec = minimal();
    spec.linux.as_mut().unwrap().namespaces.push(oci::Namespace { kind: "mount".into(), path: String::new() });
    assert!(message(&spec).contains("mount is given twice"));
    let mut spec = minimal();
    spec.linux.as_mut().unwrap().sysctl.insert("net.../../kernel.core_pattern".into(), "x".into());
    assert!(message(&spec).contains("linux.sysctl"));
    let mut spec = minimal();
    spec.process.as_mut().unwrap().rlimits.push(oci::Rlimit { kind: "RLIMIT_NOFILE".into(), hard: 1, soft: 2 });
    assert!(message(&spec).contains("NOFILE: soft limit is above"));
}

#[test]
fn mounts_become_attributes_and_parameters() {
    let mut spec = minimal();
    spec.mounts.push(oci::Mount {
        destination: "/tmp".into(),
        kind: "tmpfs".into(),
        source: "tmpfs".into(),
        options: ["nosuid", "noexec", "size=64k", "mode=1777"].map(String::from).to_vec(),
        ..Default::default()
    });
    spec.mounts.push(oci::Mount {
        destination: "/data".into(),
        kind: "bind".into(),
        source: "/srv".into(),
        options: ["rbind", "ro", "rslave"].map(String::from).to_vec(),
        ..Default::default()
    });
    let plan = container(&spec, Extras::default()).unwrap();
    assert_eq!(plan.mounts[0].set, 0x2 | 0x8);
    let options = vec![("size".into(), Some("64k".into())), ("mode".into(), Some("1777".into()))];
    assert!(matches!(&plan.mounts[0].source, MountSource::New { options: got, .. } if *got == options));
    assert_eq!(plan.mounts[1].source, MountSource::Bind { path: "/srv".into(), recursive: true });
    assert_eq!(plan.mounts[1].set, 0x1);
    assert_eq!(plan.mounts[1].propagation, 1 << 19 | 0x4000);
    assert_eq!(plan.rootfs, Rootfs::Directory { path: "/r".into(), readonly: true, in_place: false });
}

fn bundle() -> Bundle {
    Bundle { path: "/b".into(), ..Bundle::default() }
}

/// A container of a bundle that has these members besides what a small one has.
fn with(members: serde_json::Value, bundle: Bundle) -> Result<Plan, CompileError> {
    let mut config = serde_json::json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"args": ["sh"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
        "linux": {"namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "ipc"}, {"type": "network"}]}
    });
    merge(&mut config, members);
    let spec: oci::Spec = oci::decode(config.to_string().as_bytes()).unwrap();
    container(&spec, Extras { id: "id".into(), bundle: Some(bundle), ..Extras::default() })
}

fn merge(into: &mut serde_json::Value, more: serde_json::Value) {
    match (into, more) {
        (serde_json::Value::Object(into), serde_json::Value::Object(more)) => {
            for (name, value) in more {
                merge(into.entry(name).or_insert(serde_json::Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

fn planned(members: serde_json::Value) -> Plan {
    with(members, bundle()).unwrap()
}

fn refused(members: serde_json::Value) -> String {
    with(members, bundle()).unwrap_err().to_string()
}

fn mounted(mount: serde_json::Value) -> MountPlan {
    planned(json!({"mounts": [mount]})).mounts.remove(0)
}

#[test]
fn a_bundle_is_where_things_are() {
    let plan = planned(json!({"mounts": [{"destination": "data", "source": "data", "options": ["bind"]}]}));
    assert_eq!(plan.rootfs, Rootfs::Directory { path: "/b/rootfs".into(), readonly: false, in_place: true });
    assert_eq!(plan.mounts[0].target, "/data");
    assert_eq!(plan.mounts[0].source, MountSource::Bind { path: "/b/data".into(), recursive: false });
    assert_eq!((plan.cgroup.path.as_str(), plan.cgroup.under_own), ("id", true));
    assert_eq!(plan.about.bundle, PathBuf::from("/b"));
    let plan = planned(json!({"root": {"path": "/x/./y/", "readonly": true}}));
    assert_eq!(plan.rootfs, Rootfs::Directory { path: "/x/y".into(), readonly: true, in_place: true });
}

#[test]
fn kinds_of_mounts() {
    let data = |options: &[&str]| options.iter().map(|word| ((*word).to_owned(), None)).collect::<Vec<_>>();
    let new = mounted(json!({"destination": "/t", "type": "tmpfs", "source": "tmpfs",
        "options": ["sync", "ro", "tmpcopyup", "noswap", "rshared"]}));
    let MountSource::New { kind, options, copy_up, .. } = &new.source else { panic!("{new:?}") };
    assert_eq!((kind.as_str(), options, *copy_up), ("tmpfs", &data(&["sync", "noswap"]), true));
    assert_eq!((new.set, new.propagation), (0x1, 1 << 20 | 0x4000));
    let bind = mounted(json!({"destination": "/a", "type": "ext4", "source": "/proc/self/fd/7",
        "options": ["rbind", "sync", "rro"]}));
    assert_eq!(bind.source, MountSource::Bind { path: "/proc/self/fd/7".into(), recursive: true });
    assert_eq!((bind.set, bind.set_recursive), (0, 0x1));
    for kind in ["cgroup", "cgroup2"] {
        let group = mounted(json!({"destination": "/sys/fs/cgroup", "type": kind, "source": "cgroup"}));
        assert_eq!(group.source, MountSource::Cgroup);
    }
    let again = mounted(json!({"destination": "/dev", "type": "tmpfs", "options": ["remount", "ro", "lazytime"]}));
    assert_eq!(again.source, MountSource::Remount { options: data(&["ro", "lazytime"]) });
    let again = mounted(json!({"destination": "/dev", "options": ["remount", "bind", "ro"]}));
    assert_eq!((again.source, again.set), (MountSource::Remount { options: vec![] }, 0x1));
}

#[test]
fn id_mapped_mounts() {
    let maps = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    let bind = |options: &[&str], uids: &serde_json::Value, gids: &serde_json::Value| json!({"mounts": [{"destination": "/a", "source": "/a", "options": options, "uidMappings": uids, "gidMappings": gids}]});
    let none = serde_json::Value::Null;
    let explicit = |recursive| IdmapPlan { uid_map: vec![(0, 1000, 10)], gid_map: vec![(0, 1000, 10)], recursive };
    let table = [
        (bind(&["bind"], &none, &none), None),
        (bind(&["bind"], &maps, &maps), Some(explicit(false))),
        (bind(&["rbind", "ridmap"], &maps, &maps), Some(explicit(true))),
    ];
    for (members, expected) in table {
        assert_eq!(planned(members).mounts[0].idmap, expected);
    }
    let user = json!({"linux": {"namespaces": [{"type": "mount"}, {"type": "user"}],
        "uidMappings": maps, "gidMappings": maps}});
    let mut inherits = bind(&["bind", "idmap"], &none, &none);
    merge(&mut inherits, user);
    assert_eq!(planned(inherits).mounts[0].idmap, Some(IdmapPlan::default()));
    let both = "must have both uid and gid mappings specified";
    let other = json!({"mounts": [{"destination": "/a", "type": "tmpfs", "options": ["idmap"]}]});
    let table = [
        (bind(&["bind", "idmap"], &none, &none), both),
        (bind(&["bind", "idmap"], &maps, &none), both),
        (bind(&["bind"], &none, &maps), both),
        (other, "id-mapped mounts are only supported for bind-mounts"),
    ];
    for (members, expected) in table {
        assert!(refused(members.clone()).contains(expected), "{members}");
    }
}

#[test]
fn namespaces_made_and_joined() {
    let maps = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let plan = planned(json!({"linux": {
        "namespaces": [{"type": "mount"}, {"type": "user"}, {"type": "time"}, {"type": "network", "path": "/run/netns/a"}],
        "uidMappings": maps, "gidMappings": maps, "timeOffsets": {"monotonic": {"secs": -5}, "boottime": {"nanosecs": 7}}}}));
    assert_eq!(plan.namespaces.new, 0x1002_0080);
    assert_eq!(plan.namespaces.join, [(0x4000_0000, "/run/netns/a".into())]);
    assert_eq!(plan.namespaces.uid_map, [(0, 100_000, 65536)]);
    assert_eq!(plan.namespaces.time_offsets, [("boottime".into(), 0, 7), ("monotonic".into(), -5, 0)]);
    let nothing = planned(json!({"linux": null}));
    assert_eq!((nothing.namespaces.new, nothing.namespaces.join.len()), (0, 0));
    // Callers repeat the maps of a namespace that they have joined.
    let joins =
        planned(json!({"linux": {"namespaces": [{"type": "mount"}, {"type": "user", "path": "/proc/7/ns/user"}],
        "uidMappings": maps, "gidMappings": maps}}));
    assert!(joins.namespaces.uid_map.is_empty());
}

#[test]
fn namespaces_refused() {
    let line = |container: u32, host: u32, size: u32| json!({"containerID": container, "hostID": host, "size": size});
    let user = |uids: serde_json::Value, gids: serde_json::Value| json!({"namespaces": [{"type": "mount"}, {"type": "user"}], "uidMappings": uids, "gidMappings": gids});
    let good = json!([line(0, 1000, 1)]);
    let table = [
        (json!({"namespaces": [{"type": "mnt"}]}), "namespace \"mnt\" does not exist"),
        (json!({"namespaces": [{"type": "pid"}, {"type": "pid", "path": "/x"}]}), "duplicated ns"),
        (json!({"namespaces": [{"type": "pid", "path": "x"}]}), "namespaces[0].path: \"x\" is not absolute"),
        (json!({"namespaces": [], "maskedPaths": ["/proc/keys"]}), "unable to restrict sys entries"),
        (user(json!([]), good.clone()), "user namespaces enabled, but no uid mappings found"),
        (user(good.clone(), json!([])), "user namespaces enabled, but no gid mappings found"),
        (user(json!([line(1, 1000, 1)]), good.clone()), "no mapping found for uid 0"),
        (user(good.clone(), json!([line(0, 5, 0)])), "gidMappings[0]: size must not be 0"),
        (user(json!([line(0, u32::MAX, 2)]), good.clone()), "uidMappings[0]: beyond the largest id"),
        (user(json!([line(0, 0, 5), line(4, 10, 5)]), good.clone()), "uidMappings[1]: overlaps"),
        (user(json!([line(0, 0, 5), line(5, 4, 5)]), good.clone()), "uidMappings[1]: overlaps"),
        (json!({"uidMappings": good}), "user namespace mappings specified, but user namespace isn't enabled"),
        (json!({"timeOffsets": {"monotonic": {"secs": 1}}}), "time namespace isn't enabled in the config"),
        (
            json!({"namespaces": [{"type": "time", "path": "/t"}], "timeOffsets": {"monotonic": {"secs": 1}}}),
            "both namespace path and time offsets",
        ),
        (
            json!({"namespaces": [{"type": "time"}], "timeOffsets": {"realtime": {"secs": 1}}}),
            "\"realtime\" has no offset",
        ),
    ];
    for (linux, expected) in table {
        let got = refused(json!({"linux": linux}));
        assert!(got.contains(expected), "{linux}: {got}");
    }
}

#[test]
fn what_a_bundle_must_not_say() {
    let table = [
        (json!({"root": null}), "root must be specified"),
        (json!({"ociVersion": "invalid"}), "ociVersion"),
        (json!({"process": {"cwd": ""}}), "Cwd property must not be empty"),
        (json!({"process": {"cwd": "x"}}), "Cwd must be an absolute path"),
        (json!({"process": {"args": []}}), "args must not be empty"),
        (json!({"process": {"env": ["A"]}}), "process.env[0]: invalid environment variable: missing '='"),
        (json!({"process": {"env": ["=1"]}}), "name cannot be empty"),
        (json!({"process": {"rlimits": [{"type": "RLIMIT_X", "hard": 1, "soft": 1}]}}), "wrong rlimit value: RLIMIT_X"),
        (
            json!({"process": {"rlimits": [{"type": "RLIMIT_AS"}, {"type": "RLIMIT_AS"}]}}),
            "rlimits[1]: RLIMIT_AS is given twice",
        ),
        (json!({"process": {"oomScoreAdj": 1001}}), "oomScoreAdj"),
        (json!({"process": {"scheduler": {"nice": 1}}}), "scheduler policy is required"),
        (json!({"process": {"scheduler": {"policy": "SCHED_X"}}}), "invalid scheduler policy"),
        (json!({"process": {"scheduler": {"policy": "SCHED_OTHER", "nice": 20}}}), "invalid scheduler.nice: 20"),
        (json!({"process": {"scheduler": {"policy": "SCHED_BATCH", "priority": 1}}}), "SchedFIFO or SchedRR"),
        (json!({"process": {"scheduler": {"policy": "SCHED_FIFO", "runtime": 1}}}), "SchedDeadline policy"),
        (json!({"process": {"scheduler": {"policy": "SCHED_FIFO", "flags": ["X"]}}}), "invalid scheduler flag: X"),
        (
            json!({"process": {"ioPriority": {"class": "IOPRIO_CLASS_RT", "priority": 8}}}),
            "invalid ioPriority.Priority: 8",
        ),
        (json!({"process": {"ioPriority": {"class": "RT", "priority": 1}}}), "invalid ioPriority.Class: \"RT\""),
        (json!({"process": {"execCPUAffinity": {"final": "2-1"}}}), "bad CPUAffinity.Final: invalid range: 2-1"),
        (json!({"hooks": {"poststop": [{"path": "x"}]}}), "hooks.poststop[0].path"),
        (json!({"hooks": {"createRuntime": [{"path": "/x", "timeout": 0}]}}), "hooks.createRuntime[0].timeout"),
        (json!({"annotations": {"": "x"}}), "annotations: a key is empty"),
        (json!({"mounts": [{"type": "tmpfs"}]}), "mounts[0].destination"),
        (json!({"mounts": [{"destination": "/a"}]}), "mounts[0].type"),
        (json!({"mounts": [{"destination": "/a\u{0}", "type": "tmpfs"}]}), "mount field contains null byte"),
        (
            json!({"mounts": [{"destination": "/a", "source": "/a", "options": ["bind", "size=1"]}]}),
            "bind mounts cannot have any filesystem-specific options applied",
        ),
    ];
    for (members, expected) in table {
        let got = refused(members.clone());
        assert!(got.contains(expected), "{members}: {got}");
    }
}

#[test]
fn what_linux_must_not_be_told() {
    let table = [
        (json!({"maskedPaths": ["proc"]}), "\"proc\" must be absolute"),
        (json!({"rootfsPropagation": "x"}), "rootfsPropagation=x is not supported"),
        (json!({"sysctl": {"vm.swappiness": "1"}}), "is not in a separate kernel namespace"),
        (json!({"personality": {"domain": "SOLARIS"}}), "invalid personality domain"),
        (json!({"memoryPolicy": {"mode": "MPOL_X"}}), "invalid memory policy mode"),
        (json!({"memoryPolicy": {"mode": "MPOL_BIND"}}), "requires at least one node but got 0"),
        (json!({"memoryPolicy": {"mode": "MPOL_DEFAULT", "nodes": "0-1"}}), "requires 0 nodes but got 2"),
        (json!({"memoryPolicy": {"mode": "MPOL_LOCAL", "flags": ["X"]}}), "invalid memory policy flag"),
        (json!({"intelRdt": {"closID": "a/b"}}), "invalid intelRdt.ClosID"),
        (json!({"netDevices": {"eth0": {"name": "a/b"}}}), "invalid network device name \"a/b\""),
        (json!({"devices": [{"path": "/dev/x", "type": "x"}]}), "invalid device type"),
        (json!({"devices": [{"path": "/dev/x", "type": "c", "major": -1}]}), "devices[0].major"),
        (json!({"resources": {"devices": [{"allow": true}]}}), "device access at 0 field cannot be empty"),
        (json!({"resources": {"devices": [{"type": "p", "access": "r"}]}}), "invalid cgroup device type"),
        (json!({"resources": {"devices": [{"access": "rx"}]}}), "'x' is none of r, w and m"),
        (
            json!({"resources": {"devices": [{"allow": true, "access": "r", "major": 4_294_967_296_u64}]}}),
            "resources.devices[0].major: too large",
        ),
        (json!({"seccomp": {"defaultAction": "SCMP_ACT_X"}}), "string SCMP_ACT_X is not a valid action for seccomp"),
        (json!({"seccomp": {"defaultAction": "SCMP_ACT_NOTIFY"}}), "cannot be used as default action"),
        (
            json!({"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_LOG"}]}}),
            "syscalls[0].names: must not be empty",
        ),
        (notify("write", "/a"), "SCMP_ACT_NOTIFY cannot be used for the write syscall"),
        (notify("mkdir", ""), "seccomp listenerPath is not set"),
    ];
    for (linux, expected) in table {
        let got = refused(json!({"linux": linux}));
        assert!(got.contains(expected), "{linux}: {got}");
    }
    let hostname = json!({"hostname": "h", "linux": {"namespaces": [{"type": "mount"}]}});
    assert!(refused(hostname).contains("unable to set hostname without a private UTS namespace"));
    let moved = json!({"linux": {"namespaces": [{"type": "mount"}], "netDevices": {"eth0": {}}}});
    assert!(refused(moved).contains("unable to move network devices without a NET namespace"));
    let private = json!({"linux": {"rootfsPropagation": "rprivate"}});
    let error = with(private, Bundle { no_pivot: true, ..bundle() }).unwrap_err();
    assert!(error.reason.contains("not safe without pivot_root"), "{error}");
}

fn notify(call: &str, listener: &str) -> serde_json::Value {
    json!({"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": listener, "listenerMetadata": "m",
        "syscalls": [{"names": [call], "action": "SCMP_ACT_NOTIFY"}]}})
}

#[test]
fn filters() {
    let flags = |flags: serde_json::Value| {
        let rule = json!([{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]);
        let seccomp = json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": flags, "syscalls": rule});
        planned(json!({"linux": {"seccomp": seccomp}})).process
    };
    assert!(!flags(json!([])).seccomp.is_empty());
    assert_eq!(flags(json!([])).seccomp_flags, 0);
    assert_eq!(flags(json!(null)).seccomp_flags, 4, "runc's choice when nobody chose");
    assert_eq!(flags(json!(["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"])).seccomp_flags, 2);
    let asks = planned(json!({"linux": notify("mkdir", "/agent")})).process;
    let agent = asks.seccomp_agent.unwrap();
    assert_eq!((agent.path, agent.metadata.as_str()), ("/agent".into(), "m"));
    assert_eq!(asks.seccomp_flags & 8, 8);
    assert!(planned(json!({"linux": {"seccomp": {"listenerPath": "/a"}}})).process.seccomp.is_empty());
    let unused = json!({"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/a"}});
    assert_eq!(planned(json!({"linux": unused})).process.seccomp_agent, None);
}

#[test]
fn devices_are_those_of_runc() {
    let rules = |plan: &Plan| -> Vec<String> {
        let text = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        let one = |rule: &DeviceRule| {
            let sign = if rule.allow { '+' } else { '-' };
            format!("{sign}{} {}:{} {}", rule.kind, text(rule.major), text(rule.minor), rule.access)
        };
        plan.cgroup.resources.devices.iter().map(one).collect()
    };
    let plan = planned(json!({"linux": {
        "devices": [{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600},
            {"path": "/dev/fifo", "type": "p"}],
        "resources": {"devices": [{"allow": true, "type": "c", "major": 10, "minor": -1, "access": "rw"}]}}}));
    let nodes: Vec<_> = plan.devices.iter().map(|node| (node.path.as_str(), node.mode)).collect();
    assert_eq!(nodes[5..], [("/dev/null", 0o020_600), ("/dev/fifo", 0o010_666)]);
    assert_eq!(nodes[0], ("/dev/zero", 0o020_666));
    assert!(plan.dev_links);
    let all = rules(&plan);
    assert_eq!(all[..4], ["-a *:* rwm", "+c 10:* rw", "+c *:* m", "+b *:* m"]);
    assert!(!all.contains(&"+c 1:3 rwm".to_owned()), "its own node decides: {all:?}");
    assert_eq!(all[all.len() - 3..], ["+c 136:* rwm", "+c 5:2 rwm", "+c 10:200 rwm"]);
    for place in ["/dev", "/dev/", "dev"] {
        let plan = planned(json!({"mounts": [{"destination": place, "source": "/dev", "options": ["rbind"]}],
            "linux": {"devices": [{"path": "/dev/x", "type": "p"}]}}));
        assert!(plan.devices.is_empty() && !plan.dev_links, "{place}: the host's own");
    }
}

#[test]
fn cgroups() {
    let group = |linux: serde_json::Value, bundle: Bundle| with(json!({"linux": linux}), bundle).unwrap().cgroup;
    let systemd = || Bundle { systemd: true, ..bundle() };
    assert_eq!(group(json!({}), systemd()).path, ":runc:id");
    assert_eq!(group(json!({"cgroupsPath": "a.slice:p:n"}), systemd()).path, "a.slice:p:n");
    let error = with(json!({"linux": {"cgroupsPath": "/a"}}), systemd()).unwrap_err();
    assert!(error.reason.contains("slice:prefix:name"), "{error}");
    let own = |group: &CgroupPlan| (group.path.clone(), group.under_own, group.optional);
    let rootless = || Bundle { rootless: true, ..bundle() };
    assert_eq!(own(&group(json!({"cgroupsPath": "/a/../b"}), bundle())), ("b".into(), false, false));
    assert_eq!(own(&group(json!({"cgroupsPath": "a"}), rootless())), ("a".into(), true, false));
    assert_eq!(own(&group(json!({}), rootless())), ("id".into(), true, true));
    let plan = with(json!({"annotations": {"org.systemd.property.TimeoutStopUSec": "uint64 5"}}), systemd()).unwrap();
    assert_eq!(plan.cgroup.scope_properties, [("TimeoutStopUSec".into(), "uint64 5".into())]);
    let error = with(json!({"annotations": {"org.systemd.property.a-b": "1"}}), systemd()).unwrap_err();
    assert!(error.reason.contains("name incorrect: contains non-alphabetic character"), "{error}");
    let rdt = group(
        json!({"intelRdt": {"l3CacheSchema": "L3:0=f\nL3:1=f", "memBwSchema": "MB:0=5",
        "schemata": ["L2:0=1"], "enableMonitoring": true}}),
        bundle(),
    )
    .intel_rdt
    .unwrap();
    assert_eq!((rdt.group.as_str(), rdt.shared, rdt.monitoring), ("id", false, true));
    assert_eq!(rdt.schemata, ["L3:0=f", "L3:1=f", "MB:0=5", "L2:0=1"]);
}

#[test]
fn who_manages_the_cgroup() {
    let maps = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let owner = |options: &[&str], kinds: &[&str]| {
        let namespaces: Vec<_> = kinds.iter().map(|kind| json!({"type": kind})).collect();
        let maps = if kinds.contains(&"user") { maps.clone() } else { json!(null) };
        planned(json!({"process": {"user": {"uid": 7}}, "mounts": [{"destination": "/sys/fs/cgroup/",
            "type": "cgroup", "source": "cgroup", "options": options}],
            "linux": {"namespaces": namespaces, "uidMappings": maps, "gidMappings": maps}}))
        .cgroup
        .owner
    };
    assert_eq!(owner(&["rw"], &["mount", "cgroup"]), Some(7));
    assert_eq!(owner(&[], &["mount", "cgroup", "user"]), Some(100_007));
    assert_eq!(owner(&["ro"], &["mount", "cgroup"]), None);
    assert_eq!(owner(&[], &["mount"]), None);
}

#[test]
fn limits() {
    let plan = planned(json!({"linux": {"resources": {
        "memory": {"limit": 0, "swap": -1, "swappiness": 0, "checkBeforeUpdate": true, "kernel": 5},
        "cpu": {"shares": 0, "quota": -1, "burst": 0, "idle": 0, "cpus": "0-1", "realtimeRuntime": 5},
        "pids": {"limit": 0}, "hugepageLimits": [{"pageSize": "2MB", "limit": 7}],
        "blockIO": {"weight": 0, "leafWeight": 10, "weightDevice": [{"major": 8, "minor": 0, "weight": 500}],
            "throttleReadIOPSDevice": [{"major": 8, "minor": 1, "rate": 9}]},
        "network": {"classID": 3, "priorities": [{"name": "eth0", "priority": 4}]},
        "rdma": {"mlx5": {"hcaHandles": 2}}, "unified": {"memory.high": "1"}}}}));
    let limits = plan.cgroup.resources;
    assert_eq!((limits.memory, limits.memory_swap, limits.memory_swappiness), (None, Some(-1), Some(0)));
    assert!(limits.memory_check);
    assert_eq!(
        (limits.cpu_shares, limits.cpu_quota, limits.cpu_burst, limits.cpu_idle),
        (None, Some(-1), Some(0), Some(0))
    );
    assert_eq!((limits.pids, limits.hugepages), (Some(0), vec![("2MB".into(), 7)]));
    assert_eq!((limits.block_io.weight, limits.block_io.leaf_weight), (None, Some(10)));
    assert_eq!(limits.block_io.weight_devices, [(8, 0, Some(500), None)]);
    assert_eq!(limits.block_io.read_iops, [(8, 1, 9)]);
    assert_eq!((limits.net_class, limits.net_priorities), (Some(3), vec![("eth0".into(), 4)]));
    assert_eq!(limits.rdma, [("mlx5".into(), Some(2), None)]);
    assert_eq!(limits.unified, [("memory.high".into(), "1".into())]);
}

#[test]
fn the_program() {
    let plan = planned(json!({"process": {"user": {"uid": 1, "gid": 2, "additionalGids": [5, 5], "username": "root"},
        "env": ["A=1", "B=2", "A=3"], "scheduler": {"policy": "SCHED_DEADLINE", "flags": ["SCHED_FLAG_RECLAIM"],
        "runtime": 1, "deadline": 2, "period": 3}, "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 3},
        "execCPUAffinity": {"initial": "1", "final": "0-1"}, "terminal": true, "consoleSize": {"height": 5, "width": 6}},
        "linux": {"personality": {"domain": "LINUX32"}, "memoryPolicy": {"mode": "MPOL_INTERLEAVE", "nodes": "0,2-3",
        "flags": ["MPOL_F_STATIC_NODES"]}}}));
    assert_eq!(plan.process.user, UserPlan::Ids { uid: 1, gid: 2, groups: vec![5, 5] });
    assert_eq!(plan.process.env, ["B=2", "A=3"]);
    let scheduler = plan.process.scheduler.unwrap();
    assert_eq!((scheduler.policy, scheduler.flags, scheduler.period), (6, 2, 3));
    assert_eq!(plan.process.io_priority, Some(3 << 13 | 3));
    assert!(plan.process.final_cpus.is_empty(), "affinity is for those who join");
    assert_eq!(plan.process.personality, Some(8));
    let policy = plan.process.memory_policy.unwrap();
    assert_eq!((policy.mode, policy.flags, policy.nodes), (3, 1 << 15, vec![0, 2, 3]));
    assert_eq!((plan.stdio.tty, plan.stdio.size), (true, (5, 6)));
    let none = planned(json!({"process": null}));
    assert!(none.process.args.is_empty(), "can be created, not started");
}

#[test]
fn a_process_that_joins() {
    let mut spec = minimal();
    let first = spec.process.as_mut().unwrap();
    first.user.umask = Some(0o27);
    first.io_priority = Some(oci::IoPriority { class: "IOPRIO_CLASS_BE".into(), priority: 1 });
    first.exec_cpu_affinity = Some(oci::CpuAffinity { initial: "0".into(), last: "1".into() });
    first.no_new_privileges = true;
    let linux = spec.linux.as_mut().unwrap();
    linux.personality = Some(oci::Personality { domain: "LINUX32".into(), ..Default::default() });
    linux.seccomp = Some(oci::Seccomp { default_action: "SCMP_ACT_LOG".into(), ..Default::default() });
    let config = oci::Process { args: vec!["ps".into()], cwd: "/".into(), ..Default::default() };
    let plan = joining(&spec, &config, 2).unwrap();
    assert_eq!((plan.umask, plan.io_priority, plan.personality), (Some(0o27), Some(2 << 13 | 1), Some(8)));
    assert_eq!((plan.initial_cpus, plan.final_cpus, plan.preserve_fds), (vec![0], vec![1], 2));
    assert!(!plan.seccomp.is_empty() && !plan.no_new_privileges && !plan.make_cwd);
    assert!(joining(&spec, &oci::Process::default(), 0).is_err());
}

#[test]
fn warnings_only_where_something_is_ignored() {
    let mut spec = minimal();
    assert!(warnings(&spec).is_empty());
    let names = ["CAP_CHOWN", "CAP_TEST", "TEST_CAP"].map(String::from).to_vec();
    let capabilities = oci::Capabilities { bounding: names.clone(), permitted: names, ..Default::default() };
    spec.process.as_mut().unwrap().capabilities = Some(capabilities);
    spec.mounts.push(oci::Mount { destination: "a".into(), ..Default::default() });
    let all = warnings(&spec);
    assert_eq!(all[0], "ignoring unknown or unavailable capabilities: [CAP_TEST TEST_CAP]");
    assert!(all.len() == 2 && all[1].contains("is not absolute"));
}

#[test]
fn hooks_in_their_order() {
    let plan =
        planned(json!({"hooks": {"prestart": [{"path": "/a"}, {"path": "/b", "args": ["b", "c"], "timeout": 5}],
        "startContainer": [{"path": "/c", "env": ["X=1"]}]}}));
    assert_eq!(plan.hooks.prestart[1].args, ["b", "c"]);
    assert_eq!(plan.hooks.prestart[1].timeout, Some(5));
    assert_eq!(plan.hooks.start_container[0].env, ["X=1"]);
    assert!(plan.hooks.at_creation());
}
