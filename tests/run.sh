#!/usr/bin/env bash
# Runs all tests, at the end of which cargo's own lines say how many. The stories wait more than they work, so the other
# tests run beside them, and what the stories tell comes last.
#
#   tests/run.sh [OPTION...]      options of cargo's, such as --features kvstore/etcd
set -uo pipefail
# Each job is a group of its own, so that all of it can be ended.
set -m
tests() { "${CARGO:-cargo}" test --workspace --locked "$@"; }

tests "$@" --no-run || exit
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "The stories run beside the other tests; what they tell so far: $log"
tests "$@" --test stories >"$log" 2>&1 </dev/null &
stories=$!
trap 'kill -INT -- -$stories; exit 130' INT TERM

STORIES=beside tests "$@" --no-fail-fast
others=$?
wait "$stories"
told=$?
cat "$log"
exit $((others | told))
