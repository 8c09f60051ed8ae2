"""Tests of the figures of the paper and beyond it, on synthetic records: python3 plots/test_paper.py"""

import json
import math
import pathlib
import subprocess
import sys
import tempfile
import unittest

import matplotlib.colors

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import claims  # noqa: E402
import crossover  # noqa: E402
import fig1  # noqa: E402
import fig2_left  # noqa: E402
import fig2_right  # noqa: E402
import fig4  # noqa: E402
import fig5  # noqa: E402
import fig6  # noqa: E402
import fig7_8  # noqa: E402
import load  # noqa: E402
import paper  # noqa: E402
import report  # noqa: E402
import style  # noqa: E402
import time_against_error  # noqa: E402
import waterfall  # noqa: E402
import weight_scale  # noqa: E402
from test_claims import row as untimed  # noqa: E402

SHAPES = paper.SHAPES


def row(solver, time_s=1e-6, cell="gru_diag", shape=(1, 64), seq_len=512, **more):
    """As the claims' tests have it, with a minimum below its median and a floor."""
    found = untimed(solver, time_s, cell, shape, seq_len, **{"error": {"abs_max": 1e-7, "test_ratio": 0.5}, "floor_s": 1e-8, **more})
    found["time_s"] = found["time_s"] and {**found["time_s"], "min": 0.5 * found["time_s"]["median"]}
    return found


def grid(solvers, lengths, shapes=SHAPES, cells=tuple(paper.CELLS), **more):
    return [row(solver, 1e-6 * (1 + i), cell, shape, n, **more) for i, solver in enumerate(solvers) for cell in cells for shape in shapes for n in lengths]


def lines_of(fig):
    """[(xs, ys, marker, face, colour)] of marked lines, the legend's left out (it has one point)."""
    return [(list(line.get_xdata()), list(line.get_ydata()), line.get_marker(), line.get_markerfacecolor(), line.get_color()) for line in fig.get_children()
            if hasattr(line, "get_xdata") and line.get_marker() not in ("", "None", None)]


def texts(fig):
    return [child.get_text() for child in fig.get_children() if hasattr(child, "get_text")]


def panels(fig):
    return [text for text in texts(fig) if " · B = " in text or text in ("gru_diag", "lstm_cifg_diag", "diag", "2x2")]


def points(fig, solver):
    """Numbers of points of a solver's lines, panels in order, its own mark in the legend left out."""
    tint, marker = style.solver_look(solver)
    return [sum(y == y for y in ys) for xs, ys, found, _, colour in lines_of(fig) if (found, colour) == (marker, tint)][1:]


def hollow(fig):
    return sum(len(xs) for xs, _, _, face, _ in lines_of(fig) if face == style.colour("surface")) - sum(text == "hollow: not ok" for text in texts(fig))


class Rows(unittest.TestCase):
    def test_of_the_papers_protocol_alone_right_or_not(self):
        good = row("auto")
        self.assertEqual(len(paper.timed([good, {**good, "case_id": "b", "status": "wrong"}])), 2)
        for more in ({"op": "reduction"}, {"pass": "both"}, {"storage": "bf16"}, {"regime": "wide"}, {"weight_std": 1.0}, {"gates": "approx"}, {"scope": "layer"}, {"cache": "hot"},
                     {"iteration_limit": 3}, {"batch": 2}, {"hidden": 65}, {"time_s": None}, {"time_s": {"median": 1.0}}):
            self.assertEqual(paper.timed([{**good, **more}]), [], more)

    def test_the_same_case_of_two_records_counts_once(self):
        first, second = row("auto", 1.0), row("auto", 2.0)
        found = paper.timed([{**first, "record_file": "a"}, {**second, "record_file": "b"}])
        self.assertEqual([(r["time_s"]["median"], "record_file" in r) for r in found], [(1.0, False)])

    def test_the_time_is_the_minimum(self):
        self.assertEqual(paper.minimum(row("auto", 2.0)), (1.0, None, None))

    def test_a_yardstick_stands_in_every_panel_by_its_own_name(self):
        rows = [row("auto", cell=cell) for cell in paper.CELLS]
        found = paper.beside(rows, [row("auto", cell="linear_diag", policy={"solver": "shooting"})])
        self.assertEqual([(r["solver"], r["cell"], r["policy"]) for r in found[2:]], [("linear_diag", cell, {}) for cell in paper.CELLS])


