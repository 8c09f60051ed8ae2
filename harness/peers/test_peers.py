"""Tests of the outside programs' scripts: python3 harness/peers/test_peers.py [libprnn_c.so]. What needs torch or the library is skipped, and says so, where it is absent."""

import contextlib
import io
import json
import math
import os
import pathlib
import re
import sys
import tempfile
import unittest
from unittest import mock

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT / "plots")]

import library  # noqa: E402
import load  # noqa: E402
import records  # noqa: E402
import run  # noqa: E402
import timing  # noqa: E402

LIBRARY = pathlib.Path(os.environ.get("PRNN_C_LIBRARY", ROOT / "build/default/libprnn_c.so"))
ACCEPTED = ROOT / "harness/testdata/corpus/record/accepted/peers.jsonl"  # written by run.py; harness/parsers.test.cpp reads it
CASE = "recurrence/kernel/gru_diag/forward/all/f32/B8/D1024/L4/paper/weight_std=0.25/h0=zero/seed=1/approx/3/rotating/newton_fused/threads=64,tiles=0"
SUITE = """title = "small"
cells = ["gru_diag", "lstm_cifg_diag"]
solvers = ["seq_fused", "auto"]
passes = ["forward", "both"]
batch = 2
hidden = 3
seq_len = 5
h0 = "random"
cache = "hot"
baselines = "seq_fused"
"""
needs_library = unittest.skipUnless(LIBRARY.exists(), f"no {LIBRARY}")
needs_torch = unittest.skipIf(run.NO_TORCH, run.NO_TORCH)
if not run.NO_TORCH:
    import cells
    import frameworks
    import layer
    import oracle
    import torch
    import train

    torch.set_num_threads(1)


def axes(**more):
    return {**records.axes_of(CASE), "weight_std": None, "batch": 2, "hidden": 3, "seq_len": 6, "gates": "exact", "iteration_limit": "adaptive", **more}


def row(**more):
    return {**records.row_of(axes(), "small", "cpu", None, "seq_fused", "group", "case"), **more}


class Names(unittest.TestCase):
    def test_a_case_id_spells_its_axes(self):
        found = records.axes_of(CASE)
        expected = {"op": "recurrence", "scope": "kernel", "cell": "gru_diag", "pass": "forward", "grad": "all", "storage": "f32", "batch": 8, "hidden": 1024, "seq_len": 4, "regime": "paper",
                    "weight_std": 0.25, "h0": "zero", "seed": 1, "gates": "approx", "iteration_limit": 3, "cache": "rotating", "solver": "newton_fused"}
        self.assertEqual(found, expected)
        plain = records.axes_of(CASE.replace("/weight_std=0.25", "").replace("/approx/3/", "/exact/adaptive/").split("/threads")[0])
        self.assertEqual(plain, {**expected, "weight_std": None, "gates": "exact", "iteration_limit": "adaptive"})

    def test_a_peer_s_case_differs_in_the_solver_alone(self):
        self.assertEqual(records.case_id_of(CASE, "cudnn"), CASE.replace("newton_fused/threads=64,tiles=0", "cudnn"))

    def test_groups_are_those_of_the_plan_without_policies(self):
        plain = CASE.split("/threads")[0]
        plan = [{"case_id": plain, "group_id": "a"}, {"case_id": CASE, "group_id": "a"}, {"case_id": plain, "group_id": "b"}]
        self.assertEqual([(name, len(cases)) for name, cases in run.groups_of(plan)], [("a", 1), ("b", 1)])


