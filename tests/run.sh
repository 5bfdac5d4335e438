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
hosts() {
    local failed=0
    tests --test stories -- overlay || failed=1
    tests --test stories -- hosts_ --skip overlay || failed=1
    tests --test stories -- whole || failed=1
    return "$failed"
}
hosts >"$logs/hosts" 2>&1 </dev/null &
hosts=$!
tests --test stories -- --skip overlay --skip hosts_ --skip whole >"$logs/others" 2>&1 </dev/null &
others=$!
trap 'kill -INT -- -$hosts -$others; exit 130' INT TERM

STORIES=beside tests --no-fail-fast
result=$?
wait "$hosts" || result=1
wait "$others" || result=1
cat "$logs/hosts" "$logs/others"
exit "$result"
