"""Figure 1 of the paper: time over L = 2^2 to 2^9, sequential and parallel, the speedup at the end marked with what it is against."""

import sys

import load
import paper
import style

title = "figure 1"
suites = ["fig1"]
LENGTHS = (2**2, 2**9)
MARKED = "newton_fused"


def speedups(panel, rows, x):
    """In the corner: how much faster newton_fused is at the longest length, against each baseline that is ok there."""
    if panel:
        longest = max(row[x] for row in rows)
        at_end = {row["solver"]: paper.minimum(row)[0] for row in rows if row[x] == longest and load.is_ok(row)}
        for place, baseline in enumerate([name for name in ("torch_eager", "seq_stepwise", "seq_fused") if name in at_end and MARKED in at_end]):
            panel.corner(place, f"{MARKED} at L = {longest}: {style.times(at_end[baseline] / at_end[MARKED])} over {baseline}", style.solver_look(baseline)[0])
    return []


def draw(rows):
    rows = [row for row in paper.of_cells(paper.timed(rows)) if LENGTHS[0] <= row["seq_len"] <= LENGTHS[1]]
    return paper.over_length("Figure 1: forward time", rows, f"In the corner: how many times as fast {MARKED} is at the longest length, and as what. ", speedups)


if __name__ == "__main__":
    sys.exit(style.figure_main(sys.modules[__name__]))
