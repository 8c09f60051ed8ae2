"""Tests of loading, figures and the page, on synthetic records made here: python3 plots/test_plots.py"""

import contextlib
import copy
import io
import json
import math
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import claims  # noqa: E402
import error_vs_length  # noqa: E402
import load  # noqa: E402
import newton_residual  # noqa: E402
import report  # noqa: E402
import speedup_vs_length  # noqa: E402
import style  # noqa: E402
import time_vs_length  # noqa: E402

FIGURES = [time_vs_length, speedup_vs_length, newton_residual, error_vs_length]
TIMES = {"seq_stepwise": 4e-6, "seq_fused": 1e-6, "newton_fused": 5e-7}  # seconds a step


def provenance(**more):
    return {"record": "provenance", "schema": 1, "time_utc": "2001-01-01T00:00:00Z", "command": "prnn run suites/synthetic.toml --only a<b", "commit": "c0ffee0123456789",
            "dirty": False, "build": {"compiler": "g++", "flags": "-O2", "cuda": "none"}, "machine": {"cpu": "synthetic cpu", "cores": 2, "os": "none"}, "gpu": None,
            "suite": {"path": "suites/synthetic.toml", "sha256": "0" * 64, "text": 'title = "a synthetic suite & its title"\n'}, "order_seed": 1, "copy_bytes_per_s": 1e10,
            "launch_s": 1e-7, "error_factor": 3, "fingerprint": "f", **more}


def case(solver="seq_fused", seq_len=16, cell="gru_diag", **more):
    """A synthetic row that is ok; more replaces fields."""
    median = TIMES[solver] * seq_len
    group = f"{cell}/L{seq_len}/D{more.get('hidden', 8)}/{more.get('storage', 'f32')}"
    iterates = solver.startswith("newton")
    row = {"record": "case", "op": "recurrence", "scope": "kernel", "cell": cell, "pass": "forward", "grad": "all", "storage": "f32", "batch": 2, "hidden": 8, "seq_len": seq_len,
           "regime": "paper", "weight_std": None, "h0": "zero", "seed": 1, "gates": "exact", "iteration_limit": "adaptive", "cache": "rotating", "suite": "synthetic",
           "device": "cpu", "gpu_name": None, "compute": "f32", "solver": solver, "policy": {"threads": 1}, "group_id": group,
           "case_id": f"{group}/{solver}/{more.get('iteration_limit', 'adaptive')}", "status": "ok", "expected_status": "ok", "reason": "", "null_reasons": {},
           "time_s": {"median": median, "min": median * 0.9, "mean": median, "mad": median * 0.01, "ci95_low": median * 0.98, "ci95_high": median * 1.03, "samples": 40, "method": "x"},
           "samples_s": [median], "time_graph_s": None, "floor_s": 1e-8 * seq_len, "floor_fraction": 1e-8 / TIMES[solver], "iterations": 3 if iterates else None,
           "converged": True if iterates else None, "residual_max": [0.5, 1e-2, 1e-5, 0.0] if iterates else [], "step_max": [],
           "error": {"abs_max": 1.5e-7, "test_ratio": 0.75, "ratio_local": 0.75}, "speedup": {}}
    for baseline in ("seq_stepwise", "seq_fused"):
        ratio = TIMES[baseline] / TIMES[solver]
        row["speedup"][baseline] = {"ratio": ratio, "ci95_low": ratio * 0.95, "ci95_high": ratio * 1.05}
    row.update(more)
    return row


def suite_rows(**more):
    return [case(solver, seq_len, cell, **more) for cell in ("gru_diag", "lstm_cifg_diag") for seq_len in (16, 64, 256) for solver in TIMES]


def spoilt(rows, index, status="wrong", **more):
    rows = copy.deepcopy(rows)
    rows[index].update({"status": status, "reason": "error 7 x its bound", **more})
    return rows


def page_of(*paths):
    records = load.read(paths)
    return report.page(records, claims.judge(records))


class Folder(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)

    def write(self, rows, name="synthetic.jsonl", tail="", head=None):
        path = self.folder / name
        path.write_text("".join(json.dumps(line) + "\n" for line in [head or provenance(), *rows]) + tail, encoding="utf-8")
        return path

    def page(self, rows, **more):
        return page_of(self.write(rows, **more))

    def run_script(self, script, *arguments):
        return subprocess.run([sys.executable, str(HERE / script), *map(str, arguments)], capture_output=True, text=True, cwd=self.folder)


