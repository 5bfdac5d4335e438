#!/usr/bin/env bash
# Makes what the images hold: DIR/NAME is the root of the image of program NAME, and DIR/empty is just that. The programs
# are those in the folder $PROGRAMS, without it those that are shipped; what is not there is one of the system's.
#
#   [PROGRAMS=target/debug] examples/images/roots.sh DIR NAME...
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$1
shift

PROGRAMS=${PROGRAMS:-$("$here/../static.sh")}

mkdir -p "$dir/empty"
for name in "$@"; do
    root=$dir/$name
    mkdir -p "$root"/{etc/ssl/certs,tmp}
    chmod 1777 "$root/tmp"
    program=$PROGRAMS/$name
    [ -e "$program" ] || program=$name
    "$here/add.sh" "$root" "$program"
    # Host names are looked up in files, then in DNS; TLS trusts whom the machine that builds trusts.
    echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
    [ ! -e /etc/ssl/certs/ca-certificates.crt ] || cp --dereference /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
done
