//! containerd, driven by its `ctr`.

use std::time::Duration;

use anyhow::Result;

use super::{Engine, Step, fails, step};
use crate::stage::Stage;

pub(super) const ENGINE: Engine = Engine { name: "containerd", prelude: PRELUDE, daemon: Some(daemon), steps: STEPS };

const PRELUDE: &str = r#"
I=local/busybox:1
run() { ctr run --runc-binary "$R" "$@"; }
status() { ctr task ls | awk -v id="$1" '$1 == id { print $3 }'; }
until_is() { for _ in $(seq 100); do [ "$(status "$1")" = "$2" ] && return 0; sleep 0.1; done; ctr task ls; return 1; }
limit() { cat "/sys/fs/cgroup/$1/default/$2"; }
"#;

/// Starts containerd and waits until it answers.
fn daemon(stage: &Stage) -> Result<()> {
    let path = |name: &str| stage.path().join(name).display().to_string();
    let off = "version = 3\ndisabled_plugins = [\"io.containerd.cri.v1.images\", \"io.containerd.cri.v1.runtime\", \
               \"io.containerd.grpc.v1.cri\", \"io.containerd.nri.v1.nri\"]\n";
    std::fs::write(path("containerd.toml"), off)?;
    stage.start(&["containerd", "--config", &path("containerd.toml"), "--root", &path("containerd")], &[])?;
    let ask = "for _ in $(seq 200); do ctr version >/dev/null 2>&1 && exit 0; sleep 0.1; done; ctr version";
    stage.finish(&["sh", "-c", ask], Duration::from_secs(60)).map(|_| ())
}

