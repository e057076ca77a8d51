//! Files: the kernel's own, as a strange kernel would write them, and ours, as
//! somebody else may have left them.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use budu_runtime::parsers;
use budu_sys::cgroup::{Cgroup, CgroupPath, Controllers, DeviceRule, Layout};
use serde_json::{Value, json};

use crate::mutate::{Random, mutate, twisted};
use crate::{Case, RUNTIME};

pub(crate) const CASES: &[(&str, Case)] =
    &[("mountinfo", mountinfo), ("cgroup_files", cgroup_files), ("cgroup_words", cgroup_words), ("state", state)];

/// A /proc/self/cgroup.
const OWN: &str = "9:name=systemd:/user.slice\n8:cpu,cpuacct:/a/b\n4:memory:/\n1:pids:/../x\n0::/user.slice/x.scope\n";

const TABLE: &str = "\
23 27 0:22 / /sys rw,relatime - sysfs sysfs rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:7 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 /a\\040b /sys/fs/cgroup/unified rw,relatime master:3 propagate_from:2 - cgroup2 cgroup2 rw,nsdelegate
";

fn directory() -> PathBuf {
    std::env::temp_dir().join(format!("budu-fuzz-{}", std::process::id()))
}

pub(crate) fn clean_up() {
    let _ = std::fs::remove_dir_all(directory());
}

/// Several changes, in lines and in words.
fn changed(text: &str, random: &mut Random) -> String {
    let mut text = text.to_owned();
    for _ in 0..=random.below(4) {
        let mut lines: Vec<&str> = text.lines().collect();
        if lines.is_empty() {
            break;
        }
        let place = random.below(lines.len());
        let (new, number) = match random.below(6) {
            0 => (lines[place].repeat(1 + random.below(50)), place),
            1 => (lines.join("\n"), place),
            2 => (String::new(), place),
            3 => ("18446744073709551616 -1 1e9 max".to_owned(), place),
            _ => (twisted(lines[place], random), place),
        };
        lines[number] = &new;
        text = lines.join(["\n", "\n", "\n", "\r\n", "\0"][random.below(5)]);
        text.truncate(text.char_indices().map(|(at, _)| at).take_while(|at| *at < 100_000).last().unwrap_or(0));
    }
    text
}

fn mountinfo(random: &mut Random) -> String {
    let text = changed(TABLE, random);
    let own = changed(OWN, random);
    let (hierarchies, _, _) = parsers::mount_table(text.as_bytes(), &own);
    // Each becomes a directory of the container.
    assert!(hierarchies.iter().all(|(name, _)| !name.is_empty() && !name.contains('/') && name != ".."), "{text:?}");
    if let Ok(layout) = Layout::parse(text.as_bytes()) {
        for (_, base) in layout.own_in(&own) {
            assert!(base.starts_with('/') && base.len() <= own.len() + 1, "{own:?}: {base:?}");
        }
        let _ = layout.controllers().names().count();
        let _ = CgroupPath::parse("/x").map(|path| Cgroup::open(&layout, &path));
    }
    text
}

/// Names and contents as both generations have them.
const FILES: [(&str, &str); 29] = [
    ("cpu.pressure", "some avg10=0.00 avg60=0.50 avg300=nan total=7\nfull avg10=1.00 avg60=0.00 avg300=0.00 total=1\n"),
    ("memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"),
    ("cpuset.cpus", "0-3,7\n"),
    ("cpuset.mems", "0\n"),
    ("cpuacct.usage_all", "cpu user system\n0 1 2\n1 3 4\n"),
    ("memory.swap.current", "0\n"),
    ("memory.numa_stat", "total=4 N0=4\nfile=1 N0=1\nhierarchical_total=4 N0=4\n"),
    ("blkio.throttle.io_service_bytes_recursive", "8:0 Read 1\n8:0 Total 1\nTotal 1\n"),
    ("hugetlb.2MB.current", "0\n"),
    ("cgroup.procs", "1\n2\n4194304\n"),
    ("cgroup.events", "populated 1\nfrozen 0\n"),
    ("cpu.stat", "usage_usec 1\nuser_usec 2\nsystem_usec 3\nnr_periods 4\nnr_throttled 5\nthrottled_usec 6\n"),
    ("cpuacct.usage", "12345678901\n"),
    ("cpuacct.usage_percpu", "1 2 3 4\n"),
    ("cpuacct.stat", "user 5\nsystem 6\n"),
    ("memory.current", "4096\n"),
    ("memory.peak", "8192\n"),
    ("memory.max", "max\n"),
    ("memory.stat", "anon 1\nfile 2\ninactive_file 3\ntotal_inactive_file 4\n"),
    ("memory.events", "low 0\nhigh 0\nmax 1\noom 2\noom_kill 3\noom_group_kill 0\n"),
    ("memory.usage_in_bytes", "4096\n"),
    ("memory.max_usage_in_bytes", "4096\n"),
    ("memory.limit_in_bytes", "9223372036854771712\n"),
    ("memory.failcnt", "7\n"),
    ("pids.current", "3\n"),
    ("pids.max", "max\n"),
    ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n253:0\n"),
    ("blkio.throttle.io_service_bytes", "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\nTotal 3\n"),
    ("blkio.throttle.io_serviced", "8:0 Read 1\n8:0 Write 2\nTotal 3\n"),
];

