"""Iterations, boundaries that fail and error over the scale of the recurrent weights: where three unchecked iterations break and the rest does not."""

import sys

import load
import paper
import style
from error_vs_length import pass_line

title = "weight scale"
suites = ["weight_scale"]
X = "weight_std"


def failed(row):
    """Share of the boundaries between segments that failed their first test."""
    boundaries, count = load.number(row, "boundaries"), load.number(row, "boundaries_failed")
    return None if not boundaries or count is None else (count / boundaries, None, None)


def of(field):
    def value(row):
        found = load.number(row, field)
        return None if found is None else (found, None, None)
    return value


def draw(rows):
    rows = [row for row in paper.once(load.select(rows, **{"op": "recurrence", "pass": "forward", "cache": "rotating", "scope": "kernel"})) if load.number(row, X)]
    c, c_text = pass_line(rows)

    def line_c(panel, same, x):
        if panel:
            panel.level(c, style.colour("fail"))
        return [c]

    charts = [style.LineChart("Newton iterations", "linear solves", of("iterations"), lambda value: f"{value:g}", "Linear solves until the residual is at roundoff (adaptive) or the fixed count."),
              style.LineChart("Boundaries that fail", "share of boundaries", failed, style.tick_power,
                              "Boundaries between segments of shooting whose free guess does not pass, of all; each is then corrected by Newton on the boundaries."),
              style.LineChart("Error against its bound", "error / bound", of("error.test_ratio"), style.tick_power,
                              f"The larger of the local and the forward test, as error over its derived bound. Red: {c_text}.", line_c, [(c_text, style.colour("fail"), None, (0, (5, 2)), False)])]
    figures = [fig for chart in charts for fig in chart.draw(rows, X)]
    return figures or None


if __name__ == "__main__":
    sys.exit(style.figure_main(sys.modules[__name__]))
