"""Tests of the verdicts on the paper's claims, on synthetic records that make each claim hold and fail: python3 plots/test_claims.py"""

import json
import pathlib
import sys
import tomllib
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import claims  # noqa: E402
import load  # noqa: E402
from claims import chunks, convergence, evidence, reductions, speed  # noqa: E402

SHAPES = evidence.SHAPES
ONE = SHAPES[:1]
LENGTHS = [4, 16, 64, 256, 512, 1024, 2048, 4096, 8192, 16384]


def row(solver, time_s=None, cell="gru_diag", shape=(1, 64), seq_len=512, width=0.01, **more):
    """An ok row; time_s has an interval of +- width."""
    batch, hidden = shape
    found = {"record": "case", "op": "recurrence", "scope": "kernel", "cell": cell, "pass": "forward", "grad": "all", "storage": "f32", "batch": batch, "hidden": hidden, "seq_len": seq_len,
             "regime": "paper", "weight_std": None, "h0": "zero", "seed": 1, "gates": "exact", "iteration_limit": "adaptive", "cache": "rotating", "device": "cuda", "gpu_name": "G",
             "solver": solver, "policy": {}, "status": "ok", "expected_status": "ok", "speedup": {},
             "time_s": time_s and {"median": time_s, "ci95_low": time_s * (1 - width), "ci95_high": time_s * (1 + width)}, **more}
    found["group_id"] = "/".join(str(found.get(key)) for key in ("op", "cell", "jacobian", "pass", "batch", "hidden", "seq_len", "regime", "weight_std", "seed"))
    found["case_id"] = "/".join(str(found.get(key)) for key in ("group_id", "solver", "iteration_limit", "gates", "storage", "cache", "policy"))
    return found


def records(*files):
    return load.Records([{"path": f"{place}.jsonl", "provenance": {}, "rows": rows, "truncated": False} for place, rows in enumerate(files)])


def verdict(claim, *files):
    return next(found for found in claims.judge(records(*files)) if found["id"] == claim)


class Case(unittest.TestCase):
    def is_(self, expected, claim, *files):
        found = verdict(claim, *files)
        self.assertEqual(found["verdict"], expected, found["parts"])
        return found

    def holds(self, claim, *files):
        return self.is_("holds", claim, *files)

    def fails(self, claim, *files):
        return self.is_("does not hold", claim, *files)

    def lacks(self, claim, *files):
        found = self.is_("no records", claim, *files)
        self.assertTrue(found["commands"])
        self.assertIsNone(found["value"])
        self.assertIn("missing: ", found["reason"])
        return found


class Shape(Case):
    def test_sixteen_claims_in_order_each_with_a_reason_and_the_same_keys(self):
        found = claims.judge(records([]))
        self.assertEqual([v["id"] for v in found], [f"C{number:02d}" for number in range(1, 17)])
        self.assertEqual([v["verdict"] for v in found], ["no records"] * 12 + ["not testable here"] * 4)
        for v in found:
            self.assertTrue(v["title"] and v["where"] and v["reason"])
            self.assertEqual((v["value"], v["interval"], v["record_files"], v["case_ids"]), (None, None, [], []))
        self.assertEqual(json.loads(json.dumps(found)), found)

    def test_every_suite_that_a_claim_names_is_there(self):
        for claim in claims.CLAIMS:
            self.assertEqual("not_testable" in claim, not claim["suites"], claim["id"])
            self.assertEqual(set(claim) - {"instead", "not_testable"}, {"id", "where", "suites", "title"})
            for suite in claim["suites"]:
                self.assertTrue((HERE.parent / "suites" / "paper" / f"{suite}.toml").exists(), suite)

    def test_the_shapes_are_those_of_the_suites(self):
        for name in ("fig1", "fig2_left", "fig2_right", "fig5", "fig6", "fig7_8"):
            suite = tomllib.loads((HERE.parent / "suites" / "paper" / f"{name}.toml").read_text())
            self.assertEqual({(suite["batch"], hidden) for hidden in suite["hidden"]} | {(point["batch"], point["hidden"]) for point in suite["point"]}, set(SHAPES))

    def test_the_suites_have_the_lengths_that_fits_need(self):
        few = lambda name: sorted(point["seq_len"] for point in tomllib.loads((HERE.parent / "suites" / "paper" / f"{name}.toml").read_text())["point"] if point["batch"] == 1)
        stretches = [(low, high) for _, low, high in reductions.STRETCHES] + [(reductions.COLLAPSES_FROM, 2**40)]
        for name, needed in (("fig2_left", stretches), ("fig1", [(0, speed.LENGTH), (speed.LINEAR_FROM, 2**40)]), ("fig5", [(0, speed.LENGTH), (speed.LINEAR_FROM, 2**40), (2**12 + 1, 2**40)])):
            for low, high in needed:
                found = [n for n in few(name) if low <= n <= high]
                self.assertTrue(low == 2**12 + 1 or (len(found) >= evidence.LEAST_LENGTHS and found[-1] >= evidence.LEAST_SPAN * found[0]), (name, low, found))
                self.assertTrue(found)

    def test_a_reduction_is_named_by_its_jacobian(self):
        self.assertEqual(evidence.at(row("auto", 1, None, op="reduction", jacobian="2x2")), "2x2 at B = 1, D = 64, L = 512")
        self.assertEqual(evidence.kind(row("auto", 1, "x", jacobian="2x2")), "2x2")

    def test_commands_name_the_suites(self):
        self.assertEqual(verdict("C03", [])["commands"], ["./prnn run suites/paper/fig2_left.toml --device cuda", "./prnn run suites/paper/fig2_right.toml --device cuda"])

    def test_records_and_cases_are_those_that_decide(self):
        files = [both_cells("seq_stepwise", 1e-3)[:1] + both_cells("newton_fused", 1e-6)[:1], both_cells("seq_stepwise", 1e-3)[1:] + both_cells("newton_fused", 1e-6)[1:], [row("auto", 1)]]
        found = self.holds("C01", *files)
        self.assertEqual(found["record_files"], ["0.jsonl", "1.jsonl"])
        self.assertEqual(sorted(found["case_ids"]), sorted(r["case_id"] for r in files[0] + files[1]))


