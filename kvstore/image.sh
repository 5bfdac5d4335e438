#!/usr/bin/env bash
# Builds the image `flotilla/kvstore` FROM scratch, of the registry and the libraries that it loads; nothing is pulled. The
# Docker daemon is the one that DOCKER_HOST names. The image has HTTP on 8500 and DNS on 53 and 8600, keeps its state in
# the volume /data, and runs as user 10001 without any capability:
#
#   kvstore/image.sh [TAG [PROGRAM]]       PROGRAM: one that is there, instead of a release build
#   docker run --detach --name registry --cap-drop ALL --volume registry:/data flotilla/kvstore
#
# Where DNS cannot have port 53 (Docker before 20.03, --network host): --sysctl net.ipv4.ip_unprivileged_port_start=0
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tag=${1:-flotilla/kvstore:latest}
program=${2:-}

if [ -z "$program" ]; then
    manifest=$here/Cargo.toml
    cargo build --quiet --locked --release --manifest-path "$manifest" --bin kvstore
    program=$(cargo metadata --locked --offline --no-deps --format-version 1 --manifest-path "$manifest" |
        sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/kvstore
fi

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
root=$context/root
mkdir -p "$root"/{bin,etc/ssl/certs,tmp} "$context/data"
chmod 1777 "$root/tmp"
cp "$here/Dockerfile" "$context/"
cp "$program" "$root/bin/kvstore"
# ldd names the loader and each library by its path: "libc.so.6 => /lib/libc.so.6 (0x...)", "/lib64/ld-linux... (0x...)".
ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp --dereference "$library" "$root$library"
done
# For checks: host names are looked up in files, then in DNS; TLS trusts whom this machine trusts.
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || cp --dereference /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"

# The classic builder needs no plugin, and no base image to do so little.
DOCKER_BUILDKIT=0 docker build --quiet --tag "$tag" "$context" >/dev/null 2>"$context/log" ||
    { cat "$context/log" >&2; exit 1; }
