"""Figure 2 left of the paper: time of the bare reduction over L = 2^2 to 2^22, step by step and in one launch, diagonal and 2 x 2, beside a linear cell."""

import sys

import paper
import style

title = "figure 2 left"
suites = ["fig2_left", "fig2_right"]


def draw(rows):
    reductions = paper.timed(rows, op="reduction")
    if not reductions:
        return None
    return paper.over_length("Figure 2 left: time of the reduction", paper.beside(reductions, paper.linear(paper.timed(rows))),
                             "Linear cells stand for Mamba's scan: gates included, one pass over memory. ")


if __name__ == "__main__":
    sys.exit(style.figure_main(sys.modules[__name__]))
