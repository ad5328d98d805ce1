#!/bin/bash
# A three-node Docker Swarm of Debian's docker.io, for measuring beside ours. Each dockerd has network, mount and
# uts namespaces of its own; nothing is installed on the machine and nothing of the root namespace changes.
#
#   docker-swarm.sh tools          unpacks the packages into target/tools/docker
#   docker-swarm.sh up             three managers, the image `busybox:latest` on each
#   docker-swarm.sh deploy FILE N  deploys stack `bench`, prints the seconds until N replicas run
#   docker-swarm.sh memory         prints "host KIB" and "container KIB": PSS of all daemons and shims
#   docker-swarm.sh remove         removes stack `bench`, waits until no container is left
#   docker-swarm.sh down           takes all of it away
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
tools=$root/target/tools/docker
dir=$root/target/bench/docker-swarm
hosts="1 2 3"
packages="docker.io containerd runc tini iptables libip4tc2 libip6tc2 libxtables12 libnftnl11 libmnl0
  libnetfilter-conntrack3 libnfnetlink0 libdevmapper1.02.1 busybox-static"
export PATH=$tools/usr/sbin:$tools/usr/bin:$PATH
export LD_LIBRARY_PATH=$tools/usr/lib/x86_64-linux-gnu:$tools/lib/x86_64-linux-gnu

on() {
    local host=$1
    shift
    "$tools/usr/bin/docker" -H "unix://$dir/d$host/docker.sock" "$@"
}

# Tries a command for a bounded time.
wait_for() {
    local seconds=$1 end
    shift
    end=$(($(date +%s) + seconds))
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$end" ] || { echo "not so after $seconds s: $*" >&2; return 1; }
        sleep 0.02
    done
}