class Figures(unittest.TestCase):
    def check(self, figures, headings):
        self.assertEqual([fig.heading for fig in figures], headings)
        for fig in figures:
            self.assertIn("<path", style.svg(fig))
            self.assertTrue(fig.caption)

    def test_nothing_to_draw_is_none_and_its_command_is_known(self):
        for module in report.PAPER + report.BEYOND:
            self.assertIsNone(module.draw([]), module.title)
            self.assertIsNone(module.draw([row("auto")]), module.title)
            for command in style.commands(module):
                suite = command.split()[2]
                self.assertTrue((HERE.parent / suite).exists(), suite)
            self.assertTrue(style.commands(module))

    def test_fig1_has_the_papers_lengths_and_marks_the_speedup_with_its_baselines(self):
        rows = grid(["seq_stepwise", "seq_fused", "newton_fused"], [2, 4, 512, 1024])
        for r in rows:
            if r["solver"] == "seq_stepwise":
                r["time_s"]["min"] = 100 * 1.5e-6
            if r["solver"] == "seq_fused":
                r["time_s"]["min"] = 0.25 * 1.5e-6
        figures = fig1.draw(rows)
        self.check(figures, ["Figure 1: forward time over length"])
        self.assertEqual(len(panels(figures[0])), 8)
        self.assertEqual(points(figures[0], "newton_fused"), [2] * 8)
        self.assertEqual(texts(figures[0]).count("newton_fused at L = 512: 100× over seq_stepwise"), 8)
        self.assertEqual(texts(figures[0]).count("newton_fused at L = 512: 0.25× over seq_fused"), 8)
        wrong = [{**r, "status": "wrong"} if r["solver"] == "newton_fused" else r for r in rows]
        self.assertFalse([text for text in texts(fig1.draw(wrong)[0]) if "over seq" in text])
        self.assertEqual(hollow(fig1.draw(wrong)[0]), 16)
        self.assertEqual(hollow(figures[0]), 0)

    def test_fig2_left_is_of_reductions_with_linear_cells_in_each_panel(self):
        rows = [row(solver, cell=None, seq_len=n, op="reduction", jacobian=jacobian) for solver in ("scan_stepwise", "auto") for n in (4, 4096) for jacobian in ("diag", "2x2")]
        figures = fig2_left.draw(rows + [row("auto", cell="linear_diag", seq_len=n) for n in (4, 4096)])
        self.check(figures, ["Figure 2 left: time of the reduction over length"])
        self.assertIn("linear_diag", texts(figures[0]))
        self.assertEqual(points(figures[0], "linear_diag"), [2, 2])
        self.assertEqual(points(figures[0], "auto"), [2, 2])
        self.assertIsNone(fig2_left.draw(grid(["auto"], [4, 4096])))

    def test_fig2_right_needs_both_newtons_beyond_figure_1(self):
        rows = grid(["newton_unfused", "newton_fused", "auto", "seq_stepwise"], [512, 1024])
        figures = fig2_right.draw(rows + [row("auto", cell="linear_diag", shape=shape, seq_len=n) for shape in SHAPES for n in (512, 1024)])
        self.check(figures, ["Figure 2 right: forward time of a cell over length"])
        self.assertEqual(points(figures[0], "linear_diag"), [2] * 8)
        self.assertNotIn("seq_stepwise", texts(figures[0]))
        self.assertIsNone(fig2_right.draw([r for r in rows if r["seq_len"] <= 512]))
        for solver in ("newton_unfused", "newton_fused"):
            self.assertIsNone(fig2_right.draw([r for r in rows if r["solver"] != solver]))

    def test_fig4_is_of_fixed_counts_of_one_seed_to_ten_iterations(self):
        rows = [row("newton_fused", cell=cell, shape=(8, 1024), seq_len=n, regime=regime, iteration_limit=limit, seed=seed, residual_max=[0.5 / 10**k for k in range(count + 1)], time_s=None)
                for cell in paper.CELLS for n in (256, 2048) for regime in ("paper", "public") for seed in (1, 2) for limit, count in (("adaptive", 4), (3, 3), (12, 12))]
        figures = fig4.draw(rows)
        self.check(figures, ["Figure 4: residual per iteration, newton_fused"])
        self.assertIn("Figure 4: residual per iteration, newton_fused", texts(figures[0]))
        curves = [xs for xs, _, _, _, _ in lines_of(figures[0]) if len(xs) > 1]
        self.assertEqual([len(xs) for xs in curves], [11] * 8)
        self.assertIn("seed 1 of 2", figures[0].caption)

    def test_fig5_and_fig6_go_beyond_figure_1(self):
        solvers = ["seq_stepwise", "newton_unfused", "newton_fused"]
        self.check(fig5.draw(grid(solvers, [512, 1024])), ["Figure 5: forward time over length"])
        self.assertIsNone(fig5.draw(grid(solvers, [256, 512])))
        both = {"pass": "both", "grad": "squares"}
        figures = fig6.draw(grid(solvers, [512, 1024], **both) + [row("auto", cell="linear_diag", seq_len=n, **both) for n in (512, 1024)])
        self.check(figures, ["Figure 6: forward and backward time over length"])
        self.assertEqual(points(figures[0], "linear_diag"), [2, 2])
        self.assertIsNone(fig6.draw(grid(solvers, [256, 512], **both)))
        self.assertIsNone(fig6.draw(grid(solvers, [512, 1024], **{"pass": "both"})))

    def test_fig7_and_fig8_have_a_line_a_chunk(self):
        swept = lambda chunks, **more: [row("newton_fused", policy={"threads": n, "steps_a_thread": c}, seq_len=n, case_id=f"{n}/{c}/{more}", **more) for n in (256, 512) for c in chunks]
        reduction = [{**r, "solver": "reduction", "op": "reduction", "cell": None, "jacobian": "diag", "group_id": f"r{r['seq_len']}"} for r in swept((1, 2), cell="x")]
        figures = fig7_8.draw(swept((1, 2, 4)) + reduction)
        self.check(figures, ["Figure 7: time of the reduction by chunk size over length", "Figure 8: forward time of fused Newton by chunk size over length"])
        self.assertEqual([text for text in texts(figures[1]) if "steps" in text], [f"newton_fused (steps_a_thread {c})" for c in (1, 2, 4)])
        self.check(fig7_8.draw(swept((1, 2))), ["Figure 8: forward time of fused Newton by chunk size over length"])
        self.assertIsNone(fig7_8.draw(swept((2,))))


