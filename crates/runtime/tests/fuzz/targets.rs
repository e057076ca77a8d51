//! Documents: `config.json`, seccomp profiles, limits of `update`.

use budu_runtime::compile::{self, Bundle, Extras};
use budu_runtime::defaults;
use budu_spec::oci;
use serde_json::{Value, json};

use crate::Case;
use crate::mutate::{Random, mutate, twisted};

pub(crate) const CASES: &[(&str, Case)] = &[
    ("config", config),
    ("config_text", config_text),
    ("process", process),
    ("resources", resources),
    ("seccomp", seccomp),
    ("docker_profile", docker_profile),
];

/// Everything that a configuration may have.
pub(crate) fn whole() -> Value {
    let hook = json!([{"path": "/bin/hook", "args": ["hook", "x"], "env": ["A=b"], "timeout": 3}]);
    let points = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let hooks: Value =
        points.iter().map(|point| ((*point).to_owned(), hook.clone())).collect::<serde_json::Map<_, _>>().into();
    let mut namespaces: Vec<Value> =
        ["pid", "ipc", "uts", "mount", "cgroup", "user", "time"].map(|kind| json!({"type": kind})).into();
    namespaces.push(json!({"type": "network", "path": "/proc/1/ns/net"}));
    json!({
        "ociVersion": "1.3.0",
        "hostname": "host",
        "domainname": "domain",
        "root": {"path": "rootfs", "readonly": true},
        "annotations": {"org.example.key": "value", "run.oci.keep_original_groups": "1"},
        "hooks": hooks,
        "process": whole_process(),
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=64k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666", "gid=5"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "relatime"]},
            {"destination": "/data", "type": "bind", "source": "/data", "options": ["rbind", "rro", "rslave", "idmap"],
             "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}], "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "rnoexec", "private"]},
        ],
        "linux": {
            "namespaces": namespaces,
            "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 32000}],
            "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 32000}],
            "timeOffsets": {"monotonic": {"secs": 172800, "nanosecs": 1}, "boottime": {"secs": 604800}},
            "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0}],
            "netDevices": {"eth0": {"name": "container0"}},
            "cgroupsPath": "/my/group",
            "resources": whole_resources(),
            "intelRdt": {"closID": "class", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20", "enableMonitoring": true},
            "memoryPolicy": {"mode": "MPOL_INTERLEAVE", "nodes": "0-1", "flags": ["MPOL_F_STATIC_NODES"]},
            "sysctl": {"net.ipv4.ip_forward": "1", "kernel.msgmax": "100"},
            "rootfsPropagation": "slave",
            "seccomp": whole_seccomp(),
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
            "mountLabel": "system_u:object_r:svirt_sandbox_file_t:s0",
            "personality": {"domain": "LINUX32"},
        },
    })
}

fn whole_process() -> Value {
    json!({
        "terminal": true,
        "consoleSize": {"height": 25, "width": 80},
        "user": {"uid": 1, "gid": 1, "umask": 63, "additionalGids": [5, 6]},
        "args": ["sh"], "env": ["PATH=/bin", "TERM=xterm"], "cwd": "/",
        "capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]},
        "rlimits": [{"type": "RLIMIT_CORE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": true, "apparmorProfile": "profile", "selinuxLabel": "system_u:system_r:svirt_t:s0",
        "oomScoreAdj": 100, "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 4},
        "scheduler": {"policy": "SCHED_DEADLINE", "nice": 0, "priority": 0, "flags": ["SCHED_FLAG_RESET_ON_FORK"], "runtime": 5, "deadline": 9, "period": 10},
        "execCPUAffinity": {"initial": "0-3,7", "final": "4"},
    })
}

fn whole_resources() -> Value {
    json!({
        "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}],
        "memory": {"limit": 536870912, "reservation": 536870912, "swap": 536870912, "kernel": -1, "kernelTCP": -1, "swappiness": 0,
                   "disableOOMKiller": false, "useHierarchy": false, "checkBeforeUpdate": true},
        "cpu": {"shares": 1024, "quota": 1000000, "burst": 1000, "period": 500000, "realtimeRuntime": 950000, "realtimePeriod": 1000000,
                "cpus": "2-3", "mems": "0-7", "idle": 0},
        "pids": {"limit": 32771},
        "blockIO": {"weight": 10, "leafWeight": 10, "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}], "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 300}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 9223372036854771712i64}, {"pageSize": "64KB", "limit": 1000000}],
        "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]},
        "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}},
        "unified": {"memory.high": "max", "cpu.max": "100 1000", "io.weight": "5"},
    })
}

fn whole_seccomp() -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_S390X"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"], "listenerPath": "/run/agent.sock", "listenerMetadata": "x",
        "syscalls": [
            {"names": ["read", "getcwd", "socketcall", "ipc"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["clone", "socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
             "args": [{"index": 0, "value": 2080505856, "valueTwo": 5, "op": "SCMP_CMP_MASKED_EQ"}, {"index": 1, "value": 4294967296u64, "op": "SCMP_CMP_GT"}]},
            {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"},
        ],
    })
}

