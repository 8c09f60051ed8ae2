"""Error over length against its bound: does accuracy hold as sequences grow, and by what margin does it pass?"""

import sys

import load
import style

title = "error over length"
C_AT_MOST = 16  # design section 6


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
        if panel and unit:
            panel.level(unit, style.colour("floor"))
        return [unit] if unit else []

    charts = [("error.test_ratio", style.LineChart(
        "Error against its bound", "error / bound", lambda row: interval(row, "error.test_ratio"), style.tick_power,
        f"The larger of the local test (all channels and steps) and the forward test (sampled channels against 50 digits), each as error over its derived bound. "
        f"Red: {c_text}.", line_c, [(c_text, style.colour("fail"), None, (0, (5, 2)), False)], clip=c * 1e3)),
        ("error.abs_max", style.LineChart(
            "Largest absolute error", "largest absolute error", lambda row: interval(row, "error.abs_max"), style.tick_power,
            "Against the 50-digit reference over the sampled channels and the verified prefix. Dashed: unit roundoff of the storage type.", roundoff,
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
