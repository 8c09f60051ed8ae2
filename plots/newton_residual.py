"""Newton residual per iteration, a line a length: how many linear solves a nonlinear recurrence costs (the paper's figure 4)."""

import math
import sys

import load
import style

title = "Newton residual"
CAPTION = ("Largest residual over channels (and, in tiled solvers, over tiles at their own iteration k) before each linear solve; k = 0 is the guess. "
           "Dashed: 8 u_c, where a solver calls itself converged (times the state's scale where that is above 1).")
EDGE = 24  # iterations
MARKS = "osD^vPXph<>d"


def residuals(row):
    return [v if isinstance(v, (int, float)) and math.isfinite(v) else math.nan for v in row.get("residual_max") or []]


def tolerance(row):
    return 8 * load.UNIT_ROUNDOFF["f64" if row.get("storage") == "f64" else "f32"]


def one_a_line(rows, x):
    """Of rows alike but for gates, count and policy: the adaptive one, else the one with most iterations."""
    alike = load.group(rows, lambda row: (*style.facet(row, x).values(), row.get(x)))
    return [max(same, key=lambda row: (row.get("iteration_limit") in (None, "adaptive"), row.get("gates") in (None, "exact"), len(residuals(row)))) for same in alike.values()]


def draw(rows, name="Newton residual per iteration"):
    """name: what the heading begins with."""
    rows = [row for row in rows if any(v == v for v in residuals(row))]
    figures = []
    for solver in sorted({row["solver"] for row in rows}, key=load.rank):
        mine = load.select(rows, solver=solver)
        x = style.x_axis(mine) or "seq_len"
        lines = one_a_line(mine, x)
        alike = load.group(lines, lambda row: style.facet(row, x)["shape"])
        most = max(len(load.values(same, x)) for same in alike.values())  # shapes of one size only are left to the tables if another has more
        drawn = [row for same in alike.values() if most == 1 or len(load.values(same, x)) > 1 for row in same]
        made, left_out, _ = style.sheets(drawn, x, least=0)
        single = [row for row in lines if row not in drawn]
        figures += [_sheet(f"{name}, {solver}", sheet, x, *((left_out, single) if sheet is made[-1] else ([], []))) for sheet in made]
    return figures or None


def _sheet(heading, sheet, x, left_out, single):
    rows = [row for _, same in sheet.panels() for row in same]
    sizes = load.values(rows, x)
    place = {size: i / max(1, len(sizes) - 1) for i, size in enumerate(sizes)}
    mark = {size: MARKS[i % len(MARKS)] for i, size in enumerate(sizes)}
    legend = [(f"{style.SIZE_SYMBOL[x]} = {style.size(s)}", style.ramp(place[s]), mark[s], "-", False) for s in sizes]
    if any(not load.is_ok(row) for row in rows):
        legend.append(("hollow: not ok", style.colour("muted"), "o", None, True))
    legend.append(("converged: 8 u_c", style.colour("floor"), None, (0, (5, 2)), False))
    found = [v for row in rows for v in residuals(row)]
    positive = [v for v in found if v > 0] + [tolerance(row) for row in rows]
    low, high = min(positive), min(max(positive), 1e6)
    zero_at = low / 10 if 0 in found else None
    bottom = zero_at or low
    ends = sorted(len(residuals(row)) - 1 for row in rows)
    steps = max(1, ends[-1])
    if steps > EDGE and ends[len(ends) // 2] <= EDGE / 2:  # a few long runs would squeeze all others
        steps = EDGE
    every = next(step for step in (1, 2, 5, 10, 20, 50, 100, 10**9) if steps <= 8 * step)
    fig, panels = style.figure(heading, sheet, legend,
                               style.Scale(-0.04 * steps, 1.04 * steps, [(k, str(k)) for k in range(0, steps + 1, every)], log=False),
                               style.log_scale(bottom / 2, high * 2, style.tick_power, zero_at), "largest residual", "iteration k")
    for (i, j), panel in panels.items():
        same = sorted(sheet.grid[i][j][1], key=lambda row: row.get(x) or 0)
        for limit in {tolerance(row) for row in same}:
            panel.level(limit, style.colour("floor"))
        for row in same:
            points = [max(min(v, high), bottom) if v == v else math.nan for v in residuals(row)]
            points = points[:steps + 1]
            panel.plot(range(len(points)), points, style.ramp(place[row[x]]), mark[row[x]], width=1.4, hollow=not load.is_ok(row))
    longer = f" Lines that reach the right edge run on, the longest to k = {ends[-1]}." if ends[-1] > steps else ""
    fig.caption = CAPTION + longer + style.axis_notes(rows, zero_at is not None, max(positive) > high, left_out, single, x)
    return fig


if __name__ == "__main__":
    sys.exit(style.figure_main(sys.modules[__name__]))
