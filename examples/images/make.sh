#!/usr/bin/env bash
# Builds the images flotilla/NAME as the workspace's Dockerfile says, with the Rust of this machine; nothing is pulled. The
# Docker daemon is the one that DOCKER_HOST names.
#
#   [PREFIX=flotilla] [PROGRAMS=target/debug] examples/images/make.sh NAME...      kvstore, registrar, templater, hello-web
#
# PROGRAMS: a folder with programs that are there, instead of a release build.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$here/roots.sh" "$work" "$@"
for name in "$@"; do
    context=$work/$name.context
    mkdir "$context" "$context/empty"
    mv "$work/$name" "$context/"
    # That stage of the Dockerfile, with the root from here in place of what its first stage makes.
    {
        printf 'FROM scratch AS build\nCOPY . /image\n'
        awk -v RS= -v "stage=FROM scratch AS $name\n" 'index($0 "\n", stage) == 1' "$here/../../Dockerfile"
    } >"$work/Dockerfile"
    grep -q ENTRYPOINT "$work/Dockerfile" || { echo "make.sh: the Dockerfile has no program $name" >&2; exit 1; }
    # The classic builder needs no plugin, and no base image to do so little.
    DOCKER_BUILDKIT=0 docker build --quiet --tag "${PREFIX:-flotilla}/$name" --file "$work/Dockerfile" "$context" \
        >/dev/null 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
done
