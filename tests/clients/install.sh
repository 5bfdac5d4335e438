#!/usr/bin/env bash
# Gets the packages of the programs here, at the versions and checksums that are written beside them, into
# target/clients. Does nothing when all is there. A copy of the list of versions marks what is
# complete; the stories look at it.
#
#   tests/clients/install.sh            get what is missing
#   tests/clients/install.sh --check    only say what is missing; exit 1 if anything is
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
root=$(cd ../.. && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
case $target in /*) ;; *) target=$root/$target ;; esac

say() { echo "clients: $*" >&2; }

# Each runs in the folder of its program; $1 is where the packages go.
get_go() {
    GOFLAGS=-modcacherw GOMODCACHE=$1/mod GOCACHE=$1/build go build -o /dev/null .
}

get_prometheus() {
    get_go "$1"
}

get_python() {
    python3 -m venv "$1" && "$1/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements.txt
}

get_node() {
    cp package.json package-lock.json "$1" && npm ci --prefix "$1" --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
}

failed=0
# Folder, the program of this machine that it takes, and the list of versions and checksums.
while read -r folder program list; do
    into=$target/clients/$folder
    if cmp --silent "$folder/$list" "$into/complete"; then continue; fi
    if [ "${1:-}" = --check ]; then
        say "missing: the packages of tests/clients/$folder"
        failed=1
        continue
    fi
    if ! command -v "$program" >/dev/null; then
        say "tests/clients/$folder wants $program, which this machine lacks"
        failed=1
        continue
    fi
    say "getting the packages of tests/clients/$folder"
    rm -rf "$into" && mkdir -p "$into"
    if (cd "$folder" && "get_$folder" "$into" </dev/null); then
        cp "$folder/$list" "$into/complete"
    else
        say "the packages of tests/clients/$folder cannot be had; see above"
        failed=1
    fi
done <<'END'
go go go.sum
prometheus go go.sum
python python3 requirements.txt
node npm package-lock.json
END
exit "$failed"