class Waterfall(unittest.TestCase):
    def rows(self, **more):
        return [row(solver, time_s, width=0, **more) for solver, time_s in (("auto", 2e-6), ("torch_eager", 8e-2), ("seq_stepwise", 1e-3), ("newton_fused", 1e-5))]

    def test_the_factors_multiply_to_the_whole(self):
        steps = waterfall.ladder(self.rows())
        self.assertEqual([step[0] for step in steps], ["torch_eager", "seq_stepwise", "newton_fused", "auto", "floor"])
        self.assertIsNone(steps[0][2])
        self.assertAlmostEqual(math.prod(step[2][0] for step in steps[1:]), 8e-2 / 1e-8, delta=1)
        for expected, step in zip((80, 100, 5, 200), steps[1:]):
            self.assertAlmostEqual(step[2][0], expected)
        self.assertEqual(waterfall.whole(steps), "8000000× in all")

    def test_intervals_are_those_of_the_ratios(self):
        steps = waterfall.ladder([row("seq_stepwise", 6.0, width=0.1), row("auto", 2.0, width=0.1)])
        self.assertAlmostEqual(steps[1][2][1], 5.4 / 2.2)
        self.assertAlmostEqual(steps[1][2][2], 6.6 / 1.8)
        self.assertAlmostEqual(steps[2][2][1] * 1e-8, 1.8)
        self.assertIn("3.00× [2.45, 3.67]", waterfall.text(*steps[1][:3]))

    def test_a_wrong_rung_gives_and_takes_no_factor(self):
        rows = self.rows()
        rows[3]["status"] = "wrong"
        steps = waterfall.ladder(rows)
        self.assertIsNone(steps[2][2])
        self.assertAlmostEqual(steps[3][2][0], 500)
        self.assertEqual(hollow(waterfall.draw(rows)[0]), 1)
        rows[1]["status"] = "wrong"
        self.assertIsNone(waterfall.ladder(rows)[1][2])
        self.assertEqual(waterfall.whole(waterfall.ladder(rows)), "100000× in all")

    def test_a_panel_a_cell_and_shape_of_one_length(self):
        figure, = waterfall.draw(self.rows() + self.rows(shape=(8, 256)) + self.rows(cell="lstm_cifg_diag") + self.rows(seq_len=256) + self.rows(cell="elman_diag"))
        self.assertEqual(figure.heading, "Waterfall: from torch_eager to the floor")
        self.assertIn("gru_diag · B = 8, D = 256 · 8000000× in all", texts(figure))
        self.assertEqual(sum("in all" in text for text in texts(figure)), 3)
        self.assertIsNone(waterfall.draw(self.rows(seq_len=256)))
        self.assertIsNone(waterfall.draw(self.rows()[:1]))


    def test_bars_end_at_their_times_in_the_solvers_colours(self):
        figure, = waterfall.draw(self.rows())
        bars = [(patch.get_facecolor(), patch.get_xy()) for patch in figure.get_children() if patch.__class__.__name__ == "Polygon"]
        tints = [style.solver_look(solver)[0] for solver in ("torch_eager", "seq_stepwise", "newton_fused", "auto")] + [style.colour("floor")]
        self.assertEqual([matplotlib.colors.to_hex(tint) for tint, _ in bars], tints)
        starts, ends = [corners[:, 0].min() for _, corners in bars], [corners[:, 0].max() for _, corners in bars]
        self.assertEqual(len({round(start, 6) for start in starts}), 1)
        decade = (ends[0] - ends[1]) / math.log10(80)
        self.assertAlmostEqual(ends[1] - ends[2], 2 * decade)
        self.assertAlmostEqual(ends[3] - ends[4], math.log10(200) * decade)
        self.assertGreater(ends[4], starts[4])
        heights = [corners[:, 1] for _, corners in bars]
        for above, below in zip(heights, heights[1:]):
            self.assertLess(below.max(), above.min())

    def test_the_heading_names_the_slowest_rung_of_any_panel(self):
        figure, = waterfall.draw(self.rows() + [r for r in self.rows(shape=(8, 256)) if r["solver"] != "torch_eager"])
        self.assertEqual(figure.heading, "Waterfall: from torch_eager to the floor")

    def test_a_rung_without_an_interval_is_left_out(self):
        rows = self.rows()
        rows[2]["time_s"] = {"median": 1e-3, "min": 1e-3}
        self.assertEqual([step[0] for step in waterfall.ladder(rows)], ["torch_eager", "newton_fused", "auto", "floor"])


