#!/usr/bin/env bash
# profile.sh PROGRAM OUT [--set axis=value]...: what every kernel takes of the GPU of this machine, and the bytes that it moves (Nsight Compute) against bytes_min.
# Profiles suites/profile.toml, as changed by --set, a case at a time, and writes OUT/<gpu>-<utc date>-<commit7>.txt: a table of the cases, then all kernels
# (prnn list kernels). A case that the profiler refuses is a row that says so, in its words. PRNN_PROFILE_S: seconds for one case (default 60).
# Exit code: 0, 5 where a case has no numbers, 64 bad usage.
set -uo pipefail
if (($# < 2)) || [[ ! -x $1 ]]; then
  echo "profile.sh: expected PROGRAM (executable) and OUT (folder)" >&2
  exit 64
fi
program=$1 out=$2 here=$(dirname -- "$(readlink -f -- "$0")") work=$(mktemp -d)
shift 2
trap 'rm -rf "$work"' EXIT
suite=$here/../suites/profile.toml
tool=$(command -v ncu || echo /usr/local/cuda/bin/ncu)
"$program" info --json >"$work/info.json" || exit 64
"$program" list kernels --json >"$work/kernels.json" || exit 64
if grep -q '"gpu":null' "$work/info.json"; then
  echo "profile.sh: no GPU here" >&2
  exit 64
fi
metrics=dram__bytes_read.sum,dram__bytes_write.sum,gpu__time_duration.sum,launch__registers_per_thread,sm__warps_active.avg.pct_of_peak_sustained_active

# Kernels of the solvers by their plain names: what draws and verifies is not looked at.
kernels=$(grep -o '"name":"[A-Za-z0-9_:]*' "$work/kernels.json" | sed 's/"name":"//; s/.*:://' | sort -u | paste -sd'|')
number=0
"$program" run "$suite" --device cuda --dry "$@" >"$work/plan.txt" || exit 64
grep -v skipped "$work/plan.txt" | grep -oE '(recurrence|reduction)/[^ ]*' >"$work/cases"
while read -r case_id; do
  number=$((number + 1)) name=$work/$(printf %03d "$number")
  # The loop of newton_unfused is decided on the device, where the profiler sees no kernels: a fixed count instead.
  limit=()
  [[ $case_id != */newton_unfused* ]] || limit=(--set iteration_limit=1)
  timeout -k 5 "${PRNN_PROFILE_S:-60}" "$tool" --csv --page raw --print-units base --print-kernel-base demangled --clock-control none --target-processes all \
    --kernel-name-base function --kernel-name "regex:^($kernels)$" --metrics "$metrics" --log-file "$name.csv" \
    "$program" verify "$suite" --device cuda --only "^${case_id/adaptive/[^/]*}\$" "$@" "${limit[@]}" --no-report --out "$name.jsonl" >"$name.log" 2>&1 </dev/null
  printf '%s %d\n' "$case_id" $? >"$name.case"
done <"$work/cases"
python3 -B "$here/profile_table.py" "$work" "$out"
