//! What a container sees, and what it must not.

use budu_testkit::images::BUSYBOX;
use budu_testkit::suite::Suite;
use budu_testkit::{Client, HOST, Output};

use crate::shared;

pub(crate) fn tests(suite: &mut Suite) {
    suite.once(every_namespace_is_its_own);
    suite.once(root_file_system);
    suite.once(kernel_file_systems_are_covered);
    suite.once(devices);
    suite.once(capabilities);
    suite.once(system_calls_are_filtered);
    suite.once(privileged);
    suite.once(no_new_privileges);
    suite.once(processes_of_the_host_are_unseen);
    suite.both(host_network);
    suite.both(no_network);
}

fn run(client: Client, args: &[&str]) -> Output {
    shared::client(client).run([&["run", "--rm"], args].concat()).expect("the client runs")
}

fn shell(flags: &[&str], script: &str) -> String {
    run(Client::Docker, &[flags, &[BUSYBOX, "sh", "-c", script]].concat()).ok().to_owned()
}

fn every_namespace_is_its_own() {
    // The control group namespace is the host's on cgroup v1 unless asked for.
    let kinds = ["mnt", "pid", "net", "uts", "ipc", "cgroup"];
    for kind in kinds {
        let inside = shell(&["--cgroupns", "private"], &format!("readlink /proc/self/ns/{kind}"));
        let daemon = format!("/proc/{}/ns/{kind}", shared::engine().daemon_pid());
        let outside = std::fs::read_link(daemon).expect("the daemon runs").display().to_string();
        assert_ne!(inside, outside, "{kind} is shared with the daemon");
    }
    let user = shell(&[], "cat /proc/self/uid_map");
    assert_eq!(user.split_whitespace().collect::<Vec<_>>(), ["0", "0", "4294967295"]);
}

fn root_file_system() {
    let mounts = shell(&[], "cat /proc/self/mounts");
    let root = mounts.lines().next().unwrap_or_default();
    assert!(root.starts_with("overlay / overlay rw"), "{root}");
    assert_eq!(shell(&[], "ls -d /.dockerenv"), "/.dockerenv");
    // Nothing of the host's tree is reachable through the mount table.
    let points: Vec<_> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    for point in points {
        let known = ["/proc", "/sys", "/dev", "/etc/"].iter().any(|dir| point.starts_with(dir));
        assert!(point == "/" || known, "unexpected mount {point} in\n{mounts}");
    }
    assert_eq!(shell(&[], "echo changed > /etc/plain; cat /etc/plain"), "changed");
    assert_eq!(shell(&[], "cat /etc/plain"), "not a program");
}

fn kernel_file_systems_are_covered() {
    let script = "for f in /proc/kcore /proc/keys /proc/timer_list; do \
                    [ -e $f ] || continue; head -c 1 $f | wc -c; done | sort -u";
    assert_eq!(shell(&[], script), "0");
    assert_eq!(shell(&[], "ls -A /sys/firmware 2>/dev/null | wc -l"), "0");
    let script = "for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/probe; do \
                    echo x 2>/dev/null > $f && echo written to $f; done; echo done";
    assert_eq!(shell(&[], &format!("({script}) 2>/dev/null")), "done");
}

fn devices() {
    let script = "for d in null zero full random urandom tty; do [ -c /dev/$d ] || echo no $d; done; \
                  echo x > /dev/null; head -c 3 /dev/zero | wc -c; \
                  for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done; \
                  ls -d /dev/shm /dev/mqueue /dev/pts";
    let expected = "3\n/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n\
                    /dev/mqueue\n/dev/pts\n/dev/shm";
    assert_eq!(shell(&[], script), expected);
    // The machine's disks are neither there nor can they be made.
    assert_eq!(shell(&[], "ls /dev | grep -c '^[sv]d[a-z]' || true"), "0");
    let output = run(Client::Docker, &[BUSYBOX, "sh", "-c", "mknod /d b 254 0 && head -c 1 /d"]);
    assert_ne!(output.code(), 0, "a block device could be read: {output}");
}

fn status_field(flags: &[&str], field: &str) -> String {
    let line = shell(flags, &format!("grep ^{field}: /proc/self/status"));
    line.split_whitespace().nth(1).unwrap_or_default().to_owned()
}

