#!/usr/bin/env bash
# Builds the image `flotilla/hello-web` FROM scratch, around one static binary; nothing is pulled. The Docker daemon is
# the one that DOCKER_HOST names.
#
#   examples/hello-web/image.sh [TAG]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tag=${1:-flotilla/hello-web:latest}

# Static linking is asked for with an explicit target, so that it is asked for of this program alone.
target=$(rustc -vV | sed -n 's/^host: //p')
manifest=$here/../Cargo.toml
RUSTFLAGS='-C target-feature=+crt-static -C strip=symbols' \
    cargo build --quiet --locked --release --manifest-path "$manifest" --bin hello-web --target "$target"
folder=$(cargo metadata --locked --offline --no-deps --format-version 1 --manifest-path "$manifest" |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/')

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp "$here/Dockerfile" "$folder/$target/release/hello-web" "$context/"
# The classic builder needs no plugin, and no base image to do so little.
DOCKER_BUILDKIT=0 docker build --quiet --tag "$tag" "$context" >/dev/null 2>"$context/log" ||
    { cat "$context/log" >&2; exit 1; }