class Loading(Folder):
    def test_rows_and_provenance_come_as_written(self):
        rows = suite_rows()
        records = load.read([self.write(rows)])
        self.assertEqual(records.provenance, provenance())
        self.assertEqual([{k: v for k, v in row.items() if k != "error_factor"} for row in records.rows], rows)
        self.assertEqual({row["error_factor"] for row in records.rows}, {3})  # of the provenance, for the figures

    def test_a_last_line_cut_short_is_left_out_and_said(self):
        rows = suite_rows()
        path = self.write(rows[:-1], tail=json.dumps(rows[-1])[:-9])
        file = load.read_file(path)
        self.assertTrue(file["truncated"])
        self.assertEqual(len(file["rows"]), len(rows) - 1)
        self.assertIn("cut short", page_of(path))

    def test_a_whole_last_line_without_newline_is_kept(self):
        rows = suite_rows()
        file = load.read_file(self.write(rows[:-1], tail=json.dumps(rows[-1])))
        self.assertFalse(file["truncated"])
        self.assertEqual(len(file["rows"]), len(rows))

    def test_a_bad_line_elsewhere_is_refused_with_its_number(self):
        path = self.write(suite_rows(), tail='{"record":"ca\n{}\n')
        with self.assertRaisesRegex(load.BadRecord, rf"^{re.escape(str(path))}:20: "):
            load.read([path])

    def test_bad_files_are_refused(self):
        for text in (b"", b"\xff\xfe\x00", b"[1]\n", b'{"record":"case"}\n', b'{"record":"provenance","schema":2}\n', b'{"record":"prov'):
            path = self.folder / "bad.jsonl"
            path.write_bytes(text)
            with self.assertRaises(load.BadRecord, msg=text):
                load.read([path])
        with self.assertRaises(load.BadRecord):
            load.read([self.folder / "absent.jsonl"])

    def test_nan_and_rows_without_identity_or_with_unknown_status_are_refused(self):
        for row in (case(time_s={"median": float("nan")}), {k: v for k, v in case().items() if k != "status"}, {k: v for k, v in case().items() if k != "case_id"}, case(status="fine")):
            with self.assertRaises(load.BadRecord):
                load.read([self.write([row])])

    def test_unknown_fields_and_records_are_tolerated(self):
        records = load.read([self.write([{"record": "note"}, case(news=1)])])
        self.assertEqual(len(records.rows), 1)

    def test_a_case_run_again_replaces_the_earlier_row(self):
        records = load.read([self.write([case(status="error"), case()])])
        self.assertEqual([row["status"] for row in records.rows], ["ok"])

    def test_two_files_with_the_same_cases_are_told_apart(self):
        rows = suite_rows()
        records = load.read([self.write(rows, "a.jsonl"), self.write(rows, "b.jsonl")])
        self.assertEqual({row["record_file"] for row in records.rows}, {"a", "b"})
        self.assertIn("record_file", load.varying(records.rows, load.CONTEXT))

    def test_what_is_missing_is_none(self):
        row = case(time_s=None)
        self.assertIsNone(load.number(row, "time_s.median"))
        self.assertIsNone(load.number(row, "no.such.field"))
        for value in (True, "3", float("inf"), float("nan"), [1]):
            self.assertIsNone(load.number(case(iterations=value), "iterations"))
        self.assertEqual(load.number(case(iterations=0), "iterations"), 0)
        self.assertIsNone(time_vs_length.value(row))

    def test_solvers_stand_in_the_ladders_order(self):
        found = [key[0] for key, _ in load.series([case("newton_fused"), case("seq_fused"), case("seq_stepwise")])]
        self.assertEqual(found, ["seq_stepwise", "seq_fused", "newton_fused"])

    def test_variants_of_a_solver_are_lines_of_their_own(self):
        rows = [case("newton_fused", iteration_limit=3), case("newton_fused"), case("newton_fused", gates="approx"), case("newton_fused", iteration_limit=1), case("seq_fused"), case("seq_fused", gates="approx")]
        self.assertEqual([key for key, _ in load.series(rows)], [("seq_fused", ""), ("seq_fused", "approx gates"), ("newton_fused", ""), ("newton_fused", "3 iterations, unchecked"),
                                                                ("newton_fused", "approx gates"), ("newton_fused", "1 iteration, unchecked")])

    def test_a_swept_policy_is_named_and_a_fixed_one_is_not(self):
        rows = [case(policy={"threads": 1, "steps": 1}, case_id="a"), case(policy={"threads": 1, "steps": 2}, case_id="b")]
        self.assertEqual(load.swept_policy(rows), ["steps"])
        self.assertEqual(load.swept_policy(suite_rows()), [])
        chosen = [case(solver="seq_fused", policy={"solver": choice, "threads": threads}, case_id=choice) for threads, choice in enumerate(("shooting", "newton_fused"))]
        self.assertEqual(load.swept_policy(chosen), ["threads"])

    def test_an_excused_skip_is_expected_and_another_is_not(self):
        self.assertTrue(load.expected(case(status="skipped", reason="memory: the case needs 9 GiB")))
        self.assertTrue(load.expected(case(status="skipped", reason="undefined combination: x")))
        self.assertFalse(load.expected(case(status="skipped", reason="no idea")))
        self.assertFalse(load.expected(case(status="wrong", reason="memory: x")))
        self.assertTrue(load.expected(case(status="wrong", expected_status="wrong")))


class Speedups(unittest.TestCase):
    def test_only_between_ok_rows(self):
        fast, slow = case("newton_fused"), case("seq_stepwise")
        self.assertEqual(load.speedup(fast, "seq_stepwise", [fast, slow])[0], 8)
        for status in load.STATUSES[1:]:
            self.assertIsNone(load.speedup({**fast, "status": status}, "seq_stepwise", [fast, slow]))
            self.assertIsNone(load.speedup(fast, "seq_stepwise", [fast, {**slow, "status": status}]))

    def test_no_ratio_is_made_up(self):
        fast = case("newton_fused", speedup={"seq_stepwise": None})
        self.assertIsNone(load.speedup(fast, "seq_stepwise", [fast, case("seq_stepwise")]))
        self.assertIsNone(load.speedup(fast, "seq_graph", [fast]))


def lines_of(fig):
    """[(xs, ys, marker, marker face, colour)] of the lines that carry marks and more than the legend's one or two points."""
    return [(line.get_xdata(), line.get_ydata(), line.get_marker(), line.get_markerfacecolor(), line.get_color()) for line in fig.get_children() if hasattr(line, "get_xdata")]


