#!/bin/sh
# A daemon and its command line on a system with control groups v2. Speaks as test programs do: one line for each
# test, and a total.
B=/budu/bin/budu
# Named, so that no command starts a daemon by itself while ours comes up.
export DOCKER_HOST=unix:///run/budu/budu.sock
V2=/sys/fs/cgroup
IMAGE=127.0.0.1:5000/busybox:1
LOG=/tmp/daemon.log
passed=0
failed=0

# check NAME STATUS [DETAIL]
check() {
    if [ "$2" = 0 ]; then
        passed=$((passed + 1))
        echo "test $1 ... ok"
    else
        failed=$((failed + 1))
        echo "test $1 ... FAILED"
        shift 2
        echo "    $*"
    fi
}

# same NAME WANTED SEEN
same() {
    [ "$2" = "$3" ]
    check "$1" $? "wanted '$2', seen '$3'"
}

# Waits for a command to succeed, ten seconds at most.
await() {
    tries=100
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        sleep 0.1
    done
}

# The daemon gets a group of its own, as a service manager would give it.
start_daemon() {
    mkdir -p $V2/engine-smoke
    sh -c "echo 0 >$V2/engine-smoke/cgroup.procs; exec $B daemon" >>$LOG 2>&1 &
    daemon=$!
    await $B version
}

# The directory of a container's group.
group() { find $V2 -type d -name "*$1*" | head -n 1; }
gone() { [ -z "$(group "$1")" ]; }
value() { cat "$(group "$1")/$2" 2>&1; }
state() { $B inspect --format "{{.State.$2}}" "$1" 2>&1; }

registry() {
    mkdir -p /tmp/registry
    printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: /tmp/registry}}\nhttp: {addr: "127.0.0.1:5000"}\n' >/tmp/registry.yml
    docker-registry serve /tmp/registry.yml >/tmp/registry.log 2>&1 &
    registry=$!
    # One attempt may meet a registry that does not listen yet.
    await skopeo copy --quiet --dest-tls-verify=false oci:/budu/busybox:1 docker://$IMAGE
}

first_steps() {
    registry
    check registry $? "$(tail -n 3 /tmp/registry.log)"
    start_daemon
    check daemon_starts $? "$(cat $LOG)"
    same info_knows_v2 2 "$($B info --format '{{.CgroupVersion}}' 2>&1)"
    out=$($B run --rm hello 2>&1)
    check run_hello $? "$out"
    out=$($B pull $IMAGE 2>&1)
    check pull $? "$out"
    same own_group 0::/ "$($B run --rm $IMAGE cat /proc/self/cgroup 2>&1)"
    out=$($B run --rm $IMAGE sh -c 'exit 7' 2>&1)
    same exit_status 7 $?
}

limits() {
    files="memory.max memory.swap.max cpu.max pids.max"
    wanted="67108864 67108864 50000 100000 50"
    inside=$($B run --rm -m 64m --cpus 0.5 --pids-limit 50 $IMAGE sh -c "cd /sys/fs/cgroup && cat $files" 2>&1)
    same limits_from_inside "$wanted" "$(echo $inside)"
    id=$($B run -d -m 64m --cpus 0.5 --pids-limit 50 --cpuset-cpus 0 --cpu-shares 512 $IMAGE sleep 1000 2>&1)
    outside=$(cd "$(group "$id")" && cat $files cpuset.cpus cpu.weight)
    same limits_from_outside "$wanted 0 59" "$(echo $outside)"
    $B run --rm $IMAGE sh -c 'echo 5 >/sys/fs/cgroup/pids.max' 2>/dev/null
    check limits_cannot_be_changed_from_inside $((1 - ($? != 0)))
    out=$($B run --rm --pids-limit 10 $IMAGE sh -c 'i=0; while [ $i -lt 20 ]; do sleep 3 & i=$((i+1)); done' 2>&1)
    echo "$out" | grep -q "can't fork"
    check task_limit_holds $? "$out"
    $B rm -f "$id" >/dev/null
    await gone "$id"
    check group_goes_with_the_container $? "$(group "$id")"
}

out_of_memory() {
    $B run --name oom -m 16m --memory-swap 16m $IMAGE sh -c 'exec tail -c 200m /dev/zero' >/tmp/oom.out 2>&1
    same oom_exit_status 137 $?
    same oom_is_told true "$(state oom OOMKilled)"
    $B rm oom >/dev/null
    $B run -d --name calm -m 64m $IMAGE sleep 1000 >/dev/null
    $B kill calm >/dev/null
    same a_kill_is_no_oom "137 false" "$($B wait calm) $(state calm OOMKilled)"
    $B rm calm >/dev/null
    # Only one process of the group is greedy, and only it is killed.
    out=$($B run --rm -m 16m --memory-swap 16m $IMAGE sh -c 'tail -c 200m /dev/zero; echo $?' 2>/dev/null)
    same oom_of_a_child 137 "$out"
}

