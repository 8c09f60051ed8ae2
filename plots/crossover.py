"""Crossover map over (B x D, L): which solver is the fastest, and how many times as fast as the next."""

import sys

import load
import paper
import style
from claims import evidence

title = "crossover map"
suites = ["fig1", "fig5"]
CAPTION = ("A square is a number of channels and a length; its colour is the fastest right solver and its number how many times as fast as the next. Pale: the 95 % interval of that ratio includes 1. "
           "Solver auto chooses among these and is left out; f32, regime paper, adaptive. ")
STEP = 2**0.5  # half a square, in lengths and channels


def winners(rows):
    """{(channels, L): (solver, ratio (value, low, high) of the next to it)} of ok rows of one cell; a place needs two solvers. Of several batches with as many channels the first counts."""
    first, found = {}, {}
    for row in rows:
        if load.is_ok(row) and row["solver"] != "auto" and evidence.time_of(row):
            place = evidence.channels(row), row["seq_len"]
            shape = first.setdefault(place, evidence.shape(row))
            if shape == evidence.shape(row):
                found.setdefault(place, {}).setdefault(row["solver"], row)
    best = {}
    for place, by in found.items():
        order = sorted(by.values(), key=lambda row: row["time_s"]["median"])
        if len(order) > 1:
            best[place] = order[0]["solver"], evidence.ratio(order[1], order[0])
    return best


def powers(places, axis):
    return sorted({place[axis] for place in places})


def draw(rows):
    fields = {"op": "recurrence", "pass": "forward", "storage": "f32", "regime": "paper", "weight_std": None, "gates": "exact", "scope": "kernel", "cache": "rotating",
              "iteration_limit": "adaptive"}
    rows = [row for row in load.select(rows, **fields) if row["seq_len"] & (row["seq_len"] - 1) == 0 and evidence.channels(row) & (evidence.channels(row) - 1) == 0]
    maps = {cell: found for cell in load.values(rows, "cell") if len(powers(found := winners(load.select(rows, cell=cell)), 0)) > 1 and len(powers(found, 1)) > 1}
    if not maps:
        return None
    places = [place for found in maps.values() for place in found]
    lengths, channels = powers(places, 1), powers(places, 0)
    solvers = sorted({solver for found in maps.values() for solver, _ in found.values()}, key=load.rank)
    ticks = lambda values: [(value, style.size(value)) for value in values]
    grid = [[(cell, cell) for cell in maps][at:at + 2] for at in range(0, len(maps), 2)]
    fig, panels = style.figure("Crossover map: the fastest solver", style.Sheet("f32 · regime paper · forward", grid), [(s, style.solver_look(s)[0], "s", None, False) for s in solvers],
                               style.Scale(lengths[0] / STEP, lengths[-1] * STEP, ticks(lengths)), style.Scale(channels[0] / STEP, channels[-1] * STEP, ticks(channels)), "channels B × D",
                               "sequence length L")
    for (i, j), panel in panels.items():
        for (count, length), (solver, (value, low, _)) in maps[grid[i][j][1]].items():
            panel.box((length / STEP, length * STEP), (count / STEP, count * STEP), style.solver_look(solver)[0], 0.55 if low > 1 else 0.18)
            panel.text(length, count, style.significant(value, 2 if value < 10 else 3).removesuffix("."), size=6.5, ha="center", va="center", zorder=5)
    fig.caption = CAPTION
    return [fig]


if __name__ == "__main__":
    sys.exit(style.figure_main(sys.modules[__name__]))
