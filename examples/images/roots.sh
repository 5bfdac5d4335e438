#!/usr/bin/env bash
# Makes what the images hold: DIR/NAME is the root of the image of program NAME, and DIR/empty is just that. The programs
# are those in the folder $PROGRAMS, without it a release build.
#
#   [PROGRAMS=target/debug] examples/images/roots.sh DIR NAME...
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$1
shift

if [ -z "${PROGRAMS:-}" ]; then
    manifest=$here/../../Cargo.toml
    cargo build --quiet --locked --release --manifest-path "$manifest" --workspace "${@/#/--bin=}"
    PROGRAMS=$(cargo metadata --locked --offline --no-deps --format-version 1 --manifest-path "$manifest" |
        sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release
fi

mkdir -p "$dir/empty"
for name in "$@"; do
    root=$dir/$name
    mkdir -p "$root"/{etc/ssl/certs,tmp}
    chmod 1777 "$root/tmp"
    "$here/add.sh" "$root" "$PROGRAMS/$name"
    # Host names are looked up in files, then in DNS; TLS trusts whom the machine that builds trusts.
    echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
    [ ! -e /etc/ssl/certs/ca-certificates.crt ] || cp --dereference /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
done