def both_cells(solver, time_s, **more):
    return [row(solver, time_s, cell, **more) for cell in evidence.CELLS]


class Rows(Case):
    """Which rows a claim may rest on."""

    def slow_and(self):
        return both_cells("seq_stepwise", 1e-3) + both_cells("newton_fused", 1e-6)

    def test_only_right_checked_cold_kernel_rows_in_f32_from_zero_at_the_four_shapes(self):
        self.holds("C01", self.slow_and())
        for more in ({"status": "wrong"}, {"iteration_limit": 3}, {"cache": "hot"}, {"scope": "layer"}, {"storage": "bf16"}, {"gates": "approx"}, {"h0": "random"}, {"regime": "wide"},
                     {"weight_std": 0.1}, {"pass": "both"}, {"op": "reduction"}, {"time_s": None}, {"batch": 2}, {"cell": "elman_diag"}):
            self.lacks("C01", [{**r, **more} for r in self.slow_and()])

    def test_one_machine_a_gpu_before_a_cpu_the_first_named(self):
        slow, fast = both_cells("seq_stepwise", 1e-3), both_cells("newton_fused", 1e-6)
        cpu = [{**r, "device": "cpu", "gpu_name": None} for r in slow + both_cells("newton_fused", 9e-4)]
        self.assertEqual(self.holds("C01", cpu, slow + fast)["machine"], "G")
        self.assertEqual(self.fails("C01", cpu)["machine"], "cpu")
        other = [{**r, "gpu_name": "H"} for r in slow + both_cells("newton_fused", 9e-4)]
        self.assertEqual(self.holds("C01", slow + fast, other)["machine"], "G")
        self.assertEqual(self.fails("C01", other, slow + fast)["machine"], "H")
        self.lacks("C01", slow, [{**r, "gpu_name": "H"} for r in fast])

    def test_pairs_are_of_one_record_before_any_across(self):
        slow = [row("seq_stepwise", 5.0), row("seq_stepwise", 7.0)]
        fast = row("newton_fused", 1.0)
        for files in ([slow[0]], [slow[1], fast]), ([slow[1], fast], [slow[0]]):
            found = evidence.Evidence(records(*files))
            pairs = found.pairs(found.times(solver="seq_stepwise"), found.times(solver="newton_fused"))
            self.assertEqual([(a["time_s"]["median"], b["time_s"]["median"]) for a, b in pairs], [(7.0, 1.0)])
        for files, expected in (([slow[0], fast, slow[1]],), 5.0), (([slow[0]], [slow[1]], [fast]), 5.0):
            found = evidence.Evidence(records(*files))
            self.assertEqual([a["time_s"]["median"] for a, _ in found.pairs(found.times(solver="seq_stepwise"), found.times(solver="newton_fused"))], [expected])
        found = evidence.Evidence(records([slow[0]], [fast]))
        self.assertEqual(len(found.pairs(found.times(solver="seq_stepwise"), found.times(solver="newton_fused"))), 1)
        for more in ({"seq_len": 256}, {"shape": (8, 256)}, {"cell": "lstm_cifg_diag"}):
            found = evidence.Evidence(records([slow[0], row("newton_fused", 1.0, **more)]))
            self.assertEqual(found.pairs(found.times(solver="seq_stepwise"), found.times(solver="newton_fused")), [])

    def test_a_paired_ratio_of_the_record_goes_before_the_quotient_of_intervals(self):
        slow, fast = row("seq_stepwise", 6.0, width=0.1), row("newton_fused", 2.0, width=0.1)
        value, low, high = evidence.ratio(slow, fast)
        self.assertAlmostEqual(value, 3)
        self.assertAlmostEqual(low, 5.4 / 2.2)
        self.assertAlmostEqual(high, 6.6 / 1.8)
        fast["speedup"] = {"seq_stepwise": {"ratio": 3.0, "ci95_low": 2.9, "ci95_high": 3.1}}
        self.assertEqual(evidence.ratio(slow, fast), (3.0, 2.9, 3.1))
        self.assertNotEqual(evidence.ratio({**slow, "group_id": "other"}, fast), (3.0, 2.9, 3.1))
        fast["speedup"]["seq_stepwise"]["ci95_low"] = None
        self.assertEqual(evidence.ratio(slow, fast), (value, low, high))

    def test_a_part_holds_where_its_whole_interval_does(self):
        for (low, high), least, most, holds in (((1, 2), 1, 2, True), ((0.99, 2), 1, 2, False), ((1, 2.01), 1, 2, False), ((1, 2), 1, 9, True), ((1, 2), -9, 2, True)):
            self.assertEqual(evidence.part("", (1.5, low, high), [], least, most)["holds"], holds)
        self.assertEqual([evidence.part("", (1.5, 1, 2), [])[key] for key in ("at_least", "at_most")], [None, None])

    def test_the_weakest_part_is_that_with_least_room_on_either_side(self):
        parts = [evidence.part(name, (0, low, high), [], -5, 5) for name, low, high in (("a", -1, 1), ("b", -4, 1), ("c", -1, 4.5), ("d", 0, 0))]
        self.assertEqual(evidence.weakest(parts)["what"], "c")
        self.assertEqual(evidence.weakest(parts[:2])["what"], "b")

    def test_of_many_measures_the_weakest_stands_and_all_rows_are_named(self):
        rows = [row("x", 1, seq_len=n) for n in (4, 8, 16)]
        found = evidence.each("name", [((2, 1.9, 2.1), rows[:1]), ((1, 0.9, 1.1), rows[1:2]), ((3, 2.9, 3.1), rows[2:])], 1)
        self.assertEqual((found["value"], found["holds"], found["rows"]), (1, False, rows))
        self.assertIn("name: 2 of 3, the weakest gru_diag at B = 1, D = 64, L = 8", found["what"])
        self.assertIsNone(evidence.each("", []))

    def test_a_slope_needs_four_lengths_that_span_a_factor_of_eight(self):
        line = lambda lengths: [row("x", 1e-6 * n**0.5, seq_len=n) for n in lengths]
        for value in evidence.slope(line([4, 8, 16, 32])):
            self.assertAlmostEqual(value, 0.5)
        self.assertIsNone(evidence.slope(line([4, 8, 32])))
        self.assertIsNone(evidence.slope(line([4, 8, 16, 31])))

    def test_a_slope_is_that_of_the_medians(self):
        rows = [row("x", 1e-6 * n, seq_len=n) for n in (4, 8, 16, 32)]
        for r in rows:
            r["time_s"] = {"median": r["time_s"]["median"], "ci95_low": 1e-9, "ci95_high": 1.0}
        self.assertAlmostEqual(evidence.slope(rows)[0], 1)

    def test_a_time_needs_its_interval(self):
        self.assertEqual(evidence.time_of({"time_s": {"median": 2.0, "ci95_low": 1.0, "ci95_high": 3.0}}), (2.0, 1.0, 3.0))
        for key in ("median", "ci95_low", "ci95_high"):
            for value in (None, 0.0):
                self.assertIsNone(evidence.time_of({"time_s": {"median": 2.0, "ci95_low": 1.0, "ci95_high": 3.0, key: value}}))

    def test_one_pass_is_the_first_solver_of_the_list_that_a_size_has(self):
        rows = [row("newton_fused", 1, "linear"), row("shooting", 2, "linear"), row("auto", 3, "linear", seq_len=4), row("seq_fused", 4, "linear", seq_len=4), row("seq_stepwise", 5, "linear")]
        self.assertEqual([r["time_s"]["median"] for r in evidence.one_pass(rows + [row("auto", 6, "linear", seq_len=4)])], [2, 3])

    def test_what_fails_decides_and_what_is_missing_keeps_a_claim_from_holding(self):
        good, bad = {"holds": True, "decides": True}, {"holds": False, "decides": True}
        for parts, missing, expected in (([good], [], claims.HOLDS), ([good, bad], [], claims.FAILS), ([good], ["x"], claims.NO_RECORDS), ([bad], ["x"], claims.FAILS),
                                         ([], [], claims.NO_RECORDS), ([good, {**bad, "decides": False}], [], claims.HOLDS), ([{**good, "decides": False}], [], claims.NO_RECORDS)):
            self.assertEqual(claims.decide(parts, missing), expected)


