#!/usr/bin/env bash
# Builds the images flotilla/NAME as the workspace's Dockerfile says, with the Rust of this machine; nothing is pulled. The
# Docker daemon is the one that DOCKER_HOST names.
#
#   [PREFIX=flotilla] [PROGRAMS=target/debug] examples/images/make.sh NAME...      stages of the Dockerfile
#
# PROGRAMS: a folder with programs that are there, instead of building those that are shipped.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
dockerfile=$here/../../Dockerfile

# Prints stage $1 of the Dockerfile: the paragraph that begins so.
stage() { awk -v RS= -v ORS='\n\n' -v "name=$1" '$1 == "FROM" && $4 == name' "$dockerfile"; }

# The programs that are in image $1.
programs_of() { stage "$1" | sed -n 's|^COPY --from=build /image/\([a-z-]*\) /$|\1|p'; }

names=("$@")
for name in "${names[@]}"; do
    [ -n "$(programs_of "$name")" ] || { echo "make.sh: the Dockerfile has no image $name" >&2; exit 1; }
done
mapfile -t programs < <(for name in "${names[@]}"; do programs_of "$name"; done | sort -u)
"$here/roots.sh" "$work" "${programs[@]}"
for name in "${names[@]}"; do
    context=$work/context
    mkdir "$context" "$context/empty"
    for program in $(programs_of "$name"); do cp --archive "$work/$program" "$context/"; done
    # That stage, with the root from here in place of what the first stage makes.
    { grep '^ARG' "$dockerfile"; printf '\nFROM scratch AS build\nCOPY . /image\n\n'; stage "$name"; } >"$work/Dockerfile"
    # The classic builder needs no plugin, and no base image to do so little. Another one for a variant comes by its variable.
    DOCKER_BUILDKIT=0 docker build --quiet --tag "${PREFIX:-flotilla}/$name" --file "$work/Dockerfile" \
        --build-arg DEBIAN_IMAGE --build-arg HAPROXY_IMAGE --build-arg NGINX_IMAGE "$context" \
        >/dev/null 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
    rm -r "$context"
done
