#!/usr/bin/env bash
#     run.sh [SECONDS [TARGET...]]
#
# Fuzzes each target for SECONDS (600 unless given), prints executions and edges, and at last shows that planted bugs
# are found. Ends with an error if one of the targets finds something, or a planted bug is not found.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-600}
targets=("${@:2}")
[ ${#targets[@]} -gt 0 ] || targets=(filter request row rules dns snapshot record plugin)
command -v cargo-fuzz >/dev/null || { echo 'first: cargo install --locked cargo-fuzz'; exit 1; }
rustc +nightly --version >/dev/null 2>&1 || { echo 'first: rustup toolchain install nightly'; exit 1; }
work=target/fuzz
mkdir -p "$work"

fuzz() { cargo +nightly fuzz "$1" --sanitizer none "${@:2}"; }
bin() { echo "target/$(rustc +nightly -vV | sed -n 's/host: //p')/release/$1"; }

fuzz build
failed=0
for target in "${targets[@]}"; do
    corpus=$work/$target
    mkdir -p "$corpus"
    if [ "$target" != filter ]; then FUZZ_SEEDS=$corpus "$(bin "$target")" >/dev/null 2>&1; fi
    options=(-max_total_time="$seconds" -print_final_stats=1 -timeout=20 -rss_limit_mb=3000 -max_len=4096)
    [ ! -f "$target.dict" ] || options+=("-dict=$target.dict")
    extra=()
    [ ! -d "seeds/$target" ] || extra=("seeds/$target")
    log=$work/$target.log
    "$(bin "$target")" "${options[@]}" "-artifact_prefix=$work/$target-" "$corpus" "${extra[@]}" >"$log" 2>&1 && end='nothing found' || { end='FOUND, see below'; failed=1; }
    edges=$(grep -o 'cov: [0-9]*' "$log" | tail -1 | cut -d' ' -f2)
    runs=$(sed -n 's/stat::number_of_executed_units: *//p' "$log")
    printf '%-10s %12s executions  %7s edges  %s\n' "$target" "$runs" "$edges" "$end"
    [ "$end" = 'nothing found' ] || tail -40 "$log"
done

for target in row dns; do
    fuzz build --features planted "$target" >/dev/null 2>&1
    log=$work/planted-$target.log
    corpus=$work/planted-$target
    mkdir -p "$corpus" && rm -f "$corpus"/*
    FUZZ_SEEDS=$corpus "$(bin "$target")" >/dev/null 2>&1
    if "$(bin "$target")" -max_total_time=300 -print_final_stats=1 "-artifact_prefix=$corpus-" "$corpus" >"$log" 2>&1; then
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
