#!/usr/bin/env bash
# Installs, with apt, the programs that the tests, the demo and the benchmark run beside ours. Asks nothing; does
# nothing when all is there. Debian's packages start their service at once and at every boot: neither is wanted here
# (a system nginx would sit on port 80), so starting is forbidden while apt runs, and they are switched off. Then gets
# the packages of other people's clients (tests/clients); those written in Go want a Go newer than Debian's.
#
#   tests/setup.sh            install what is missing
#   tests/setup.sh --check    only say what is missing; exit 1 if anything is
set -euo pipefail
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# command=package, in the order in which they are told.
NEEDS=(
    caddy=caddy
    cc=gcc
    chromedriver=chromium-driver
    chromium=chromium
    curl=curl
    debootstrap=debootstrap
    dig=bind9-dnsutils
    dnsmasq=dnsmasq-base
    dnsperf=dnsperf
    docker=docker.io
    docker-compose=docker-compose
    dockerd=docker.io
    etcd=etcd-server
    etcdctl=etcd-client
    haproxy=haproxy
    ip=iproute2
    iperf3=iperf3
    iptables=iptables
    knotd=knot
    musl-gcc=musl-tools
    nebula=nebula
    nft=nftables
    nginx=nginx
    node=nodejs
    npm=npm
    nsenter=util-linux
    ping=iputils-ping
    podman=podman
    prometheus=prometheus
    protoc=protobuf-compiler
    strip=binutils
    tincd=tinc
    unbound=unbound
    wg=wireguard-tools
    wireguard-go=wireguard-go
    wrk=wrk
)

say() { echo "setup: $*" >&2; }

# Prints the packages that hold the missing commands, each once.
missing() {
    local need
    for need in "${NEEDS[@]}"; do
        command -v "${need%%=*}" >/dev/null || echo "${need#*=}"
    done | sort -u
    # What comes with protoc; the build of the engine etcd reads it.
    [ -e /usr/include/google/protobuf/descriptor.proto ] || echo libprotobuf-dev
    # A part of Python that Debian keeps apart; the client written in Python is installed with it.
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}

# Runs "$@" as root, or says why it cannot.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif sudo -n true 2>/dev/null || { [ -t 0 ] && command -v sudo >/dev/null; }; then
        sudo "$@"
    else
        say "not root, and no sudo; as root, run: apt-get install --no-install-recommends ${PACKAGES[*]}"
        return 1
    fi
}

# Runs as root, in a shell of its own: apt with services kept from starting.
install_quietly() {
    set -euo pipefail
    export DEBIAN_FRONTEND=noninteractive
    local policy=/usr/sbin/policy-rc.d kept=''
    [ ! -e "$policy" ] || { kept=$policy.before-flotilla; mv "$policy" "$kept"; }
    # shellcheck disable=SC2064 # the names are wanted as they are now
    trap "rm -f '$policy'; [ -z '$kept' ] || mv '$kept' '$policy'" EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    local apt=(apt-get -qq -o DPkg::Lock::Timeout=120)
    "${apt[@]}" update </dev/null
    # docker.io has the client in it up to Debian 12; from 13 on it is a package of its own.
    if [[ " $* " == *" docker.io "* ]] && apt-cache show docker-cli >/dev/null 2>&1; then
        set -- "$@" docker-cli
    fi
    "${apt[@]}" install -y --no-install-recommends "$@" </dev/null >/dev/null
    local unit
    if [[ " $* " == *" podman "* ]]; then
        systemctl --quiet disable podman.socket podman.service podman-restart podman-auto-update.timer 2>/dev/null || true
    fi
    for unit in nginx haproxy etcd unbound knot caddy prometheus tinc; do
        if [[ " $* " == *" $unit"[\ -]* ]]; then systemctl --quiet disable "$unit" 2>/dev/null || true; fi
    done
}

# Installs what is missing, or with --check only says it; fails if anything is missing after that.
programs() {
    mapfile -t PACKAGES < <(missing)
    if [ "${#PACKAGES[@]}" = 0 ]; then return 0; fi
    if [ "${1:-}" = --check ]; then
        say "missing: ${PACKAGES[*]}"
        return 1
    fi
    if ! command -v apt-get >/dev/null; then
        say "this machine has no apt; install by other means what Debian calls: ${PACKAGES[*]}"
        return 1
    fi
    say "installing with apt: ${PACKAGES[*]} (their services are not started)"
    as_root bash -c "$(declare -f install_quietly); install_quietly \"\$@\"" setup "${PACKAGES[@]}" || return 1
    mapfile -t PACKAGES < <(missing)
    if [ "${#PACKAGES[@]}" != 0 ]; then
        say "still missing after the installation: ${PACKAGES[*]}"
        return 1
    fi
}

failed=0
programs "$@" || failed=1
"$(dirname "${BASH_SOURCE[0]}")/clients/install.sh" "$@" || failed=1
exit "$failed"