class C01(Case):
    def rows(self, larger, smaller, baseline="seq_stepwise", width=0.0, cells=("gru_diag", "lstm_cifg_diag"), **more):
        return [row(baseline, gain * 1e-6, cell, width=width, **more) for cell, gain in zip(cells, (larger, smaller))] + both_cells("newton_fused", 1e-6, width=0, **more)

    def test_either_cell_may_be_the_one_that_gains_more(self):
        for cells in (("gru_diag", "lstm_cifg_diag"), ("lstm_cifg_diag", "gru_diag")):
            found = self.holds("C01", self.rows(665.1, 447.1, cells=cells))
            self.assertIsNone(found["weak_baseline"])
            self.assertIn("665 and 447 times against seq_stepwise", found["reason"])
            self.assertEqual(found["commands"], [])
            self.fails("C01", self.rows(664.9, 448, cells=cells))
            self.fails("C01", self.rows(900, 446.9, cells=cells))

    def test_the_interval_decides_not_the_median(self):
        self.fails("C01", self.rows(670, 460, width=0.01))
        self.holds("C01", self.rows(680, 460, width=0.01))

    def test_where_none_meets_the_baseline_with_the_largest_gain_decides(self):
        for stepwise, loop in ((300, 200), (200, 300)):
            found = self.fails("C01", self.rows(stepwise, 10) + self.rows(loop, 10, "torch_eager"))
            self.assertTrue(found["reason"].startswith(f"300 and 10 times against {'seq_stepwise' if stepwise > loop else 'torch_eager'}"), found["reason"])

    def test_the_best_shape_counts(self):
        self.holds("C01", self.rows(700, 500) + self.rows(1, 1, shape=(8, 4096)))
        self.holds("C01", self.rows(1, 1) + self.rows(700, 500, shape=(8, 4096)))

    def test_another_length_does_not(self):
        self.lacks("C01", self.rows(700, 500, seq_len=256))

    def test_a_third_cell_does_not_count(self):
        self.holds("C01", self.rows(700, 500) + [row("seq_stepwise", 1.0, "elman_diag"), row("newton_fused", 1e-6, "elman_diag")])

    def test_one_cell_alone_is_no_record(self):
        self.lacks("C01", [r for r in self.rows(700, 500) if r["cell"] == "gru_diag"])

    def test_against_a_frameworks_loop_alone_it_holds_weakly(self):
        loop = self.rows(9000, 8000, "torch_eager")
        found = self.holds("C01", loop + self.rows(113, 92))
        self.assertEqual(found["weak_baseline"], "torch_eager")
        self.assertIn("weak baseline", found["reason"])
        self.assertIn("113 and 92 times against seq_stepwise", found["reason"])
        self.assertIsNone(self.holds("C01", loop + self.rows(700, 500))["weak_baseline"])
        self.assertEqual(self.holds("C01", loop + self.rows(700, 92))["weak_baseline"], "torch_eager")
        found = self.fails("C01", self.rows(600, 400, "torch_compiled") + self.rows(113, 92))
        self.assertIsNone(found["weak_baseline"])
        self.assertTrue(found["reason"].startswith("600 and 400 times against torch_compiled; 113"), found["reason"])
        self.assertNotIn("peers", found["reason"])
        self.assertTrue(self.fails("C01", self.rows(113, 92))["reason"].endswith(" (harness/peers/run.py suites/peers.toml makes them)"))

    def test_against_seq_fused_it_is_said_and_never_decides(self):
        found = self.fails("C01", self.rows(113, 92) + self.rows(900, 800, "seq_fused"))
        self.assertIn("900 and 800 times against seq_fused", found["reason"])
        self.lacks("C01", self.rows(900, 800, "seq_fused"))


