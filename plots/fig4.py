"""Figure 4 of the paper: largest residual over Newton iteration 0 to 10, a line a length L = 2^8 to 2^11, by regime of the weights."""

import sys

import load
import newton_residual
import paper
import style

title = "figure 4"
suites = ["fig4"]
MOST = 10  # iterations
LEAST = 6  # iterations of a row, so that the residual is seen where it stays


def draw(rows):
    rows = [row for row in load.select(rows, **{"op": "recurrence", "pass": "forward", "weight_std": None}) if isinstance(row.get("iteration_limit"), int) and row["iteration_limit"] >= LEAST]
    seeds = load.values(rows, "seed")
    rows = [{**row, "residual_max": row["residual_max"][:MOST + 1]} for row in paper.once(rows) if row.get("residual_max") and row.get("seed") == seeds[0]]
    figures = newton_residual.draw(rows, "Figure 4: residual per iteration")
    for fig in figures or []:
        fig.caption += f" A fixed count of iterations, so that it is seen where the residual stays; seed {seeds[0]} of {len(seeds)}."
    return figures


if __name__ == "__main__":
    sys.exit(style.figure_main(sys.modules[__name__]))
