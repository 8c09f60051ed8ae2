"""Figure 5 of the paper: forward time over L = 2^2 to 2^17, sequential, framework operations, unfused and fused."""

import sys

import paper
import style

title = "figure 5"
suites = ["fig5"]


def draw(rows):
    rows = paper.of_cells(paper.timed(rows))
    return paper.over_length("Figure 5: forward time", rows, "") if paper.long(rows) else None


if __name__ == "__main__":
    sys.exit(style.figure_main(sys.modules[__name__]))
