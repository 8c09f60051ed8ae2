#!/usr/bin/env bash
# slurm.sh: a suite as an array of Slurm jobs, a shard each, and a last job that merges their records and writes the page.
#
#   harness/examples/slurm.sh SUITE SHARDS OUT [arguments of prnn run ...]      such as: suites/paper/fig1.toml 8 fig1.jsonl --device cuda
#
# Environment: SBATCH_FLAGS, such as "--gres=gpu:1 --time=30"; PRNN, the program [the wrapper prnn beside]. Prints the id of the last job.
set -euo pipefail

(($# >= 3)) || { echo "usage: $0 SUITE SHARDS OUT [arguments of prnn run ...]" >&2; exit 64; }
prnn=${PRNN:-$(readlink -f -- "$(dirname -- "${BASH_SOURCE[0]}")/../../prnn")}
suite=$1 shards=$2 out=$3
read -ra flags <<<"${SBATCH_FLAGS:-}"
printf -v arguments ' %q' "${@:4}"

# --resume: a job that Slurm has ended goes on where it was when it is submitted again.
array=$(sbatch --parsable --array="1-$shards" "${flags[@]}" --output="$out.%a.log" --wrap \
  "exec $(printf %q "$prnn") run $(printf %q "$suite")$arguments --no-report --shard \$SLURM_ARRAY_TASK_ID/$shards --out $(printf %q "$out").\$SLURM_ARRAY_TASK_ID.jsonl --resume")
# afterany: rows that are wrong or missing are in the records, or their absence is the merge's to refuse.
sbatch --parsable --dependency="afterany:$array" --output="$out.log" --wrap \
  "$(printf %q "$prnn") merge $(printf %q "$out").[0-9]*.jsonl --out $(printf %q "$out"); code=\$?; test -e $(printf %q "$out") && $(printf %q "$prnn") report $(printf %q "$out"); exit \$code"