def hollow_points(fig):
    """Points drawn hollow, the legend's left out."""
    legend = 1 if any(getattr(t, "get_text", str)() == "hollow: not ok" for t in fig.get_children()) else 0
    return sum(len(xs) for xs, _, marker, face, tint in lines_of(fig) if marker not in ("", "None") and face == style.colour("surface")) - legend


def texts(fig):
    return [child.get_text() for child in fig.get_children() if hasattr(child, "get_text")]


class Figures(unittest.TestCase):
    def test_every_figure_is_drawn(self):
        for module in FIGURES:
            figures = module.draw(suite_rows())
            self.assertTrue(figures, module.title)
            for fig in figures:
                self.assertIn("<path", style.svg(fig))
                self.assertTrue(fig.heading and fig.caption)

    def test_nothing_to_draw_is_none(self):
        bare = [case(solver, n, time_s=None, residual_max=None, error=None, speedup={}) for n in (16, 64) for solver in TIMES]
        for module in FIGURES:
            self.assertIsNone(module.draw(bare), module.title)
            self.assertIsNone(module.draw([]), module.title)

    def test_rows_not_ok_are_hollow_and_others_are_not(self):
        for module in (time_vs_length, error_vs_length):
            self.assertEqual(hollow_points(module.draw(suite_rows())[0]), 0)
            figure = module.draw(spoilt(suite_rows(), 4))[0]
            self.assertEqual(hollow_points(figure), 1)
            self.assertIn("hollow: not ok", texts(figure))
        self.assertEqual(hollow_points(newton_residual.draw(spoilt(suite_rows(), 2, "not_converged"))[0]), 4)

    def test_a_wrong_row_is_in_no_speedup_figure(self):
        def points(rows):
            return sum(sum(y == y for y in ys) for fig in speedup_vs_length.draw(rows) for xs, ys, marker, _, _ in lines_of(fig) if marker not in ("", "None") and len(xs) > 1)
        whole = points(suite_rows())
        self.assertEqual(whole, 2 * 2 * 3 * 2)  # baselines x cells x lengths x solvers that are not the baseline
        self.assertEqual(points(spoilt(suite_rows(), 2)), whole - 2)  # newton_fused at one length: its two ratios
        self.assertEqual(points(spoilt(suite_rows(), 0)), whole - 3)  # seq_stepwise: its own ratio, and the two to it

    def test_speedup_names_its_baseline_in_the_title(self):
        self.assertEqual([fig.heading for fig in speedup_vs_length.draw(suite_rows())], ["Speedup against seq_stepwise over length", "Speedup against seq_fused over length"])

    def test_points_stand_where_their_values_are(self):
        rows = [case(solver, n) for n in (16, 64, 256) for solver in TIMES]
        fig = time_vs_length.draw(rows)[0]
        tint, marker = style.solver_look("seq_fused")
        ys = next(ys for xs, ys, m, _, c in lines_of(fig) if c == tint and m == marker and len(xs) == 3)
        self.assertAlmostEqual(ys[1] - ys[0], ys[2] - ys[1])  # 4 x longer, 4 x slower: equal steps on a log axis
        slow = next(ys for xs, ys, m, _, c in lines_of(fig) if c == style.solver_look("seq_stepwise")[0] and len(xs) == 3)
        self.assertAlmostEqual(slow[0], ys[1])  # 4 x slower at the same length = 4 x longer
        self.assertGreater(slow[0], ys[0])

    def test_lengths_fill_the_width_in_order(self):
        fig = time_vs_length.draw([case("seq_fused", n) for n in (16, 64, 256)])[0]
        xs = next(xs for xs, ys, m, _, _ in lines_of(fig) if m not in ("", "None") and len(xs) == 3)
        self.assertAlmostEqual(xs[1] - xs[0], xs[2] - xs[1])
        self.assertGreater(xs[2] - xs[0], 0.8 * (fig.get_size_inches()[0] - 1))
        labels = {child.get_text(): child.get_position()[0] for child in fig.get_children() if hasattr(child, "get_text")}
        self.assertAlmostEqual(labels["64"], xs[1])

    def test_lines_break_at_rows_that_are_not_ok(self):
        rows = spoilt([case("seq_fused", n) for n in (16, 64, 256)], 1)
        ys = next(ys for xs, ys, m, _, _ in lines_of(time_vs_length.draw(rows)[0]) if m not in ("", "None") and len(xs) == 3)
        self.assertEqual([y == y for y in ys], [True, False, True])

    def test_reference_lines_stand_at_their_values(self):
        def levels(fig, tint):
            """Heights of the panel-wide lines of a colour, the legend's left out (it is short)."""
            return [ys for xs, ys, m, _, c in lines_of(fig) if m in ("", "None") and c == tint and len(xs) >= 2 and xs[-1] - xs[0] > 1]
        rows = [dict(case("seq_fused", n), error_factor=3, error={"test_ratio": 3.0, "abs_max": 2.0**-24}) for n in (16, 64)]
        marks = lambda fig: next(ys for xs, ys, m, _, _ in lines_of(fig) if m not in ("", "None") and len(xs) == 2)
        ratio, absolute = error_vs_length.draw(rows)
        self.assertAlmostEqual(levels(ratio, style.colour("fail"))[0][0], marks(ratio)[0])  # an error at c stands on the line
        self.assertAlmostEqual(levels(absolute, style.colour("floor"))[0][0], marks(absolute)[0])
        even = [case("newton_fused", n, speedup={"seq_fused": {"ratio": 1, "ci95_low": 0.5, "ci95_high": 2}}) for n in (16, 64)]
        fig = speedup_vs_length.draw(even)[0]
        self.assertAlmostEqual(levels(fig, style.colour("floor"))[0][0], marks(fig)[0])
        full = [case("seq_fused", n, floor_s=TIMES["seq_fused"] * n) for n in (16, 64)]
        fig = time_vs_length.draw(full)[0]
        for at_floor, measured in zip(levels(fig, style.colour("floor"))[0], marks(fig)):
            self.assertAlmostEqual(at_floor, measured)
        level = [case("newton_fused", n, residual_max=[8 * 2.0**-24] * 2) for n in (16, 64)]
        fig = newton_residual.draw(level)[0]
        self.assertAlmostEqual(levels(fig, style.colour("floor"))[0][0], marks(fig)[0])

    def test_a_floor_far_below_does_not_flatten_the_picture(self):
        rows = [case("seq_fused", 16, floor_s=1e-15), case("seq_fused", 64, floor_s=2e-6)]
        self.assertEqual(time_vs_length.floor(None, rows, "seq_len"), [2e-6])

    def test_no_two_panels_mix_what_differs(self):
        rows = suite_rows() + suite_rows(storage="f64") + suite_rows(hidden=32)
        made, left_out, single = style.sheets(rows, "seq_len")
        self.assertFalse(left_out or single)
        panels = [panel for sheet in made for panel in sheet.panels()]
        self.assertEqual(len(panels), 6)
        self.assertEqual(sum(len(same) for _, same in panels), len(rows))
        for _, same in panels:
            self.assertFalse(load.varying(same, load.CONTEXT + ["batch", "hidden"]))

    def test_panels_left_out_are_named_and_unexpected_ones_are_not_left_out(self):
        rows = [row for d in range(1, 40) for row in (case("seq_fused", n, seed=d) for n in (16, 64))]
        rows[-1]["status"] = "wrong"
        made, left_out, _ = style.sheets(rows, "seq_len")
        shown = [row for sheet in made for _, same in sheet.panels() for row in same]
        self.assertEqual(len(shown) + 2 * len(left_out), len(rows))
        self.assertTrue(left_out)
        self.assertIn(rows[-1], shown)
        self.assertIn("left out", time_vs_length.draw(rows)[-1].caption)

    def test_hidden_size_is_the_axis_where_there_is_one_length(self):
        rows = [case(solver, 64, hidden=d) for d in (8, 32, 128) for solver in TIMES]
        self.assertEqual(style.x_axis(rows), "hidden")
        self.assertEqual(time_vs_length.draw(rows)[0].heading, "Time of a launch over hidden size")

    def test_without_an_axis_the_times_are_dots_and_it_is_said(self):
        fig = time_vs_length.draw([case(solver) for solver in TIMES])[0]
        self.assertIn("no length to run along", fig.caption)
        self.assertIn("newton_fused  8.00 µs", texts(fig))
        self.assertEqual(hollow_points(time_vs_length.draw(spoilt([case(solver) for solver in TIMES], 1))[0]), 1)

    def test_the_floor_the_pass_line_and_the_tolerance_are_drawn(self):
        self.assertIn("memory floor", texts(time_vs_length.draw(suite_rows())[0]))
        rows = [dict(row, error_factor=3) for row in suite_rows()]
        self.assertIn("passes up to c = 3", texts(error_vs_length.draw(rows)[0]))
        self.assertIn("c is at most 16", texts(error_vs_length.draw(suite_rows())[0]))
        self.assertEqual(newton_residual.tolerance(case()), 8 * 2.0**-24)
        self.assertEqual(newton_residual.tolerance(case(storage="bf16")), 8 * 2.0**-24)
        self.assertEqual(newton_residual.tolerance(case(storage="f64")), 8 * 2.0**-53)

    def test_newton_prefers_the_checked_run_and_keeps_its_gaps(self):
        rows = [case("newton_fused", iteration_limit=9, residual_max=[1] * 10), case("newton_fused", residual_max=[1.0, None, 1e-9])]
        self.assertEqual(newton_residual.one_a_line(rows, "seq_len"), [rows[1]])
        found = newton_residual.residuals(rows[1])
        self.assertTrue(found[1] != found[1] and found[0] == 1.0)

    def test_zero_has_a_tick_of_its_own_and_infinite_errors_stay_on_the_picture(self):
        residuals = newton_residual.draw(suite_rows())[0]  # ends at exactly 0
        self.assertIn("0", [text for text in texts(residuals) if text == "0"][2:])  # beside k = 0 of two panels
        self.assertIn("The lowest tick stands for exactly 0.", residuals.caption)
        rows = spoilt(suite_rows(), 4, error={"abs_max": 1e30, "test_ratio": 1e30})
        fig = error_vs_length.draw(rows)[0]
        self.assertIn("Points on the upper edge lie beyond it.", fig.caption)
        self.assertFalse([text for text in texts(fig) if "10²" in text])
        whole = error_vs_length.draw(suite_rows())[0]
        self.assertNotIn("upper edge", whole.caption)
        self.assertNotIn("exactly 0", whole.caption)

    def test_panels_stand_from_small_to_large_and_say_what_they_share(self):
        rows = suite_rows(hidden=64) + suite_rows(hidden=8)
        sheet, = style.sheets(rows, "seq_len")[0]
        self.assertEqual([[title for title, _ in line] for line in sheet.grid],
                         [[f"{cell} · B = 2, D = {d}" for d in (8, 64)] for cell in ("gru_diag", "lstm_cifg_diag")])
        self.assertEqual(sheet.common, "f32 · regime paper · forward")

    def test_bands_span_the_interval(self):
        rows = [case("seq_fused", n) for n in (16, 64)]
        fig = time_vs_length.draw(rows)[0]
        band, = [child for child in fig.get_children() if hasattr(child, "get_xy") and child is not fig.patch]
        tint, marker = style.solver_look("seq_fused")
        middle = next(ys for xs, ys, m, _, c in lines_of(fig) if c == tint and m == marker and len(xs) == 2)
        ys = sorted(y for _, y in band.get_xy()[:-1])
        self.assertTrue(ys[0] < middle[0] < ys[1] < ys[2] < middle[1] < ys[3])

    def test_a_lone_shape_stays_out_of_a_figure_of_lengths(self):
        rows = suite_rows() + [case("newton_fused", 1000, hidden=9)]
        self.assertEqual(len(texts(newton_residual.draw(rows)[0])), len(texts(newton_residual.draw(suite_rows())[0])))
        self.assertIn("1 row with no second length", newton_residual.draw(rows)[0].caption)
        self.assertIn("1 row with no second length", time_vs_length.draw(rows)[0].caption)
        lone = newton_residual.draw([case("newton_fused", 1000)])
        self.assertIn("L = 1000", texts(lone[0]))

    def test_a_few_long_newton_runs_do_not_squeeze_the_others(self):
        rows = suite_rows() + [case("newton_fused", 512, residual_max=[1.0] * 200)]
        fig = newton_residual.draw(rows)[0]
        self.assertIn("the longest to k = 199", fig.caption)
        self.assertNotIn("right edge", newton_residual.draw(suite_rows())[0].caption)
        self.assertEqual(max(len(xs) for xs, _, m, _, _ in lines_of(fig) if m not in ("", "None")), newton_residual.EDGE + 1)

    def test_solvers_differ_in_colour_and_marker_and_both_schemes_in_every_colour(self):
        looks = [style.solver_look(solver) for solver in load.SOLVERS]
        self.assertEqual(len({tint for tint, _ in looks}), len(looks))
        self.assertEqual(len({marker for _, marker in looks}), len(looks))
        self.assertEqual(len({light for light, _ in style.COLOURS.values()}), len(style.COLOURS))
        for light, dark in style.COLOURS.values():
            self.assertNotEqual(light, dark)

    def test_svg_has_text_variables_and_no_colour_of_its_own(self):
        for fig in [fig for module in FIGURES for fig in module.draw(spoilt(suite_rows(), 1))]:
            svg = style.svg(fig, "p")
            self.assertNotRegex(svg, r"(?:fill|stroke): #")
            self.assertIn("var(--ink)", svg)
            self.assertIn("var(--font)", svg)
            self.assertIn(">gru_diag", svg)
            self.assertNotIn("<style", svg)
            ids = re.findall(r' id="([^"]+)"', svg)
            self.assertEqual(len(ids), len(set(ids)))
            self.assertTrue(all(name.startswith("p") for name in ids))
        alone = style.svg(time_vs_length.draw(suite_rows())[0], standalone=True)
        self.assertIn("prefers-color-scheme:dark", alone)
        self.assertIn('xmlns="http://www.w3.org/2000/svg"', alone)

    def test_the_same_rows_give_the_same_bytes(self):
        self.assertEqual(*(style.svg(time_vs_length.draw(suite_rows())[0]) for _ in range(2)))


