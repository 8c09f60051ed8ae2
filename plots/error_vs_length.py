"""Error over length against its bound: does accuracy hold as sequences grow, by what margin does it pass, and by which power of the length does it grow?"""

import math
import sys

import load
import style

title = "error over length"
C_AT_MOST = 16  # design section 6
STUDENT_T = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228]


def student_t(freedom):
    """97.5 % quantile of Student's t, beyond 10 degrees of freedom by its expansion in their inverse (within 0.003)."""
    return STUDENT_T[freedom - 1] if freedom <= len(STUDENT_T) else 1.95996 + 2.3723 / freedom + 2.822 / freedom**2


def power_law(points):
    """y = c x^p fitted to [(x, y)] by least squares of the logarithms: (p, low, high), a 95 % interval by Student's t. All above 0; None below three distinct x."""
    points = [(math.log(x), math.log(y)) for x, y in points]
    if len({x for x, _ in points}) < 3:
        return None
    n = len(points)
    mean_x, mean_y = (sum(values) / n for values in zip(*points))
    spread = sum((x - mean_x)**2 for x, _ in points)
    p = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    rest = sum((y - mean_y - p * (x - mean_x))**2 for x, y in points)
    half = student_t(n - 2) * math.sqrt(rest / (n - 2) / spread)
    return p, p - half, p + half


def error_laws(rows):
    """[{facets, solver, variant, exponent, ci95_low, ci95_high, seq_len, case_ids}] of the lines of the figure: largest absolute error of ok rows by length."""
    laws = []
    for same in load.group(sorted(rows, key=style.in_order(rows)), lambda row: tuple(style.facet(row, "seq_len").values())).values():
        for (solver, variant), line in load.series(same):
            line = [row for row in line if load.is_ok(row) and row.get("seq_len") and (load.number(row, "error.abs_max") or 0) > 0]
            law = power_law([(row["seq_len"], row["error"]["abs_max"]) for row in line])
            if law:
                laws.append({"facets": style.facet(line[0], "seq_len"), "solver": solver, "variant": variant, "exponent": law[0], "ci95_low": law[1], "ci95_high": law[2],
                             "seq_len": load.values(line, "seq_len"), "case_ids": [row["case_id"] for row in line]})
    return laws


def law_text(law):
    """0.0123, [-0.01, 0.03] -> "L^(0.01 [−0.01, 0.03])"."""
    return "error ∝ L^({exponent:.2f} [{ci95_low:.2f}, {ci95_high:.2f}])".format(**law).replace("-", "−")


def pass_line(rows):
    """(c, text): the ratio up to which a row passes, as the record has it; else the most it may be."""
    found = next((c for c in (load.number(row, "error_factor") for row in rows) if c), None)
    return (found, f"passes up to c = {found:g}") if found else (C_AT_MOST, f"c is at most {C_AT_MOST}")


def draw(rows):
    figures = []
    c, c_text = pass_line(rows)

    def line_c(panel, same, x):
        if panel:
            panel.level(c, style.colour("fail"))
        return [c]

    def roundoff(panel, same, x):
        unit = load.UNIT_ROUNDOFF.get(same[0].get("storage"))
        for place, law in enumerate(error_laws(same) if panel else []):
            panel.corner(place, law_text(law), style.solver_look(law["solver"])[0])
        if panel and unit:
            panel.level(unit, style.colour("floor"))
        return [unit] if unit else []

    charts = [("error.test_ratio", style.LineChart(
        "Error against its bound", "error / bound", lambda row: interval(row, "error.test_ratio"), style.tick_power,
        f"The larger of the local test (all channels and steps) and the forward test (sampled channels against 50 digits), each as error over its derived bound. "
        f"Red: {c_text}.", line_c, [(c_text, style.colour("fail"), None, (0, (5, 2)), False)], clip=c * 1e3)),
        ("error.abs_max", style.LineChart(
            "Largest absolute error", "largest absolute error", lambda row: interval(row, "error.abs_max"), style.tick_power,
            "Against the 50-digit reference over the sampled channels and the verified prefix. Dashed: unit roundoff of the storage type. "
            "In the corner, in a line's colour: the power of the length that fits its ok rows, with a 95 % interval, where there are three lengths.", roundoff,
            [("unit roundoff of storage", style.colour("floor"), None, (0, (5, 2)), False)]))]
    for key, chart in charts:
        drawn = [row for row in rows if load.number(row, key) is not None]
        x = style.x_axis(drawn)
        if x:
            figures += chart.draw(drawn, x)
    return figures or None


def interval(row, key):
    found = load.number(row, key)
    return None if found is None else (found, None, None)


if __name__ == "__main__":
    sys.exit(style.figure_main(sys.modules[__name__]))