class Crossover(unittest.TestCase):
    def test_squares_stand_at_their_lengths_and_channels(self):
        rows = [row(solver, time_s, shape=shape, seq_len=n, width=0) for solver, time_s in (("seq_fused", 3.0), ("shooting", 2.0)) for shape in ((1, 64), (8, 256), (8, 1024)) for n in (64, 128, 512)]
        figure, = crossover.draw(rows)
        boxes = [patch.get_xy() for patch in figure.get_children() if patch.__class__.__name__ == "Polygon"]
        lefts = sorted({round(box[:, 0].min(), 6) for box in boxes})
        bottoms = sorted({round(box[:, 1].min(), 6) for box in boxes})
        self.assertEqual((len(boxes), len(lefts), len(bottoms)), (9, 3, 3))
        self.assertAlmostEqual((lefts[2] - lefts[1]) / (lefts[1] - lefts[0]), 2, 4)
        self.assertAlmostEqual((bottoms[1] - bottoms[0]) / (bottoms[2] - bottoms[1]), 2.5, 4)
        self.assertAlmostEqual(boxes[0][:, 0].max() - boxes[0][:, 0].min(), lefts[1] - lefts[0], 4)
        rows[0]["time_s"] = {"median": 1e-9}
        self.assertEqual(len(crossover.winners(rows)), 8)

    def test_the_fastest_right_solver_and_the_next(self):
        rows = [row("seq_fused", 3.0), row("newton_fused", 2.0), row("auto", 1.0), row("shooting", 1.5, status="wrong")]
        (place, (solver, ratio)), = crossover.winners(rows).items()
        self.assertEqual((place, solver), ((64, 512), "newton_fused"))
        self.assertAlmostEqual(ratio[0], 1.5)
        self.assertAlmostEqual(ratio[1], 1.5 * 0.99 / 1.01)
        self.assertEqual(crossover.winners(rows[1:3]), {})

    def test_batches_with_as_many_channels_are_not_mixed(self):
        rows = [row("seq_fused", 3.0, shape=(8, 256)), row("newton_fused", 2.0, shape=(8, 256)), row("seq_fused", 1.0, shape=(2, 1024))]
        self.assertAlmostEqual(crossover.winners(rows)[2048, 512][1][0], 1.5)

    def test_drawn_where_channels_and_lengths_vary_and_pale_without_a_shown_winner(self):
        rows = [row(solver, time_s, shape=shape, seq_len=n) for solver, time_s in (("seq_fused", 3.0), ("shooting", 2.0)) for shape in ((1, 64), (8, 256)) for n in (64, 512)]
        tie = [r for r in rows if r["hidden"] == 64 and r["seq_len"] == 64]
        tie[1]["time_s"] = {**tie[0]["time_s"], "median": 2.99}
        figure, = crossover.draw(rows)
        boxes = [patch for patch in figure.get_children() if patch.__class__.__name__ == "Polygon"]
        self.assertEqual(sorted(patch.get_alpha() for patch in boxes), [0.18, 0.55, 0.55, 0.55])
        self.assertEqual(texts(figure).count("1.5"), 3)
        self.assertEqual(texts(figure).count("1.0"), 1)
        self.assertIsNone(crossover.draw([r for r in rows if r["hidden"] == 64]))
        self.assertIsNone(crossover.draw([r for r in rows if r["seq_len"] == 64]))
        self.assertIsNone(crossover.draw([{**r, "seq_len": r["seq_len"] - 1} for r in rows]))


