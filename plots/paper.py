"""What the figures of the paper share: its cells and shapes, the time it reports (the minimum), rows once each, and a chart of time over length."""

import load
import style
from claims.evidence import CELLS, SHAPES, one_pass

MINIMUM = ("Minimum over the samples of one launch (100 after 20 warm-ups where the record is of the paper's protocol), checks and correction rounds included; medians with intervals stand in "
           "the tables. Batch and hidden size are not stated in the paper: four pairs. ")


def minimum(row):
    """The paper's time of a row, seconds; no interval belongs to a minimum."""
    found = load.number(row, "time_s.min")
    return (found, None, None) if found else None


def timed(rows, op="recurrence", **fields):
    """Rows with a time, right or not: the kernel alone, f32, regime paper, cold, adaptive, at the four shapes; of the same row in several records the first."""
    fields = {"op": op, "pass": "forward", "storage": "f32", "regime": "paper", "weight_std": None, "gates": "exact", "scope": "kernel", "cache": "rotating", "iteration_limit": "adaptive", **fields}
    found = [row for row in load.select(rows, **fields) if minimum(row) and (row["batch"], row["hidden"]) in SHAPES]
    return once(found)


def once(rows):
    """The first of rows that are the same case of several records, which are then not told apart."""
    first = {}
    for row in rows:
        first.setdefault(row["case_id"], {key: value for key, value in row.items() if key != "record_file"})
    return list(first.values())


def of_cells(rows):
    return [row for row in rows if row.get("cell") in CELLS]


def long(rows):
    """Whether rows go beyond the lengths of figure 1."""
    return any(row["seq_len"] > 2**9 for row in rows)


def linear(rows):
    """Rows of linear cells by one pass over memory, what stands for Mamba's scan and layer."""
    return one_pass([row for row in rows if str(row.get("cell")).startswith("linear")])


def beside(rows, yardsticks):
    """rows, and into every panel each yardstick as a line that is called by its own cell."""
    return rows + [{**row, "solver": row["cell"], "policy": {}, **same} for row in yardsticks for same in panels(rows)]


def panels(rows):
    """[{op, cell, jacobian}] by which the panels of rows differ."""
    return [dict(found) for found in dict.fromkeys(tuple((name, row.get(name)) for name in ("op", "cell", "jacobian")) for row in rows)]


def over_length(title, rows, caption, decorate=None):
    """Figures of the minimum over length, a panel a cell and shape; None without two lengths."""
    chart = style.LineChart(title, "", minimum, style.tick_seconds, caption + MINIMUM, decorate)
    return chart.draw(rows, "seq_len") or None