LENGTHS = (16, 64, 256, 1024)


def growing(power, solver="seq_fused", factor=lambda n: 1, lengths=LENGTHS, **more):
    return [case(solver, n, error={"abs_max": 1e-8 * n**power * factor(n), "test_ratio": 0.5}, **more) for n in lengths]


class ErrorLaws(Folder):
    def test_an_exact_law_comes_back_with_its_power(self):
        for power in (0, 0.5, 1, -0.25):
            law, = error_vs_length.error_laws(growing(power))
            for key in ("exponent", "ci95_low", "ci95_high"):
                self.assertAlmostEqual(law[key], power, 12)
            self.assertEqual((law["solver"], law["variant"], law["seq_len"]), ("seq_fused", "", list(LENGTHS)))
            self.assertEqual(law["case_ids"], [row["case_id"] for row in growing(power)])

    def test_the_interval_is_that_of_least_squares(self):
        # y = 0, 1, 0, 1 at x = 0, 1, 2, 3 (in logarithms of 4): slope 1/5, rest 4/5, spread 5; t of 2 degrees of freedom 4.303, so 4.303 sqrt(0.4 / 5).
        p, low, high = error_vs_length.power_law([(4**x, 4**y) for x, y in zip(range(4), (0, 1, 0, 1))])
        self.assertAlmostEqual(p, 0.2, 12)
        self.assertAlmostEqual(high - p, 4.303 * 0.08**0.5, 12)
        self.assertAlmostEqual(p - low, 4.303 * 0.08**0.5, 12)

    def test_the_interval_holds_the_power_in_95_of_100_draws(self):
        draws = random.Random(1)
        for count in (3, 5, 30):
            held = 0
            for _ in range(2000):
                _, low, high = error_vs_length.power_law([(2**i, 2**(0.5 * i) * math.exp(draws.gauss(0, 0.3))) for i in range(count)])
                held += low <= 0.5 <= high
            self.assertLess(abs(held / 2000 - 0.95), 5 * (0.95 * 0.05 / 2000)**0.5, count)  # five deviations of a count

    def test_students_quantiles_fall_to_the_normal_one(self):
        found = [error_vs_length.student_t(n) for n in range(1, 200)]
        self.assertEqual(found, sorted(found, reverse=True))
        for freedom, truth in ((1, 12.706), (4, 2.776), (10, 2.228), (11, 2.201), (20, 2.086), (30, 2.042), (60, 2.000), (120, 1.980)):
            self.assertLess(abs(error_vs_length.student_t(freedom) - truth), 0.003)

    def test_nothing_is_fitted_where_nothing_can_be(self):
        self.assertEqual(error_vs_length.error_laws([]), [])
        self.assertEqual(error_vs_length.error_laws(growing(1, lengths=(16,))), [])
        self.assertEqual(error_vs_length.error_laws(growing(1, lengths=(16, 64))), [])
        again = [dict(row, case_id=row["case_id"] + str(i)) for row in growing(1, lengths=(16, 64)) for i in range(5)]
        self.assertEqual(error_vs_length.error_laws(again), [])  # two lengths, however often
        self.assertEqual(error_vs_length.error_laws(growing(1, factor=lambda n: 0)), [])  # exact: no logarithm
        self.assertEqual(error_vs_length.error_laws([dict(row, error=None) for row in growing(1)]), [])
        self.assertIsNone(error_vs_length.power_law([(4, 1.0)] * 5))
        one = growing(1, lengths=(16,))
        page = self.page(one)
        self.assertNotIn("Growth of the error", page)
        self.assertEqual(report.verdicts(load.read([self.write(one)]), [])["error_laws"], [])

    def test_rows_that_are_not_ok_and_zeros_are_left_out(self):
        rows = growing(1, factor=lambda n: 1e6 if n == 64 else 1)
        rows[1]["status"] = "wrong"
        law, = error_vs_length.error_laws(rows)
        self.assertAlmostEqual(law["exponent"], 1, 12)
        self.assertEqual(law["seq_len"], [16, 256, 1024])
        rows[2]["error"]["abs_max"] = 0
        self.assertEqual(error_vs_length.error_laws(rows), [])

    def test_cells_storage_types_and_solvers_have_laws_of_their_own(self):
        rows = (growing(0) + growing(1, "newton_fused") + growing(0.5, storage="bf16") + growing(0.25, cell="lstm_cifg_diag") + growing(-1, regime="wide") +
                growing(2, "newton_fused", iteration_limit=3))
        found = {(law["facets"]["cell"], law["facets"]["storage"], law["facets"]["regime"], law["solver"], law["variant"]): round(law["exponent"], 9)
                 for law in error_vs_length.error_laws(rows)}
        self.assertEqual(found, {("gru_diag", "f32", "paper", "seq_fused", ""): 0, ("gru_diag", "f32", "paper", "newton_fused", ""): 1, ("gru_diag", "bf16", "paper", "seq_fused", ""): 0.5,
                                 ("lstm_cifg_diag", "f32", "paper", "seq_fused", ""): 0.25, ("gru_diag", "f32", "wide", "seq_fused", ""): -1,
                                 ("gru_diag", "f32", "paper", "newton_fused", "3 iterations, unchecked"): 2})

    def test_figure_page_and_verdicts_say_the_same(self):
        rows = growing(0.5, factor=lambda n: 1.5 if n in (64, 256) else 1) + growing(1, "newton_fused")
        law, exact = error_vs_length.error_laws(rows)
        self.assertLess(law["ci95_low"], 0.5)
        ratio, absolute = error_vs_length.draw(rows)
        said = f"error ∝ L^({law['exponent']:.2f} [{law['ci95_low']:.2f}, {law['ci95_high']:.2f}])".replace("-", "−")
        self.assertIn(said, texts(absolute))
        self.assertIn("error ∝ L^(1.00 [1.00, 1.00])", texts(absolute))
        self.assertFalse([text for text in texts(ratio) if "∝" in text])
        page = self.page(rows)
        self.assertIn(f'<td title="{law["exponent"]!r}">{law["exponent"]:.2f}</td><td>[{law["ci95_low"]:.2f}, {law["ci95_high"]:.2f}]</td><td>16, 64, 256, 1024</td>', page)
        self.assertEqual(page.count("Growth of the error with length"), 1)
        found = report.verdicts(load.read([self.write(rows)]), [])["error_laws"]
        self.assertEqual([(v["cell"], v["storage"], v["solver"], v["exponent"], v["ci95_high"], v["case_ids"]) for v in found],
                         [("gru_diag", "f32", one["solver"], one["exponent"], one["ci95_high"], one["case_ids"]) for one in (law, exact)])
        self.assertEqual(found, json.loads(json.dumps(found)))

    def test_over_hidden_size_there_is_no_law_of_length(self):
        rows = [row for d in (8, 32, 128, 512) for row in growing(1, lengths=(64,), hidden=d)]
        self.assertFalse([text for fig in error_vs_length.draw(rows) for text in texts(fig) if "∝" in text])


