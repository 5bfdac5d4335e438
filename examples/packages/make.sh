#!/usr/bin/env bash
# Makes Debian packages, DIR/NAME_VERSION_ARCHITECTURE.deb, of programs that are there; NAME/debian says what belongs to
# each. They depend on no library, so the programs must be static, or be for this Debian.
#
#   [VERSION=1.0] examples/packages/make.sh PROGRAMS DIR NAME...      kvstore, registrar, templater, overlay
#
# PROGRAMS: the folder that they are in. Without VERSION it is what the program says.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
workspace=$here/../..
programs=$1 dir=$2
shift 2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022
mkdir -p "$dir"

# Puts file $1 at $2 of the package, with mode $3.
put() { install -D --mode "${3:-644}" "$1" "$root/$2"; }

for name in "$@"; do
    root=$work/$name
    debian=$workspace/$name/debian
    put "$programs/$name" "usr/bin/$name" 755
    # Names of functions stay, for what it says when it panics.
    strip --strip-debug "$root/usr/bin/$name"
    put "$workspace/LICENSE" "usr/share/doc/$name/copyright"
    cat "$workspace"/LICENSE-MIT >>"$root/usr/share/doc/$name/copyright"
    for unit in "$name.service" "$name.socket"; do
        [ ! -e "$debian/$unit" ] || put "$debian/$unit" "usr/lib/systemd/system/$unit"
    done
    [ ! -e "$debian/$name.sysusers" ] || put "$debian/$name.sysusers" "usr/lib/sysusers.d/$name.conf"
    mkdir "$root/DEBIAN"
    if [ -e "$debian/$name.yaml" ]; then
        put "$debian/$name.yaml" "etc/$name/$name.yaml"
        echo "/etc/$name/$name.yaml" >"$root/DEBIAN/conffiles"
    fi
    if [ "$name" = kvstore ]; then
        "$programs/kvstore" man "$root/usr/share/man/man1"
        gzip --best --no-name "$root"/usr/share/man/man1/*
        "$programs/kvstore" completions bash >"$work/completions"
        put "$work/completions" usr/share/bash-completion/completions/kvstore
    fi
    if [ -e "$debian/$name.service" ]; then
        for script in postinst prerm postrm; do put "$here/$script" "DEBIAN/$script" 755; done
    fi
    # "0.2.0-dev" comes before "0.2.0": Debian writes that with a tilde.
    said=$("$programs/$name" version)
    said=${said##* }
    {
        echo "Package: $name"
        echo "Version: ${VERSION:-${said//-/\~}}"
        echo "Architecture: $(dpkg --print-architecture)"
        echo "Maintainer: The Flotilla authors"
        echo "Installed-Size: $(du --summarize --apparent-size --block-size 1024 "$root" | cut -f 1)"
        [ ! -e "$debian/$name.sysusers" ] || echo "Depends: systemd | systemd-sysusers"
        cat "$debian/control"
    } >"$root/DEBIAN/control"
    dpkg-deb --root-owner-group --uniform-compression -Zzstd -z9 --build "$root" "$dir" >/dev/null
done
