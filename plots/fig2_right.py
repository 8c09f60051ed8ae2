"""Figure 2 right of the paper: forward time of a whole cell over L = 2^2 to 2^17, unfused and fused Newton, beside one pass over memory and a linear cell."""

import sys

import load
import paper
import style

title = "figure 2 right"
suites = ["fig2_right"]
SOLVERS = ["newton_unfused", "newton_fused", "auto"]


def draw(rows):
    rows = paper.timed(rows)
    cells = [row for row in paper.of_cells(rows) if row["solver"] in SOLVERS]
    if not {"newton_unfused", "newton_fused"} <= set(load.values(cells, "solver")) or not paper.long(cells):
        return None
    return paper.over_length("Figure 2 right: forward time of a cell", paper.beside(cells, paper.linear(rows)), "Linear cells stand for a Mamba layer: one pass over memory. ")


if __name__ == "__main__":
    sys.exit(style.figure_main(sys.modules[__name__]))
