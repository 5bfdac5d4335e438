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

die() { echo "podman.sh: $*" >&2; exit 1; }

# A zombie has ended too: where PID 1 does not collect them they stay for ever.
alive() { [ -r "/proc/$1/stat" ] && [ "$(sed 's/.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null || echo Z)" != Z ]; }

# The process id of the service of directory $1, if it runs; the command line tells it from a later owner of the number.
service() {
    local pid
    pid=$(cat "$1/pid" 2>/dev/null) && alive "$pid" && tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF -- "$1/docker.sock" && echo "$pid"
}

# Replaces this shell by podman, kept in directory $1.
podman_in() {
    local dir=$1
    shift
    export CONTAINERS_CONF=$dir/containers.conf
    exec nsenter "--net=/run/netns/$(cat "$dir/namespace")" podman --root "$dir/data" --runroot "$dir/run" \
        --storage-driver vfs --cgroup-manager cgroupfs "$@"
}

start() {
    local dir=$1 owner
    for owner in /tmp/flotilla-podman.*/owner; do
        [ -s "$owner" ] && ! alive "$(cat "$owner")" || continue
        echo "podman.sh: removing ${owner%/owner}, whose owner is gone" >&2
        remove "${owner%/owner}"
    done
    echo "${2:-1}" >"$dir/owner"
    # Podman would raise these limits further than it may on some machines.
    printf '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n' >"$dir/containers.conf"
    (podman_in "$dir" system service --time 0 "unix://$dir/docker.sock") </dev/null >>"$dir/log" 2>&1 &
    echo $! >"$dir/pid"
    for _ in {1..300}; do
        if curl --silent --fail --max-time 2 --unix-socket "$dir/docker.sock" http://podman/_ping >/dev/null; then return; fi
        alive "$(cat "$dir/pid")" || { tail -n 20 "$dir/log" >&2; die "podman ended; its last words are above"; }
        sleep 0.1
    done
    tail -n 20 "$dir/log" >&2
    die "podman did not answer within 30 s; its last words are above"
}

halt() {
    local pid
    pid=$(service "$1") || return 0
    kill -s "${2:-TERM}" "$pid"
    for _ in {1..200}; do
        alive "$pid" || return 0
        sleep 0.05
    done
    kill -KILL "$pid"
}

remove() {
    local dir=$1
    [ -d "$dir" ] || return 0
    halt "$dir"
    (podman_in "$dir" rm --all --force --time 0 --volumes) >/dev/null 2>&1 || true
    rm -rf "$dir"
}

[ $# -ge 2 ] || die "usage: podman.sh start|halt|remove DIR; see the head of the file"
case $1 in
    start | halt | remove) "$@" ;;
    *) die "start, halt or remove, not $1" ;;
esac