class C02(Case):
    def rows(self, sequential=1.0, parallel=0.1, lengths=LENGTHS, shape=(1, 64), cell_of=None):
        return [r for cell in evidence.CELLS for n in lengths
                for r in (row("seq_stepwise", 1e-6 * n**(sequential if cell_of in (None, cell) else 1), cell, shape, n),
                          row("newton_fused", 1e-6 * n**(parallel if cell_of in (None, cell) else 0), cell, shape, n))]

    def test_holds_where_one_is_linear_and_the_other_flat(self):
        self.holds("C02", self.rows())
        self.holds("C02", self.rows(0.81, 0.24))
        self.holds("C02", self.rows(1.19, 0.24))

    def test_fails_where_the_sequential_time_is_not_linear(self):
        for exponent in (0.79, 1.21):
            for cell in evidence.CELLS:
                found = self.fails("C02", self.rows(exponent, cell_of=cell))
                self.assertAlmostEqual(found["value"], exponent)

    def test_fails_where_the_parallel_time_is_not_flat(self):
        for cell in evidence.CELLS:
            self.assertAlmostEqual(self.fails("C02", self.rows(parallel=0.26, cell_of=cell))["value"], 0.26)

    def test_the_fewest_channels_decide_about_flat_and_all_shapes_about_linear(self):
        self.holds("C02", self.rows() + self.rows(parallel=0.9, shape=(8, 256)))
        self.fails("C02", self.rows(parallel=0.9) + self.rows(shape=(8, 256)))
        self.fails("C02", self.rows() + self.rows(0.5, shape=(8, 256)))

    def test_short_sequential_and_long_parallel_ones_do_not_count(self):
        rows = self.rows()
        for r in rows:
            if (r["solver"] == "seq_stepwise") == (r["seq_len"] < 64) and (r["solver"] == "seq_stepwise" or r["seq_len"] > 512):
                r["time_s"] = {key: 50 * value for key, value in r["time_s"].items()}
        self.holds("C02", rows)

    def test_the_first_sequential_length_counts(self):
        rows = self.rows()
        for r in rows:
            if r["solver"] == "seq_stepwise" and r["seq_len"] == 64:
                r["time_s"] = {key: 50 * value for key, value in r["time_s"].items()}
        self.fails("C02", rows)

    def test_either_alone_is_no_record(self):
        for solver in ("seq_stepwise", "newton_fused"):
            self.lacks("C02", [r for r in self.rows() if r["solver"] != solver])
        self.lacks("C02", [r for r in self.rows() if r["cell"] == "gru_diag"])
        for solver, cell in (("newton_fused", "gru_diag"), ("newton_fused", "lstm_cifg_diag"), ("seq_stepwise", "gru_diag"), ("seq_stepwise", "lstm_cifg_diag")):
            found = self.lacks("C02", [r for r in self.rows() if (r["solver"], r["cell"]) != (solver, cell)])
            self.assertEqual(found["reason"].count("four lengths"), 1)
            self.assertIn(f"{cell} by {solver}", found["reason"])
        self.holds("C02", self.rows(parallel=-0.5))


class C03(Case):
    def rows(self, diag=1.2, full=0.9, solver="reduction", shapes=SHAPES, seq_len=512):
        return [r for shape in shapes for r in (row("auto", 1e-6, "linear", shape, seq_len), *(
            row(solver, 1e-6 / gain, None, shape, seq_len, op="reduction", jacobian=jacobian) for jacobian, gain in (("diag", diag), ("2x2", full))))]

    def test_at_least_nine_tenths_of_what_is_claimed_in_every_shape(self):
        self.assertIn("linear cell", self.holds("C03", self.rows())["reason"])
        low = 1.01 / 0.99 / 0.9  # what the intervals cost
        self.holds("C03", self.rows(1.1 * 0.9 * 0.9 * low * 1.01, 0.84 * 0.9 * 0.9 * low * 1.01))
        self.fails("C03", self.rows(1.1 * 0.9 * 0.9 * low * 0.99))
        self.fails("C03", self.rows(full=0.84 * 0.9 * 0.9 * low * 0.99))
        self.fails("C03", self.rows(shapes=SHAPES[1:]) + self.rows(0.5, shapes=ONE))
        self.fails("C03", self.rows(shapes=SHAPES[:3]) + self.rows(full=0.5, shapes=SHAPES[3:]))

    def test_of_the_reductions_auto_goes_before_the_one_it_may_choose(self):
        self.holds("C03", self.rows(solver="auto") + self.rows(0.1, 0.1))
        self.fails("C03", self.rows(0.1, 0.1, solver="auto") + self.rows())
        self.holds("C03", self.rows(solver="scan_chained"))
        for solver in ("scan_stepwise", "cub", "seq_stepwise", "seq_graph", "seq_fused"):
            self.lacks("C03", self.rows(solver=solver))

    def test_both_jacobians_and_a_linear_cell_at_the_length_are_needed(self):
        self.lacks("C03", self.rows(seq_len=1024))
        for left_out in ("diag", "2x2"):
            self.lacks("C03", [r for r in self.rows() if r.get("jacobian") != left_out])
        self.lacks("C03", [r for r in self.rows() if r["cell"] != "linear"])


