#!/usr/bin/env python3
"""Outside programs beside our kernels, in one process on the same tensors: harness/peers/run.py SUITE --out F --library build/default/libprnn_c.so

Takes any suite that `prnn run` takes, asks the program beside the library what the plan is, and writes the same records (design section 3): rows of the suite's own
solvers through the C interface, and of the peers in frameworks.py. Every result is held against autograd in f64 (oracle.py) and by our local test.
Exit status: as `prnn run` (0, 2 wrong, 3 not converged, 5 error, 64 bad input). Without torch the peers' rows are skipped, with the reason."""

import argparse
import dataclasses
import pathlib
import shlex
import sys
import time
import tomllib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import library  # noqa: E402
import records  # noqa: E402
import timing  # noqa: E402

try:
    import torch

    import cells
    import frameworks
    import oracle

    NO_TORCH = ""
except ImportError as error:
    NO_TORCH = f"torch is not installed ({error})"

PEERS = ["torch_eager", "torch_compiled", "torch_newton", "torch_autograd", "cudnn", "ml_pararnn"]
PASSES = {"torch_autograd": ["backward", "both"]}  # the others: forward
PASSES_UP_TO = 16  # c of design section 6


class BadInput(Exception):
    """One line: what, where, what was expected. Exit status 64."""


def refuse(message):
    raise BadInput(message)


def arguments(words):
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", help="suite file (TOML)")
    parser.add_argument("--out", required=True, help="record to write; a new file")
    parser.add_argument("--library", required=True, help="libprnn_c.so; the program prnn stands beside it")
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "cpu"])
    parser.add_argument("--only", default="", help="only groups with a case_id that matches this regular expression")
    parser.add_argument("--peers", default=",".join(PEERS), help="those that run [all]")
    parser.add_argument("--compile-s", type=float, default=120, help="seconds that torch.compile may take in all [120]")
    parser.add_argument("--compile-at", default="B1/D64/,B8/D1024/", help="sizes that are compiled, as case_id has them [B1/D64/,B8/D1024/]")
    parser.add_argument("--no-time", action="store_true", help="verify only")
    parser.error = refuse
    flags = parser.parse_args(words)
    unknown = [name for name in flags.peers.split(",") if name not in PEERS]
    if unknown:
        raise BadInput(f"--peers: '{unknown[0]}'; expected {', '.join(PEERS)}")
    if pathlib.Path(flags.out).exists():
        raise BadInput(f"--out {flags.out}: the file exists; expected a new name")
    if not pathlib.Path(flags.library).is_file():
        raise BadInput(f"--library {flags.library}: no such file; expected libprnn_c.so (ninja -C build/default prnn_c)")
    return flags


def groups_of(plan):
    """[(group_id, its cases without a policy)], in the plan's order."""
    groups = {}
    for case in plan:
        if records.AXES.fullmatch(case["case_id"])["policy"] is None:
            groups.setdefault(case["group_id"], []).append(case)
    return list(groups.items())


@dataclasses.dataclass
class Prepared:
    """A case that can be launched. launch() -> outputs by name; unpack: of them the tensors of the pass, in our layout; outcome() after the last launch; judge: of a peer
    that computes another function."""

    tensors: dict
    launch: callable
    outcome: callable
    queued: bool
    unpack: callable = dict
    judge: callable = None


