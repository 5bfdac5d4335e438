#!/usr/bin/env bash
# Copies a program, as the system finds it, into the root of an image: to its /bin, without what only a debugger reads, and
# the libraries that it loads to where it looks for them.
#
#   examples/images/add.sh ROOT PROGRAM
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
root=$1
program=$(command -v "$2") || { echo "add.sh: there is no program $2" >&2; exit 1; }

mkdir -p "$root/bin"
strip --strip-debug -o "$root/bin/${program##*/}" "$program"
# ldd names the loader and each library by its path: "libc.so.6 => /lib/libc.so.6 (0x...)", "/lib64/ld-linux... (0x...)",
# and none of a static program.
ldd "$program" | sed -n 's|^[^/]*\(/[^ ]*\).*|\1|p' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp --dereference --update "$library" "$root$library"
done

# One program is all of iptables, by its name; what a rule may say is a library that it loads then. The overlay says these.
case $(readlink -f "$program") in
*/xtables-*-multi)
    for name in iptables iptables-restore ip6tables ip6tables-restore; do
        [ -e "$root/bin/$name" ] || ln -s "${program##*/}" "$root/bin/$name"
    done
    for library in /usr/lib*/{,*/}xtables/libxt_{conntrack,standard}.so; do
        [ ! -e "$library" ] || { mkdir -p "$root$(dirname "$library")" && cp "$library" "$root$library"; }
    done ;;
esac
