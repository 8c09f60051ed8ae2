"""C11: by which power of the length the error grows."""

from error_vs_length import error_laws

from . import evidence as e

LAW = (0.8, 1.2)  # "like epsilon x L": the whole interval of the exponent lies in here
SOLVER = "newton_fused"  # the paper's
SPAN = 16  # the longest sequence over the shortest, at least


def c11(evidence):
    rows = evidence.times(solver=SOLVER)
    parts, missing = [], []
    for cell in e.CELLS:
        laws = [law for law in error_laws([row for row in rows if row["cell"] == cell]) if max(law["seq_len"]) >= SPAN * min(law["seq_len"])]
        found = [((law["exponent"], law["ci95_low"], law["ci95_high"]), [row for row in rows if row["case_id"] in law["case_ids"]]) for law in laws]
        parts.append(e.each(f"{cell}, exponent of the error of {SOLVER} over length", found, *LAW))
        missing += [] if found else [f"{cell} by {SOLVER}, three lengths"]
    return e.finding(parts, "largest absolute error against 50 digits, fitted in the logarithms, every shape", missing)


JUDGES = {"C11": c11}
