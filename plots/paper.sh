#!/bin/bash
# paper.sh [RECORD.jsonl ...]: the figures of the paper and beyond it as plots/gallery/FIGURE.svg, from records (default: all under results/paper/); no GPU, no browser.
# PRNN_GALLERY names another folder. A figure without records says which command makes them, and the others are drawn.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
gallery=${PRNN_GALLERY:-$here/gallery}
records=("$@")
((${#records[@]})) || records=("$here"/../results/paper/*/*.jsonl)
mkdir -p "$gallery"
drawn=0
for figure in fig1 fig2_left fig2_right fig4 fig5 fig6 fig7_8 waterfall crossover time_against_error weight_scale; do
  if /usr/bin/python3 -B "$here/$figure.py" "${records[@]}" --out "$gallery/$figure.svg"; then  # the distribution's Python has matplotlib
    drawn=1
  fi
done
((drawn)) || exit 64
