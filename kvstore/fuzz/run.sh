#!/usr/bin/env bash
#     run.sh [SECONDS [TARGET...]]
#
# Fuzzes each target for SECONDS (600 unless given), JOBS of them at once (1), prints executions and edges, and at last
# shows that planted bugs are found. Ends with an error if a target finds something, or a planted bug is not found. What is
# new is kept in target/fuzz/TARGET; KEEP=1 takes the little of it that covers most into corpus/TARGET, as those who change
# a parser may.
set -euo pipefail
cd "$(dirname "$0")"
export seconds=${1:-600}
targets=("${@:2}")
[ ${#targets[@]} -gt 0 ] || targets=(book changes config container dns filter grpc hosts jobs join journal
    kept packets plugin proxies record request row rules settings snapshot template values)
export work=$PWD/../../target/fuzz
mkdir -p "$work"

# What is instrumented is told by ordinary options of code generation, so that no other compiler is wanted. They are for
# this target alone, which leaves out build scripts.
host=$(rustc -vV | sed -n 's/host: //p')
flags=(--cfg fuzzing -Cdebug-assertions -Cpasses=sancov-module)
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    flags+=("-Cllvm-args=-sanitizer-coverage-$option")
done
flags+=(-Cllvm-args=-simplifycfg-branch-fold-threshold=0)
build() { # build TARGET PLACE FEATURES
    FUZZ_TARGET=$1 RUSTFLAGS="${flags[*]}" "${CARGO:-cargo}" build --locked --profile fuzz --target "$host" --target-dir "$work/build" \
        --bin fuzz --features "$3" -p kvstore-fuzz >"$work/build.log" 2>&1 ||
        { cat "$work/build.log"; exit 1; }
    cp "$work/build/$host/fuzz/fuzz" "$2"
}

one() { # one TARGET: prints a line, and what was found
    local target=$1 log=$work/$1.log end edges runs
    mkdir -p "$work/$target"
    FUZZ_SEEDS=$work/$target "$work/fuzz-$target" >/dev/null 2>&1
    local options=(-max_total_time="$seconds" -print_final_stats=1 -timeout=20 -rss_limit_mb=3000 -max_len=4096)
    [ ! -f "dict/$target.dict" ] || options+=("-dict=dict/$target.dict")
    "$work/fuzz-$target" "${options[@]}" "-artifact_prefix=$work/$target-" "$work/$target" \
        "corpus/$target" >"$log" 2>&1 && end='nothing found' || end='FOUND, see below'
    edges=$(grep -o 'cov: [0-9]*' "$log" | tail -1 | cut -d' ' -f2)
    runs=$(sed -n 's/stat::number_of_executed_units: *//p' "$log")
    printf '%-10s %12s executions  %7s edges  %s\n' "$target" "$runs" "$edges" "$end"
    [ "$end" = 'nothing found' ] || { tail -40 "$log"; exit 1; }
}
export -f one

keep() { # keep TARGET: of what covers most, some of each size, within bounds
    local target=$1 chosen=$work/kept-$1 bytes=0 file step
    rm -rf "$chosen" && mkdir "$chosen"
    "$work/fuzz-$target" -set_cover_merge=1 -max_len=4096 "$chosen" "corpus/$target" "$work/$target" \
        >"$work/$target-keep.log" 2>&1
    rm -f "corpus/$target"/*
    step=$(($(ls "$chosen" | wc -l) / 40 + 1))
    for file in $(ls -Sr "$chosen" | awk "NR % $step == 0"); do
        bytes=$((bytes + $(stat -c %s "$chosen/$file")))
        [ $bytes -le 25000 ] || break
        cp "$chosen/$file" "corpus/$target/${file:0:12}"
    done
}

for target in "${targets[@]}"; do build "$target" "$work/fuzz-$target" libfuzzer; done
failed=0
printf '%s\n' "${targets[@]}" | xargs -P "${JOBS:-1}" -I{} bash -c 'one {}' || failed=1
if [ -n "${KEEP:-}" ]; then for target in "${targets[@]}"; do keep "$target"; done; fi

for target in row dns; do
    build "$target" "$work/planted" libfuzzer,planted
    log=$work/planted-$target.log
    seeds=$work/planted-$target
    rm -rf "$seeds" && mkdir "$seeds"
    FUZZ_SEEDS=$seeds "$work/planted" >/dev/null 2>&1
    if "$work/planted" -max_total_time=300 -print_final_stats=1 "-artifact_prefix=$seeds-" "$seeds" \
        >"$log" 2>&1; then
        echo "planted    NOT found in five minutes: fuzzing $target finds nothing"
        failed=1
    elif grep -q 'the planted bug' "$log"; then
        runs=$(sed -n 's/stat::number_of_executed_units: *//p' "$log")
        printf '%-10s %12s executions  found in %s, as it should be\n' planted "$runs" "$target"
    else
        echo "planted    something else was found in $target:"
        tail -40 "$log"
        failed=1
    fi
done
exit $failed
