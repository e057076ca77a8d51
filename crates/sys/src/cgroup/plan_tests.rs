//! Plans as text.

use super::*;
use std::path::{Path, PathBuf};

fn v1() -> Layout {
    let mut text = String::new();
    for name in ["cpu,cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb", "net_cls"] {
        text.push_str(&format!("30 29 0:26 / /c/{name} rw - cgroup cgroup rw,{name}\n"));
    }
    Layout::parse(text.as_bytes()).expect("mounted")
}

fn v2() -> Layout {
    let all = Controllers::CPU
        .union(Controllers::MEMORY)
        .union(Controllers::PIDS)
        .union(Controllers::IO)
        .union(Controllers::CPUSET);
    Layout::v2_at(Path::new("/c"), all)
}

fn path() -> CgroupPath {
    CgroupPath::parse("budu/x").expect("valid")
}

fn everything() -> Resources {
    let throttle = |rate| vec![Throttle { major: 8, minor: 0, rate }];
    Resources {
        memory: Memory {
            limit: Some(64 << 20),
            reservation: Some(32 << 20),
            swap: Some(96 << 20),
            swappiness: Some(10),
            disable_oom_killer: true,
            check: false,
        },
        cpu: Cpu {
            shares: Some(512),
            quota: Some(50_000),
            period: Some(100_000),
            burst: Some(1000),
            cpus: Some("0-1".to_owned()),
            mems: Some("0".to_owned()),
            ..Cpu::default()
        },
        pids: Some(100),

        block_io: BlockIo {
            weight: Some(500),
            weight_devices: vec![WeightDevice { major: 8, minor: 0, weight: 1000, leaf_weight: 0 }],
            read_bps: throttle(1_048_576),
            write_iops: throttle(0),
            ..BlockIo::default()
        },
        devices: Some(vec![
            DeviceRule::DENY_ALL,
            "c 1:3 rwm".parse().expect("a rule"),
            DeviceRule { allow: false, ..DeviceRule::DENY_ALL },
        ]),
        ..Resources::default()
    }
}

#[test]
fn v1_without_limits() {
    let text = plan(&v1(), &path(), &Resources::default()).expect("valid").to_string();
    assert_eq!(
        text,
        "mkdir /c/cpu,cpuacct/budu/x\nmkdir /c/memory/budu/x\nmkdir /c/devices/budu/x\nmkdir /c/freezer/budu/x\n\
         mkdir /c/blkio/budu/x\nmkdir /c/pids/budu/x\n"
    );
}

#[test]
fn v1_with_everything() {
    let text = plan(&v1(), &path(), &everything()).expect("valid").to_string();
    let writes: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("write ")).collect();
    assert!(text.contains("mkdir /c/cpuset/budu/x\n"));
    assert_eq!(
        writes,
        [
            r#"/c/cpuset/budu/x/cpuset.cpus "0-1""#,
            r#"/c/cpuset/budu/x/cpuset.mems "0""#,
            r#"/c/cpu,cpuacct/budu/x/cpu.shares "512""#,
            r#"/c/cpu,cpuacct/budu/x/cpu.cfs_period_us "100000""#,
            r#"/c/cpu,cpuacct/budu/x/cpu.cfs_quota_us "50000""#,
            r#"/c/cpu,cpuacct/budu/x/cpu.cfs_burst_us "1000" if present"#,
            r#"/c/memory/budu/x/memory.limit_in_bytes "67108864""#,
            r#"/c/memory/budu/x/memory.memsw.limit_in_bytes "100663296""#,
            r#"/c/memory/budu/x/memory.soft_limit_in_bytes "33554432""#,
            r#"/c/memory/budu/x/memory.swappiness "10""#,
            r#"/c/memory/budu/x/memory.oom_control "1""#,
            r#"/c/pids/budu/x/pids.max "100""#,
            r#"/c/blkio/budu/x/blkio.weight "500" or blkio.bfq.weight "500""#,
            r#"/c/blkio/budu/x/blkio.weight_device "8:0 1000" or blkio.bfq.weight_device "8:0 1000""#,
            r#"/c/blkio/budu/x/blkio.throttle.read_bps_device "8:0 1048576""#,
            r#"/c/blkio/budu/x/blkio.throttle.write_iops_device "8:0 0""#,
            r#"/c/devices/budu/x/devices.deny "a""#,
            r#"/c/devices/budu/x/devices.allow "c 1:3 rwm""#,
            r#"/c/devices/budu/x/devices.deny "a""#,
        ]
    );
}