class Group:
    """One problem: its tensors, drawn; the truth; a row for every solver and peer."""

    def __init__(self, session, group_id, cases):
        self.session, self.group_id, self.cases, self.truths = session, group_id, cases, {}
        plain = [c for c in cases if records.axes_of(c["case_id"])["gates"] == "exact" and records.axes_of(c["case_id"])["iteration_limit"] == "adaptive"]
        self.plain_id = plain[0]["case_id"] if plain else None

    def row(self, axes, solver, case_id):
        return records.row_of(axes, self.session.suite, self.session.device, self.session.gpu_name, solver, self.group_id, case_id)

    def rows(self):
        rows = [self.own(case) for case in self.cases]
        if self.plain_id:
            axes = records.axes_of(self.plain_id)
            rows += [self.of_peer(axes, name) for name in self.session.peers if axes["pass"] in PASSES.get(name, ["forward"])]
        add_speedups(rows, self.session.baselines)
        return rows

    def true_states(self, axes, tensors):
        """Of this group's inputs, which are the same for every row."""
        if axes["gates"] not in self.truths:
            self.truths[axes["gates"]] = oracle.true_states(axes["cell"], tensors, axes["gates"])
        return self.truths[axes["gates"]]

    def drawn(self, axes):
        if axes["weight_std"] is not None or axes["regime"] in ("text", "trained"):
            raise frameworks.NotHere("the C interface draws neither weight_std nor a text")
        tensors = self.session.library.tensors(axes)
        self.session.library.draw(axes, tensors)
        for name in ("h", "last", "du", "da", "dh0"):
            if name in tensors and not (name == "h" and axes["pass"] == "backward"):
                tensors[name].fill_(float("nan"))
        return tensors

    def own(self, case):
        axes = records.axes_of(case["case_id"])
        row = self.row(axes, axes["solver"], case["case_id"])
        row["expected_status"] = case["expected_status"]
        if case["skip"]:
            return skipped(row, case["skip"])
        if NO_TORCH:
            return skipped(row, records.UNDEFINED + NO_TORCH)

        def prepare():
            tensors = self.drawn(axes)
            plan = self.session.library.plan(axes, axes["solver"])
            launch = plan.bind(tensors)

            def outcome():
                if plan.solver() != axes["solver"]:
                    row["policy"] = {"solver": plan.solver()}
                return plan.outcome()

            return Prepared(tensors, lambda: launch() or tensors, outcome, queued=True)

        return self.finish(row, axes, prepare)

    def of_peer(self, axes, name):
        row = self.row(axes, name, records.case_id_of(self.plain_id, name))
        if NO_TORCH:
            return skipped(row, records.UNDEFINED + NO_TORCH)
        peer = self.session.peers[name]

        def prepare():
            if axes["cell"] not in cells.STEPS:
                raise frameworks.NotHere(f"{axes['cell']} is not written in harness/peers/cells.py")
            if name == "torch_compiled" and not any(size in self.plain_id for size in self.session.compile_at):
                raise frameworks.NotHere("not among the sizes that are compiled (--compile-at)")
            tensors = self.drawn(axes)
            launch = peer.prepare(axes, tensors)
            if name == "torch_compiled":
                row["policy"] = {"steps_a_call": peer.steps}
            return Prepared(tensors, launch, lambda: getattr(peer, "outcome", {}), peer.queued, getattr(peer, "unpack", dict), getattr(peer, "judge", None))

        return self.finish(row, axes, prepare)

    def finish(self, row, axes, prepare):
        """Times, then verifies what the last timed launch wrote."""
        session = self.session
        try:
            case = prepare()
            last = {}

            def launch():
                last["outputs"] = case.launch()

            times = session.clock_of(axes).measure(launch, case.queued) if session.timed else launch()
            session.clock.wait()
            judged = {**case.tensors, **{name: tensor.contiguous() for name, tensor in case.unpack(last["outputs"]).items()}}
            (judge_by(case.judge) if case.judge else judge)(self, row, axes, judged)
            describe(row, case.outcome())
            sizes = session.library.sizes(axes)
            row["bytes_min"], row["flops"] = sizes.bytes_min, sizes.flops
            if times and row["status"] == "ok":
                row.update(times)
                if axes["cache"] == "rotating":
                    row["floor_s"] = sizes.bytes_min / session.copy_bytes_per_s
                    row["floor_fraction"] = row["floor_s"] / row["time_s"]["median"]
        except frameworks.NotHere as reason:
            return skipped(row, records.UNDEFINED + str(reason))
        except library.Failed as failed:
            if failed.status == library.UNDEFINED:
                return skipped(row, records.UNDEFINED + str(failed))
            if failed.status == library.OUT_OF_MEMORY:
                return skipped(row, records.MEMORY + str(failed))
            row["reason"] = str(failed)
        except RuntimeError as failed:  # of torch
            if "out of memory" in str(failed):
                return skipped(row, records.MEMORY + str(failed).splitlines()[0])
            row["reason"] = (str(failed).splitlines() or [type(failed).__name__])[0]
        return row


def skipped(row, reason):
    row.update(status="skipped", reason=reason)
    return row


def describe(row, outcome):
    """What a launch says of itself; not_converged where it says so."""
    for name in ("iterations", "rounds", "boundaries", "boundaries_failed"):
        row[name] = outcome.get(name)
    row["converged"] = bool(outcome["converged"]) if "converged" in outcome else None
    if row["converged"] is False:
        row.update(status="not_converged", reason="the residual is above its bound")
    if "nonfinite_l" in outcome and row["status"] == "ok":
        row.update(status="wrong", reason=f"not finite at b {outcome['nonfinite_b']}, l {outcome['nonfinite_l']}, d {outcome['nonfinite_d']}")


def judge(group, row, axes, tensors):
    """Our local test and autograd's truth in f64; status ok or wrong."""
    local = group.session.library.judge(axes, tensors)
    ratios = {}
    if axes["pass"] != "backward":
        truth, bound = group.true_states(axes, tensors)
        ratios["h"] = oracle.worst((tensors["h"].double() - truth).abs(), bound)
        row["error"] = errors(tensors["h"], truth, local["h"], ratios["h"])
    if axes["pass"] != "forward":
        for name, (gradient, bound) in oracle.gradients(axes["cell"], tensors, axes["grad"], axes["gates"]).items():
            ratios[name] = oracle.worst((tensors[name].double() - gradient).abs(), bound)
            row["error_" + name] = errors(tensors[name], gradient, local[name], ratios[name])
    if axes["pass"] == "both":
        truth = oracle.end_to_end(axes["cell"], tensors, axes["grad"])
        row["error_end_to_end"] = {name: records.error_size(tensors[name], truth[name]) for name in ("du", "da", "dh0")}
    found = {f"{name}, local test": ratio for name, ratio in local.items()} | {f"{name}, autograd in f64": ratio for name, ratio in ratios.items()}
    verdict(row, found)


