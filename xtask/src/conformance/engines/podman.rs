//! podman, which starts runtimes through conmon and reads their words.

use super::{Engine, Step, fails, step};

pub(super) const ENGINE: Engine = Engine { name: "podman", prelude: PRELUDE, daemon: None, steps: STEPS };

const PRELUDE: &str = r#"
I=localhost/busybox:1
pod() { podman --root $D/podman --runroot $D/podman-run --cgroup-manager cgroupfs --runtime "$R" --log-level error "$@"; }
run() { pod run --network none "$@"; }
state() { pod inspect -f "{{.State.$2}}" $1; }
P="podman --root $D/podman --runroot $D/podman-run --cgroup-manager cgroupfs --runtime $R --log-level error"
export PODMAN_IGNORE_CGROUPSV1_WARNING=1
"#;

const STEPS: &[Step] = &[
    step(
        "+load an image",
        "pod tag $(pod load -q -i $D/busybox.tar | sed 's/.*: //') $I; pod images",
        "localhost/busybox",
    ),
    step("info: the runtime's version", "pod info -f '{{.Host.OCIRuntime.Version}}'", "spec"),
    step("run", "run --rm $I echo word", "word"),
    fails("run: exit code", 7, "run --rm $I sh -c 'exit 7'", ""),
    fails("run: no such command", 127, "run --rm $I /nope", "no such file or directory"),
    fails("run: not in PATH", 127, "run --rm $I nope", "not found"),
    fails("run: not executable", 126, "run --rm $I /proc/version", "permission denied"),
    step("run: standard input", "echo typed | run --rm -i $I cat", "typed"),
    step("run: much output", "run --rm $I seq 200000 | tail -1", "200000"),
    step("run: terminal", "script -qec \"$P run --rm -t --network none $I tty\" /dev/null", "/dev/pts/0"),
    step(
        "run: terminal size",
        "script -qec \"stty rows 33 cols 99; $P run --rm -t --network none $I sh -c 'sleep 0.3; stty size'\" /dev/null",
        "33 99",
    ),
    step("run: network", "pod run --rm $I ip -4 addr show eth0", "inet 10.88"),
    step(
        "run: host's namespaces",
        "pod run --rm --network host --pid host --ipc host --uts host $I \
         sh -c 'readlink /proc/self/ns/net; readlink /proc/self/ns/pid' > $D/n; \
         readlink /proc/self/ns/net /proc/self/ns/pid | cmp - $D/n && echo same",
        "same",
    ),
    step(
        "run: user",
        "run --rm --user 1000:1001 --group-add 2000 $I sh -c 'id -u; id -g; id -G' | tr '\\n' :",
        "1000:1001:1001 2000:",
    ),
    step("run: working directory", "run --rm --workdir /tmp $I pwd", "/tmp"),
    step("run: hostname", "run --rm --hostname box $I hostname", "box"),
    step("run: init", "run --rm --init $I cat /proc/1/comm", "podman-init"),
    step("run: read-only", "run --rm --read-only $I sh -c 'touch /x || echo refused'", "refused"),
    step(
        "run: bind mount",
        "echo seen > $D/f; run --rm -v $D/f:/f:ro $I sh -c 'cat /f; echo x > /f || echo refused'",
        "refused",
    ),
    step("run: tmpfs", "run --rm --tmpfs /t:size=64k,mode=700 $I grep /t /proc/mounts", "size=64k"),
    step("run: shared memory size", "run --rm --shm-size 1m $I df -k /dev/shm", "1024"),
    step(
        "run: volume",
        "pod volume create v; run --rm -v v:/v $I sh -c 'echo kept > /v/f'; run --rm -v v:/v $I cat /v/f",
        "kept",
    ),
    step("run: a device", "run --rm --device /dev/kmsg:/dev/log1:r $I ls -l /dev/log1", "1,  11"),
    step("run: capabilities dropped", "run --rm --cap-drop all $I grep CapEff /proc/self/status", "0000000000000000"),
    step(
        "run: capabilities added",
        "run --rm --cap-drop all --cap-add kill $I grep CapBnd /proc/self/status",
        "0000000000000020",
    ),
    step(
        "run: capabilities of a user",
        "run --rm --user 1000 --cap-add net_admin $I grep CapEff /proc/self/status",
        "0000000000001000",
    ),
    step("run: privileged", "run --rm --privileged $I sh -c 'mount -t tmpfs none /tmp && echo mounted'", "mounted"),
    step("run: seccomp", "run --rm $I grep Seccomp: /proc/self/status", "Seccomp:\t2"),
    step(
        "run: seccomp off",
        "run --rm --security-opt seccomp=unconfined $I grep Seccomp: /proc/self/status",
        "Seccomp:\t0",
    ),
    step(
        "run: no new privileges",
        "run --rm --security-opt no-new-privileges $I grep NoNewPrivs /proc/self/status",
        "NoNewPrivs:\t1",
    ),
    step("run: masked paths", "run --rm $I sh -c 'echo $(ls /sys/firmware | wc -l) shown'", "0 shown"),
    step(
        "run: unmasked",
        "run --rm --security-opt unmask=ALL $I sh -c 'grep -c /proc/ /proc/mounts || echo bare'",
        "bare",
    ),
    step(
        "run: resource limits",
        "run --rm --ulimit nofile=1234:2345 $I sh -c 'ulimit -n; ulimit -Hn' | tr '\\n' :",
        "1234:2345:",
    ),
    step(
        "run: kernel parameters",
        "run --rm --sysctl net.ipv4.ip_forward=1 $I cat /proc/sys/net/ipv4/ip_forward | sed s/^/is_/",
        "is_1",
    ),
    step("run: score for the killer", "run --rm --oom-score-adj 500 $I cat /proc/self/oom_score_adj", "500"),
    step("run: umask", "run --rm --umask 0077 $I sh -c umask", "0077"),
    step(
        "run: own pid file",
        "run -d --name pf --pidfile $D/pf $I sleep 1000; [ $(cat $D/pf) = $(state pf Pid) ] && echo same; pod rm -f -t 0 pf",
        "same",
    ),
    step(
        "run: files handed on",
        "exec 3<$D/busybox.tar; run --rm --preserve-fds 1 $I sh -c 'readlink /proc/self/fd/3'",
        "busybox.tar",
    ),
    step(
        "run: user namespace",
        "run --rm --uidmap 0:100000:5000 --gidmap 0:100000:5000 $I cat /proc/self/uid_map",
        "100000",
    ),
    step(
        "run: user namespace and files",
        "run --rm --uidmap 0:100000:5000 --gidmap 0:100000:5000 -v $D/f:/f:ro $I sh -c 'cat /f; touch /own; echo owner $(stat -c %u /own)'",
        "owner 0",
    ),
    step("limits: memory", "run --rm --memory 64m $I cat /sys/fs/cgroup/memory/memory.limit_in_bytes", "67108864"),
    step("limits: processes", "run --rm --pids-limit 50 $I cat /sys/fs/cgroup/pids/pids.max", "50"),
    step("limits: processes without limit", "run --rm --pids-limit -1 $I cat /sys/fs/cgroup/pids/pids.max", "max"),
    step(
        "limits: cpu",
        "run --rm --cpus 0.5 --cpu-shares 512 $I sh -c 'cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.shares'",
        "50000\n512",
    ),
    step("limits: cpus", "run --rm --cpuset-cpus 1 $I grep Cpus_allowed_list /proc/self/status", "list:\t1"),
    step(
        "limits: out of memory",
        "run --name oom --memory 16m $I sh -c 'x=0123456789; while true; do x=$x$x; done' || echo code $?; state oom OOMKilled; pod rm oom",
        "code 137\ntrue",
    ),
    step("limits: devices", "run --rm $I sh -c 'mknod /d b 7 0; cat /d 2>&1 || true'", "not permitted"),
    step(
        "+run detached",
        "run -d --name bg --memory 64m $I sh -c 'trap \"exit 3\" TERM; trap \"echo usr1\" USR1; while true; do sleep 0.1; done'; pod ps",
        "Up",
    ),
    step("inspect", "[ -d /proc/$(state bg Pid) ] && state bg Status", "running"),
    step("exec", "pod exec bg echo inside", "inside"),
    fails("exec: exit code", 9, "pod exec bg sh -c 'exit 9'", ""),
    fails("exec: no such command", 127, "pod exec bg /nope", "no such file or directory"),
    fails("exec: not in PATH", 127, "pod exec bg nope", "not found"),
    fails("exec: not executable", 126, "pod exec bg /proc/version", "permission denied"),
    step("exec: standard input", "echo typed | pod exec -i bg cat", "typed"),
    step("exec: terminal", "script -qec \"$P exec -t bg tty\" /dev/null", "/dev/pts/0"),
    step(
        "exec: user, environment, directory",
        "pod exec --user 1000 --env A=b --workdir /tmp bg sh -c 'echo $(id -u) $A $(pwd)'",
        "1000 b /tmp",
    ),
    step(
        "exec: capabilities",
        "pod exec --privileged bg grep CapEff /proc/self/status; pod exec bg grep CapEff /proc/self/status",
        "00000000800405fb",
    ),
    step("exec: the container's cgroup", "pod exec bg cat /sys/fs/cgroup/memory/memory.limit_in_bytes", "67108864"),
    step(
        "exec detached",
        "pod exec -d bg sh -c 'echo was here > /tmp/e'; sleep 0.5; pod exec bg cat /tmp/e",
        "was here",
    ),
    step(
        "exec: many at once",
        "{ for n in 1 2 3 4 5 6; do pod exec bg echo $n & done; wait; } | sort | tr -d '\\n'",
        "123456",
    ),
    step("top", "pod top bg pid comm", "sh"),
    step("stats", "pod stats --no-stream --format '{{.PIDs}} {{.MemLimit}}' bg", "67108864"),
    step(
        "update",
        "pod update --memory 128m bg; pod exec bg cat /sys/fs/cgroup/memory/memory.limit_in_bytes",
        "134217728",
    ),
    step("cp", "echo copied > $D/c; pod cp $D/c bg:/c; pod exec bg cat /c", "copied"),
    step("pause", "pod pause bg; state bg Status", "paused"),
    fails("exec: paused", 255, "pod exec bg true", "improper"),
    step("unpause", "pod unpause bg; state bg Status; pod exec bg echo alive", "alive"),
    step("kill: a signal that is handled", "pod kill -s USR1 bg; sleep 0.5; pod logs bg", "usr1"),
    step("stop: a handled TERM", "pod stop -t 10 bg; echo code $(state bg ExitCode)", "code 3"),
    step("restart", "pod start bg; pod restart -t 0 bg; state bg Status", "running"),
    step(
        "stop: a KILL at last",
        "run -d --name deaf $I sh -c 'trap : TERM; while true; do sleep 1; done'; pod stop -t 1 deaf; state deaf ExitCode; pod rm deaf",
        "137",
    ),
    step("wait", "run -d --name w $I sh -c 'sleep 0.5; exit 5'; echo code $(pod wait w); pod rm w", "code 5"),
    step(
        "attach",
        "run -d --name at $I sh -c 'sleep 1; echo late'; timeout 10 podman --root $D/podman --runroot $D/podman-run attach at; pod rm -f -t 0 at",
        "late",
    ),
    step("create and start", "pod create --name cs --network none $I echo begun; pod start -a cs; pod rm cs", "begun"),
    step(
        "join namespaces",
        "[ $(pod run --rm --network container:bg $I readlink /proc/self/ns/net) = $(pod exec bg readlink /proc/self/ns/net) ] && pod run --rm --pid container:bg $I cat /proc/1/cmdline | tr '\\0' ' '",
        "trap",
    ),
    step(
        "health",
        "run -d --name h --health-cmd 'test -f /well' --health-interval disable $I sleep 1000; pod healthcheck run h || echo ill; pod exec h touch /well; pod healthcheck run h && echo well; pod rm -f -t 0 h",
        "well",
    ),
    step(
        "pod",
        "pod pod create --name p --network none; pod run -d --pod p --name p1 $I sleep 1000; [ $(pod run --rm --pod p $I readlink /proc/self/ns/ipc) = $(pod exec p1 readlink /proc/self/ns/ipc) ] && echo shared; pod pod stop -t 0 p; pod pod rm p",
        "shared",
    ),
    step(
        "all processes of a container without a pid namespace",
        "run -d --name all --pid host $I sh -c 'sleep 93004 & sleep 93005'; sleep 0.3; pod rm -f -t 0 all; pgrep -fx 'sleep 9300[45]' || echo none",
        "none",
    ),
    step("commit", "pod commit -q bg localhost/kept:1; run --rm localhost/kept:1 cat /c", "copied"),
    step("rm --force", "pod rm -f -t 0 bg; echo $(pod ps -a -q | wc -l) left", "0 left"),
    step(
        "many at once",
        "{ for n in 1 2 3 4 5 6 7 8; do run --rm $I echo $n & done; wait; } | sort | tr -d '\\n'",
        "12345678",
    ),
    step(
        "nothing is left",
        r#"sleep 0.5
left=$(pod ps -aq; grep /merged /proc/mounts; ls -d /sys/fs/cgroup/*/libpod_parent/*/) 2>/dev/null || true
echo "left: $left.""#,
        "left: .",
    ),
];