/// What can be read is planned; a refusal says what it refuses.
fn plan(spec: &oci::Spec, size: usize, number: usize) {
    let bundle = Bundle { path: "/bundle".into(), systemd: number == 1, rootless: number == 2, ..Bundle::default() };
    let extras = |bundle| Extras { id: "id".into(), run_dir: "/run/x".into(), bundle, ..Extras::default() };
    for bundle in [Some(bundle), None] {
        if let Err(error) = compile::container(spec, extras(bundle)) {
            assert!(!error.field.is_empty() && !error.reason.is_empty(), "{error:?}");
            // It may quote what it refuses, once.
            assert!(error.to_string().len() < size + 10_000, "{} bytes of message", error.to_string().len());
        }
    }
    compile::warnings(spec);
    let _ = compile::hooks(spec);
    if let Some(process) = &spec.process {
        let _ = compile::joining(spec, process, 0);
    }
}

fn config(random: &mut Random) -> String {
    let mut document = match random.below(4) {
        0 => serde_json::to_value(defaults::bundle::spec(true)).unwrap(),
        1 => serde_json::to_value(defaults::bundle::spec(false)).unwrap(),
        _ => whole(),
    };
    mutate(&mut document, random);
    let text = document.to_string();
    match oci::decode::<oci::Spec>(text.as_bytes()) {
        Ok(spec) => {
            plan(&spec, text.len(), random.below(3));
            // What was understood is written and understood again.
            let again = serde_json::to_vec(&spec).unwrap();
            assert_eq!(oci::decode::<oci::Spec>(&again).unwrap(), spec, "{text:.5000}");
        }
        Err(error) => assert!(error.to_string().len() > 10, "{error}"),
    }
    text
}

/// Not even JSON, or not only.
fn config_text(random: &mut Random) -> String {
    let mut text = whole().to_string();
    for _ in 0..=random.below(3) {
        text = twisted(&text, random);
    }
    if let Ok(spec) = oci::decode::<oci::Spec>(text.as_bytes()) {
        plan(&spec, text.len(), 0);
    }
    text
}

fn process(random: &mut Random) -> String {
    let mut document = whole_process();
    mutate(&mut document, random);
    let text = document.to_string();
    if let Ok(process) = oci::decode::<oci::Process>(text.as_bytes()) {
        let spec: oci::Spec = oci::decode(whole().to_string().as_bytes()).unwrap();
        for result in
            [compile::bundle_process(&process), compile::joining(&spec, &process, 0), compile::process(&process, None)]
        {
            if let Err(error) = result {
                assert!(!error.field.is_empty() && !error.reason.is_empty(), "{error:?}");
            }
        }
    }
    text
}

fn resources(random: &mut Random) -> String {
    let mut document = whole_resources();
    mutate(&mut document, random);
    let text = document.to_string();
    if let Ok(wish) = oci::decode::<oci::Resources>(text.as_bytes()) {
        match compile::resources(&wish) {
            Ok(plan) => limits(&plan),
            Err(error) => assert!(!error.field.is_empty() && !error.reason.is_empty(), "{error:?}"),
        }
    }
    text
}

fn limits(plan: &budu_runtime::plan::Resources) {
    assert!(format!("{plan:?}").len() < 16 << 20);
}

fn seccomp(random: &mut Random) -> String {
    let mut document = whole_seccomp();
    mutate(&mut document, random);
    let text = document.to_string();
    if let Ok(section) = oci::decode::<oci::Seccomp>(text.as_bytes()) {
        check(defaults::seccomp::oci_program(&section), &text);
    }
    text
}

fn docker_profile(random: &mut Random) -> String {
    let mut document = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}],
        "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "includes": {}, "excludes": {}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8", "caps": ["CAP_SYS_PTRACE"], "arches": ["amd64"]}},
            {"name": "clone", "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
             "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390", "s390x"]}},
        ],
    });
    mutate(&mut document, random);
    let text = document.to_string();
    check(defaults::seccomp::custom_program(&text, defaults::capabilities::default_set()), &text);
    text
}

fn check(program: Result<budu_sys::seccomp::Program, defaults::seccomp::SeccompError>, text: &str) {
    match program {
        Ok(program) => {
            // What the kernel takes at most.
            assert!(
                (1..=4096).contains(&program.instructions.len()),
                "{} instructions: {text:.3000}",
                program.instructions.len()
            );
            for call in ["read", "clone", "mkdir", "socketcall", "getcwd"] {
                for arch in budu_sys::seccomp::Arch::ALL {
                    program.evaluate(arch, call, [0, u64::MAX, 1 << 32, 7, 2_114_060_288, 1]);
                }
            }
        }
        Err(error) => assert!(error.to_string().len() > 10, "{error}"),
    }
}