unpack_tools() {
    [ -x "$tools/usr/sbin/dockerd" ] && return
    rm -rf "$tools.part"
    mkdir -p "$tools.part/packages"
    # shellcheck disable=SC2086
    (cd "$tools.part/packages" && apt-get download -q $packages)
    for package in "$tools.part"/packages/*.deb; do dpkg-deb -x "$package" "$tools.part"; done
    rm -rf "$tools" "$tools.part/packages"
    mv "$tools.part" "$tools"
}

start_host() {
    local host=$1
    ip netns add "peer-d$host"
    ip -n peer-switch link add "p$host" type veth peer name eth0 netns "peer-d$host"
    ip -n peer-switch link set "p$host" master br0 up
    ip -n "peer-d$host" address add "10.88.0.$host/24" dev eth0
    ip -n "peer-d$host" link set eth0 up
    ip -n "peer-d$host" link set lo up
    mkdir -p "$dir/d$host"
    # A resolver that refuses at once, so that no pull of the local image waits for a name.
    nsenter "--net=/run/netns/peer-d$host" unshare --mount --uts sh -c "
        hostname d$host
        mount -t tmpfs tmpfs /run
        mkdir -p /run/lock
        echo nameserver 127.0.0.1 > /run/resolv.conf
        mount --bind /run/resolv.conf /etc/resolv.conf
        exec dockerd --data-root $dir/d$host/data --exec-root $dir/d$host/exec --pidfile $dir/d$host/pid \
            -H unix://$dir/d$host/docker.sock --cgroup-parent swarm-peer-d$host \
            --storage-driver overlay2 --userland-proxy=false
    " >"$dir/d$host.log" 2>&1 </dev/null &
}

start_all() {
    unpack_tools
    mkdir -p "$dir/image/bin"
    cp "$tools/bin/busybox" "$dir/image/bin/"
    for name in sh sleep; do ln -sf busybox "$dir/image/bin/$name"; done
    ip netns add peer-switch
    ip -n peer-switch link add br0 type bridge
    ip -n peer-switch link set br0 up
    for host in $hosts; do start_host "$host"; done
    for host in $hosts; do
        wait_for 60 on "$host" info
        tar -C "$dir/image" -c . | on "$host" import - busybox:latest >/dev/null
    done
    on 1 swarm init --advertise-addr 10.88.0.1 >/dev/null
    local token
    token=$(on 1 swarm join-token -q manager)
    for host in 2 3; do on "$host" swarm join --token "$token" 10.88.0.1:2377 >/dev/null; done
    wait_for 60 three_ready
}

three_ready() {
    [ "$(on 1 node ls --format '{{.Status}} {{.ManagerStatus}}' | grep -cE '^Ready (Leader|Reachable)')" = 3 ]
}

all_run() {
    [ "$(on 1 service ls --format '{{.Replicas}}')" = "$1/$1" ]
}

nothing_runs() {
    for host in $hosts; do [ -z "$(on "$host" ps -aq)" ] || return 1; done
}

deploy() {
    local from to
    from=$(date +%s%N)
    on 1 stack deploy --resolve-image never -c "$1" bench >/dev/null
    wait_for 300 all_run "$2"
    to=$(date +%s%N)
    echo "$(((to - from) / 1000000))" | sed 's/\(...\)$/.\1/;s/^\./0./'
}

# PSS of the named pids, in KiB.
pss() {
    local total=0 part
    for pid in "$@"; do
        part=$(awk '/^Pss:/ {print $2}' "/proc/$pid/smaps_rollup" 2>/dev/null || echo 0)
        total=$((total + part))
    done
    echo $total
}

memory() {
    local daemons=0 shims=0 containers=0 pids
    for host in $hosts; do
        daemons=$((daemons + $(pss "$(cat "$dir/d$host/pid")" "$(cat "$dir/d$host/exec/containerd/containerd.pid")")))
        pids=$(pgrep -f "containerd-shim-runc-v2 .*$dir/d$host/" || true)
        # shellcheck disable=SC2086
        shims=$((shims + $(pss $pids)))
        containers=$((containers + $(echo "$pids" | grep -c . || true)))
    done
    echo "host $(((daemons + shims) / 3))"
    [ "$containers" = 0 ] || echo "container $((shims / containers))"
}

stop_all() {
    local file
    for host in $hosts; do
        for file in "$dir/d$host/pid" "$dir/d$host/exec/containerd/containerd.pid"; do
            [ ! -f "$file" ] || kill -9 "$(cat "$file")" 2>/dev/null || true
        done
    done
    for host in $hosts; do ip netns pids "peer-d$host" 2>/dev/null | xargs -r kill -9 2>/dev/null || true; done
    pgrep -f "containerd-shim-runc-v2 .*$dir/" | xargs -r kill -9 2>/dev/null || true
    find /sys/fs/cgroup -path '*swarm-peer-d*' -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u |
        xargs -r kill -9 2>/dev/null || true
    wait_for 10 no_cgroups || true
    grep -o "$dir/[^ ]*" /proc/mounts | sort -r | xargs -r -n1 umount -l 2>/dev/null || true
    for host in $hosts; do ip netns del "peer-d$host" 2>/dev/null || true; done
    ip netns del peer-switch 2>/dev/null || true
    rm -rf "$dir"
}

no_cgroups() {
    find /sys/fs/cgroup -depth -type d -path '*swarm-peer-d*' -exec rmdir {} + 2>/dev/null || true
    [ -z "$(find /sys/fs/cgroup -type d -path '*swarm-peer-d*' 2>/dev/null)" ]
}

case ${1:-} in
tools) unpack_tools ;;
up) start_all ;;
deploy) deploy "$2" "$3" ;;
memory) memory ;;
remove)
    on 1 stack rm bench >/dev/null
    wait_for 120 nothing_runs
    ;;
down) stop_all ;;
*)
    echo "usage: docker-swarm.sh tools|up|deploy FILE N|memory|remove|down" >&2
    exit 2
    ;;
esac
