"""C08, C09, C10: how many Newton iterations reach roundoff, from the residual by iteration of rows of a fixed count (suites/paper/fig4.toml)."""

import load
from . import evidence as e

ROUNDOFF = 8 * load.UNIT_ROUNDOFF["f32"]  # where a solver calls itself converged, at states of scale 1
LEAST_COUNT = 6  # iterations a row must show
LENGTHS = (2**8, 2**11)
INITIAL = ["paper", "public"]  # weights clipped to 0.5; weights as the published code draws them
TRAINED = ["trained"]
MOST = 4  # C08
GRU_MOST = 2  # C09
NEARLY = 1  # iterations by which the shortest and the longest sequence may differ


def curves(evidence, cell, regime):
    """Rows with the residual of enough iterations, L = 2^8 to 2^11."""
    return [row for row in load.select(evidence.ok, cell=cell, regime=regime, **{"pass": "forward"}) if row.get("weight_std") is None
            and isinstance(row.get("iteration_limit"), int) and len(row.get("residual_max") or []) > LEAST_COUNT and LENGTHS[0] <= row["seq_len"] <= LENGTHS[1]]


def needed(row):
    """Iterations until the largest residual is at roundoff; one more than were made where none is."""
    found = row["residual_max"]
    return next((k for k, residual in enumerate(found) if residual is not None and residual <= ROUNDOFF), len(found))


def counted(rows):
    """(largest, smallest, largest) count: over lengths and seeds the claim must hold for each."""
    counts = sorted(map(needed, rows))
    return counts[-1], counts[0], counts[-1]


def c08(evidence):
    parts, missing = [], []
    for regime in INITIAL + TRAINED:
        for cell in e.CELLS:
            rows = curves(evidence, cell, regime)
            if len(load.values(rows, "seq_len")) < 2:
                missing.append(f"{cell} in regime {regime}, two lengths")
                continue
            parts.append(e.part(f"{cell}, regime {regime}: iterations to 8 u", counted(rows), rows, most=MOST))
            spread = [max(counts) - min(counts) for counts in ([needed(row) for row in same] for same in load.group(rows, lambda row: row.get("seed")).values())]
            parts.append(e.part(f"{cell}, regime {regime}: iterations more or less by length", (max(spread), min(spread), max(spread)), rows, most=NEARLY))
    return e.finding(parts, f"iterations until the largest residual of all channels is at 8 unit roundoffs, L = {LENGTHS[0]} to {LENGTHS[1]}", missing)


def c09(evidence):
    parts, missing = [], []
    for regime in INITIAL:
        rows = curves(evidence, "gru_diag", regime)
        parts.append(e.part(f"gru_diag, regime {regime}: iterations to 8 u", counted(rows), rows, most=GRU_MOST) if rows else None)
        missing += [] if rows else [f"gru_diag in regime {regime}"]
    return e.finding(parts, "iterations until the largest residual of all channels is at 8 unit roundoffs", missing)


def c10(evidence):
    parts, missing = [], []
    for regime in INITIAL:
        rows = curves(evidence, "lstm_cifg_diag", regime)
        found = sorted(row["residual_max"][1] / row["residual_max"][0] for row in rows if row["residual_max"][0])
        parts.append(e.part(f"lstm_cifg_diag, regime {regime}: residual after the first iteration over that of the guess", (found[len(found) // 2], found[0], found[-1]), rows, 1)
                     if found else None)
        missing += [] if found else [f"lstm_cifg_diag in regime {regime}"]
    return e.finding(parts, "above 1 the residual rises; median, smallest and largest over lengths and seeds", missing)


JUDGES = {"C08": c08, "C09": c09, "C10": c10}