class Numbers(unittest.TestCase):
    def test_as_text(self):
        for value, text in ((1.234e-5, "12.3 µs"), (9.996e-4, "1.00 ms"), (9.99e-4, "999 µs"), (2.0, "2.00 s"), (3.1e-9, "3.10 ns"), (1e-10, "0.100 ns")):
            self.assertEqual(style.seconds(value), text)
        for value, text in ((9.996, "10.0"), (1234.5, "1230"), (0.012345, "0.0123"), (0, "0"), (99.95, "100")):
            self.assertEqual(style.significant(value), text, value)
        self.assertEqual(style.power(4.77e-7), "4.8·10⁻⁷")
        self.assertEqual(style.tick_power(1e-7), "10⁻⁷")
        self.assertEqual(style.times(41.234), "41.2×")
        self.assertEqual([style.size(n) for n in (9, 4096, 2**14, 65536, 2**19, 2**20, 2**24, 16385)], ["9", "4096", "16Ki", "64Ki", "512Ki", "1Mi", "16Mi", "16385"])

    def test_ticks_lie_within_the_axis(self):
        for low, high in ((1, 1.1), (0.3, 2), (0.5, 40), (1e-9, 1), (2e-7, 1e-2), (3, 3.2)):
            ticks = style.log_ticks(low, high)
            self.assertTrue(ticks and len(ticks) <= 7, (low, high, ticks))
            self.assertTrue(all(low * 0.999 <= tick <= high * 1.001 for tick in ticks), (low, high, ticks))


