#!/usr/bin/env bash
# power_study.sh: how often the gate cries wolf on two runs of the same, and how much damage it finds. A trial is `prnn run SUITE --against` itself, each side in processes of its own, the called
# side damaged (run --inject), then `prnn gate`. Verdicts are appended to FOLDER/verdicts.jsonl, so a sitting that ends early is continued by the same line.
#
#   harness/power_study.sh PROGRAM SUITE DEVICE FOLDER DAMAGE TRIALS [SECONDS]
#
# DAMAGE: calibration (first: runs of the same, from which the gate learns the noise) | none | slowdown=0.03:newton_fused | truncate=8 | iteration_limit=1 ...
# SECONDS: a trial that would not end by then is not begun; the exit code is 3 while trials are left. Environment:
#   PROCESSES of each side, in the calibration and in the trials alike [2]
#   CORES, "0 2 4" or "all": trials at once, each with a core of its own and one thread, the calibration too [one trial at a time, with the whole machine]
#   KEEP, so many trials of each damage keep their records, and those of DAMAGE none that do not pass all [3]
#
#   for damage in "calibration 10" "none 300" "slowdown=0.03 59" "truncate=8 20" "iteration_limit=1 20"; do
#     harness/power_study.sh build/default/prnn suites/power_cpu.toml cpu build/power_cpu $damage
#   done
set -euo pipefail

(($# == 6 || $# == 7)) || { echo "usage: $0 PROGRAM SUITE DEVICE FOLDER DAMAGE TRIALS [SECONDS]" >&2; exit 64; }
program=$1 suite=$2 device=$3 folder=$4 damage=$5 trials=$6 seconds=${7:-1000000}
books=$(dirname -- "$program")/prnn_power_study verdicts=$folder/verdicts.jsonl kind=${damage//[:\/]/-}
mkdir -p "$folder/$kind"
touch "$verdicts"

read -ra cores <<<"${CORES:-}"
if [[ ${CORES:-} == all ]]; then  # of each pair of hardware threads one, of those that this process may use
  cores=()
  for cpu in $(lscpu --online --parse=core,socket,cpu | grep -v '^#' | sort -t, -u -k1,2 | cut -d, -f3 | sort -n); do
    ! taskset -c "$cpu" true 2>/dev/null || cores+=("$cpu")
  done
fi

stem_of() { printf '%s/%s/%04d' "$folder" "$kind" "$1"; }

is_done() {
  if [[ $damage == calibration ]]; then [[ -e $(stem_of "$1").jsonl ]]; else grep -qF "{\"damage\":\"$damage\",\"number\":$1," "$verdicts"; fi
}

# trial NUMBER [CORE]: what is done lies where is_done looks for it.
trial() {
  local number=$1 stem inject=() pinned=() place=() code=0
  stem=$(stem_of "$number")
  rm -f "$stem".*
  [[ $damage == calibration || $damage == none ]] || inject=(--inject "$damage")
  (($# == 1)) || { pinned=(env OMP_NUM_THREADS=1 taskset -c "$2") place=("$2" "${#cores[@]}"); }
  "${pinned[@]}" "$program" run "$suite" --device "$device" --against "$program" --processes "${PROCESSES:-2}" "${inject[@]}" --no-report --out "$stem.part.jsonl" >"$stem.log" 2>&1 || code=$?
  if ((code != 0)) && { ((code != 2 && code != 3)) || [[ ${#inject[@]} == 0 ]]; }; then
    echo "$0: trial $number of $damage ended with exit code $code:" >&2
    tail -n 5 "$stem.log" >&2
    return 5
  fi
  mv "$stem.part.against.jsonl" "$stem.against.jsonl" && mv "$stem.part.jsonl" "$stem.jsonl" && rm "$stem.log" || return 5
  [[ $damage != calibration ]] || return 0
  code=0
  "${pinned[@]}" "$program" gate "$stem.jsonl" --baseline "$stem.against.jsonl" --calibration "$folder/calibration" --json >"$stem.json" || code=$?
  ((code < 64)) || return "$code"
  "$books" add "$damage" "$number" "${place[@]}" <"$stem.json" >"$stem.line" || return
  flock "$verdicts" cat "$stem.line" >>"$verdicts" || return
  rm "$stem.json" "$stem.line"
  ((number <= ${KEEP:-3})) || { [[ $damage == none ]] && ((code != 0)); } || rm -f "$stem".*
}

# sit FIRST STEP [CORE]: every STEP-th of the trials that are left, as far as the time goes.
sit() {
  local first=$1 step=$2 longest_s=0 begin_s i
  shift 2
  for ((i = first; i < ${#left[@]}; i += step)); do
    begin_s=$SECONDS
    ((begin_s + longest_s <= seconds)) || return 0
    trial "${left[i]}" "$@" || return
    ((SECONDS - begin_s < longest_s)) || longest_s=$((SECONDS - begin_s + 1))
  done
}

left=()
for ((number = 1; number <= trials; ++number)); do is_done "$number" || left+=("$number"); done
((${#left[@]} == 0)) || "$program" reference "$suite" >/dev/null  # once, and not by all trials that begin at once
code=0
if ((${#cores[@]} == 0)); then
  sit 0 1 || code=$?
else
  sitting=()
  for i in "${!cores[@]}"; do
    sit "$i" "${#cores[@]}" "${cores[i]}" &
    sitting+=($!)
  done
  for pid in "${sitting[@]}"; do wait "$pid" || code=$?; done
fi
((code == 0)) || exit "$code"
[[ ! -s $verdicts ]] || "$books" tally "$verdicts"
for number in "${left[@]}"; do is_done "$number" || exit 3; done
