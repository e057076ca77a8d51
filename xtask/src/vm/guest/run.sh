#!/bin/sh
# Runs in the guest: every line of /budu/list, with marks around it that the host understands.
stty -F /dev/ttyS1 raw -echo
exec >/dev/ttyS1 2>&1 </dev/null
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root RUST_BACKTRACE=0
cd /budu || exit 1
dmesg -n 1
ip link set lo up
if [ -d cache ]; then cp -a cache /tmp/cache; cp bin/docker /usr/local/bin/; fi
export BUDU_BIN=/budu/bin/budu

read -r uptime _ </proc/uptime
echo "@@boot $uptime"
echo "kernel $(uname -r), $(systemctl --version | head -n 1), $(stat -f -c %T /sys/fs/cgroup): $(cat /sys/fs/cgroup/cgroup.controllers)"

groups() { find /sys/fs/cgroup -type d | grep budu | grep -v 'budu-vm.service' | sort; }
mounts() { sed 's/^[0-9]* [0-9]* //' /proc/self/mountinfo | sort; }

while read -r name seconds command; do
    echo "@@begin $name"
    read -r begin _ </proc/uptime
    mounts >/tmp/mounts.before
    timeout -k 5 "$seconds" sh -c "$command" </dev/null
    status=$?
    # A census: nothing of a suite may stay behind.
    left=$(groups; mounts | diff /tmp/mounts.before - | grep '^>'; ip -o link | grep -v ' lo:'; ip netns)
    if [ -n "$left" ] && [ "$status" = 0 ]; then
        echo "left behind by $name:"
        echo "$left"
        status=99
    fi
    read -r end _ </proc/uptime
    echo "@@end $status $((${end%.*} - ${begin%.*}))"
done <list
echo "@@done"
# What stands in the line's buffer leaves before the power goes.
sleep 0.5
