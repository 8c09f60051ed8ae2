"""Time against error at one size: iterations, precision and gates, and the Pareto front of what is right."""

import math
import sys

import load
import paper
import style

title = "time against error"
suites = ["time_error"]
MARKS = {"f64": "D", "f32": "o", "bf16": "s", "f16": "^"}
CAPTION = ("Median of one launch against the largest absolute error of a sampled channel (50 digits). Line: the Pareto front, right rows that no other right row beats in both. Hollow: wrong rows, "
           "timed because the suite expects them: their error is that of the sampled channels, not the worst. ")


def point(row):
    """(error, seconds) or None; an error of exactly 0 has no place on the axis."""
    found = load.number(row, "error.abs_max"), load.number(row, "time_s.median")
    return found if all(found) else None


def front(rows):
    """Rows, by growing error, than which no other of rows has both a smaller (or the same) error and a smaller time."""
    best, out = math.inf, []
    for row in sorted(rows, key=point):
        if point(row)[1] < best:
            best = point(row)[1]
            out.append(row)
    return out


def label(row):
    limit = row.get("iteration_limit")
    parts = [str(limit) if isinstance(limit, int) else "", "approx" if row.get("gates") == "approx" else ""]
    return " ".join(filter(None, parts))


def draw(rows):
    rows = [row for row in paper.once(load.select(rows, **{"op": "recurrence", "pass": "forward", "regime": "paper", "weight_std": None, "cache": "rotating", "scope": "kernel"})) if point(row)]
    alike = load.group(rows, lambda row: (row["cell"], row["batch"], row["hidden"], row["seq_len"]))
    alike = {key: same for key, same in alike.items() if len(load.values(same, "storage")) > 1 and len(load.values(same, "iteration_limit")) > 1}
    if not alike:
        return None
    grid = [[(f"{key[0]} · B = {key[1]}, D = {key[2]}, L = {key[3]}", same) for key, same in list(alike.items())[at:at + 2]] for at in range(0, len(alike), 2)]
    drawn = [row for same in alike.values() for row in same]
    errors, times = zip(*map(point, drawn))
    legend = [(solver, style.solver_look(solver)[0], "o", None, False) for solver in sorted(load.values(drawn, "solver"), key=load.rank)]
    legend += [(storage, style.colour("muted"), mark, None, False) for storage, mark in MARKS.items() if storage in load.values(drawn, "storage")]
    legend += [("Pareto front", style.colour("floor"), None, "-", False)]
    legend += [("hollow: not ok", style.colour("muted"), "o", None, True)] if not all(map(load.is_ok, drawn)) else []
    fig, panels = style.figure("Time against error", style.Sheet("regime paper · forward", grid), legend, style.log_scale(min(errors) / 3, max(errors) * 3, style.tick_power),
                               style.log_scale(min(times) / 1.3, max(times) * 1.3, style.tick_seconds), "", "largest absolute error", x_grid=True)
    for (i, j), panel in panels.items():
        same = grid[i][j][1]
        best = front(list(filter(load.is_ok, same)))
        panel.plot(*zip(*map(point, best)), style.colour("floor"), width=1.1, over=2)
        for row in same:
            panel.plot(*([value] for value in point(row)), style.solver_look(row["solver"])[0], MARKS.get(row["storage"], "o"), hollow=not load.is_ok(row), over=4)
            panel.text(*point(row), label(row), 0.06, size=7, va="bottom")
    fig.caption = CAPTION + "Numbers: a fixed count of iterations; approx: approximate gates."
    return [fig]


if __name__ == "__main__":
    sys.exit(style.figure_main(sys.modules[__name__]))