class TimeAgainstError(unittest.TestCase):
    def rows(self):
        return [row("newton_fused", time_s, storage=storage, iteration_limit=limit, gates=gates, status=status, error={"abs_max": error}, case_id=str(time_s)) for time_s, error, storage, limit, gates, status in (
            (1.0, 1e-2, "f32", 1, "exact", "wrong"), (2.0, 1e-7, "f32", "adaptive", "exact", "ok"), (4.0, 1e-15, "f64", "adaptive", "exact", "ok"),
            (1.5, 1e-3, "bf16", "adaptive", "approx", "ok"), (3.0, 1e-6, "f16", "adaptive", "exact", "ok"))]

    def test_the_front_is_what_no_other_beats_in_both(self):
        self.assertEqual([r["time_s"]["median"] for r in time_against_error.front(self.rows())], [4.0, 2.0, 1.5, 1.0])
        self.assertEqual([r["time_s"]["median"] for r in time_against_error.front([row("a", 2.0), row("b", 1.0), row("c", 3.0)])], [1.0])

    def test_wrong_rows_are_hollow_and_not_on_the_front(self):
        figure, = time_against_error.draw(self.rows())
        self.assertEqual(hollow(figure), 1)
        front = next(line for line in figure.get_children() if hasattr(line, "get_xdata") and len(line.get_xdata()) == 3 and line.get_color() == style.colour("floor"))
        self.assertEqual(len(front.get_xdata()), 3)
        self.assertIn("1", texts(figure))
        self.assertIn("approx", texts(figure))

    def test_needs_storage_types_and_counts_of_one_size(self):
        self.assertIsNone(time_against_error.draw([r for r in self.rows() if r["storage"] == "f32"]))
        self.assertIsNone(time_against_error.draw([r for r in self.rows() if r["iteration_limit"] == "adaptive"]))
        self.assertIsNone(time_against_error.draw([{**r, "hidden": i} for i, r in enumerate(self.rows(), 1)]))
        self.assertIsNone(time_against_error.point(row("auto", error={"abs_max": 0.0})))


class WeightScale(unittest.TestCase):
    def test_iterations_boundaries_and_error_over_the_scale(self):
        rows = [row(solver, weight_std=scale, iteration_limit=limit, iterations=3 if limit == 3 else 5 if solver == "newton_fused" else None,
                    boundaries=8 if solver == "shooting" else None, boundaries_failed=2 if solver == "shooting" else None, status="wrong" if limit == 3 and scale > 0.1 else "ok",
                    error={"test_ratio": 1e4 if limit == 3 and scale > 0.1 else 0.5}, error_factor=16.0)
                for scale in (0.02, 0.5, 4) for solver, limit in (("newton_fused", "adaptive"), ("newton_fused", 3), ("shooting", "adaptive"))]
        iterations, boundaries, errors = weight_scale.draw(rows)
        self.assertEqual([fig.heading for fig in (iterations, boundaries, errors)], ["Newton iterations over weight scale", "Boundaries that fail over weight scale", "Error against its bound over weight scale"])
        self.assertEqual(hollow(iterations), 2)
        self.assertEqual(hollow(errors), 2)
        self.assertEqual(hollow(boundaries), 0)
        self.assertEqual(weight_scale.failed(rows[2]), (0.25, None, None))
        self.assertIsNone(weight_scale.failed({**rows[2], "boundaries": 0}))
        self.assertIsNone(weight_scale.failed({**rows[2], "boundaries_failed": None}))
        self.assertEqual(weight_scale.failed({**rows[2], "boundaries_failed": 0}), (0.0, None, None))
        self.assertIn("passes up to c = 16", texts(errors))
        xs = next(xs for xs, ys, marker, _, _ in lines_of(iterations) if len(xs) == 3)
        self.assertAlmostEqual((xs[1] - xs[0]) / (xs[2] - xs[0]), math.log(0.5 / 0.02) / math.log(4 / 0.02))
        self.assertIsNone(weight_scale.draw([{**r, "weight_std": None} for r in rows]))