class C04(Case):
    def rows(self, turns=(2**11, 2**16), exponents=(0.0, 1.0, 0.0), collapse=1.0, shape=(1, 64), jacobians=("diag", "2x2")):
        out = []
        for jacobian in jacobians:
            time_s = plain = 1e-6
            for k in range(2, 23):
                n = 2**k
                out += [row("auto", time_s, None, shape, n, op="reduction", jacobian=jacobian),
                        row(reductions.STEP_BY_STEP, plain, None, shape, n, op="reduction", jacobian=jacobian)]
                time_s *= 2**exponents[sum(n >= turn for turn in turns)]
                plain *= 2**(collapse if n >= 2**18 else 0)
        return out

    def test_flat_linear_flat_and_the_plain_one_linear_at_the_end(self):
        self.holds("C04", self.rows())
        for exponents in ((0.3, 1, 0), (0, 0.7, 0), (0, 1.3, 0), (0, 1, 0.3), (0, 1, 1)):
            self.fails("C04", self.rows(exponents=exponents))
        self.fails("C04", self.rows(collapse=0.7))
        self.fails("C04", self.rows(collapse=1.3))
        self.fails("C04", self.rows(jacobians=("diag",)) + self.rows(exponents=(0, 1, 1), jacobians=("2x2",)))

    def test_the_turns_are_where_the_claim_has_them(self):
        for turns in ((2**8, 2**16), (2**14, 2**16), (2**11, 2**13), (2**11, 2**19)):
            self.fails("C04", self.rows(turns))

    def test_the_fewest_channels_decide(self):
        self.holds("C04", self.rows() + self.rows(exponents=(1, 1, 1), shape=(8, 256)))

    def test_four_lengths_with_both_ends_are_enough_for_a_stretch(self):
        lengths = [2**k for k in (2, 5, 8, 11, 12, 14, 16, 18, 19, 20, 22)]
        self.holds("C04", [r for r in self.rows() if r["seq_len"] in lengths])
        for end in (2**16, 2**18, 2**22):
            self.lacks("C04", [r for r in self.rows() if r["seq_len"] in lengths and r["seq_len"] != end])
        self.assertEqual([stretch[1:] for stretch in reductions.STRETCHES], [(0, 2**11), (2**11, 2**16), (2**16, 2**40)])
        self.holds("C04", self.rows(exponents=(-0.5, 1, 0)))

    def test_every_stretch_is_needed(self):
        for low, high in ((2, 10), (12, 16), (17, 22)):
            self.lacks("C04", [r for r in self.rows() if not 2**low <= r["seq_len"] <= 2**high])
        self.lacks("C04", [r for r in self.rows() if r["solver"] == "auto"])
        self.lacks("C04", self.rows(jacobians=("diag",)))


class C05(Case):
    GAINS = {("gru_diag", "newton_unfused"): 1.3, ("lstm_cifg_diag", "newton_unfused"): 0.6, ("gru_diag", "newton_fused"): 2.7, ("lstm_cifg_diag", "newton_fused"): 1.6}

    def rows(self, gains=GAINS, shapes=SHAPES, seq_len=512, linear="linear", solver="auto"):
        return [r for shape in shapes for r in (row(solver, 1e-6, linear, shape, seq_len, width=0.001), *(
            row(by, 1e-6 / gain, cell, shape, seq_len, width=0.001) for (cell, by), gain in gains.items()))]

    def test_each_of_the_four_ratios_counts(self):
        self.holds("C05", self.rows())
        for key, gain in self.GAINS.items():
            self.fails("C05", self.rows({**self.GAINS, key: gain - 0.11}))
            self.fails("C05", self.rows({**self.GAINS, key: gain - 0.11}, ONE) + self.rows(shapes=SHAPES[1:]))
            self.holds("C05", self.rows({**self.GAINS, key: gain - 0.09}))
            self.lacks("C05", self.rows({k: v for k, v in self.GAINS.items() if k != key}))

    def test_what_stands_for_mamba_is_named_and_needed(self):
        self.assertIn("measured instead is a linear cell", self.holds("C05", self.rows())["reason"])
        self.lacks("C05", self.rows(linear="gru_diag2"))
        self.lacks("C05", self.rows(seq_len=256))
        self.lacks("C05", self.rows(solver="seq_stepwise"))

    def test_every_linear_cell_counts(self):
        more = [row("auto", 0.5e-6, "linear_16", shape, width=0.001) for shape in SHAPES]
        found = self.fails("C05", self.rows() + more)
        self.assertEqual(len([r for r in found["case_ids"] if "linear_16" in r]), 4)


def ladder(times, lengths=LENGTHS, shapes=ONE, **more):
    """Rows of {solver: time or time(cell, L)} for both cells."""
    return [row(solver, time_s(cell, n) if callable(time_s) else time_s, cell, shape, n, **more) for solver, time_s in times.items() for cell in evidence.CELLS for shape in shapes
            for n in lengths]


def unfused(cell, n):
    return 1e-6 if cell == "gru_diag" and n > 2**12 else 3e-6