def judge_by(own):
    """Of a peer that computes another function: against its own truth."""

    def judge_own(_, row, axes, tensors):
        truth, ratio = own(axes, tensors)
        row["error"] = {**errors(tensors["own"], truth, None, ratio), "reference": "the same module in f64 without cuDNN"}
        row["null_reasons"].update({"error.ratio_local": "another function: dense D x D recurrence, and its projection"})
        verdict(row, {"its own truth in f64": ratio})

    return judge_own


def errors(found, truth, local, forward):
    return {**records.error_size(found, truth), "ratio_local": local, "ratio_forward": forward,
            "test_ratio": forward if local is None else max(local, forward) if local == local and forward == forward else float("nan")}


def verdict(row, ratios):
    wrong = {what: ratio for what, ratio in ratios.items() if not ratio <= PASSES_UP_TO}
    row.update(status="wrong" if wrong else "ok", reason="; ".join(f"{what}: {ratio:.3g} x its bound, expected at most {PASSES_UP_TO}" for what, ratio in wrong.items()))


def add_speedups(rows, baselines):
    """Of every ok row, against the suite's baselines and the eager loop where they are ok."""
    timed = {row["solver"]: row for row in rows if row["status"] == "ok" and row["samples_s"]}
    for row in timed.values():
        for name in baselines:
            if name in timed and name != row["solver"]:
                row["speedup"][name] = timing.ratio(timed[name]["samples_s"], row["samples_s"])


class Session:
    """What all groups share."""

    def __init__(self, flags):
        program = pathlib.Path(flags.library).resolve().parent / "prnn"
        try:
            self.info = records.ask_program(program, "info")
            device = "cpu" if flags.device == "auto" and (NO_TORCH or not torch.cuda.is_available()) else flags.device
            self.device = "cuda" if device == "auto" else device
            self.plan = records.ask_program(program, "run", flags.suite, "--device", self.device, "--dry", *(["--only", flags.only] if flags.only else []))
        except (OSError, RuntimeError) as error:
            raise BadInput(str(error)) from None
        suite = tomllib.loads(pathlib.Path(flags.suite).read_text())
        self.suite = self.plan["suite"]
        self.protocol = suite.get("protocol", "ours")
        named = suite.get("baselines", [])
        self.baselines = ([named] if isinstance(named, str) else named) + ["torch_eager", "torch_autograd"]
        self.gpu_name = self.info["gpu"]["name"] if self.device == "cuda" else None
        self.compile_at = flags.compile_at.split(",")
        self.timed = not flags.no_time
        self.copy_bytes_per_s = self.launch_s = None
        self.peers = dict.fromkeys(flags.peers.split(","))
        self.versions = {"torch": None}
        if NO_TORCH:
            return
        self.library = library.Library(flags.library, self.device)
        self.clock = timing.Clock(self.device)
        if self.timed:
            self.copy_bytes_per_s, self.launch_s = self.library.rates()
        self.peers = {peer.name: peer for peer in frameworks.peers(flags.compile_s) if peer.name in self.peers}
        self.versions = {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version() if self.device == "cuda" else None}

    def clock_of(self, axes):
        """The clock, and what it writes over between two launches: more than the last-level cache holds, where the suite wants the cache cold."""
        return timing.Measurement(self.clock, self.protocol, 3 * self.info["last_level_cache_bytes"] if axes["cache"] == "rotating" else 0)


def exit_status(rows):
    unexpected = {row["status"] for row in rows if row["status"] != row["expected_status"]}
    expected_but_ok = any(row["status"] == "ok" and row["expected_status"] != "ok" for row in rows)
    for status, code in (("wrong", 2), ("error", 5), ("not_converged", 3)):
        if status in unexpected:
            return code
    return 2 if expected_but_ok else 0


def main(words):
    try:
        flags = arguments(words)
        session = Session(flags)
        writer = records.Writer(flags.out)
    except BadInput as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 64
    except OSError as error:
        print(f"run.py: {error.filename}: {error.strerror}", file=sys.stderr)
        return 64
    writer.write([records.provenance(session.info, flags.suite, "harness/peers/run.py " + shlex.join(words), session.copy_bytes_per_s, session.launch_s, session.versions)])
    rows, groups, started = [], groups_of(session.plan["plan"]), time.monotonic()
    for number, (group_id, cases) in enumerate(groups, 1):
        new = Group(session, group_id, cases).rows()
        writer.write(new)
        rows += new
        seconds = time.monotonic() - started
        print(f"[{number}/{len(groups)}] {seconds:.0f} s  {group_id}: " + ", ".join(brief(row) for row in new), flush=True)
    return exit_status(rows)


def brief(row):
    """A row in a word or two: its median in us, or what else became of it."""
    return f"{row['solver']} " + (f"{row['time_s']['median'] * 1e6:.4g} us" if row["time_s"] else row["status"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
