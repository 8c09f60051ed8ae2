#!/usr/bin/env bash
# parallel.sh: a suite in shards by GNU parallel, on hosts that share this folder or on the GPUs of this one, then merged.
#
#   harness/examples/parallel.sh SUITE SHARDS OUT [arguments of prnn run ...]      such as: suites/paper/fig1.toml 4 fig1.jsonl --device cuda
#
# Environment: PARALLEL_FLAGS, such as "--jobs 4" [--jobs 1: two runs beside each other disturb each other's times] or "--sshloginfile hosts"; PRNN, the program [the wrapper prnn beside].
# With "--jobs 4" each of four jobs at a time sees one GPU.
set -euo pipefail

(($# >= 3)) || { echo "usage: $0 SUITE SHARDS OUT [arguments of prnn run ...]" >&2; exit 64; }
prnn=${PRNN:-$(readlink -f -- "$(dirname -- "${BASH_SOURCE[0]}")/../../prnn")}
suite=$1 shards=$2 out=$3
read -ra flags <<<"${PARALLEL_FLAGS:---jobs 1}"
seq "$shards" | parallel "${flags[@]}" "CUDA_VISIBLE_DEVICES=\$(({%} - 1))" "$(printf %q "$prnn")" run "$(printf %q "$suite")" "$(printf '%q ' "${@:4}")" \
  --no-report --shard "{}/$shards" --out "$(printf %q "$out").{}.jsonl" --resume || true  # of rows that are wrong the merge tells
"$prnn" merge "$out".[0-9]*.jsonl --out "$out"  # its exit code is that of all rows