#[test]
fn v2_without_limits() {
    let text = plan(&v2(), &path(), &Resources::default()).expect("valid").to_string();
    assert_eq!(text, "enable +cpu +memory +pids +io above /budu/x\nmkdir /c/budu/x\n");
}

#[test]
fn v2_with_everything() {
    let mut resources = everything();
    resources.unified.insert("memory.high".to_owned(), "60000000".to_owned());
    resources.unified.insert("io.latency".to_owned(), "8:0 target=10\n8:16 target=20\n".to_owned());
    let text = plan(&v2(), &path(), &resources).expect("valid").to_string();
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [
            "enable +cpu +cpuset +memory +pids +io above /budu/x",
            "mkdir /c/budu/x",
            r#"write /c/budu/x/cpuset.cpus "0-1""#,
            r#"write /c/budu/x/cpuset.mems "0""#,
            r#"write /c/budu/x/cpu.weight "59""#,
            r#"write /c/budu/x/cpu.max "50000 100000""#,
            r#"write /c/budu/x/cpu.max.burst "1000""#,
            r#"write /c/budu/x/memory.swap.max "33554432""#,
            r#"write /c/budu/x/memory.max "67108864""#,
            r#"write /c/budu/x/memory.low "33554432""#,
            r#"write /c/budu/x/pids.max "100""#,
            r#"write /c/budu/x/io.bfq.weight "500" or io.weight "4950""#,
            r#"write /c/budu/x/io.bfq.weight "8:0 1000" or io.weight "8:0 10000""#,
            r#"write /c/budu/x/io.max "8:0 rbps=1048576""#,
            r#"write /c/budu/x/io.max "8:0 wiops=max""#,
            r#"write /c/budu/x/io.latency "8:0 target=10""#,
            r#"write /c/budu/x/io.latency "8:16 target=20""#,
            r#"write /c/budu/x/memory.high "60000000""#,
            "attach device program, 8 instructions",
        ]
    );
}

#[test]
fn unlimited_and_not_given() {
    let resources = Resources {
        memory: Memory { limit: Some(-1), ..Memory::default() },
        cpu: Cpu { quota: Some(-1), shares: Some(0), period: Some(0), ..Cpu::default() },
        pids: Some(-1),
        ..Resources::default()
    };
    let text = plan(&v2(), &path(), &resources).expect("valid").to_string();
    let writes: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("write /c/budu/x/")).collect();
    let expected =
        [r#"cpu.max "max 100000""#, r#"memory.swap.max "max" if present"#, r#"memory.max "max""#, r#"pids.max "max""#];
    assert_eq!(writes, expected);
    let text = plan(&v1(), &path(), &resources).expect("valid").to_string();
    assert!(text.contains("memory.memsw.limit_in_bytes \"-1\" if present"), "{text}");
}

#[test]
fn what_the_host_lacks_is_named() {
    let bare = Layout::v2_at(Path::new("/c"), Controllers::CPU);
    let resources = Resources { pids: Some(1), ..Resources::default() };
    let error = plan(&bare, &path(), &resources).expect_err("no pids");
    assert_eq!(error.to_string(), "cgroup controller pids is not available on this host, needed for pids.max");
    let unified = Resources { unified: [("a.b".to_owned(), "1".to_owned())].into(), ..Resources::default() };
    assert!(plan(&v1(), &path(), &unified).is_err(), "raw settings are v2's");
}

#[test]
fn raw_settings_only_limit() {
    for key in ["cgroup.procs", "cgroup.kill", "cgroup.subtree_control", "../x", "a/b.c", "", "..", "memory"] {
        let resources = Resources { unified: [(key.to_owned(), "1".to_owned())].into(), ..Resources::default() };
        assert!(plan(&v2(), &path(), &resources).is_err(), "{key:?}");
    }
}

#[test]
fn device_rules_start_closed_on_v1() {
    let resources = Resources { devices: Some(vec!["c 1:3 rwm".parse().expect("a rule")]), ..Resources::default() };
    let text = plan(&v1(), &path(), &resources).expect("valid").to_string();
    let at = |needle: &str| text.find(needle).unwrap_or_else(|| panic!("{needle} in {text}"));
    assert!(at("devices.deny \"a\"") < at("devices.allow \"c 1:3 rwm\""));
}

#[test]
fn full_paths_in_messages() {
    let error = Error::io("write \"1\" to", PathBuf::from("/c/x"), std::io::Error::from_raw_os_error(22));
    assert_eq!(error.to_string(), "cannot write \"1\" to /c/x: invalid argument");
    assert_eq!(error.errno(), Some(22));
}
