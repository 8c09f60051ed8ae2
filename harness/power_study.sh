#!/usr/bin/env bash
# power_study.sh: how often the gate cries wolf on two runs of the same, and how much damage it finds. A trial is `prnn run SUITE --against` itself, each side in processes of its own, the called
# side damaged (run --inject), then `prnn gate`. Verdicts are appended to FOLDER/verdicts.jsonl, so a batch that ends early is continued by the same line.
#
#   harness/power_study.sh PROGRAM SUITE DEVICE FOLDER DAMAGE TRIALS [SECONDS]
#
# DAMAGE: calibration (first: runs of the same, from which the gate learns the noise) | none | slowdown=0.03:newton_fused | truncate=8 | iteration_limit=1 ...
# SECONDS: no trial is begun later. Environment: PROCESSES of each side [1]; KEEP, so many trials of each damage keep their records, and those of DAMAGE none that do not pass all [3].
#
#   for damage in "calibration 10" "none 300" "slowdown=0.03 59" "truncate=8 20" "iteration_limit=1 20"; do
#     harness/power_study.sh build/default/prnn suites/power_cpu.toml cpu build/power_cpu $damage
#   done
set -euo pipefail

(($# == 6 || $# == 7)) || { echo "usage: $0 PROGRAM SUITE DEVICE FOLDER DAMAGE TRIALS [SECONDS]" >&2; exit 64; }
program=$1 suite=$2 device=$3 folder=$4 damage=$5 trials=$6 seconds=${7:-1000000}
books=$(dirname -- "$program")/prnn_power_study verdicts=$folder/verdicts.jsonl
mkdir -p "$folder/${damage//[:\/]/-}"
touch "$verdicts"

for ((number = 1; number <= trials && SECONDS < seconds; ++number)); do
  stem=$folder/${damage//[:\/]/-}/$(printf '%04d' "$number")
  if [[ $damage == calibration ]]; then
    [[ ! -e $stem.jsonl ]] || continue
  else
    ! grep -qF "{\"damage\":\"$damage\",\"number\":$number," "$verdicts" || continue
  fi
  rm -f "$stem".*
  inject=()
  [[ $damage == calibration || $damage == none ]] || inject=(--inject "$damage")
  code=0
  "$program" run "$suite" --device "$device" --against "$program" --processes "${PROCESSES:-1}" "${inject[@]}" --no-report --out "$stem.part.jsonl" >"$stem.log" 2>&1 || code=$?
  if ((code != 0)) && { ((code != 2 && code != 3)) || [[ ${#inject[@]} == 0 ]]; }; then
    echo "$0: trial $number of $damage ended with exit code $code:" >&2
    tail -n 5 "$stem.log" >&2
    exit 5
  fi
  mv "$stem.part.against.jsonl" "$stem.against.jsonl"
  mv "$stem.part.jsonl" "$stem.jsonl"
  rm "$stem.log"
  [[ $damage != calibration ]] || continue
  code=0
  "$program" gate "$stem.jsonl" --baseline "$stem.against.jsonl" --calibration "$folder/calibration" --json >"$stem.json" || code=$?
  ((code < 64)) || exit "$code"
  "$books" add "$damage" "$number" <"$stem.json" >>"$verdicts"
  rm "$stem.json"
  ((number <= ${KEEP:-3})) || { [[ $damage == none ]] && ((code != 0)); } || rm -f "$stem".*
done
[[ ! -s $verdicts ]] || "$books" tally "$verdicts"
