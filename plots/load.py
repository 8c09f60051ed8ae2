"""Reads record files (design section 3) and selects from them. Never invents a value: what a row lacks is None."""

import json
import math
import pathlib
import tomllib

# The ladder, slowest idea first: programs outside (harness/peers/), then ours.
SOLVERS = ["torch_eager", "torch_autograd", "torch_compiled", "torch_newton", "seq_stepwise", "seq_graph", "seq_fused", "scan_stepwise", "cub", "newton_unfused", "newton_fused",
           "reduction", "scan_chained", "shooting", "auto"]
STATUSES = ["ok", "wrong", "not_converged", "error", "timeout", "skipped"]
REQUIRED = ["case_id", "group_id", "solver", "status", "expected_status"]
# Axes that tell one drawing from another; a line within a drawing is a solver with its gates, iteration_limit and policy.
CONTEXT = ["cell", "jacobian", "storage", "regime", "weight_std", "pass", "grad", "op", "scope", "h0", "seed", "cache", "device", "gpu_name", "record_file"]
SIZES = ["batch", "hidden", "seq_len"]
EXCUSED = ("undefined combination: ", "memory: ")  # how the reason of a skip that is no fault begins (design section 1)
UNIT_ROUNDOFF = {"f64": 2.0**-53, "f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8}


class BadRecord(Exception):
    """One line: file:line, what, what was expected."""


class Records:
    """Rows of one or more files. files: [{path, provenance, rows, truncated}]."""

    def __init__(self, files):
        self.files = files
        self.rows = [row for file in files for row in file["rows"]]

    @property
    def provenance(self):
        return self.files[0]["provenance"]


def _not_finite(text):
    raise ValueError(f"{text} is not JSON")


def read_file(path):
    """One record file as {path, provenance, rows, truncated}; a last line that was cut short is left out and flagged. Throws BadRecord."""
    path = pathlib.Path(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise BadRecord(f"{path}: {error.strerror}; expected a record file (JSON lines)") from None
    except UnicodeDecodeError:
        raise BadRecord(f"{path}: not text; expected a record file (JSON lines)") from None
    lines = text.split("\n")
    cut = lines.pop()  # what stands after the last newline
    file = {"path": str(path), "provenance": None, "rows": [], "truncated": False}
    if cut:
        try:
            if not isinstance(json.loads(cut), dict):
                raise ValueError
            lines.append(cut)
        except ValueError:
            file["truncated"] = True
    rows = {}
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        try:
            record = json.loads(line, parse_constant=_not_finite)
        except ValueError as error:
            raise BadRecord(f"{where}: {error}; expected one JSON object a line") from None
        if not isinstance(record, dict):
            raise BadRecord(f"{where}: {type(record).__name__}; expected a JSON object")
        kind = record.get("record")
        if number == 1:
            if kind != "provenance":
                raise BadRecord(f"{where}: record {json.dumps(kind)}; expected \"provenance\" on the first line")
            if record.get("schema") != 1:
                raise BadRecord(f"{where}: schema {json.dumps(record.get('schema'))}; expected 1")
            file["provenance"] = record
        elif kind == "case":
            for key in REQUIRED:
                if not isinstance(record.get(key), str):
                    raise BadRecord(f"{where}: case without \"{key}\"; expected a string")
            for key in ("status", "expected_status"):
                if record[key] not in STATUSES:
                    raise BadRecord(f"{where}: {key} \"{record[key]}\"; expected one of {', '.join(STATUSES)}")
            record.setdefault("error_factor", file["provenance"].get("error_factor"))
            record["cell"] = record.get("cell") or record.get("jacobian")  # op reduction has Jacobians in the place of cells
            rows.pop(record["case_id"], None)  # a case run again replaces the earlier row
            rows[record["case_id"]] = record
    if file["provenance"] is None:
        raise BadRecord(f"{path}: no complete line; expected a provenance line, then case lines")
    file["rows"] = list(rows.values())
    return file


def read(paths):
    """Records of all files. Where two files hold the same case, rows carry record_file and are drawn apart."""
    files = [read_file(path) for path in paths]
    ids = [row["case_id"] for file in files for row in file["rows"]]
    if len(set(ids)) < len(ids):
        for file in files:
            for row in file["rows"]:
                row["record_file"] = pathlib.Path(file["path"]).stem
    return Records(files)


def suite_of(provenance):
    """The suite's TOML as a dict; empty where the record does not carry it."""
    try:
        return tomllib.loads(get(provenance, "suite.text") or "")
    except tomllib.TOMLDecodeError:
        return {}


def suite_name(provenance):
    return pathlib.Path(get(provenance, "suite.path") or "record").stem


def get(row, dotted):
    """row["a"]["b"] for "a.b"; None where anything on the way is missing."""
    for key in dotted.split("."):
        row = row.get(key) if isinstance(row, dict) else None
    return row


def number(row, dotted):
    """As get, but None unless it is a finite number."""
    value = get(row, dotted)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) else None


def is_ok(row):
    return row["status"] == "ok"


def expected(row):
    """Whether a row is as the suite expects, or skipped with an excuse."""
    return row["status"] == row["expected_status"] or (row["status"] == "skipped" and str(row.get("reason")).startswith(EXCUSED))


def rank(solver):
    """Sort key: the ladder's order, then the unknown ones by name."""
    return (SOLVERS.index(solver), "") if solver in SOLVERS else (len(SOLVERS), solver)


def values(rows, key):
    """Distinct values of a field: numbers ascending, else in order of appearance; None is left out."""
    found = list(dict.fromkeys(hashable(row.get(key)) for row in rows if row.get(key) is not None))
    return sorted(found) if all(isinstance(value, (int, float)) for value in found) else found


def hashable(value):
    return json.dumps(value, sort_keys=True) if isinstance(value, (dict, list)) else value


def select(rows, **fields):
    """Rows whose fields are equal to those given."""
    return [row for row in rows if all(row.get(key) == value for key, value in fields.items())]


def group(rows, key):
    """{key(row): rows} in order of appearance."""
    groups = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def varying(rows, keys):
    """Those of keys that take more than one value in rows."""
    return [key for key in keys if len({hashable(row.get(key)) for row in rows}) > 1]


def variant(row, policy_keys=()):
    """What sets a line apart beside its solver, as text: "" for the plain one."""
    parts = []
    limit = row.get("iteration_limit")
    if limit not in (None, "adaptive"):
        parts.append(f"{limit} iteration{'' if limit == 1 else 's'}, unchecked")
    if row.get("gates") not in (None, "exact"):
        parts.append(f"{row['gates']} gates")
    policy = row.get("policy") or {}
    parts += [f"{key} {policy[key]}" for key in policy_keys if key in policy]
    return ", ".join(parts)


def swept_policy(rows):
    """Policy keys that differ between rows of one group, solver, gates and iteration_limit: the suite sweeps them. Not auto's choice, which is no axis."""
    keys = []
    for same in group(rows, lambda row: (row["group_id"], row["solver"], row.get("gates"), row.get("iteration_limit"))).values():
        policies = [{key: value for key, value in (row.get("policy") or {}).items() if key != "solver"} for row in same]
        keys += [key for key in dict.fromkeys(key for policy in policies for key in policy) if len({hashable(p.get(key)) for p in policies}) > 1]
    return list(dict.fromkeys(keys))


def series(rows):
    """[((solver, variant), rows)] in the ladder's order, the plain variant of a solver first."""
    keys = swept_policy(rows)
    lines = group(rows, lambda row: (row["solver"], variant(row, keys)))
    return sorted(lines.items(), key=lambda item: (rank(item[0][0]), item[0][1] != ""))


def baselines(rows):
    """Every baseline that some row has a speedup against, in the ladder's order."""
    return sorted({name for row in rows for name in (row.get("speedup") or {})}, key=rank)


def speedup(row, baseline, rows_of_group):
    """(ratio, low, high) or None. A row that is not ok has none, nor has one whose baseline is not ok, whatever the file says."""
    against = select(rows_of_group, solver=baseline)
    if not is_ok(row) or (against and not any(map(is_ok, against))):
        return None
    ratio = tuple(number(row, f"speedup.{baseline}.{key}") for key in ("ratio", "ci95_low", "ci95_high"))
    return ratio if ratio[0] is not None and ratio[0] > 0 else None