class Page(Folder):
    def test_is_self_contained_with_both_schemes(self):
        page = self.page(suite_rows())
        for address in re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^")\s>]+)', page):
            self.assertTrue(address.startswith("#"), address)
        self.assertNotIn("<script", page)
        self.assertNotIn("@import", page)
        self.assertEqual(page.count("prefers-color-scheme:dark"), 2)
        for name in ("page", "surface", "ink", "seq-fused"):
            found = re.findall(rf"--{name}:(#\w+)", page)
            self.assertEqual((len(found), len(set(found))), (2, 2), name)  # one for each scheme, and not the same
        used = set(re.findall(r"var\((--[\w-]+)\)", page))
        self.assertEqual(used - set(re.findall(r"(--[\w-]+):", page)), set())
        ids = re.findall(r' id="([^"]+)"', page)
        self.assertEqual(len(ids), len(set(ids)))

    def test_says_what_was_measured_on_what_and_what_came_out(self):
        page = self.page(suite_rows())
        for text in ("A synthetic suite &amp; its title", "All 18 cases came out as the suite expects.", "synthetic cpu", "c0ffee012345", "--only a&lt;b", "2001-01-01T00:00:00Z",
                     "gru_diag, lstm_cifg_diag", "L\u00a0=\u00a016, 64, 256", "against seq_stepwise: up to", "10.0 GB/s"):
            self.assertIn(text, page)

    def test_a_dirty_commit_is_said(self):
        self.assertNotIn("uncommitted", self.page(suite_rows()))
        self.assertIn("with uncommitted changes", self.page(suite_rows(), head=provenance(dirty=True)))

    def test_numbers_are_the_records(self):
        rows = suite_rows()
        page = self.page(rows)
        for row in rows:
            self.assertIn(f'title="{row["time_s"]["median"]!r} s, 95 % from {row["time_s"]["ci95_low"]!r} to {row["time_s"]["ci95_high"]!r} s, 40 samples"', page)
            self.assertIn(style.seconds(row["time_s"]["median"]), page)
            self.assertIn(f'<td title="{row["error"]["test_ratio"]!r}">', page)
        for _, ratio in ((0, 8.0), (1, 2.0), (2, 0.25)):
            self.assertIn(f'<td title="{ratio!r}, 95 % from', page)
        self.assertEqual(page.count("<td title=\"3\">3</td>"), sum(row["iterations"] == 3 for row in rows))

    def test_unexpected_rows_come_first_with_their_reasons(self):
        page = self.page(spoilt(suite_rows(), 5))
        self.assertIn("1 of 18 cases differs from what the suite expects.", page)
        self.assertIn('class="verdict bad"', page)
        self.assertLess(page.index("error 7 x its bound"), page.index("What was measured"))
        self.assertIn(">17 ok<", page)
        self.assertIn(">1 wrong<", page)

    def test_wrong_numbers_are_listed_before_the_rest(self):
        rows = spoilt(spoilt(suite_rows(), 1, "skipped", reason="no excuse"), 9)
        page = self.page(rows)
        self.assertLess(page.index("error 7 x its bound"), page.index("no excuse"))
        self.assertIn("2 of 18 cases differ from", page)

    def test_a_table_row_has_interval_speedups_iterations_error_and_status(self):
        page = self.page([case(solver, n) for n in (16, 64) for solver in TIMES])
        row = next(line for line in re.findall(r"<tr.*?</tr>", page) if "newton_fused</td>" in line)
        cells = re.findall(r"<td[^>]*>(.*?)</td>", row)
        self.assertEqual([re.sub(r"<[^>]*>", "", text) for text in cells], ["", "newton_fused", "ok", "8.00 µs [7.84, 8.24]", "2.0 %", "8.00×", "2.00×", "3", "0.75", "1.5·10⁻⁷"])
        self.assertIn('<td class="muted">baseline</td>', next(line for line in re.findall(r"<tr.*?</tr>", page) if "seq_fused</td>" in line))

    def test_the_table_names_what_auto_chose(self):
        page = self.page([case(), dict(case(policy={"solver": "shooting"}, case_id="b"), solver="auto")])
        names = [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r'<td class="text">(.*?)</td>', page)]
        self.assertIn("auto chose shooting", names)
        self.assertNotIn("chose", page.replace("auto <small>chose shooting</small>", ""))

    def test_a_missing_number_says_why(self):
        page = self.page(spoilt(suite_rows(), 5, "timeout", time_s=None, null_reasons={"time_s": "ran out of time"}))
        self.assertIn('<td class="muted" title="ran out of time">—</td>', page)

    def test_expected_failures_are_no_alarm(self):
        page = self.page(spoilt(suite_rows(), 5, expected_status="wrong"))
        self.assertIn("All 18 cases came out as the suite expects.", page)
        self.assertIn("1 wrong, as expected", page)
        self.assertNotIn('class="verdict bad"', page)

    def test_a_row_that_is_not_ok_shows_no_speedup_and_is_never_the_fastest(self):
        rows = [case(solver, n) for n in (16, 64) for solver in TIMES]
        page = self.page(spoilt(rows, 5))  # newton_fused at the largest length
        ratio = rows[5]["speedup"]["seq_stepwise"]["ratio"]
        self.assertEqual(page.count(f'<td title="{ratio!r}, 95 % from'), 1)
        best = re.findall(r'<td title="([^" ]+) s"><span class=best>', page)
        self.assertEqual(best, [repr(rows[4]["time_s"]["median"])])

    def test_the_best_speedup_is_the_largest(self):
        rows = suite_rows()
        rows[8]["speedup"]["seq_stepwise"]["ratio"] = 77.5
        self.assertIn('against seq_stepwise: up to <b title="77.5">77.5×</b> by newton_fused', self.page(rows))

    def test_iterations_and_worst_error_span_the_ok_rows(self):
        rows = suite_rows()
        rows[2]["iterations"], rows[8]["iterations"], rows[4]["error"]["test_ratio"] = 2, 5, 1.25
        rows += [case("newton_fused", 512, iterations=99, status="not_converged", error={"test_ratio": 9e9}), case("newton_fused", 512, iteration_limit=50, iterations=50)]
        page = self.page(rows)
        self.assertIn('Newton iterations: <b>2 to 5</b> <span class="muted">(median 3)</span>', page)
        self.assertIn('largest error of an ok row: <b title="1.25">1.2</b> of its bound <span class="muted">(passes up to c = 3)</span>', page)

    def test_text_of_the_record_cannot_become_markup(self):
        page = self.page(spoilt(suite_rows(), 3, reason="<script>x</script>"), head=provenance(suite={"path": "s.toml", "sha256": "", "text": 'title = "<b>t</b>"'}))
        self.assertNotIn("<script", page)
        self.assertNotIn("<b>t</b>", page)

    def test_skipped_verified_only_and_empty_records_make_a_page(self):
        self.assertIn("largest error of an ok row", self.page([case(n, l, time_s=None, speedup={}) for n in TIMES for l in (4, 8)]))
        self.assertIn("All 2 cases came out", self.page([case(n, status="skipped", reason="memory: x", time_s=None, speedup={}, error=None, residual_max=None) for n in ("seq_fused", "newton_fused")]))
        self.assertIn("The record holds no case.", self.page([]))

    def test_a_solver_skipped_everywhere_has_no_column_and_is_named(self):
        page = self.page(suite_rows() + [{**case("seq_stepwise"), "solver": "shooting", "case_id": "s", "status": "skipped", "reason": "undefined combination: x", "time_s": None, "speedup": {}}])
        self.assertIn("(skipped in every case: shooting)", page)
        self.assertIn("<b>3 solvers</b>: seq_stepwise, seq_fused, newton_fused", page)
        self.assertNotIn("shooting", re.search(r'<table class="grand">.*?</table>', page)[0])

    def test_an_error_says_how_much_of_it_a_fixed_count_has_left(self):
        page = self.page([case("newton_fused", iteration_limit=3, truncation={"truncation_max": 0.25, "rounding_max": 1e-7}), case("seq_fused")])
        self.assertEqual(page.count('<td title="1.5e-07: stopped early 0.25, rounding 1e-07">'), 1)
        self.assertEqual(page.count("stopped early"), 1)

    def test_missing_provenance_fields_are_dashes(self):
        page = page_of(self.write(suite_rows(), head={"record": "provenance", "schema": 1}))
        self.assertIn("commit unknown", page)