class C06(Case):
    TIMES = {"seq_stepwise": 9e-6, "newton_unfused": unfused, "newton_fused": 2e-6}

    def test_the_order_and_its_exception(self):
        self.holds("C06", ladder(self.TIMES, shapes=SHAPES))
        self.fails("C06", ladder({**self.TIMES, "newton_unfused": 3e-6}))
        self.fails("C06", ladder({**self.TIMES, "newton_unfused": lambda cell, n: 1e-6 if n > 2**12 else 3e-6}))
        self.fails("C06", ladder({**self.TIMES, "newton_unfused": lambda cell, n: 1e-6 if cell == "gru_diag" and n >= 2**12 else 3e-6}))
        self.fails("C06", ladder({**self.TIMES, "newton_unfused": lambda cell, n: 1e-6 if cell == "gru_diag" and n > 2**13 else 3e-6}))
        self.fails("C06", ladder({**self.TIMES, "seq_stepwise": 2.5e-6}))
        self.fails("C06", ladder({**self.TIMES, "seq_stepwise": lambda cell, n: 0.5e-6 * n}))

    def test_one_shape_or_length_that_breaks_it_is_enough_and_is_named(self):
        rows = ladder(self.TIMES, shapes=SHAPES)
        broken = next(r for r in rows if r["solver"] == "newton_fused" and (r["cell"], r["hidden"], r["seq_len"]) == ("lstm_cifg_diag", 256, 64))
        broken["time_s"] = {key: 2 * value for key, value in broken["time_s"].items()}
        found = self.fails("C06", rows)
        self.assertAlmostEqual(found["value"], 0.75)
        self.assertIn("the weakest lstm_cifg_diag at B = 8, D = 256, L = 64", json.dumps(found["parts"]))

    def test_beyond_the_turn_the_ratio_is_that_of_fused_over_unfused(self):
        found = self.fails("C06", ladder({**self.TIMES, "newton_unfused": 3e-6, "seq_stepwise": 9e-6}))
        for expected, value in zip((2 / 3, 2 / 3 * 0.99 / 1.01, 2 / 3 * 1.01 / 0.99), (found["value"], *found["interval"])):
            self.assertAlmostEqual(value, expected)

    def test_intervals_that_touch_are_not_an_order(self):
        self.fails("C06", ladder({**self.TIMES, "newton_unfused": lambda cell, n: 1e-6 if cell == "gru_diag" and n > 2**12 else 2.01e-6}))
        self.holds("C06", ladder({**self.TIMES, "newton_unfused": lambda cell, n: 1e-6 if cell == "gru_diag" and n > 2**12 else 2.05e-6}))

    def test_a_small_lead_that_intervals_show_is_enough(self):
        close = {"seq_stepwise": 3.1e-6, "newton_unfused": lambda cell, n: 2.8e-6 if cell == "gru_diag" and n > 2**12 else 3e-6, "newton_fused": 2.9e-6}
        self.holds("C06", ladder(close))
        self.holds("C06", ladder({**close, "torch_eager": 3.3e-6, "torch_newton": 3.2e-6, "seq_stepwise": 1e-6}))

    def test_a_frameworks_loop_decides_where_it_was_measured_and_a_weak_win_is_said(self):
        loops = {"torch_eager": 1e-3, "torch_newton": 5e-6}
        found = self.holds("C06", ladder({**self.TIMES, **loops}))
        self.assertIsNone(found["weak_baseline"])
        self.assertNotIn("no rows of a framework", found["reason"])
        found = self.holds("C06", ladder({**self.TIMES, **loops, "seq_stepwise": 2.5e-6}))
        self.assertEqual(found["weak_baseline"], "torch_eager")
        self.assertIsNone(self.holds("C06", ladder({"newton_unfused": unfused, "newton_fused": 2e-6, **loops}))["weak_baseline"])
        self.fails("C06", ladder({**self.TIMES, **loops, "torch_eager": 4e-6}))
        self.fails("C06", ladder({**self.TIMES, **loops, "torch_newton": 2.5e-6}))
        self.fails("C06", ladder({**self.TIMES, "torch_compiled": 2.5e-6}))
        self.assertIn("no rows of a framework here (harness/peers/run.py suites/peers.toml makes them)", self.holds("C06", ladder(self.TIMES))["reason"])

    def test_each_rung_and_the_long_gru_are_needed(self):
        for left_out in self.TIMES:
            self.lacks("C06", ladder({solver: time_s for solver, time_s in self.TIMES.items() if solver != left_out}))
        self.lacks("C06", ladder(self.TIMES, LENGTHS[:-2]))
        found = self.fails("C06", ladder({**self.TIMES, "seq_stepwise": 1e-6}, LENGTHS[:-2]))
        self.assertEqual(found["commands"], ["./prnn run suites/paper/fig5.toml --device cuda"])
        self.assertIn("missing: gru_diag by newton_unfused and newton_fused beyond L = 2^12", found["reason"])


class C07(Case):
    TIMES = {"seq_stepwise": 9e-6, "newton_unfused": unfused, "newton_fused": 2e-6}

    def rows(self, times=TIMES, gain=1.5):
        more = {"pass": "both", "grad": "squares"}
        return (ladder(times, **more) + ladder({"newton_fused": 1e-6}) + [row("auto", 1e-6, "linear", seq_len=n) for n in LENGTHS] +
                [row("auto", 2e-6 * gain, "linear", seq_len=n, **more) for n in LENGTHS])

    def test_the_ranking_of_both_passes_and_the_gain_on_the_linear_cell(self):
        found = self.holds("C07", self.rows())
        self.assertIn("Mamba is not part of this program", found["reason"])
        self.assertIn("suites/peers_both.toml", found["reason"])
        self.fails("C07", self.rows({**self.TIMES, "newton_unfused": 3e-6}))
        self.fails("C07", self.rows(gain=0.9))
        self.fails("C07", self.rows(gain=1.03))  # four intervals of 1 % each
        found = self.holds("C07", self.rows(gain=1.05))
        self.assertAlmostEqual(found["value"], 1.05)
        for expected, bound in zip((1.05 * (0.99 / 1.01)**2, 1.05 * (1.01 / 0.99)**2), found["interval"]):
            self.assertAlmostEqual(bound, expected)

    def test_the_gain_is_of_the_same_sizes_and_linear_cell(self):
        more = {"pass": "both", "grad": "squares"}
        slow = [row("auto", 1e-5, "linear_16", seq_len=n) for n in LENGTHS] + [row("auto", 3e-5, "linear_16", seq_len=n, **more) for n in LENGTHS]
        self.holds("C07", self.rows() + slow)
        self.lacks("C07", [r for r in self.rows() if r["cell"] != "linear" or (r["pass"] == "both") == (r["seq_len"] > 512)])

    def test_forward_rows_do_not_stand_for_both(self):
        self.lacks("C07", [{**r, "pass": "forward"} for r in self.rows()])
        self.lacks("C07", [r for r in self.rows() if r["cell"] != "linear"])
        self.lacks("C07", [r for r in self.rows() if r["pass"] == "both"])

    def test_autograd_is_the_sequential_one_of_a_framework(self):
        self.fails("C07", self.rows({**self.TIMES, "torch_autograd": 2e-6}))
        self.assertNotIn("peers", self.holds("C07", self.rows({**self.TIMES, "torch_autograd": 2e-3}))["reason"])


