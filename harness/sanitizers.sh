#!/usr/bin/env bash
# sanitizers.sh PROGRAM OUT: every kernel under memcheck, initcheck, synccheck and racecheck of compute-sanitizer, on the GPU of this machine, solver by solver.
# Writes OUT, a line each: clean, so many reports and in which kernels, refused (the tool did not run here, in its own words) or unfinished. PRNN_SANITIZER_S:
# seconds for one run (default 120); PRNN_SANITIZER_SOLVERS: these alone. Exit code: 0 nothing in a kernel of ours, 2 something, 5 a tool that did not run to its end over ours, 64 bad usage.
set -uo pipefail
if (($# != 2)) || [[ ! -x $1 ]]; then
  echo "sanitizers.sh: expected PROGRAM (executable) and OUT" >&2
  exit 64
fi
program=$1 out=$2 here=$(dirname -- "$(readlink -f -- "$0")") work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tool=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
"$program" info >"$out" || exit 64
if grep -qE '^gpu +none' "$out"; then
  echo "sanitizers.sh: no GPU here" >&2
  exit 64
fi
solvers=${PRNN_SANITIZER_SOLVERS:-$("$program" list solvers | awk 'NR > 1 && / cuda/ && $1 != "auto" {print $1}')}  # auto runs the others
status=0

# judge CHECK SOLVER WHAT ITERATIONS [FLAG]...: runs SOLVER under CHECK with the tool's FLAGs and writes a line; leaves the line's verdict in `found`: clean, cub (reports in kernels
# of CUB's alone), ours, refused or unfinished.
judge() {
  local check=$1 solver=$2 what=$3 iterations=$4 log=$work/$1 started=$SECONDS
  shift 4
  rm -f "$log.jsonl"
  timeout -k 5 "${PRNN_SANITIZER_S:-120}" "$tool" --tool "$check" --target-processes all --print-limit 10000 --error-exitcode 99 "$@" \
    "$program" verify "$here/../suites/sanitizers.toml" --set solvers="$solver" --set iteration_limit="$iterations" --device cuda --no-report --out "$log.jsonl" >"$log" 2>&1
  local code=$? rows kernels verdict
  rows=$(grep -c '"status":"ok"' "$log.jsonl" 2>/dev/null)
  # The device's frame that stands first in a report: "at [void] KERNEL<..>(..)+0x..".
  kernels=$(grep -E '^=+ +at ' "$log" | sed -E 's/^=+ +at (void )?//; s/[<(+].*//' | sort | uniq -c | sort -rn)
  if ((code == 124 || code == 137)); then
    found=unfinished verdict=unfinished
  elif ((code != 0 && code != 99)) || ! grep -q ' SUMMARY: ' "$log"; then
    found=refused verdict="refused: $({ grep -E '^=+ +(Error|Internal|The application|Target)' "$log" || cat "$log"; } | head -n 1 | cut -c1-160) (exit code $code)"
  elif ((code == 0)); then
    found=clean verdict=clean
  else
    verdict="$(grep -E ' SUMMARY: [0-9]+ (error|hazard)' "$log" | tail -n 1 | sed 's/.*SUMMARY: //'), at most 10000 of them shown"
    if grep -vqE '^ *[0-9]+ cub::' <<<"$kernels"; then found=ours; else found=cub; fi
  fi
  printf '%-10s %-15s %3d rows ok %4d s  %s%s\n' "$check" "$solver" "${rows:-0}" $((SECONDS - started)) "$what" "$verdict" | tee -a "$out"
  [[ -z $kernels ]] || sed 's/^/           in /' <<<"$kernels" | tee -a "$out"
}

for check in memcheck initcheck synccheck racecheck; do
  for solver in $solvers; do
    judge "$check" "$solver" "" adaptive
    # CUB's kernels are not ours to mend, and hide what the tool would say of ours; nor does the tool know a kernel's name inside a graph's loop. 12 iterations
    # are launched one by one, and enough at these lengths.
    if [[ $found != clean && $found != ours ]]; then
      judge "$check" "$solver" "12 iterations without CUB's kernels: " 12 --kernel-name-exclude kernel_substring=DeviceScan
    fi
    case $found in
      ours) status=2 ;;
      refused | unfinished) ((status)) || status=5 ;;
    esac
  done
done
exit "$status"
