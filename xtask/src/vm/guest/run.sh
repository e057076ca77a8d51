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
read -r top <top
mkdir -p "$top"
mount --bind source "$top"
export BUDU_BIN=/budu/bin/budu

read -r uptime _ </proc/uptime
echo "@@boot $uptime"
echo "kernel $(uname -r), $(systemctl --version | head -n 1), $(stat -f -c %T /sys/fs/cgroup): $(cat /sys/fs/cgroup/cgroup.controllers)"

# What a suite may leave behind. systemd's own groups come and go.
census() {
    find /sys/fs/cgroup -type d | grep -v -e '\.slice' -e '\.scope' -e '\.service' -e '\.mount'
    sed 's/^[0-9]* [0-9]* //' /proc/self/mountinfo
    ip -o link
    ip netns
}

while read -r name seconds command; do
    echo "@@begin $name"
    read -r begin _ </proc/uptime
    census >/tmp/census.before
    timeout -k 5 "$seconds" sh -c "$command" </dev/null
    status=$?
    left=$(census | diff /tmp/census.before - | grep '^>')
    if [ -n "$left" ]; then
        echo "left behind by $name:"
        echo "$left"
        [ "$status" != 0 ] || status=99
    fi
    read -r end _ </proc/uptime
    echo "@@end $status $((${end%.*} - ${begin%.*}))"
done <list
echo "@@done"
# What stands in the line's buffer leaves before the power goes.
sleep 0.5