def curve(cell, regime, residuals, seq_len=256, **more):
    return row("newton_fused", None, cell, (8, 1024), seq_len, regime=regime, iteration_limit=10, residual_max=residuals, **more)


def falling(steps, first=0.5):
    """Residuals that are at roundoff after so many iterations."""
    return [first] + [0.1] * (steps - 1) + [convergence.ROUNDOFF] * (11 - steps)


class C08(Case):
    def rows(self, steps=lambda cell, regime, n: 4, regimes=("paper", "public", "trained")):
        return [curve(cell, regime, falling(steps(cell, regime, n)), n) for cell in evidence.CELLS for regime in regimes for n in (256, 512, 1024, 2048)]

    def test_four_iterations_everywhere(self):
        self.assertEqual(self.holds("C08", self.rows())["value"], 4)
        for cell in evidence.CELLS:
            for regime in ("paper", "public", "trained"):
                found = self.fails("C08", self.rows(lambda c, r, n: 5 if (c, r, n) == (cell, regime, 2048) else 4))
                self.assertEqual((found["value"], found["interval"]), (5, [4, 5]))

    def test_nearly_independent_of_the_length(self):
        self.holds("C08", self.rows(lambda c, r, n: 4 if n > 512 else 3))
        self.fails("C08", self.rows(lambda c, r, n: 4 if n > 512 else 2))

    def test_the_spread_by_length_is_the_largest_of_the_seeds(self):
        rows = self.rows(lambda c, r, n: 4 if n > 512 else 3) + [{**r, "seed": 2, "case_id": r["case_id"] + "2"} for r in self.rows(lambda c, r, n: 3)]
        spread = [p for p in self.holds("C08", rows)["parts"] if "more or less" in p["what"]]
        self.assertEqual([(p["value"], p["interval"]) for p in spread], [(1, [0, 1])] * 6)

    def test_two_lengths_of_those_claimed_are_enough_and_one_is_not(self):
        self.holds("C08", [r for r in self.rows() if r["seq_len"] in (256, 2048)])
        self.lacks("C08", [r for r in self.rows() if r["seq_len"] == 256])
        self.assertEqual((convergence.LENGTHS, convergence.LEAST_COUNT), ((256, 2048), 6))

    def test_lengths_are_compared_within_a_seed(self):
        rows = self.rows() + [{**r, "seed": 2, "case_id": r["case_id"] + "2"} for r in self.rows(lambda c, r, n: 2)]
        self.holds("C08", rows)

    def test_initial_and_trained_rows_of_a_fixed_count_at_the_lengths_are_needed(self):
        for regime in ("paper", "public", "trained"):
            self.lacks("C08", [r for r in self.rows() if r["regime"] != regime])
        self.fails("C08", self.rows(lambda c, r, n: 5, ("paper",)))
        for cell in evidence.CELLS:
            self.lacks("C08", [r for r in self.rows() if r["cell"] != cell])
        for more in ({"iteration_limit": "adaptive"}, {"seq_len": 128}, {"seq_len": 4096}, {"weight_std": 1.0}, {"residual_max": falling(4)[:6]}, {"pass": "backward"}, {"status": "wrong"}):
            self.lacks("C08", [{**r, **more} for r in self.rows()])

    def test_six_iterations_are_enough_to_see_it(self):
        self.holds("C08", [{**r, "residual_max": r["residual_max"][:7]} for r in self.rows()])

    def test_iterations_are_counted_to_the_first_residual_at_roundoff(self):
        for steps in (1, 2, 5, 10):
            self.assertEqual(convergence.needed(curve("gru_diag", "paper", falling(steps))), steps)
        self.assertEqual(convergence.needed({"residual_max": [convergence.ROUNDOFF] * 3}), 0)
        self.assertEqual(convergence.needed({"residual_max": [1, None, convergence.ROUNDOFF * 1.001]}), 3)
        self.assertEqual(convergence.ROUNDOFF, 8 * 2.0**-24)


class C09(Case):
    def rows(self, steps, regimes=("paper", "public")):
        return [curve("gru_diag", regime, falling(steps)) for regime in regimes]

    def test_two_iterations_in_both_initialisations(self):
        self.assertEqual(self.holds("C09", self.rows(2))["value"], 2)
        self.assertEqual(self.fails("C09", self.rows(3))["value"], 3)
        self.fails("C09", self.rows(2, ["paper"]) + self.rows(3, ["public"]))
        self.fails("C09", self.rows(3, ["paper"]) + self.rows(2, ["public"]))
        self.lacks("C09", self.rows(2, ["paper"]))
        self.lacks("C09", self.rows(2, ["public"]))
        self.lacks("C09", self.rows(2, ["trained"]))


class C10(Case):
    def rows(self, *firsts, regimes=("paper", "public")):
        return [curve("lstm_cifg_diag", regime, [0.5, first, *[0.0] * 9], seed=seed) for regime in regimes for seed, first in enumerate(firsts)]

    def test_the_first_iteration_raises_every_residual(self):
        found = self.holds("C10", self.rows(0.6, 0.55, 0.9))
        for value, expected in zip((found["value"], *found["interval"]), (1.2, 1.1, 1.8)):
            self.assertAlmostEqual(value, expected)
        self.fails("C10", self.rows(0.6, 0.45, 0.9))
        self.holds("C10", self.rows(0.6) + [{**r, "case_id": r["case_id"] + "0", "residual_max": [0.0] * 11} for r in self.rows(0.6)])
        self.fails("C10", self.rows(0.6, regimes=["paper"]) + self.rows(0.4, regimes=["public"]))
        self.lacks("C10", self.rows(0.6, regimes=["paper"]))
        self.lacks("C10", [{**r, "cell": "gru_diag"} for r in self.rows(0.6)])


