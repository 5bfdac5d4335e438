#!/usr/bin/env bash
# Runs all tests, at the end of which cargo's own lines say how many. The stories wait more than they work, so the other
# tests run beside them, and those of several hosts beside the other stories; what the stories tell comes last.
#
#   tests/run.sh [OPTION...]      options of cargo's, such as --features kvstore/etcd
set -uo pipefail
# Each job is a group of its own, so that all of it can be ended.
set -m
options=("$@")
tests() { "${CARGO:-cargo}" test --workspace --locked "${options[@]}" "$@"; }

tests --no-run || exit
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
echo "The stories run beside the other tests; what they tell so far: $logs"
stories() { tests --test stories -- "$@"; }
of_hosts() {
    local failed=0
    stories overlay || failed=1
    stories hosts_ --skip overlay || failed=1
    return "$failed"
}
of_hosts >"$logs/hosts" 2>&1 </dev/null &
hosts=$!
stories --skip overlay --skip hosts_ --skip whole --skip versions_ >"$logs/others" 2>&1 </dev/null &
others=$!
trap 'kill -INT -- -$hosts -$others; exit 130' INT TERM

# The rest of the stories, so that all three take about as long.
result=0
STORIES=beside tests --no-fail-fast || result=1
stories whole || result=1
stories versions_ || result=1
wait "$hosts" || result=1
wait "$others" || result=1
cat "$logs/hosts" "$logs/others"
exit "$result"
