"""Time of a launch over length, log-log, with the memory floor: what an engineer tunes against."""

import sys

import load
import style

title = "time over length"
CAPTION = ("Median time of one launch, checks and correction rounds included; band: 95 % bootstrap interval of the median (often thinner than the line). "
           "Dashed: the memory floor, inputs and outputs moved once at the measured copy bandwidth; "
           "where it is not seen it lies far below.")


def value(row):
    median = load.number(row, "time_s.median")
    return None if not median else (median, load.number(row, "time_s.ci95_low"), load.number(row, "time_s.ci95_high"))


def floor(panel, rows, x):
    """Draws floor_s over x; without a panel: what of it the y axis must show (no more than 1.5 decades below the fastest time)."""
    points = sorted({row[x]: load.number(row, "floor_s") for row in rows if load.number(row, "floor_s")}.items())
    if panel and points:
        panel.plot(*zip(*points), style.colour("floor"), dash=(0, (5, 2)), width=1.1, clip=True, over=1.5)
    fastest = min(value(row)[0] for row in rows)
    return [point[1] for point in points if point[1] >= fastest / 30]


def dots(rows):
    """Without a size to run along: a dot a row, slowest idea on top, its distance from the floor as a line."""
    made, left_out, _ = style.sheets(rows, None)
    figures = []
    for sheet in made:
        here = [row for _, same in sheet.panels() for row in same]
        lines = [key for key, _ in load.series(here)]
        names = load.swept_policy(here)
        floors = [load.number(row, "floor_s") for row in here if load.number(row, "floor_s")]
        slowest, fastest = max(value(row)[0] for row in here), min(value(row)[0] for row in here)
        low = min([fastest / 3] + [max(f, fastest / 30) / 1.5 for f in floors])
        x = style.log_scale(low, slowest * (slowest / low) ** 0.6, style.tick_seconds)
        x.ticks = [tick for tick in x.ticks if tick[0] <= 2 * slowest]
        legend = [("memory floor", style.colour("floor"), None, (0, (5, 2)), False)] if floors else []
        if any(not load.is_ok(row) for row in here):
            legend.append(("hollow: not ok", style.colour("muted"), "o", None, True))
        fig, panels = style.figure("Time of a launch", sheet, legend, x, style.Scale(len(lines) - 0.4, -0.6, [], log=False), x_grid=True)
        for (i, j), panel in panels.items():
            same = sheet.grid[i][j][1]
            floor_s = max(load.number(same[0], "floor_s") or 0, low)
            if floor_s > low:
                panel.plot([floor_s] * 2, [panel.y.low, panel.y.high], style.colour("floor"), dash=(0, (5, 2)), width=1.1, over=2)
            for row in same:
                solver, variant = key = (row["solver"], load.variant(row, names))
                tint, marker = style.solver_look(solver)
                at, y = value(row)[0], lines.index(key)
                panel.plot([floor_s, at], [y, y], tint, width=1.2)
                panel.plot([at], [y], tint, marker, hollow=not load.is_ok(row), marker_size=7)
                panel.text(at, y, f"{solver}{f' ({variant})' if variant else ''}  {style.seconds(at)}", 0.1, va="center", size=9)
        fig.caption = ("No size has more than one value here, so there is no length to run along. " + CAPTION.replace("; band: 95 % bootstrap interval of the median "
                       "(often thinner than the line)", "") + style.axis_notes(here, False, False, left_out, [], None))
        figures.append(fig)
    return figures


def draw(rows):
    rows = [row for row in rows if value(row)]
    if not rows:
        return None
    x = style.x_axis(rows)
    if x is None:
        return dots(rows)
    chart = style.LineChart("Time of a launch", "", value, style.tick_seconds, CAPTION, floor,
                            extra_legend=[("memory floor", style.colour("floor"), None, (0, (5, 2)), False)])
    return chart.draw(rows, x)


if __name__ == "__main__":
    sys.exit(style.figure_main(sys.modules[__name__]))
