"""Figure 6 of the paper: as figure 5 for forward and backward, the loss the sum of the squares of the states."""

import sys

import paper
import style

title = "figure 6"
suites = ["fig6"]


def draw(rows):
    rows = paper.timed(rows, **{"pass": "both", "grad": "squares"})
    cells = paper.of_cells(rows)
    return paper.over_length("Figure 6: forward and backward time", paper.beside(cells, paper.linear(rows)), "The loss is the sum of the squares of the states. ") if paper.long(cells) else None


if __name__ == "__main__":
    sys.exit(style.figure_main(sys.modules[__name__]))
