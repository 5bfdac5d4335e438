#!/usr/bin/env bash
# Builds all programs as they are shipped, and prints the folder that they are in. They load no library, so they run on any
# Linux of this architecture. Names they look up in files and in DNS, whatever else an /etc/nsswitch.conf says
# (static.c). The engine etcd is in them, whose build runs protoc; WITHOUT_ETCD=1 leaves it out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target/$host"
target=$(cd "$target" && pwd)
features=(--features kvstore/etcd)
if [ -n "${WITHOUT_ETCD:-}" ]; then
    features=()
elif ! command -v protoc >/dev/null || [ ! -e /usr/include/google/protobuf/descriptor.proto ]; then
    echo 'static.sh: the engine etcd wants protoc and its files (Debian: protobuf-compiler, libprotobuf-dev);' \
        'WITHOUT_ETCD=1 leaves it out' >&2
    exit 1
fi
cc -c -O2 -Wall -Werror -o "$target/$host/static.o" examples/static.c
# What is put right at the start (24 bytes a pointer, all of it read and kept in memory) is told in a bit each, where the
# glibc that is linked in understands it.
relative=
if printf '%s\n' 'glibc 2.36' "$(getconf GNU_LIBC_VERSION 2>/dev/null)" | sort --version-sort --check=quiet; then
    relative='-C link-arg=-Wl,-z,pack-relative-relocs'
fi
# With --target the flags are for the programs alone; what only helps to build them may load libraries.
RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static -C link-arg=$target/$host/static.o $relative" \
    "${CARGO:-cargo}" build --release --workspace --bins --locked "${features[@]}" --target "$host" >&2
echo "$target/$host/release"