fn cgroup_files(random: &mut Random) -> String {
    let top = directory().join("group");
    let group = top.join("x");
    std::fs::create_dir_all(&group).unwrap();
    let mut report = String::new();
    for (name, content) in FILES {
        let content = if random.below(3) == 0 { changed(content, random) } else { content.to_owned() };
        std::fs::write(group.join(name), &content).unwrap();
        report += &content;
    }
    let all = ["cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "io", "hugetlb"];
    let all = all.iter().filter_map(|name| Controllers::from_name(name)).fold(Controllers::NONE, Controllers::union);
    let v1 =
        format!("32 31 0:29 / {} rw - cgroup cgroup rw,cpu,cpuacct,cpuset,memory,pids,blkio,hugetlb\n", top.display());
    let path = CgroupPath::parse("/x").unwrap();
    for layout in [Layout::v2_at(&top, all), Layout::parse(v1.as_bytes()).unwrap()] {
        let Ok(group) = Cgroup::open(&layout, &path).map(Cgroup::keep) else { continue };
        let _ = (group.stats(), group.procs(), group.is_frozen(), group.is_empty(), group.population());
        let metrics: Value = serde_json::from_str(&parsers::metrics(&group)).unwrap();
        assert!(metrics["pids"].is_object(), "{metrics}");
    }
    report
}

fn cgroup_words(random: &mut Random) -> String {
    let rule = twisted(random.pick::<&str>(&["c 10:229 rwm", "a", "b *:* m", "c 5:* rw"]), random);
    let _ = rule.parse::<DeviceRule>();
    let text = twisted(random.pick::<&str>(&["/a/b", "user.slice:x:y", "a.slice/b.scope", "/"]), random);
    if let Ok(path) = CgroupPath::parse(&text) {
        assert!(
            path.components().all(|name| !name.is_empty() && name != ".." && !name.contains(['/', '\0'])),
            "{text:?}"
        );
        let below = twisted("c/d", random);
        if let Ok(below) = path.join(&below) {
            assert!(below.components().all(|name| name != ".."), "{text:?} {below:?}");
        }
    }
    text
}

/// `state.json`, read by the commands that read it first.
fn state(random: &mut Random) -> String {
    let root = directory().join("state");
    let dir = root.join("x");
    std::fs::create_dir_all(&dir).unwrap();
    let mut document = json!({
        "oci_version": "1.2.0", "id": "x", "pid": 999_999_999, "start_time": 12345, "bundle": "/bundle", "rootfs": "/bundle/rootfs",
        "created": "2026-01-01T00:00:00Z", "owner": 0, "annotations": {"a": "b"}, "namespaces": 0x2000_0000u64, "group": "/budu-fuzz/x",
        "cgroup": {}, "rootless": false, "poststart": false, "poststop": false,
    });
    mutate(&mut document, random);
    let text = if random.below(5) == 0 { twisted(&document.to_string(), random) } else { document.to_string() };
    std::fs::write(dir.join("state.json"), &text).unwrap();
    for command in [&["state", "x"][..], &["list", "--format", "json"]] {
        let output = runtime(&root, command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            matches!(output.status.code(), Some(0 | 1)) && !said.contains("panicked"),
            "{command:?} {output:?}: {text:.3000}"
        );
        if output.status.code() == Some(0) {
            let _: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
        }
    }
    text
}

fn runtime(root: &Path, args: &[&str]) -> std::process::Output {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(RUNTIME).arg("--root").arg(root).args(args).stdin(Stdio::null()).output().unwrap()
}