class C11(Case):
    def rows(self, exponent=1.0, cells=tuple(evidence.CELLS), lengths=LENGTHS, noise=(1, 1), **more):
        return [row(more.get("solver", "newton_fused"), 1e-6, cell, (8, 256), n, error={"abs_max": 1e-8 * n**exponent * noise[i % 2]}) for cell in cells for i, n in enumerate(lengths)]

    def test_a_power_near_one_with_its_interval(self):
        for exponent in (0.81, 1.0, 1.19):
            self.holds("C11", self.rows(exponent))
        for exponent in (0.0, 0.5, 0.79, 1.21):
            self.assertAlmostEqual(self.fails("C11", self.rows(exponent))["value"], exponent)
        self.fails("C11", self.rows(noise=(1, 9)))
        self.fails("C11", self.rows(cells=["gru_diag"]) + self.rows(0.1, cells=["lstm_cifg_diag"]))

    def test_the_cell_that_breaks_it_is_named(self):
        failed = [p["what"] for p in self.fails("C11", self.rows(cells=["gru_diag"]) + self.rows(0.1, cells=["lstm_cifg_diag"]))["parts"] if not p["holds"]]
        self.assertEqual(len(failed), 1)
        self.assertIn("lstm_cifg_diag", failed[0])
        self.assertIn("the weakest lstm_cifg_diag", failed[0])

    def test_both_cells_enough_lengths_and_the_papers_solver_are_needed(self):
        self.lacks("C11", self.rows(cells=["gru_diag"]))
        self.lacks("C11", self.rows(cells=["lstm_cifg_diag"]))
        self.lacks("C11", self.rows(lengths=[4, 8, 16, 32]))
        self.holds("C11", self.rows(lengths=[4, 8, 16, 64]))
        self.lacks("C11", self.rows(solver="seq_fused"))


class C12(Case):
    BEST = {"gru_diag": 2, "lstm_cifg_diag": 1, "diag": 2, "2x2": 2, "diag beyond": 4}

    def rows(self, best=BEST, lengths=(512, 4096, 8192), margin=1.1):
        out = []
        for name in ("gru_diag", "lstm_cifg_diag", "diag", "2x2"):
            for n in lengths:
                wins = best.get("diag beyond" if name == "diag" and n > 4096 else name)
                for chunk in (1, 2, 4):
                    time_s = 1e-6 * (1 if chunk == wins else margin)
                    fused = name in evidence.CELLS
                    out.append(row("newton_fused" if fused else "reduction", time_s, name if fused else None, (8, 256), n, policy={"steps_a_thread": chunk},
                                   **({} if fused else {"op": "reduction", "jacobian": name})))
        return out

    def test_each_claimed_chunk_must_be_the_fastest(self):
        self.assertAlmostEqual(self.holds("C12", self.rows())["value"], 1.1)
        for name, wins in self.BEST.items():
            for other in {1, 2, 4} - {wins}:
                self.fails("C12", self.rows({**self.BEST, name: other}))
            self.fails("C12", self.rows({**self.BEST, name: None}))
        self.fails("C12", self.rows(margin=1.015))

    def test_both_ends_of_the_lengths_count(self):
        for n in (512, 4096, 8192):
            for name in ("gru_diag", "lstm_cifg_diag", "diag", "2x2"):
                broken = [{**r, "time_s": {key: 2 * value for key, value in r["time_s"].items()}} if r["seq_len"] == n and name in (r["cell"], r.get("jacobian"))
                          and r["policy"]["steps_a_thread"] == (self.BEST["diag beyond"] if (name, n) == ("diag", 8192) else self.BEST[name]) else r for r in self.rows()]
                if n <= 4096 or name == "diag":
                    self.fails("C12", broken)
                else:
                    self.holds("C12", broken)

    def test_a_row_without_a_chunk_is_no_other_chunk(self):
        self.holds("C12", self.rows() + [row("newton_fused", 1e-9, cell, (8, 256), 512) for cell in evidence.CELLS])

    def test_lengths_and_chunks_are_needed(self):
        self.lacks("C12", self.rows(lengths=[512]))
        self.lacks("C12", self.rows(lengths=[8192]))
        self.lacks("C12", [r for r in self.rows() if r["policy"]["steps_a_thread"] == 2])
        self.lacks("C12", [{**r, "solver": "cub"} if r["solver"] == "reduction" else r for r in self.rows()])
        for name in ("gru_diag", "lstm_cifg_diag", "diag", "2x2"):
            self.lacks("C12", [r for r in self.rows() if name not in (r["cell"], r.get("jacobian"))])

    def test_short_and_long_fused_ones_do_not_count(self):
        self.holds("C12", self.rows() + [row("newton_fused", 1e-6 / chunk, cell, (8, 256), n, policy={"steps_a_thread": chunk}) for cell in evidence.CELLS for n in (256, 8192)
                                         for chunk in (1, 2, 4)])

    def test_times_are_compared_within_a_record(self):
        rows = self.rows()
        slower = [{**r, "time_s": {key: 3 * value for key, value in r["time_s"].items()}} for r in self.rows()]
        self.holds("C12", rows, slower)
        self.lacks("C12", [r for r in rows if r["policy"]["steps_a_thread"] == 2], [r for r in rows if r["policy"]["steps_a_thread"] != 2])


if __name__ == "__main__":
    unittest.main()
