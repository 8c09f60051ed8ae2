"""C03, C04: the bare reduction (op = reduction, diagonal and 2 x 2) against a linear cell, and how its time grows with the length."""

from . import evidence as e
from .speed import linear_times

LENGTH = 512
AGAINST_SCAN = {"diag": 1.1, "2x2": 0.84}  # "about": at least 0.9 of that counts
ABOUT = 0.9
STEP_BY_STEP = "scan_stepwise"  # log2 L launches
OTHERS = {STEP_BY_STEP, "cub", "seq_stepwise", "seq_graph", "seq_fused"}  # of op reduction; what is left is ours, in one pass
STRETCHES = [("flat to 2^11", 0, 2**11), ("linear from 2^11 to 2^16", 2**11, 2**16), ("flat beyond 2^16", 2**16, 2**40)]
COLLAPSES_FROM = 2**18


def reductions(evidence, jacobian, **fields):
    """Rows of our one-pass reduction: those of auto, else of the first solver that is neither step by step nor the library's."""
    rows = [row for row in evidence.times(op="reduction", jacobian=jacobian, **fields) if row["solver"] not in OTHERS]
    solver = next((name for name in ["auto", *e.load.values(rows, "solver")] if e.load.select(rows, solver=name)), None)
    return e.load.select(rows, solver=solver)


def c03(evidence):
    parts, missing = [], []
    scans = linear_times(evidence, seq_len=LENGTH)
    for jacobian, claimed in AGAINST_SCAN.items():
        mine = {e.shape(row): row for row in reversed(reductions(evidence, jacobian, seq_len=LENGTH))}
        found = [(e.ratio(scan, mine[e.shape(scan)]), [scan, mine[e.shape(scan)]]) for scan in scans if e.shape(scan) in mine]
        parts.append(e.each(f"{jacobian}, about {claimed} times as fast as the linear cell", found, claimed * ABOUT))
        missing += [] if found else [f"reduction {jacobian} and a linear cell at L = {LENGTH}"]
    return e.finding(parts, f"time of the linear cell over that of the reduction, L = {LENGTH}, every shape", missing)


def c04(evidence):
    parts, missing = [], []
    for jacobian in AGAINST_SCAN:
        rows = e.least_channels(reductions(evidence, jacobian))
        stretches = [(f"{jacobian}, {name}", rows, low, high, name.startswith("flat")) for name, low, high in STRETCHES]
        plain = e.least_channels(evidence.times(op="reduction", jacobian=jacobian, solver=STEP_BY_STEP))
        stretches.append((f"{jacobian}, step by step, linear beyond 2^18", plain, COLLAPSES_FROM, 2**40, False))
        for what, line, low, high, flat in stretches:
            line = [row for row in line if low <= row["seq_len"] <= high]
            found = e.slope(line)
            if found:
                parts.append(e.part(what, found, line, *((-1, e.FLAT) if flat else e.LINEAR)))
            else:
                missing.append(f"{what}: four lengths")
    return e.finding(parts, "exponents of time over length at the fewest channels measured", missing)


JUDGES = {"C03": c03, "C04": c04}
