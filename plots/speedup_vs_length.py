"""Speedup over length against every baseline the record has: a ratio always names what it is a ratio to."""

import sys

import load
import style

title = "speedup over length"


def one(panel, rows, x):
    """The line at 1: level with the baseline."""
    if panel:
        panel.level(1, style.colour("floor"), "-")
    return [1]


def draw(rows):
    """One figure (or more) a baseline: time of the baseline over time of the solver, of ok rows only."""
    groups = load.group(rows, lambda row: row["group_id"])
    x = style.x_axis([row for row in rows if row.get("speedup")])
    figures = []
    for baseline in load.baselines(rows) if x else []:
        ratios = {id(row): load.speedup(row, baseline, groups[row["group_id"]]) for row in rows if row["solver"] != baseline}
        caption = (f"Time of {baseline} divided by time of the solver, paired within a group of interleaved launches; above the line at 1 the solver is faster "
                   f"than {baseline}. Band: 95 % interval. A row that is not ok has no speedup.")
        chart = style.LineChart(f"Speedup against {baseline}", "", lambda row, ratios=ratios: ratios.get(id(row)), style.tick_times, caption, one)
        drawn = [row for row in rows if ratios.get(id(row))]
        if drawn:
            figures += chart.draw(drawn, x)
    return figures or None


if __name__ == "__main__":
    sys.exit(style.figure_main(sys.modules[__name__]))
