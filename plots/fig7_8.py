"""Figures 7 and 8 of the paper: time over length by chunk size, the steps that a thread takes in a row, of the reductions and of fused Newton."""

import sys

import load
import paper
import style

title = "figures 7 and 8"
suites = ["fig7", "fig7_8"]
CHUNK = "steps_a_thread"


def by_chunk(rows):
    """Rows of which the same case was run with more than one chunk size, other keys of the policy left out."""
    alike = load.group(rows, lambda row: (row["group_id"], row["solver"])).values()
    return [{**row, "policy": {CHUNK: row["policy"][CHUNK]}} for same in alike if len({(row.get("policy") or {}).get(CHUNK) for row in same} - {None}) > 1
            for row in same if CHUNK in (row.get("policy") or {})]


def draw(rows):
    figures = []
    for op, name in (("reduction", "Figure 7: time of the reduction by chunk size"), ("recurrence", "Figure 8: forward time of fused Newton by chunk size")):
        found = by_chunk(paper.timed(rows, op=op))
        figures += paper.over_length(name, found, f"{CHUNK}: the chunk size. ") or [] if found else []
    return figures or None


if __name__ == "__main__":
    sys.exit(style.figure_main(sys.modules[__name__]))