const STEPS: &[Step] = &[
    step(
        "+import an image",
        "ctr image import --base-name local/busybox $D/busybox.tar; ctr image ls",
        "local/busybox:1",
    ),
    step("run", "run --rm $I $N echo word", "word"),
    fails("run: exit code", 7, "run --rm $I $N sh -c 'exit 7'", ""),
    step("run: standard input", "echo typed | run --rm $I $N head -n 1", "typed"),
    step("run: standard error", "run --rm $I $N sh -c 'echo wrong >&2' 2>&1 >/dev/null", "wrong"),
    step("run: much output", "run --rm $I $N sh -c 'seq 200000' | tail -1", "200000"),
    fails("run: no such command", 1, "run --rm $I $N /nope", "no such file or directory"),
    fails("run: not in PATH", 1, "run --rm $I $N nope", "executable file not found"),
    fails("run: not executable", 1, "run --rm $I $N /proc/version", "permission denied"),
    step("run: environment", "run --rm --env A=b $I $N sh -c 'echo A=$A'", "A=b"),
    step("run: working directory", "run --rm --cwd /tmp $I $N pwd", "/tmp"),
    step("run: working directory is made", "run --rm --cwd /made/here $I $N pwd", "/made/here"),
    step("run: user", "run --rm --user 1000:1001 $I $N sh -c 'id -u; id -g' | tr '\\n' :", "1000:1001:"),
    step("run: hostname", "run --rm --hostname box $I $N hostname", "box"),
    step("run: read-only", "run --rm --read-only $I $N sh -c 'touch /x || echo refused'", "refused"),
    step(
        "run: bind mount",
        "echo seen > $D/f; run --rm --mount type=bind,src=$D/f,dst=/f,options=rbind:ro $I $N cat /f",
        "seen",
    ),
    step(
        "run: tmpfs",
        "run --rm --mount type=tmpfs,src=tmpfs,dst=/t,options=size=64k:mode=700 $I $N grep /t /proc/mounts",
        "size=64k",
    ),
    step("run: seccomp", "run --rm --seccomp $I $N grep Seccomp: /proc/self/status", "Seccomp:\t2"),
    step("run: no new privileges", "run --rm $I $N grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1"),
    step(
        "run: new privileges allowed",
        "run --rm --allow-new-privs $I $N grep NoNewPrivs /proc/self/status",
        "NoNewPrivs:\t0",
    ),
    step(
        "run: capabilities dropped",
        "run --rm --cap-drop CAP_KILL $I $N grep CapEff /proc/self/status",
        "00000000a80425db",
    ),
    step(
        "run: capabilities added",
        "run --rm --cap-add CAP_SYSLOG $I $N grep CapBnd /proc/self/status",
        "00000004a80425fb",
    ),
    step(
        "run: host's network",
        "run --rm --net-host $I $N readlink /proc/self/ns/net; readlink /proc/self/ns/net",
        "net",
    ),
    step(
        "run: a network given",
        r#"ip netns add given; trap 'ip netns del given' EXIT
run --rm --with-ns network:/run/netns/given $I $N readlink /proc/self/ns/net > $D/in
ip netns exec given readlink /proc/self/ns/net | cmp - $D/in && echo same"#,
        "same",
    ),
    step("run: privileged", "run --rm --privileged $I $N sh -c 'mount -t tmpfs none /tmp && echo mounted'", "mounted"),
    step("run: a device", "run --rm --device /dev/kmsg $I $N ls -l /dev/kmsg", "1,  11"),
    step("run: no pivot_root", "run --rm --no-pivot $I $N ls /", "proc"),
    step(
        "run: own root directory",
        r#"mkdir -p $D/rootfs/bin $D/rootfs/proc $D/rootfs/dev $D/rootfs/sys $D/rootfs/run
ctr image export $D/i.tar $I; ctr snapshot ls > /dev/null
run -d $I src sleep 100; cp /proc/$(ctr task ls | awk '$1 == "src" {print $2}')/root/bin/busybox $D/rootfs/bin/
ctr task kill -s KILL src; until_is src STOPPED; ctr task rm src || true; ctr container rm src
run --rm --rootfs $D/rootfs $N /bin/busybox echo own root"#,
        "own root",
    ),
    step(
        "run: user namespace",
        "run --rm --uidmap 0:100000:65536 --gidmap 0:100000:65536 $I $N cat /proc/self/uid_map",
        "100000",
    ),
    step(
        "run: terminal",
        "script -qec 'ctr run --rm -t --runc-binary $R local/busybox:1 $N tty' /dev/null",
        "/dev/pts/0",
    ),
    step(
        "run: terminal size",
        "script -qec 'stty rows 33 cols 99; ctr run --rm -t --runc-binary $R local/busybox:1 $N sh -c \"sleep 0.5; stty size\"' /dev/null",
        "33 99",
    ),
    step(
        "+run detached",
        "run -d --pid-file $D/pid $I bg sh -c 'trap \"exit 3\" TERM; sleep 1000 & wait'; until_is bg RUNNING; cat $D/pid",
        "",
    ),
    fails("run: same name twice", 1, "run -d $I bg sleep 1000", "already exists"),
    step("task ps", "ctr task ps bg", "PID"),
    step("task metrics", "ctr task metrics bg", "memory"),
    step("exec", "ctr task exec --exec-id e1 bg echo inside", "inside"),
    fails("exec: exit code", 9, "ctr task exec --exec-id e2 bg sh -c 'exit 9'", ""),
    step("exec: standard input", "echo typed | ctr task exec --exec-id e3 bg cat", "typed"),
    step(
        "exec: user and directory",
        "ctr task exec --exec-id e4 --user 1000 --cwd /tmp bg sh -c 'id -u; pwd' | tr '\\n' :",
        "1000:/tmp:",
    ),
    step("exec: same namespaces", "ctr task exec --exec-id e5 bg cat /proc/1/comm", "sh"),
    step(
        "exec detached",
        "ctr task exec -d --exec-id e6 bg sh -c 'echo was here > /tmp/e6'; sleep 0.5; ctr task exec --exec-id e7 bg cat /tmp/e6",
        "was here",
    ),
    step("exec: terminal", "script -qec 'ctr task exec -t --exec-id e8 bg tty' /dev/null", "/dev/pts/0"),
    fails("exec: no such command", 1, "ctr task exec --exec-id e9 bg /nope", "no such file or directory"),
    step(
        "exec: killed alone",
        "ctr task exec -d --exec-id e10 bg sleep 777; ctr task kill -s KILL --exec-id e10 bg; sleep 0.3; ctr task exec --exec-id e11 bg ps | grep -c '[s]leep 777' || echo gone",
        "gone",
    ),
    step("pause", "ctr task pause bg; status bg", "PAUSED"),
    step("resume", "ctr task resume bg; status bg", "RUNNING"),
    step("kill: a signal that is handled", "ctr task kill -s TERM bg; until_is bg STOPPED; ctr task ls", "STOPPED"),
    step("delete: exit code", "ctr task delete bg", "exit code 3"),
    step("container delete", "ctr container rm bg; ctr container ls -q | grep -c '^bg$' || echo none", "none"),
    step(
        "kill --all",
        "run -d $I all sh -c 'sleep 93001 & sleep 93002'; ctr task kill -a -s KILL all; until_is all STOPPED; ctr task rm all || true; ctr container rm all; pgrep -fx 'sleep 9300[12]' || echo none",
        "none",
    ),
    step(
        "delete --force",
        "run -d $I fo sleep 93003; ctr task rm -f fo || true; ctr container rm fo; pgrep -fx 'sleep 93003' || echo none",
        "none",
    ),
    step(
        "limits: memory",
        "run -d --memory-limit 67108864 $I m sleep 1000; limit memory m/memory.limit_in_bytes; ctr task rm -f m || true; ctr container rm m",
        "67108864",
    ),
    step(
        "limits: cpu",
        "run -d --cpus 0.5 --cpu-shares 512 $I c sleep 1000; limit cpu c/cpu.cfs_quota_us; limit cpu c/cpu.shares; ctr task rm -f c || true; ctr container rm c",
        "50000\n512",
    ),
    step(
        "limits: cpus",
        "run -d --cpuset-cpus 0 $I s sleep 1000; echo cpus $(limit cpuset s/cpuset.cpus); ctr task rm -f s || true; ctr container rm s",
        "cpus 0",
    ),
    step(
        "limits: own cgroup",
        "run -d --cgroup /mine/here $I g sleep 1000; cat /sys/fs/cgroup/pids/mine/here/cgroup.procs | wc -l; ctr task rm -f g || true; ctr container rm g; test ! -d /sys/fs/cgroup/pids/mine/here && echo removed",
        "removed",
    ),
    fails(
        "limits: out of memory",
        137,
        "run --rm --memory-limit 8388608 $I o sh -c 'x=0123456789; while true; do x=$x$x; done'",
        "",
    ),
    step(
        "limits: devices",
        "run --rm --cap-add CAP_MKNOD $I $N sh -c 'mknod /d b 7 0; cat /d 2>&1 || true'",
        "Operation not permitted",
    ),
    step(
        "many at once",
        "{ for n in 1 2 3 4 5 6 7 8; do run --rm $I many$n echo $n & done; wait; } | sort | tr -d '\\n'",
        "12345678",
    ),
    step(
        "nothing is left",
        r#"sleep 0.5
left=$(ctr task ls -q; ctr container ls -q; ls -A /run/containerd/runc/default; ls -d /sys/fs/cgroup/*/default/*/) 2>/dev/null || true
echo "left: $left.""#,
        "left: .",
    ),
];
