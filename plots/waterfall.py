"""Waterfall at L = 2^9: from a framework's loop through every rung of the ladder to the memory floor; the factors multiply, each with an interval."""

import sys

import load
import paper
import style
from claims import evidence

title = "waterfall"
suites = ["fig1"]
LENGTH = 2**9
RUNGS = ["torch_eager", "torch_compiled", "torch_newton", "seq_stepwise", "seq_graph", "seq_fused", "newton_unfused", "newton_fused", "shooting", "auto"]
CAPTION = ("Median of one launch. Behind each bar: how many times as fast as the rung above, with a 95 % interval (paired where both ran in one record); the factors multiply to the whole. "
           "The floor is the least traffic over the measured copy bandwidth. ")


def ladder(rows):
    """[(solver, seconds, factor (value, low, high) or None, row)] of rows of one case, slowest idea first; a row that is not ok has no factor and gives none. The floor comes last."""
    by = {row["solver"]: row for row in reversed(rows)}
    steps, before = [], None
    for solver in RUNGS:
        if solver in by and evidence.time_of(by[solver]):
            row = by[solver]
            right = load.is_ok(row)
            steps.append((solver, evidence.time_of(row)[0], evidence.ratio(before, row) if before and right else None, row))
            before = row if right else before
    floor = load.number(before, "floor_s") if before else None
    if floor:
        steps.append(("floor", floor, tuple(value / floor for value in evidence.time_of(before)), before))
    return steps


def text(solver, seconds, factor):
    by = f"   {style.times(factor[0])} [{style.significant(factor[1])}, {style.significant(factor[2])}]" if factor else ""
    return f"{solver}  {style.seconds(seconds)}{by}"


def whole(steps):
    """First ok rung over the last, as text."""
    first = next((seconds for solver, seconds, _, row in steps if load.is_ok(row)), None)
    return f"{style.times(first / steps[-1][1])} in all" if first else ""


def draw(rows):
    rows = paper.of_cells(paper.timed(rows, seq_len=LENGTH))
    shapes = [shape for shape in paper.SHAPES if any(evidence.shape(row) == shape for row in rows)]
    steps = {(cell, shape): found for cell in paper.CELLS for shape in shapes
             if len(found := ladder([row for row in rows if row["cell"] == cell and evidence.shape(row) == shape])) > 2}
    if not steps:
        return None
    name = lambda cell, shape: f"{cell} · B = {shape[0]}, D = {shape[1]} · {whole(steps[cell, shape])}"
    grid = [[(name(cell, shape), (cell, shape)) if (cell, shape) in steps else None for cell in paper.CELLS] for shape in shapes]
    times = [seconds for found in steps.values() for _, seconds, _, _ in found]
    low, high = min(times) / 2, max(times)
    x = style.log_scale(low, high * (high / low) ** 1.05, style.tick_seconds)  # room for the text
    x.ticks = [tick for tick in x.ticks if tick[0] <= 2 * high]
    most = max(map(len, steps.values()))
    right = all(load.is_ok(step[3]) for found in steps.values() for step in found)
    legend = [] if right else [("hollow: not ok", style.colour("muted"), "o", None, True)]
    first = min((found[0][0] for found in steps.values()), key=RUNGS.index)
    fig, panels = style.figure(f"Waterfall: from {first} to the floor", style.Sheet(f"f32 · regime paper · forward · L = {LENGTH}", grid), legend, x, style.Scale(most - 0.4, -0.6, [], log=False),
                               x_grid=True)
    for (i, j), panel in panels.items():
        for line, (solver, seconds, factor, row) in enumerate(steps[grid[i][j][1]]):
            tint = style.colour("floor") if solver == "floor" else style.solver_look(solver)[0]
            if load.is_ok(row):
                panel.box((low, seconds), (line - 0.3, line + 0.3), tint)
            else:
                panel.plot([seconds], [line], tint, "o", hollow=True)
            panel.text(seconds, line, text(solver, seconds, factor), 0.06, va="center", size=7.5)
    fig.caption = CAPTION
    return [fig]


if __name__ == "__main__":
    sys.exit(style.figure_main(sys.modules[__name__]))
