"""Verdicts on the paper's claims, a pure function of records: claims.json says what is claimed and where, a module a group of claims how each is judged."""

import json
import pathlib

from . import accuracy, chunks, convergence, reductions, speed
from .evidence import Evidence, weakest

CLAIMS = json.loads((pathlib.Path(__file__).parent / "claims.json").read_text(encoding="utf-8"))
JUDGES = {**speed.JUDGES, **reductions.JUDGES, **convergence.JUDGES, **accuracy.JUDGES, **chunks.JUDGES}
HOLDS, FAILS, NO_RECORDS, NOT_TESTABLE = "holds", "does not hold", "no records", "not testable here"


def commands(claim):
    return [f"./prnn run suites/paper/{suite}.toml --device cuda" for suite in claim["suites"]]


def decide(parts, missing):
    """A part that fails decides alone; that all hold counts only where nothing is missing."""
    deciding = [part for part in parts if part["decides"]]
    if any(not part["holds"] for part in deciding):
        return FAILS
    return HOLDS if deciding and not missing else NO_RECORDS


def judge(records):
    """[{id, title, where, verdict, value, interval, reason, parts, record_files, case_ids, ...}] of C01 to C16; value and interval are those of the part that decides."""
    evidence = Evidence(records)
    verdicts = []
    for claim in CLAIMS:
        out = {key: claim[key] for key in ("id", "title", "where")}
        verdicts.append(out)
        if "not_testable" in claim:
            out.update(verdict=NOT_TESTABLE, reason=claim["not_testable"], value=None, interval=None, parts=[], record_files=[], case_ids=[], commands=[])
            continue
        found = JUDGES[claim["id"]](evidence)
        parts, missing = found["parts"], found["missing"]
        verdict = decide(parts, missing)
        deciding = [part for part in parts if part["decides"]]
        top = weakest(deciding) if verdict != NO_RECORDS else None
        said = [found["reason"]] if verdict != NO_RECORDS else []
        said += [f"missing: {'; '.join(missing)}"] if missing else []
        said += [claim["instead"]] if "instead" in claim else []
        out.update(verdict=verdict, value=top and top["value"], interval=top and top["interval"], weak_baseline=found.get("weak_baseline") if verdict == HOLDS else None,
                   reason=". ".join(filter(None, said)), parts=[shown(part) for part in parts], machine=evidence.machine[1] or evidence.machine[0],
                   record_files=files(parts, evidence), case_ids=cases(parts), commands=commands(claim) if missing else [])
    return verdicts


def files(parts, evidence):
    return sorted({evidence.path[id(row)] for part in parts for row in part["rows"]})


def cases(parts):
    return list(dict.fromkeys(row["case_id"] for part in parts for row in part["rows"]))


def shown(part):
    return {key: part[key] for key in ("what", "value", "interval", "at_least", "at_most", "holds", "decides")}