entering_and_stopping() {
    id=$($B run -d $IMAGE sleep 1000)
    same exec_output "hi" "$($B exec "$id" echo hi 2>&1)"
    $B exec "$id" sh -c 'exit 3'
    same exec_status 3 $?
    same exec_is_in_the_group 0::/ "$($B exec "$id" cat /proc/self/cgroup 2>&1)"
    $B exec -d "$id" sleep 500
    await test "$(value "$id" cgroup.procs | wc -l)" = 2
    same exec_is_counted 2 "$(value "$id" cgroup.procs | wc -l)"
    if out=$($B pause "$id" 2>&1); then
        same pause_freezes "frozen 1" "$(value "$id" cgroup.events | grep frozen)"
        $B unpause "$id" >/dev/null
        same unpause_thaws "frozen 0" "$(value "$id" cgroup.events | grep frozen)"
    else
        echo "skipped: pause: $out"
        passed=$((passed + 1))
    fi
    $B stop -t 1 "$id" >/dev/null
    same stop_kills_in_the_end 137 "$(state "$id" ExitCode)"
    await gone "$id"
    check stop_leaves_no_group $? "$(group "$id")"
    $B start "$id" >/dev/null
    same started_again true "$(state "$id" Running)"
    $B rm -f "$id" >/dev/null
}

# 1:3 is /dev/null, which is open; 254:0 is the system's own disk.
devices() {
    number=$(printf '%d %d' "$(stat -c 0x%t /dev/vda)" "$(stat -c 0x%T /dev/vda)")
    out=$($B run --rm $IMAGE sh -c "mknod /tmp/disk b $number && head -c 1 /tmp/disk" 2>&1)
    echo "$out" | grep -q 'Operation not permitted'
    check the_hosts_disk_is_closed $? "$out"
    out=$($B run --rm --cap-add SYS_ADMIN $IMAGE sh -c "mknod /dev/disk b $number; head -c 1 /dev/disk" 2>&1)
    echo "$out" | grep -q 'Operation not permitted'
    check also_with_more_capabilities $? "$out"
    out=$($B run --rm $IMAGE sh -c 'mknod /dev/n c 1 3 && echo x >/dev/n && head -c 1 /dev/zero | wc -c' 2>&1)
    same harmless_devices_are_open 1 "$out"
    out=$($B run --rm --device /dev/vda:/dev/disk:r $IMAGE sh -c 'head -c 1 /dev/disk | wc -c; echo x >/dev/disk' 2>&1)
    echo "$out" | head -n 1 | grep -q 1 && echo "$out" | grep -q 'Operation not permitted'
    check a_device_lent_for_reading $? "$out"
    out=$($B run --rm --privileged $IMAGE sh -c 'head -c 1 /dev/vda | wc -c' 2>&1)
    same privileged_sees_the_disk 1 "$out"
}

restart() {
    $B run -d --name stays $IMAGE sh -c 'trap "exit 5" TERM; echo ready; while :; do sleep 0.1; done' >/dev/null
    $B run -d --name ends -m 32m $IMAGE sh -c 'while [ ! -e /stop ]; do sleep 0.1; done; exit 9' >/dev/null
    $B run -d --name starves -m 16m --memory-swap 16m $IMAGE \
        sh -c 'while [ ! -e /stop ]; do sleep 0.1; done; exec tail -c 200m /dev/zero' >/dev/null
    for name in ends starves; do
        eval "pid_$name=$(state $name Pid)"
    done
    kill -9 $daemon
    wait $daemon 2>/dev/null
    touch "/proc/$pid_ends/root/stop" "/proc/$pid_starves/root/stop"
    await sh -c "! kill -0 $pid_ends && ! kill -0 $pid_starves"
    check containers_go_on_without_the_daemon $?
    start_daemon
    check daemon_comes_back $? "$(tail -n 5 $LOG)"
    same still_running true "$(state stays Running)"
    same ended_meanwhile "exited 9" "$(state ends Status) $(state ends ExitCode)"
    same starved_meanwhile "137 true" "$(state starves ExitCode) $(state starves OOMKilled)"
    same exec_after_restart hi "$($B exec stays echo hi 2>&1)"
    same logs_after_restart ready "$($B logs stays 2>&1)"
    $B stop stays >/dev/null
    same stop_after_restart 5 "$(state stays ExitCode)"
    $B rm -f stays ends starves >/dev/null
}

# systemd owns the tree: what it does to its own units must not take limits away from containers.
beside_systemd() {
    id=$($B run -d -m 64m --pids-limit 50 $IMAGE sleep 1000)
    systemctl daemon-reload
    systemd-run --quiet --wait -p MemoryMax=100M true
    same systemd_leaves_groups_alone "67108864 50" "$(echo $(value "$id" memory.max) $(value "$id" pids.max))"
    $B rm -f "$id" >/dev/null
    out=$($B run --rm -m 32m $IMAGE cat /sys/fs/cgroup/memory.max 2>&1)
    same limits_work_afterwards 33554432 "$out"
}

finish() {
    same no_container_is_left "" "$($B ps -aq)"
    kill $daemon
    wait $daemon 2>/dev/null
    kill $registry
    wait $registry 2>/dev/null
    rmdir $V2/engine-smoke
    # These two stay for the next daemon, as Docker's do.
    ip link del budu0
    rmdir $V2/budu
    same no_group_is_left "" "$(find $V2/budu -mindepth 1 -type d 2>/dev/null)"
    same no_shim_is_left "" "$(pgrep -af 'budu|hello' | grep -v -e engine.sh -e run.sh)"
    same no_mount_is_left "" "$(grep budu /proc/self/mountinfo | grep -v ' /budu ')"
}

first_steps
if [ $failed = 0 ]; then
    limits
    out_of_memory
    entering_and_stopping
    devices
    restart
    beside_systemd
fi
finish
[ $failed = 0 ] || tail -n 30 $LOG
echo "test result: $passed passed; $failed failed"
[ $failed = 0 ]
