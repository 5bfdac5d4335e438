#!/usr/bin/env bash
# Builds all programs as they are shipped, and prints the folder that they are in. They load no library, so they run on any
# Linux of this architecture. Names they look up in files and in DNS, whatever else an /etc/nsswitch.conf says
# (kvstore/client/src/names.rs).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
# With --target the flags are for the programs alone; what only helps to build them may load libraries.
RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" \
    "${CARGO:-cargo}" build --release --workspace --bins --locked --target "$host" >&2
target=${CARGO_TARGET_DIR:-target}
echo "$(cd "$target" && pwd)/$host/release"