class Program(Folder):
    def test_report_writes_page_and_verdicts_and_prints_the_path(self):
        done = self.run_script("report.py", self.write(suite_rows()), "--out", self.folder / "new" / "place")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, str(self.folder / "new/place/synthetic.html") + "\n", ""))
        verdicts = json.loads((self.folder / "new/place/verdicts.json").read_text())
        self.assertEqual(verdicts["schema"], 1)
        self.assertEqual(verdicts["records"], [str(self.folder / "synthetic.jsonl")])
        self.assertEqual([v["id"] for v in verdicts["verdicts"]], [f"C{n:02d}" for n in range(1, 17)])
        self.assertEqual(verdicts["verdicts"], claims.judge(load.read([self.folder / "synthetic.jsonl"])))
        self.assertTrue(all(v["reason"] for v in verdicts["verdicts"]))

    def test_bad_input_is_64_and_one_line(self):
        path = self.write(suite_rows())
        (self.folder / "bad.jsonl").write_text("no\n")
        (self.folder / "file").write_text("")
        for arguments in (["absent.jsonl"], ["bad.jsonl"], [], [path, "--no-such-flag"], [path, "--out", self.folder / "file" / "in"]):
            out, err = io.StringIO(), io.StringIO()
            before, sys.argv = sys.argv, ["report.py", *map(str, arguments)]
            try:
                with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                    code = report.main()
            except SystemExit as stop:
                code = stop.code
            finally:
                sys.argv = before
            self.assertEqual((code, out.getvalue(), err.getvalue().count("\n")), (64, "", 1), arguments)

    def test_a_figure_works_alone(self):
        done = self.run_script("speedup_vs_length.py", self.write(suite_rows()), "--out", "x.svg")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "x.svg\nx-2.svg\n", ""))
        self.assertIn("Speedup against seq_fused", (self.folder / "x-2.svg").read_text())


if __name__ == "__main__":
    unittest.main()
