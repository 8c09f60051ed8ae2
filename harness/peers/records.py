"""Rows and files in the format of design section 3, as harness/record.cpp writes and reads them."""

import hashlib
import json
import math
import os
import pathlib
import platform
import re
import subprocess
import time

UNDEFINED, MEMORY = "undefined combination: ", "memory: "  # how the reason of a skip that is no fault begins
# Every field of a row after its identity, in order; what a row does not set is null, with a reason.
FIELDS = ["time_s", "samples_s", "time_graph_s", "graph_launches", "host_s", "clock_mhz", "bytes_min", "floor_s", "floor_fraction", "compute_floor_s", "flops", "iterations", "converged",
          "rounds", "boundaries", "boundaries_failed", "residual_max", "step_max", "deterministic", "lyapunov", "jacobian_max", "error", "error_du", "error_da", "error_dh0",
          "error_end_to_end", "truncation"]
AXES = re.compile(r"(?P<op>[^/]+)/(?P<scope>[^/]+)/(?P<cell>[^/]+)/(?P<pass>[^/]+)/(?P<grad>[^/]+)/(?P<storage>[^/]+)/B(?P<batch>\d+)/D(?P<hidden>\d+)/L(?P<seq_len>\d+)/(?P<regime>[^/]+)"
                  r"(/weight_std=(?P<weight_std>[^/]+))?/h0=(?P<h0>[^/]+)/seed=(?P<seed>\d+)/(?P<gates>[^/]+)/(?P<iteration_limit>[^/]+)/(?P<cache>[^/]+)/(?P<solver>[^/]+)(/(?P<policy>.*))?")


def axes_of(case_id):
    """The axes that a planned case's name spells out (harness/plan.cpp), typed as in a row."""
    axes = AXES.fullmatch(case_id).groupdict()
    axes.pop("policy")
    for name in ("batch", "hidden", "seq_len", "seed"):
        axes[name] = int(axes[name])
    if axes["weight_std"] is not None:
        axes["weight_std"] = float(axes["weight_std"])
    if axes["iteration_limit"] != "adaptive":
        axes["iteration_limit"] = int(axes["iteration_limit"])
    return axes


def case_id_of(case_id, solver):
    """The name of another solver's case on the same axes, without a policy."""
    match = AXES.fullmatch(case_id)
    return case_id[: match.start("solver")] + solver


def row_of(axes, suite, device, gpu_name, solver, group_id, case_id):
    """A row with its identity alone, status error until something better is known."""
    names = ["op", "scope", "cell", "pass", "grad", "storage", "batch", "hidden", "seq_len", "regime", "weight_std", "h0", "seed", "gates", "iteration_limit", "cache"]
    row = {"record": "case", **{name: axes[name] for name in names}, "suite": suite, "device": device, "gpu_name": gpu_name, "compute": "f64" if axes["storage"] == "f64" else "f32",
           "solver": solver, "policy": {}, "group_id": group_id, "case_id": case_id, "status": "error", "expected_status": "ok", "reason": "not run", "null_reasons": {}}
    row.update({name: None for name in FIELDS}, speedup={})
    return row


def line_of(record):
    """One line of strict JSON: what is not finite becomes null, with a reason; so does what a row lacks, with the reason that it carries or a general one."""
    if record["record"] != "case":
        return json.dumps(record, allow_nan=False) + "\n"
    reasons = record["null_reasons"]

    def finite(value, name):
        if isinstance(value, float) and not math.isfinite(value):
            reasons[name] = f"not finite: {value}"
            return None
        if isinstance(value, dict) and name not in ("null_reasons", "policy"):
            return {key: finite(item, f"{name}.{key}") for key, item in value.items()}
        if isinstance(value, list):
            return [finite(item, f"{name}[{k}]") for k, item in enumerate(value)]
        if value is None:
            reasons.setdefault(name, record["status"] if record["status"] == "skipped" else "not measured")
        return value

    clean = {name: finite(value, name) for name, value in record.items() if name != "null_reasons"}
    ordered = {}
    for name, value in clean.items():
        ordered[name] = value
        if name == "reason":
            ordered["null_reasons"] = reasons
    return json.dumps(ordered, allow_nan=False) + "\n"


def error_size(found, truth):
    """abs_max, rel_max and rms of a difference of tensors, and what a row has beside them; rel_max: over the largest |truth|. Every element is compared."""
    difference = (found.double() - truth).abs()
    scale = float(truth.abs().max())
    return {"abs_max": float(difference.max()), "rel_max": float(difference.max()) / scale if scale > 0 else None, "ulp_max": None, "ulp_p99": None,
            "rms": float((difference * difference).mean().sqrt()), "verified_prefix": None, "channels_checked": [], "reference": "autograd in f64, all channels"}


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def ask_program(program, *words):
    """What `prnn ...` answers in JSON; throws RuntimeError with its own line."""
    ended = subprocess.run([str(program), *words, "--json"], capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise RuntimeError((ended.stderr.strip().splitlines() or [f"{program}: exit status {ended.returncode}"])[-1])
    return json.loads(ended.stdout)


def provenance(info, suite_path, command, copy_bytes_per_s, launch_s, versions):
    """The first line. info: of `prnn info`; versions: of what else has run, which belong to the fingerprint too."""
    text = pathlib.Path(suite_path).read_text()
    return {"record": "provenance", "schema": 1, "time_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "command": command, "commit": info["commit"], "dirty": info["dirty"],
            "build": info["build"], "machine": info["machine"], "gpu": info["gpu"], "suite": {"path": str(suite_path), "sha256": sha256(text), "text": text}, "order_seed": 0,
            "copy_bytes_per_s": copy_bytes_per_s, "launch_s": launch_s, "error_factor": 16, "fingerprint": sha256(info["fingerprint"] + json.dumps(versions, sort_keys=True))[:16],
            "text": None, "peers": {"python": platform.python_version(), **versions}}


class Writer:
    """A new record file; a group of rows is one write."""

    def __init__(self, path):
        path = pathlib.Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)

    def write(self, records):
        os.write(self._file, "".join(line_of(record) for record in records).encode())
        os.fsync(self._file)