class Page(unittest.TestCase):
    def records(self, suite, rows):
        return load.Records([{"path": "r.jsonl", "provenance": {"suite": {"path": f"suites/paper/{suite}.toml", "text": ""}}, "rows": rows, "truncated": False}])

    def page(self, suite, rows):
        records = self.records(suite, rows)
        return report.page(records, claims.judge(records))

    def headings(self, page):
        return [part.split('"')[0] for part in page.split('aria-label="')[1:]]

    def test_a_figure_of_the_paper_is_drawn_from_its_suite_in_place_of_the_general_one(self):
        rows = grid(["seq_stepwise", "newton_fused"], [4, 16, 64, 512])
        found = self.headings(self.page("fig1", rows))
        self.assertEqual(found[0], "Figure 1: forward time over length")
        self.assertIn("Crossover map: the fastest solver", found)
        self.assertNotIn("Time of a launch over length", found)
        self.assertIn("Error against its bound over length", found)
        found = self.headings(self.page("quick", rows))
        self.assertNotIn("Figure 1: forward time over length", found)
        self.assertIn("Time of a launch over length", found)

    def test_figures_without_records_say_which_command_makes_them(self):
        rows = grid(["seq_stepwise", "newton_fused"], [4, 512])
        page = self.page("fig1", rows)
        self.assertIn("figure 6: <code>./prnn run suites/paper/fig6.toml --device cuda</code>", page)
        self.assertNotIn("<li>figure 1:", page)
        self.assertNotIn("which command makes them", self.page("quick", rows))

    def test_claims_stand_before_the_figures_where_one_is_judged_else_last(self):
        rows = grid(["seq_stepwise", "newton_fused"], [4, 512])
        page = self.page("fig1", rows)
        self.assertLess(page.index("Claims of the paper"), page.index("<h2>Figures</h2>"))
        self.assertEqual(page.count("Claims of the paper"), 1)
        page = self.page("quick", grid(["seq_graph"], [4, 256]))
        self.assertGreater(page.index("Claims of the paper"), page.index("All rows"))
        self.assertEqual(page.count("Claims of the paper"), 1)
        self.assertEqual(self.page("fig1", []).count("Claims of the paper"), 1)

    def test_a_claim_shows_verdict_value_interval_parts_and_weak_baseline(self):
        rows = [row("torch_eager", 9e-3, cell) for cell in paper.CELLS] + [row("newton_fused", 1e-6, cell) for cell in paper.CELLS] + [row("seq_stepwise", 1e-4, cell) for cell in paper.CELLS]
        page = self.page("fig1", rows)
        self.assertIn('<td class="text">holds <small>against torch_eager alone</small></td>', page)
        self.assertIn("9000 [8820, 9180]", page)
        self.assertIn("(shown, does not decide)", page)
        self.assertIn('<td class="text as_expected">not testable here', page)
        self.assertIn('<td class="text as_expected">no records', page)
        rows = [r for r in rows if r["solver"] != "torch_eager"]
        self.assertIn('<td class="text not_ok">does not hold', self.page("fig1", rows))

    def test_alone_a_figure_without_rows_names_its_command(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "r.jsonl"
            path.write_text("\n".join(map(json.dumps, [{"record": "provenance", "schema": 1}, row("auto")])) + "\n")
            done = subprocess.run([sys.executable, str(HERE / "fig6.py"), str(path)], capture_output=True, text=True, cwd=folder)
        self.assertEqual((done.returncode, done.stderr), (64, f"figure 6: nothing in {path} to draw; ./prnn run suites/paper/fig6.toml --device cuda\n"))


if __name__ == "__main__":
    unittest.main()