class Rows(unittest.TestCase):
    def test_a_line_is_strict_and_explains_every_null(self):
        line = records.line_of(row(status="ok", error={"abs_max": math.nan, "rms": 0.5, "rel_max": None}, samples_s=[1.0, math.inf]))
        read = json.loads(line, parse_constant=lambda text: self.fail(text))
        self.assertIsNone(read["error"]["abs_max"])
        self.assertEqual(read["samples_s"], [1.0, None])
        self.assertEqual(read["error"]["rms"], 0.5)
        self.assertEqual(read["null_reasons"]["error.abs_max"], "not finite: nan")
        self.assertEqual(read["null_reasons"]["samples_s[1]"], "not finite: inf")
        for name in records.FIELDS:
            if read[name] is None:
                self.assertEqual(read["null_reasons"][name], "not measured")
        self.assertEqual(json.loads(records.line_of(run.skipped(row(), "why")))["null_reasons"]["time_s"], "skipped")

    def test_a_reason_that_is_given_stays(self):
        self.assertEqual(json.loads(records.line_of(row(null_reasons={"error": "because"})))["null_reasons"]["error"], "because")

    def test_fields_are_those_that_the_program_reads(self):
        accepted = [json.loads(line) for line in ACCEPTED.read_text().splitlines()]
        for read in accepted[1:]:
            self.assertEqual(list(read), list(json.loads(records.line_of(row()))))
        self.assertLessEqual({"peers", "fingerprint", "suite", "error_factor"}, set(accepted[0]))

    def test_a_file_is_never_overwritten(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "new" / "a.jsonl"
            records.Writer(path).write([{"record": "provenance"}, row()])
            self.assertEqual(len(path.read_text().splitlines()), 2)
            with self.assertRaises(FileExistsError):
                records.Writer(path)

    def test_statuses_decide_the_exit(self):
        def status(*pairs):
            return run.exit_status([{"status": a, "expected_status": b} for a, b in pairs])

        self.assertEqual(status(("ok", "ok"), ("skipped", "ok")), 0)
        self.assertEqual(status(("wrong", "wrong")), 0)
        self.assertEqual(status(("ok", "wrong")), 2)
        self.assertEqual(status(("error", "ok"), ("wrong", "ok")), 2)
        self.assertEqual(status(("not_converged", "ok"), ("error", "ok")), 5)
        self.assertEqual(status(("not_converged", "ok")), 3)

    def test_a_ratio_above_16_or_no_number_is_wrong(self):
        for ratio, expected in ((16.0, "ok"), (16.1, "wrong"), (math.nan, "wrong")):
            judged = row()
            run.verdict(judged, {"h": 1.0, "du": ratio})
            self.assertEqual(judged["status"], expected)
            self.assertEqual("du" in judged["reason"], expected == "wrong")

    def test_what_a_launch_says_decides(self):
        for outcome, status in (({"converged": 1}, "ok"), ({"converged": 0}, "not_converged"), ({"nonfinite_b": 0, "nonfinite_l": 0, "nonfinite_d": 0}, "wrong"), ({}, "ok")):
            judged = row(status="ok")
            run.describe(judged, {"iterations": 7, **outcome})
            self.assertEqual((judged["status"], judged["iterations"]), (status, 7))


class Timing(unittest.TestCase):
    def measured(self, seconds, protocol="ours", queued=True, cold=0):
        """A clock of our own: every launch takes the next of `seconds`, the last for good."""
        taken = iter(seconds)
        last = [0.0]

        def once(launch, before=lambda: None):
            before()
            launch()
            last[0] = next(taken, last[0])
            return last[0], last[0]

        clock = timing.Clock("cpu")
        clock.once = once
        self.launches = 0

        def launch():
            self.launches += 1

        return timing.Measurement(clock, protocol, cold).measure(launch, queued)

    def test_the_protocol_of_the_paper(self):
        fields = self.measured([9.0] + [1e-3] * 21 + [2e-3] * 99 + [1e-3], "paper")
        self.assertEqual(self.launches, 2 + 20 + 100)
        self.assertEqual((fields["time_s"]["samples"], fields["time_s"]["min"], fields["time_s"]["median"]), (100, 1e-3, 2e-3))
        self.assertEqual(len(fields["samples_s"]), 100)
        self.assertIn("protocol paper", fields["time_s"]["method"])
        self.measured([1e-3])
        self.assertEqual(self.launches, 2 + 10 + 50)

    def test_a_slow_case_has_three_samples(self):
        self.assertEqual(self.measured([0.051])["time_s"]["samples"], 3)
        self.assertEqual(self.launches, 2 + 1 + 3)
        self.assertEqual(self.measured([0.05])["time_s"]["samples"], 50)

    def test_the_cpu_s_clock_takes_what_a_launch_takes(self):
        now = [0.0]

        def passes(seconds):
            now[0] += seconds

        with mock.patch.object(timing.time, "perf_counter", lambda: now[0]):
            self.assertEqual(timing.Clock("cpu").once(lambda: passes(0.25), lambda: passes(4)), (0.25, 0.25))

    def test_the_cache_is_written_over(self):
        erase = timing.Clock("cpu").eraser(64)
        erase()
        self.assertIn("written over", self.measured([1e-3], cold=64)["time_s"]["method"])
        self.assertNotIn("written over", self.measured([1e-3])["time_s"]["method"])

    def test_intervals_hold_the_median(self):
        samples = [1.0 + 0.01 * i for i in range(40)]
        low, high = timing.interval(samples)
        self.assertTrue(1.0 < low < 1.195 < high < 1.4)
        self.assertEqual(timing.percentiles(range(201)), (5, 195))
        speedup = timing.ratio([2.0 * x for x in samples], samples)
        self.assertAlmostEqual(speedup["ratio"], 2)
        self.assertTrue(speedup["ci95_low"] < 2 < speedup["ci95_high"])

    def test_speedups_are_between_rows_that_are_ok(self):
        rows = [row(solver=name, status=status, samples_s=[seconds]) for name, status, seconds in (("a", "ok", 4.0), ("b", "ok", 1.0), ("c", "wrong", 1.0))]
        run.add_speedups(rows, ["a", "c", "none"])
        self.assertEqual([{name: s["ratio"] for name, s in r["speedup"].items()} for r in rows], [{}, {"a": 4.0}, {}])


@needs_library
class Interface(unittest.TestCase):
    def test_sizes(self):
        here = library.Library(LIBRARY, "cpu")
        for cell, cell_sizes in {"gru_diag": (3, 1, 3), "lstm_cifg_diag": (3, 2, 5)}.items():
            for grad, gradients in (("all", cell_sizes[1]), ("output", 1), ("squares", 0)):
                sizes = here.sizes(axes(cell=cell, grad=grad, storage="f64", **{"pass": "backward"}))
                self.assertEqual((sizes.inputs, sizes.states, sizes.weights), cell_sizes)
                self.assertEqual(sizes.gradients, gradients)
                self.assertEqual(sizes.bytes_min, 8 * 2 * 3 * 6 * (2 * cell_sizes[0] + cell_sizes[1] + gradients))

    def test_refusals_carry_status_and_message(self):
        here = library.Library(LIBRARY, "cpu")
        for more, status, words in (({"cell": "gru"}, 64, "problem.cell: 'gru'"), ({"batch": 0}, 64, "problem.batch: 0"), ({"seq_len": 0}, 64, "problem.seq_len: 0"),
                                    ({"hidden": 0}, 64, "problem.hidden: 0"), ({"storage": "f8"}, 64, "problem.storage: 'f8'"), ({"gates": "so"}, 64, "problem.gates: 'so'"),
                                    ({"iteration_limit": -2}, 64, "problem.iteration_limit: -2"), ({"grad": "output"}, library.UNDEFINED, "given no gradients")):
            with self.assertRaisesRegex(library.Failed, words) as failed:
                here.sizes(axes(**more))
            self.assertEqual(failed.exception.status, status)
        with self.assertRaisesRegex(library.Failed, "device: 'gpu'"):
            library.Library(LIBRARY, "gpu")

    def test_another_version_is_refused(self):
        with mock.patch.object(library, "VERSION", 2), self.assertRaisesRegex(library.Failed, "version 1 of the C interface; expected 2"):
            library.Library(LIBRARY, "cpu")

    @needs_torch
    def test_tensors_have_the_shapes_of_the_header(self):
        here = library.Library(LIBRARY, "cpu")
        problem = axes(cell="lstm_cifg_diag", storage="bf16", **{"pass": "both"})
        found = {name: (tuple(t.shape), t.dtype) for name, t in here.tensors(problem).items()}
        wide, stored = torch.float32, torch.bfloat16
        self.assertEqual(found, {"u": ((2, 6, 3, 3), stored), "a": ((5, 3), stored), "h0": ((2, 2, 3), wide), "h": ((2, 6, 2, 3), stored), "last": ((2, 2, 3), wide),
                                 "grad_h": ((2, 6, 2, 3), stored), "grad_last": ((2, 2, 3), wide), "du": ((2, 6, 3, 3), stored), "da": ((5, 3), wide), "dh0": ((2, 2, 3), wide)})
        self.assertNotIn("last", here.tensors({**problem, "pass": "backward"}))
        self.assertNotIn("du", here.tensors({**problem, "pass": "forward"}))
        self.assertNotIn("grad_h", here.tensors({**problem, "grad": "squares"}))

    @needs_torch
    def test_a_plan_says_what_its_launch_did(self):
        here = library.Library(LIBRARY, "cpu")
        problem = axes(regime="wide", seq_len=40, iteration_limit=2)
        tensors = here.tensors(problem)
        here.draw(problem, tensors)
        plan = here.plan(problem, "newton_fused")
        plan.bind(tensors)()
        self.assertEqual(plan.outcome(), {"iterations": 2})
        adaptive = here.plan({**problem, "iteration_limit": "adaptive"}, "newton_fused")
        adaptive.bind(tensors)()
        self.assertEqual(adaptive.outcome()["converged"], 1)
        self.assertLessEqual(here.judge(problem, tensors)["h"], 16)


@needs_torch
class Cells(unittest.TestCase):
    def test_derivatives_are_difference_quotients(self):
        torch.manual_seed(1)
        for name, (inputs, states, weights) in {"gru_diag": (3, 1, 3), "lstm_cifg_diag": (3, 2, 5), "elman_diag": (1, 1, 1)}.items():
            h, a, u = (torch.randn(shape, dtype=torch.float64) for shape in ((2, 4, states, 3), (weights, 3), (2, 4, inputs, 3)))
            after, J, F, A = cells.derivatives(cells.STEPS[name], h, a, u)
            self.assertTrue(torch.equal(after, cells.STEPS[name](h, a, u)))
            shift = 1e-6
            for tensor, derivative in ((h, J), (u, F), (a.expand(2, 4, weights, 3).clone(), A)):
                for j in range(tensor.shape[2]):
                    sides = []
                    for sign in (1, -1):
                        moved = tensor.clone()
                        moved[:, :, j] += sign * shift
                        sides.append(cells.STEPS[name](*(moved if t is tensor else t for t in (h, tensor if derivative is A else a, u))))
                    # shift^2 f''' / 6 and the roundings over shift: f''' is at most a few tens here
                    self.assertLess(float(((sides[0] - sides[1]) / (2 * shift) - derivative[:, :, :, j]).abs().max()), 1e-8)

    def test_known_steps(self):
        one = torch.ones(1, dtype=torch.float64)
        sigmoid, tanh = (lambda x: 1 / (1 + math.exp(-x))), math.tanh
        h, a, u = 0.3, (0.2, -0.4, 0.5), (1.0, -2.0, 0.7)
        z, r = sigmoid(a[0] * h + u[0]), sigmoid(a[1] * h + u[1])
        expected = (1 - z) * h + z * tanh(a[2] * h * r + u[2])
        found = cells.gru_diag(h * one.view(1, 1), torch.tensor(a).double().view(3, 1), torch.tensor(u).double().view(3, 1))
        self.assertAlmostEqual(float(found), expected, places=7)  # the lists are rounded to f32
        c, a, u = -0.6, (0.2, -0.4, 0.5, 0.3, -0.1), (1.0, -2.0, 0.7)
        f = sigmoid(a[0] * h + u[0] + a[3] * c)
        c_next = f * c + (1 - f) * tanh(a[2] * h + u[2])
        expected = [c_next, sigmoid(a[1] * h + u[1] + a[4] * c_next) * tanh(c_next)]
        found = cells.lstm_cifg_diag(torch.tensor([[c], [h]]).double(), torch.tensor(a).double().view(5, 1), torch.tensor(u).double().view(3, 1))
        for k in range(2):
            self.assertAlmostEqual(float(found[k]), expected[k], places=6)


@needs_torch
class Peers(unittest.TestCase):
    def drawn(self, problem):
        generator = torch.Generator().manual_seed(3)
        states, weights = (2, 5) if problem["cell"] == "lstm_cifg_diag" else (1, 3)
        shapes = {"u": (2, 6, 3, 3), "a": (weights, 3), "h0": (2, states, 3), "grad_h": (2, 6, states, 3), "grad_last": (2, states, 3)}
        return {name: 0.5 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}

    def test_every_forward_peer_is_within_bounds_of_the_truth(self):
        for cell in ("gru_diag", "lstm_cifg_diag"):
            problem = axes(cell=cell)
            tensors = self.drawn(problem)
            for peer in (frameworks.Eager(), frameworks.Newton()):
                found = peer.prepare(problem, tensors)()
                self.assertLessEqual(oracle.judge_states(cell, {**tensors, **found}), 1, f"{peer.name} {cell}")
                self.assertTrue(torch.equal(found["last"], found["h"][:, -1]))
                wrong = {**tensors, "h": found["h"].clone()}
                wrong["h"][1, 4, 0, 2] += 1e-3
                self.assertGreater(oracle.judge_states(cell, wrong), 16)
            self.assertEqual(peer.outcome["converged"], 1)

    def test_a_newton_that_is_stopped_says_so(self):
        peer = frameworks.Newton()
        peer.most_iterations = 0
        problem = axes()
        peer.prepare(problem, self.drawn(problem))()
        self.assertEqual(peer.outcome, {"iterations": 0, "converged": 0})

    def test_a_scan_is_the_recurrence(self):
        J, r = torch.randn(2, 7, 2, 2, 3, dtype=torch.float64), torch.randn(2, 7, 2, 3, dtype=torch.float64)
        d, expected = torch.zeros(2, 2, 3, dtype=torch.float64), []
        for l in range(7):
            d = torch.einsum("bijd,bjd->bid", J[:, l], d) + r[:, l]
            expected.append(d)
        expected = torch.stack(expected, 1)
        # 7 products of 2 x 2 matrices in another order: some hundred roundings of the largest partial product
        scale = float(expected.abs().max()) * 7 * float(J.abs().max()) ** 3
        self.assertLess(float((frameworks.scan(J, r) - expected).abs().max()), 500 * 2.0**-53 * max(scale, 1))

    def test_gradients_of_every_loss_are_the_truth_s(self):
        for cell in ("gru_diag", "lstm_cifg_diag"):
            for grad in ("all", "output", "squares"):
                for passes in ("backward", "both"):
                    problem = axes(cell=cell, grad=grad, **{"pass": passes})
                    tensors = self.drawn(problem)
                    if grad == "output":
                        tensors["grad_h"] = tensors["grad_h"][:, :, -1:].contiguous()
                    launch = frameworks.Autograd().prepare(problem, tensors)
                    launch()
                    found = launch()  # the graph, where it is kept, serves twice
                    truth = oracle.end_to_end(cell, tensors, grad)
                    for name, (gradient, bound) in oracle.gradients(cell, {**tensors, "h": truth["h"]}, grad).items():
                        # two ways through f64, at states in f64
                        self.assertLessEqual(oracle.worst((gradient - truth[name]).abs(), bound), 1, f"{cell} {grad} {name}")
                    for name, (gradient, bound) in oracle.gradients(cell, {**tensors, "h": found["h"]}, grad).items():
                        self.assertLessEqual(oracle.worst((found[name].double() - gradient).abs(), bound), 1, f"{cell} {grad} {name}")
                        wrong = found[name].double() + 1e-3
                        self.assertGreater(oracle.worst((wrong - gradient).abs(), bound), 16, f"{cell} {grad} {name}")

    def test_autograd_is_not_held_against_rounded_states(self):
        with self.assertRaises(frameworks.NotHere):
            frameworks.Autograd().prepare(axes(storage="bf16"), {})

    def test_the_dense_module_is_within_bounds_of_itself(self):
        peer, problem = frameworks.Cudnn(), axes(hidden=8)
        found = peer.dense(problem, torch.device("cpu"))()
        self.assertLessEqual(peer.judge(problem, found)[1], 1)
        self.assertGreater(peer.judge(problem, {"own": found["own"] + 1e-2})[1], 16)

    def test_the_published_package_is_given_its_layout(self):
        def given(cell, states):
            def fused(a, u, peepholes=None):  # what the package's kernels take: a [D, 3], u [B, D, L, 3], peepholes [D, 2]
                weights = (a if peepholes is None else torch.cat((a, peepholes), 1)).t()
                h = cells.loop(cells.STEPS[cell], torch.zeros(2, states, 3), weights, u.permute(0, 2, 3, 1))
                return h.permute(0, 3, 1, 2)[..., 0] if states == 1 else h.permute(0, 3, 1, 2)

            return fused

        operations = mock.Mock(fused_fwd_gru_diag_mh=given("gru_diag", 1), fused_fwd_lstm_cifg_diag_mh=given("lstm_cifg_diag", 2))
        with mock.patch.object(frameworks.Pararnn, "operations", staticmethod(lambda: operations)):
            for cell in ("gru_diag", "lstm_cifg_diag"):
                peer, problem = frameworks.Pararnn(), axes(cell=cell)
                tensors = self.drawn(problem)
                tensors["h0"] = torch.zeros_like(tensors["h0"])
                found = peer.unpack(peer.prepare(problem, tensors)())
                self.assertLessEqual(oracle.judge_states(cell, {**tensors, **found}), 1)
                with self.assertRaises(frameworks.NotHere):
                    peer.prepare({**problem, "h0": "random"}, tensors)
        with self.assertRaisesRegex(frameworks.NotHere, "ml-pararnn is not installed"):
            frameworks.Pararnn.operations()

    def test_worst_keeps_nan_and_takes_0_over_0(self):
        zero, one = torch.zeros(2), torch.ones(2)
        self.assertEqual(oracle.worst(zero, zero), 0)
        self.assertEqual(oracle.worst(one, zero), math.inf)
        self.assertTrue(math.isnan(oracle.worst(torch.tensor([1.0, math.nan]), one)))


@needs_library
@needs_torch
class Training(unittest.TestCase):
    def test_autograd_knows_our_recurrence(self):
        here = library.Library(LIBRARY, "cpu")
        for cell in ("gru_diag", "lstm_cifg_diag"):
            inputs, weights, states = train.SIZES[cell]
            torch.manual_seed(2)
            u, a = torch.randn(2, 9, inputs, 5, requires_grad=True), (0.5 * torch.randn(weights, 5)).requires_grad_()
            by_h = torch.randn(2, 9, states, 5)
            for _ in range(2):  # the second time in the plans of the first
                h = layer.Recurrence.apply(u, a, here, cell)
                du, da = torch.autograd.grad((h * by_h).sum(), (u, a))
            tensors = {"u": u.detach(), "a": a.detach(), "h": h.detach(), "h0": torch.zeros(2, states, 5), "grad_h": by_h, "grad_last": torch.zeros(2, states, 5)}
            self.assertLessEqual(oracle.judge_states(cell, tensors), 1)
            truth = oracle.gradients(cell, tensors, "all")
            for name, found in (("du", du), ("da", da)):
                self.assertLessEqual(oracle.worst((found.double() - truth[name][0]).abs(), truth[name][1]), 1, f"{cell} {name}")

    def test_a_model_learns_and_its_curves_coincide(self):
        with tempfile.TemporaryDirectory() as folder, mock.patch.multiple(train, BATCH=2, LENGTH=12, CHANNELS=6, LEARNING_RATE=0.03):
            text, curve = pathlib.Path(folder, "text"), pathlib.Path(folder, "curve.json")
            text.write_bytes(b"again and again " * 20)
            said = io.StringIO()
            words = ["--library", str(LIBRARY), "--steps", "40", "--compared", "4", "--device", "cpu", "--text", str(text), "--out", folder, "--curve", str(curve)]
            with contextlib.redirect_stdout(said):
                self.assertEqual(train.main(words), 0, said.getvalue())
                self.assertEqual(train.main([*words, "--factor=-1e9"]), 2)
            for found in json.loads(curve.read_text()):
                self.assertLess(found["loss_nats"][-1], 0.8 * found["loss_nats"][0])
                self.assertEqual((len(found["loss_nats"]), len(found["loss_loop_f32"]), len(found["loss_loop_f64"])), (40, 4, 4))
                self.assertEqual(found["largest_difference_from_f64"]["ours"], max(abs(x - y) for x, y in zip(found["loss_nats"], found["loss_loop_f64"])))
            inputs, weights, _ = train.SIZES["lstm_cifg_diag"]
            lines = pathlib.Path(folder, "trained_lstm_cifg_diag.inc").read_text().splitlines()
            heads = [line for line in lines if line[:1].isalpha()]
            self.assertEqual(heads, ['R"(cell lstm_cifg_diag', "channels 6", "width 8", "embedding 128 8", f"projection 8 {inputs} 6", f"bias {inputs} 6", f"weights {weights} 6"])
            self.assertEqual(sum(len(line.split()) for line in lines if line not in heads and not line.startswith(")")), 128 * 8 + 8 * inputs * 6 + inputs * 6 + weights * 6)

    def test_models_start_as_the_paper_s(self):
        model = train.Model("lstm_cifg_diag", 1)
        self.assertLessEqual(float(model.a.abs().max()), 0.5)
        self.assertGreater(float(model.a.std()), 0.1)
        bound = math.sqrt(6 / train.WIDTH)
        self.assertTrue(0.99 * bound < float(model.projection.abs().max()) <= bound)
        self.assertEqual(float(model.bias.abs().max()), 0)


@needs_library
class Runs(unittest.TestCase):
    def ran(self, *words, suite=SUITE):
        """(exit status, rows, what it said) of run.py on a suite."""
        with tempfile.TemporaryDirectory() as folder:
            path, out = pathlib.Path(folder) / "small.toml", pathlib.Path(folder) / "out.jsonl"
            path.write_text(suite)
            said = io.StringIO()
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                status = run.main([str(path), "--out", str(out), "--library", str(LIBRARY), "--device", "cpu", *words])
            read = load.read_file(out) if out.exists() else {"rows": []}
            return status, read["rows"], said.getvalue()

    def test_without_torch_every_row_is_skipped_with_the_reason(self):
        with mock.patch.object(run, "NO_TORCH", "torch is not installed (so)"):
            status, rows, _ = self.ran()
        self.assertEqual(status, 0)
        self.assertEqual({r["reason"] for r in rows}, {"undefined combination: torch is not installed (so)"})
        self.assertEqual({r["solver"] for r in rows}, {"seq_fused", "auto", *run.PEERS})
        self.assertTrue(all(load.expected(r) for r in rows))

    @needs_torch
    def test_rows_are_verified_and_pair_within_their_group(self):
        status, rows, said = self.ran("--only", "gru_diag")
        self.assertEqual(status, 0, said)
        ok = [r for r in rows if r["status"] == "ok"]
        self.assertLessEqual({"seq_fused", "auto", "torch_eager", "torch_newton", "torch_autograd"}, {r["solver"] for r in ok})
        self.assertTrue(all(r["reason"].startswith("undefined combination: ") for r in rows if r["status"] == "skipped"))
        for r in ok:
            self.assertLessEqual(r["error"]["test_ratio"], 16)
            self.assertEqual(r["error"]["test_ratio"], max(r["error"]["ratio_local"], r["error"]["ratio_forward"]))
            self.assertGreater(r["time_s"]["median"], 0)
            self.assertEqual(r["case_id"], records.case_id_of(r["case_id"], r["solver"]))
            self.assertEqual(r["bytes_min"], 4 * 2 * 3 * 5 * (4 if r["pass"] == "forward" else 4 + 8))
            if r["pass"] == "both":
                self.assertLess(r["error_end_to_end"]["du"]["abs_max"], 1e-5)
        self.assertEqual({r["policy"].get("solver") for r in ok if r["solver"] == "auto"}, {"seq_fused", "seq_fused + seq_fused"})
        eager = [r for r in ok if r["solver"] == "torch_eager"]
        self.assertEqual(set(eager[0]["speedup"]), {"seq_fused"})

    @needs_torch
    def test_what_cannot_be_drawn_is_skipped(self):
        for more in ("weight_std = 0.25\n", "regime = \"text\"\n"):
            status, rows, said = self.ran("--only", "gru_diag", "--no-time", suite=SUITE + more)
            self.assertEqual(status, 0, said)
            self.assertEqual({r["status"] for r in rows}, {"skipped"})
            self.assertLessEqual({r["reason"] for r in rows if r["solver"] in ("auto", "torch_eager")}, {"undefined combination: the C interface draws neither weight_std nor a text"})

    @needs_torch
    def test_a_wrong_result_is_wrong_and_has_no_time(self):
        with mock.patch.dict(cells.STEPS, {"gru_diag": lambda h, a, u: cells.gru_diag(h, a, u) * 0.999}):
            status, rows, _ = self.ran("--only", "gru_diag/forward", "--peers", "torch_eager")
        self.assertEqual(status, 2)
        self.assertEqual({r["status"] for r in rows}, {"wrong"})
        self.assertTrue(all(r["time_s"] is None and r["speedup"] == {} for r in rows))
        self.assertTrue(any("local test" in r["reason"] for r in rows if r["solver"] == "torch_eager"))
        self.assertTrue(all("autograd in f64" in r["reason"] for r in rows if r["solver"] == "seq_fused"))

    def test_bad_input_is_one_line(self):
        for words, suite, expected in ((["--wat"], SUITE, r"unrecognized arguments: --wat"), (["--peers", "jax"], SUITE, r"--peers: 'jax'; expected torch_eager, .*"), (["--only", "nothing"], SUITE, r".*--only nothing: .*"),
                                       ([], "title = 3", r".*small.toml:1: .*"), (["--library", "/no.so"], SUITE, r"--library /no.so: no such file.*")):
            status, rows, said = self.ran(*words, suite=suite)
            self.assertEqual((status, rows), (64, []), said)
            self.assertRegex(said.strip(), re.compile(rf"^run.py: {expected}$"))


if __name__ == "__main__":
    unittest.main()
