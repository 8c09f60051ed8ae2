"""C12: which chunk size, the steps that a thread takes in a row, is the fastest."""

import load
from . import evidence as e
from .reductions import OTHERS

MIDDLE, BEYOND = (2**9, 2**12), (2**13, 2**40)
FUSED = {"gru_diag": 2, "lstm_cifg_diag": 1}
REDUCTIONS = [("diag", 2, MIDDLE), ("2x2", 2, MIDDLE), ("diag", 4, BEYOND)]


def chunk(row):
    return (row.get("policy") or {}).get("steps_a_thread")


def against_others(evidence, rows, best, lengths):
    """[(ratio, rows)]: time of the other chunk sizes over that of the one that is to be best, at the same sizes of one record."""
    rows = [row for row in rows if lengths[0] <= row["seq_len"] <= lengths[1] and chunk(row)]
    found = []
    for same in load.group(rows, lambda row: (evidence.path[id(row)], row["solver"], e.place(row))).values():
        mine = [row for row in same if chunk(row) == best]
        found += [(e.ratio(row, mine[0]), [row, mine[0]]) for row in same if mine and chunk(row) != best]
    return found


def c12(evidence):
    wanted = [(f"fused {e.CELLS[cell]}, chunk {best}", evidence.times(cell=cell, solver="newton_fused"), best, MIDDLE) for cell, best in FUSED.items()]
    for jacobian, best, lengths in REDUCTIONS:
        rows = [row for row in evidence.times(op="reduction", jacobian=jacobian) if row["solver"] not in OTHERS]
        wanted.append((f"reduction {jacobian}, chunk {best} from L = {lengths[0]}", rows, best, lengths))
    parts, missing = [], []
    for what, rows, best, lengths in wanted:
        found = against_others(evidence, rows, best, lengths)
        parts.append(e.each(f"{what} faster than the others", found, 1))
        missing += [] if found else [f"{what}: other chunk sizes beside it"]
    return e.finding(parts, "time of another chunk size over that of the claimed one, the smallest, every shape, by intervals", missing)


JUDGES = {"C12": c12}
