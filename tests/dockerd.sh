#!/usr/bin/env bash
# A Docker daemon of our own, beside any other: everything that it keeps is under one directory, its containers are on a
# bridge of its own, and it touches no firewall rule (published ports go through Docker's userland proxy).
#
#   tests/dockerd.sh start DIR [OWNER]   its socket is DIR/docker.sock; after `halt` it starts again with what it had.
#                                        What the process OWNER left behind is removed by the next start after its end
#                                        DIR/arguments, if it is there, has arguments for dockerd, one a line
#   tests/dockerd.sh halt DIR [SIGNAL]   ends the daemon alone (TERM); what it keeps stays
#   tests/dockerd.sh remove DIR          ends the daemon and its containers, and removes the bridge and DIR
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
# shellcheck source=tests/daemon.sh
source "$(dirname "${BASH_SOURCE[0]}")/daemon.sh"

# Makes the first free bridge flotilla0, flotilla1...; making one is atomic, so two callers never share one.
make_bridge() {
    local n
    for n in {0..255}; do
        [ -z "$(ip -o -4 route show root "10.213.$n.0/24")" ] || continue
        # With an address of its own: else it has that of one of its ports, and with the container behind that port goes
        # the address that the others know the gateway by.
        ip link add "flotilla$n" address "$(printf '02:42:0a:d5:%02x:01' "$n")" type bridge 2>/dev/null || continue
        echo "flotilla$n" >"$1/bridge"
        ip address add "10.213.$n.1/24" dev "flotilla$n"
        ip link set "flotilla$n" up
        return
    done
    die "no bridge could be made; is this root, with the right to change the network?"
}

start() {
    local dir=$1
    sweep '/tmp/flotilla-dockerd.*'
    mkdir -p "$dir"
    echo "${2:-1}" >"$dir/owner"
    [ -s "$dir/bridge" ] || make_bridge "$dir"
    local more=()
    [ ! -e "$dir/arguments" ] || mapfile -t more <"$dir/arguments"
    # Pid files of a daemon that was killed; where nobody collects zombies the next one would believe them.
    rm -f "$dir/pid" "$dir/exec/containerd/containerd.pid"
    # The tasks of a swarm take the images that are there, and ask nobody.
    export DOCKER_SERVICE_PREFER_OFFLINE_IMAGE=1
    # The namespace keeps us apart from others where the system's containerd runs and is taken.
    setsid dockerd --host "unix://$dir/docker.sock" --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/pid" \
        --containerd-namespace "$(cat "$dir/bridge")" --containerd-plugins-namespace "$(cat "$dir/bridge")-plugins" \
        --bridge "$(cat "$dir/bridge")" --iptables=false --ip-forward=false --ip-masq=false \
        --cgroup-parent "$(cat "$dir/bridge")" --shutdown-timeout 5 "${more[@]}" \
        </dev/null >>"$dir/log" 2>&1 &
    wait_for_answer dockerd "$dir" $!
}

remove() {
    local dir=$1 pid mounted bridge
    [ -d "$dir" ] || return 0
    if daemon "$dir" >/dev/null; then
        local ask=(docker --host "unix://$dir/docker.sock") ids
        ids=$("${ask[@]}" ps --all --quiet) && [ -z "$ids" ] || xargs "${ask[@]}" rm --force --volumes <<<"$ids" >/dev/null || true
    fi
    halt "$dir"
    # A daemon that was killed leaves containers, their shims and proxies; every one of them names the directory, or the
    # bridge as its namespace, in its command line.
    bridge=$(cat "$dir/bridge" 2>/dev/null || echo none)
    for pid in $(pgrep -f -- "($dir/exec|-namespace $bridge )" || true); do
        pkill -KILL -P "$pid" || true
        kill -KILL "$pid" 2>/dev/null || true
    done
    while read -r mounted; do umount --lazy "$mounted" || true; done < <(cut -d' ' -f2 /proc/mounts | grep -F "$dir/" | sort -r)
    find /sys/fs/cgroup -depth -type d -path "*/$bridge*" -exec rmdir {} + 2>/dev/null || true
    [ "$bridge" = none ] || ip link delete "$bridge" 2>/dev/null || true
    rm -rf "$dir"
}

run "$@"
