"""What the claims are judged by: rows that are ok, ratios of times with intervals, and parts that hold when their whole interval does."""

import math

import load
from error_vs_length import power_law

SHAPES = [(1, 64), (8, 256), (8, 1024), (8, 4096)]  # (B, D): the paper states none; these stand for one sequence, two layers and one of a 7B model
FLAT = 0.25  # a time is flat where it grows by no more than L^0.25, 1.2 times a doubling ...
LINEAR = (0.8, 1.2)  # ... and linear where the whole interval of its exponent lies in here
CELLS = {"gru_diag": "GRU", "lstm_cifg_diag": "LSTM"}  # the paper's two
FRAMEWORK_LOOPS = {"forward": ["torch_eager", "torch_compiled"], "both": ["torch_autograd"]}  # rows of harness/peers/, by pass
ONE_PASS = ["auto", "seq_fused", "shooting", "newton_fused"]  # the first that was measured stands for one pass over memory
LEAST_LENGTHS, LEAST_SPAN = 4, 8  # of a fit over length: so many, the longest so many times the shortest


class Evidence:
    """Rows of records on which a claim may rest: ok, the kernel alone, f32 with exact gates, from h0 = 0, cold buffers, of one machine (a GPU before a CPU, the first named)."""

    def __init__(self, records):
        self.path = {id(row): file["path"] for file in records.files for row in file["rows"]}
        machine = lambda row: (row.get("device"), row.get("gpu_name"))
        machines = sorted({machine(row): None for row in records.rows if load.is_ok(row)}, key=lambda m: m[0] != "cuda")  # stable: in order of appearance
        self.machine = machines[0] if machines else (None, None)
        self.ok = [row for row in records.rows if load.is_ok(row) and machine(row) == self.machine and row.get("scope") in (None, "kernel") and row.get("storage") == "f32"
                   and row.get("gates") in (None, "exact") and row.get("h0") in (None, "zero") and row.get("cache") in (None, "rotating")]

    def times(self, **fields):
        """Timed rows of regime paper at the four shapes with these fields, adaptive where they iterate."""
        fields = {"op": "recurrence", "pass": "forward", "regime": "paper", **fields}
        return [row for row in load.select(self.ok, **fields) if time_of(row) and shape(row) in SHAPES and row.get("weight_std") is None and row.get("iteration_limit") in (None, "adaptive")]

    def pairs(self, slow, fast):
        """[(row of slow, row of fast)] of the same cell, pass and sizes, those of one record before any across records; a size once."""
        by_place, found = load.group(slow, place), {}
        for row in fast:
            for other in by_place.get(place(row), []):
                apart = self.path[id(row)] != self.path[id(other)]
                key = place(row)
                if key not in found or (found[key][0] and not apart):
                    found[key] = (apart, other, row)
        return [(other, row) for _, other, row in found.values()]


def place(row):
    """What two rows must have in common for a ratio of their times to say something about their solvers."""
    return row.get("op"), row.get("cell"), row.get("jacobian"), *sizes(row)


def sizes(row):
    return tuple(row.get(key) for key in ("pass", "grad", *load.SIZES))


def kind(row):
    """The cell of a recurrence, the Jacobian of a reduction."""
    return row.get("jacobian") or row.get("cell")


def shape(row):
    return row.get("batch"), row.get("hidden")


def at(row):
    return f"{kind(row)} at B = {row.get('batch')}, D = {row.get('hidden')}, L = {row.get('seq_len')}"


def time_of(row):
    """(median, low, high) in seconds; None where a row has no time or no interval."""
    found = tuple(load.number(row, f"time_s.{key}") for key in ("median", "ci95_low", "ci95_high"))
    return found if all(value is not None and value > 0 for value in found) else None


def ratio(slow, fast):
    """(value, low, high) of slow over fast: the paired one of the record, else the quotient of the intervals' far ends."""
    paired = load.speedup(fast, slow["solver"], [slow, fast])
    if paired and None not in paired and slow.get("group_id") == fast.get("group_id"):
        return paired
    (value, low, high), (by, by_low, by_high) = time_of(slow), time_of(fast)
    return value / by, low / by_high, high / by_low


def slope(rows):
    """(exponent, low, high) of time over length; None where the lengths are too few or too near each other."""
    lengths = load.values(rows, "seq_len")
    if len(lengths) < LEAST_LENGTHS or lengths[-1] < LEAST_SPAN * lengths[0]:
        return None
    return power_law([(row["seq_len"], time_of(row)[0]) for row in rows])


def part(what, measure, rows, least=-math.inf, most=math.inf, decides=True):
    """One thing that a claim says: it holds where the whole interval of measure (value, low, high) lies between least and most."""
    value, low, high = measure
    return {"what": what, "value": value, "interval": [low, high], "at_least": finite(least), "at_most": finite(most), "holds": bool(low >= least and high <= most),
            "decides": decides, "rows": list(rows), "margin": min(low - least, most - high)}


def finite(value):
    return value if math.isfinite(value) else None


def weakest(parts):
    """The part that is nearest to failing, or fails by most."""
    return min(parts, key=lambda p: p["margin"])


def each(what, found, least=-math.inf, most=math.inf, decides=True):
    """One part of many measures [(measure, rows)] that all must hold: the weakest stands for them, and it says how many hold."""
    parts = [part(what, measure, rows, least, most, decides) for measure, rows in found]
    if not parts:
        return None
    worst, held = weakest(parts), sum(p["holds"] for p in parts)
    return {**worst, "what": f"{what}: {held} of {len(parts)}, the weakest {at(worst['rows'][-1])}", "rows": [row for p in parts for row in p["rows"]]}


def finding(parts, reason="", missing=(), **more):
    """What a claim's judge returns. parts: those that are not None; a part with decides = False is shown alone. missing: what the records lack, as text."""
    return {"parts": [p for p in parts if p], "reason": reason, "missing": list(missing), **more}


def channels(row):
    return row["batch"] * row["hidden"]


def least_channels(rows):
    """Rows of the shapes with the fewest channels."""
    fewest = min(map(channels, rows), default=None)
    return [row for row in rows if channels(row) == fewest]


def one_pass(rows):
    """Of rows alike but for the solver, those of the first solver in ONE_PASS that each size has."""
    chosen = {}
    for row in rows:
        if row["solver"] in ONE_PASS:
            before = chosen.get(place(row))
            if before is None or ONE_PASS.index(row["solver"]) < ONE_PASS.index(before["solver"]):
                chosen[place(row)] = row
    return list(chosen.values())