fn capabilities() {
    let default = "00000000a80425fb";
    assert_eq!(status_field(&[], "CapEff"), default);
    assert_eq!(status_field(&[], "CapBnd"), default);
    assert_eq!(status_field(&[], "CapInh"), "0000000000000000");
    assert_eq!(status_field(&[], "CapAmb"), "0000000000000000");
    assert_eq!(status_field(&["--cap-drop", "ALL"], "CapBnd"), "0000000000000000");
    let one = ["--cap-drop", "ALL", "--cap-add", "NET_ADMIN"];
    assert_eq!(status_field(&one, "CapEff"), "0000000000001000");
    let lower = ["--cap-drop", "all", "--cap-add", "cap_net_admin"];
    assert_eq!(status_field(&lower, "CapEff"), "0000000000001000");
    assert_eq!(status_field(&["--cap-drop", "CHOWN"], "CapEff"), "00000000a80425fa");
    // Another user has them in the bounding set only.
    assert_eq!(status_field(&["-u", "1000"], "CapEff"), "0000000000000000");
    assert_eq!(status_field(&["-u", "1000"], "CapBnd"), default);
    run(Client::Docker, &["--cap-add", "NO_SUCH", BUSYBOX, "true"])
        .exits(125)
        .complains("unknown capability: \"CAP_NO_SUCH\"");
}

fn system_calls_are_filtered() {
    assert_eq!(status_field(&[], "Seccomp"), "2");
    assert_eq!(status_field(&["--security-opt", "seccomp=unconfined"], "Seccomp"), "0");
    // unshare(CLONE_NEWUSER) needs no capability: only the filter can refuse it.
    let output = run(Client::Docker, &[BUSYBOX, "unshare", "-U", "true"]);
    output.exits(1).complains("Operation not permitted");
    let open = ["--security-opt", "seccomp=unconfined", BUSYBOX, "unshare", "-U", "true"];
    run(Client::Docker, &open).exits(0);
}

fn privileged() {
    // Everything this machine can give, which may be less than everything there is.
    let own = std::fs::read_to_string("/proc/self/status").expect("a kernel has this");
    let bound = own.lines().find_map(|line| line.strip_prefix("CapBnd:")).expect("a field");
    let all = bound.trim();
    assert_eq!(status_field(&["--privileged"], "CapEff"), all);
    assert_eq!(status_field(&["--privileged"], "Seccomp"), "0");
    let script = "mount -t tmpfs x /tmp && echo mounted; ls /dev/loop-control /dev/kmsg 2>/dev/null | wc -l; \
                  grep -c ' /sys sysfs rw' /proc/mounts";
    let seen = shell(&["--privileged"], script);
    assert!(seen.starts_with("mounted\n") && seen.ends_with("\n1"), "{seen}");
    run(Client::Docker, &[BUSYBOX, "mount", "-t", "tmpfs", "x", "/tmp"]).exits(1);
}

fn no_new_privileges() {
    assert_eq!(status_field(&[], "NoNewPrivs"), "0");
    assert_eq!(status_field(&["--security-opt", "no-new-privileges"], "NoNewPrivs"), "1");
    assert_eq!(status_field(&["--security-opt", "no-new-privileges:true"], "NoNewPrivs"), "1");
}

fn processes_of_the_host_are_unseen() {
    let seen = shell(&[], "ls /proc | grep -c '^[0-9]'");
    let seen: u32 = seen.parse().expect("a number");
    assert!(seen <= 4, "{seen} processes in a container that started three");
}

fn host_network(client: Client) {
    let output = run(client, &["--network", "host", BUSYBOX, "ip", "-o", "-4", "addr"]);
    assert!(output.ok().contains(&format!("inet {HOST}/24")), "{output}");
    let output = run(client, &["--network", "host", BUSYBOX, "hostname"]);
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a kernel has this");
    assert_eq!(output.ok(), own.trim());
}

fn no_network(client: Client) {
    let output = run(client, &["--network", "none", BUSYBOX, "ip", "-o", "link"]);
    assert_eq!(output.ok().lines().count(), 1, "{output}");
    assert!(output.ok().contains("lo:") && output.ok().contains(",UP"), "{output}");
    run(client, &["--network", "none", BUSYBOX, "ping", "-c1", "-W1", "127.0.0.1"]).exits(0);
}
