#!/usr/bin/env bash
# Podman's service of our own, beside any other, with the commands of dockerd.sh: everything that it keeps is under one
# directory, and its networks and firewall rules are those of the namespace that DIR/namespace names.
#
#   tests/podman.sh start DIR [OWNER]   its socket is DIR/docker.sock; after `halt` it starts again with what it had.
#                                       What the process OWNER left behind is removed by the next start after its end
#   tests/podman.sh halt DIR [SIGNAL]   ends the service alone (TERM); its containers run on
#   tests/podman.sh remove DIR          ends the service and its containers, and removes DIR
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
# shellcheck source=tests/daemon.sh
source "$(dirname "${BASH_SOURCE[0]}")/daemon.sh"

# Replaces this shell by podman, kept in directory $1.
podman_in() {
    local dir=$1
    shift
    export CONTAINERS_CONF=$dir/containers.conf
    exec nsenter "--net=$(cat "$dir/namespace")" podman --root "$dir/data" --runroot "$dir/run" \
        --storage-driver vfs --cgroup-manager cgroupfs "$@"
}

start() {
    local dir=$1
    sweep '/tmp/flotilla-podman.*'
    echo "${2:-1}" >"$dir/owner"
    # Podman would raise these limits further than it may on some machines.
    printf '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n' >"$dir/containers.conf"
    (podman_in "$dir" system service --time 0 "unix://$dir/docker.sock") </dev/null >>"$dir/log" 2>&1 &
    echo $! >"$dir/pid"
    wait_for_answer podman "$dir" "$(cat "$dir/pid")"
}

remove() {
    local dir=$1
    [ -d "$dir" ] || return 0
    halt "$dir"
    (podman_in "$dir" rm --all --force --time 0 --volumes) >/dev/null 2>&1 || true
    rm -rf "$dir"
}

run "$@"
