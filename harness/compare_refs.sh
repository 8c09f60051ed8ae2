#!/usr/bin/env bash
# compare_refs.sh: builds two git refs side by side and measures one against the other, case by case in turns; then the verdict.
#
#   harness/compare_refs.sh BASE HEAD SUITE [arguments of prnn run ...]      such as: main HEAD suites/quick.toml --device cpu --only seq_fused
#
# The trees lie in build/refs/<commit>/ and stay for the next time; the records are build/refs/<head>-against-<base>.jsonl and its .against.jsonl. HEAD may be ".", the working tree as it is.
# GATE_FLAGS: further arguments of prnn gate, such as "--junit gate.xml --markdown gate.md". Exit code: that of `prnn gate`.
set -euo pipefail

(($# >= 3)) || { echo "usage: $0 BASE HEAD SUITE [arguments of prnn run ...]" >&2; exit 64; }
root=$(git -C "$(dirname -- "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)
suite=$3

tree_of() {  # REF -> its folder, built
  local commit tree
  if [[ $1 == . ]]; then
    tree=$root
  else
    commit=$(git -C "$root" rev-parse --verify --quiet "$1^{commit}") || { echo "$0: $1: no such commit" >&2; exit 64; }
    tree=$root/build/refs/$commit
    [[ -e $tree/prnn ]] || git -C "$root" worktree add --force --detach "$tree" "$commit" >&2
  fi
  "$tree/prnn" info --json >/dev/null  # sets up and builds
  echo "$tree"
}

base=$(tree_of "$1")
head=$(tree_of "$2")
preset=${PRNN_PRESET:-default} code=0
out=$root/build/refs/$(basename "$head")-against-$(basename "$base").jsonl
rm -f "$out" "${out%.jsonl}.against.jsonl"
"$head/prnn" run "$suite" "${@:4}" --against "$base/build/$preset/prnn" --no-report --out "$out" || code=$?
((code < 5)) || exit "$code"  # rows that are wrong are the gate's to judge
read -ra flags <<<"${GATE_FLAGS:-}"
exec "$head/prnn" gate "$out" --baseline "${out%.jsonl}.against.jsonl" "${flags[@]}"
