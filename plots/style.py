"""One look for all figures: colours and markers by solver, panels, ticks, SVG that follows the reader's light or dark scheme, and the command line.

A figure is drawn in the light colours; svg() turns each of them into a CSS variable of the page (or of the file's own style sheet)."""

import argparse
import io
import math
import re
import sys

import matplotlib

matplotlib.use("svg")
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.patches import Polygon  # noqa: E402
from matplotlib.text import Text  # noqa: E402
from matplotlib.transforms import Bbox, TransformedBbox  # noqa: E402

import load  # noqa: E402

# name: (light, dark). Every light colour is different: svg() finds the variable by it.
SURFACE = {"surface": ("#fefefe", "#161b21"), "ink": ("#1b1f24", "#e7ebef"), "muted": ("#5d6671", "#9aa5b1"), "grid": ("#e4e7eb", "#2a323b"),
           "axis": ("#a9b1ba", "#56616d"), "floor": ("#3d4651", "#c3ccd5"), "fail": ("#c01f2e", "#ff6b76")}
SOLVER = {"seq_stepwise": ("#747b84", "#a5adb7"), "seq_graph": ("#3b9dd3", "#7fcbf5"), "seq_fused": ("#0b58a2", "#4a97ea"),
          "newton_unfused": ("#c98000", "#f0b548"), "newton_fused": ("#c8401a", "#ff7f55"), "shooting": ("#08815f", "#35cb9f"),
          "auto": ("#a2409a", "#e38fdc"), "torch_eager": ("#8c6d5a", "#c4a794"), "torch_autograd": ("#8c6d5b", "#c4a795"), "torch_compiled": ("#5b4636", "#a98f7c"),
          "torch_newton": ("#b0708f", "#e3a9c4"), "scan_stepwise": ("#8f5a2b", "#d19a66"), "cub": ("#9c8a00", "#d9c84a"),
          "reduction": ("#2b8496", "#6fcbdb"), "scan_chained": ("#2f7d32", "#7ccf80"), "other_1": ("#7a6038", "#c6ab80"), "other_2": ("#4c5a1e", "#a9ba6c")}
MARKERS = {"seq_stepwise": "o", "seq_graph": "s", "seq_fused": "D", "newton_unfused": "^", "newton_fused": "v", "shooting": "P", "auto": "X",
           "torch_eager": "8", "torch_autograd": "<", "torch_compiled": "H", "torch_newton": "d", "scan_stepwise": ">", "cub": "*", "reduction": "p",
           "scan_chained": "h", "other_1": "p", "other_2": "p"}
DASHES = ["-", (0, (4, 1.6)), (0, (1.2, 1.4)), (0, (6, 1.5, 1.2, 1.5))]  # by variant of a solver
RAMP_STEPS = 12  # one hue, light to dark by length; in dark mode dark to light


def _ramp():
    ends = {"light": ((0x9c, 0xc9, 0xe8), (0x0a, 0x2f, 0x6b)), "dark": ((0x2f, 0x5f, 0x9e), (0xcf, 0xe8, 0xff))}
    mix = lambda pair, t: "#" + "".join(f"{round(a + (b - a) * t):02x}" for a, b in zip(*pair))
    return {f"ramp_{i}": tuple(mix(ends[scheme], i / (RAMP_STEPS - 1)) for scheme in ("light", "dark")) for i in range(RAMP_STEPS)}


COLOURS = {**SURFACE, **SOLVER, **_ramp()}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', sans-serif"
PAGE_IN = 11.45  # width of the widest figure, inches of 96 CSS pixels
MAX_PANELS = 36  # of one kind of figure on a page: more is slow to draw and slow to read; what is left out is named

matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "prnn", "font.size": 9, "text.color": COLOURS["ink"][0], "lines.markersize": 4.6,
                            "lines.markeredgewidth": 1.2, "figure.facecolor": "none"})


def colour(name):
    return COLOURS[name][0]


def solver_look(solver):
    """(colour, marker): fixed for the solvers of the ladder; others share two by name."""
    if solver not in SOLVER:
        solver = f"other_{1 + sum(solver.encode()) % 2}"
    return colour(solver), MARKERS[solver]


def ramp(position):
    """Colour of position 0 (first) to 1 (last) in an ordered family."""
    return colour(f"ramp_{round(position * (RAMP_STEPS - 1))}")


# ---------------------------------------------------------------------------------------------------------------------
# Numbers as text; tick_* are for round numbers

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def significant(value, digits=3):
    """1234.5 -> "1230", 0.012345 -> "0.0123"; trailing zeros are kept: they were measured."""
    if value == 0:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, decimals)
    return f"{rounded:.{max(0, digits - 1 - math.floor(math.log10(abs(rounded))))}f}"


def seconds(value, digits=3):
    """1.234e-5 -> "12.3 µs"."""
    for scale, unit in ((1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")):
        if value >= scale * (1 - 0.5 * 10.0**-digits):
            break
    return f"{significant(value / scale, digits)} {unit}"


def tick_seconds(value):
    return seconds(value, 1 if round(value / 10.0 ** math.floor(math.log10(value)), 6) % 1 == 0 else 2)


def tick_times(value):
    return f"{value:g}×"


def tick_power(value):
    return power(value, 1).replace("1·10", "10")


def power(value, digits=2):
    """4.77e-7 -> "4.8·10⁻⁷"; plain between 0.01 and 10 000."""
    if value == 0 or 0.01 <= abs(value) < 1e4:
        return significant(value, digits)
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}·10{str(int(exponent)).translate(SUPERSCRIPT)}"


def times(value):
    """Of a ratio: "41.2×", "0.12×"."""
    return f"{significant(value, 3 if value >= 1 else 2)}×"


def size(value):
    """Of an axis: 65536 -> "64Ki"."""
    for unit, scale, least in (("Mi", 2**20, 2**20), ("Ki", 2**10, 2**14)):
        if value >= least and value % scale == 0:
            return f"{value // scale}{unit}"
    return f"{value:g}"


# ---------------------------------------------------------------------------------------------------------------------
# Which rows share a panel, which panels share a figure

SIZE_SYMBOL = {"batch": "B", "hidden": "D", "seq_len": "L", "weight_std": "σ"}
SIZE_NAME = {"seq_len": "length", "hidden": "hidden size", "batch": "batch", "weight_std": "weight scale"}
SIZE_LABEL = {"seq_len": "sequence length L", "hidden": "hidden size D", "batch": "batch B", "weight_std": "standard deviation of the recurrent weights"}
FACETS = ["shape", *load.CONTEXT]


def named(key, value):
    """One facet as text."""
    if key in ("shape", "cell", "storage", "device", "gpu_name", "record_file"):
        return str(value)
    return {"pass": f"{value}", "regime": f"regime {value}"}.get(key, f"{key} {value}")


def facet(row, x):
    """{facet: value} of a row whose size (or weight scale) x runs along the axis."""
    shape = ", ".join(f"{SIZE_SYMBOL[key]} = {row[key]}" for key in load.SIZES if key != x and row.get(key) is not None)
    return {"shape": shape, **{key: None if key == x else row.get(key) for key in load.CONTEXT}}


def x_axis(rows):
    """The size that takes most values among rows alike in all else; None where every size stands alone."""
    best, best_count = None, 1
    for key in ("seq_len", "hidden", "batch"):
        alike = load.group([row for row in rows if row.get(key) is not None], lambda row: tuple(facet(row, key).values()))
        count = max((len(load.values(same, key)) for same in alike.values()), default=0)
        if count > best_count:
            best, best_count = key, count
    return best


def in_order(rows):
    """Sort key of rows and panels: cells, storage types, ... in order of appearance, then the sizes from small to large."""
    place = {key: {value: i for i, value in enumerate(dict.fromkeys(load.hashable(row.get(key)) for row in rows))} for key in load.CONTEXT}
    return lambda row: ([place[key][load.hashable(row.get(key))] for key in load.CONTEXT], [row.get(key) or 0 for key in load.SIZES])


class Sheet:
    """Panels of one figure: grid[i][j] = (title, rows) or None; common: what all share, as text."""

    def __init__(self, common, grid):
        self.common, self.grid = common, grid

    def panels(self):
        return [panel for line in self.grid for panel in line if panel]


def sheets(rows, x, least=2):
    """([Sheet], [titles of panels left out for their number], rows of panels with fewer than `least` values of x). Unexpected results come first."""
    panels, single = [], []
    for same in load.group(sorted(rows, key=in_order(rows)), lambda row: tuple(facet(row, x).values())).values():
        if x is None or len(load.values(same, x)) >= least:
            panels.append((facet(same[0], x), same))
        else:
            single += same
    if len(panels) > MAX_PANELS:
        panels.sort(key=lambda panel: all(load.expected(row) for row in panel[1]))
    varied = [key for key in FACETS if len({panel[0][key] for panel in panels}) > 1]
    title = lambda facets, keys: " · ".join(named(key, facets[key]) for key in keys if facets[key] is not None)
    order = lambda key: sorted(varied, key=lambda k: key.index(k) if k in key else len(key))
    count = lambda key: len({panel[0][key] for panel in panels})
    columns = next((key for key in order(["shape", "storage", "regime", "cell"]) if count(key) <= 4), None)
    lines = next((key for key in order(["cell", "storage", "regime", "shape"]) if key != columns), None) if columns else None
    apart = [key for key in varied if key not in (columns, lines)]
    panel_keys = ["cell", "storage", "shape", "regime", *FACETS]
    panel_keys = [key for key in dict.fromkeys(panel_keys) if key in (columns, lines)] or ["cell", "shape"]
    made, left_out = [], []
    taken = 0
    for part in load.group(panels, lambda panel: tuple(panel[0][key] for key in apart)).values():
        if taken and taken + len(part) > MAX_PANELS:
            left_out += [title(panel[0], varied) for panel in part]
            continue
        left_out += [title(panel[0], varied) for panel in part[MAX_PANELS:]]
        part = part[:MAX_PANELS]
        taken += len(part)
        across = list(dict.fromkeys(panel[0][columns] for panel in part)) if columns else [None]
        down = list(dict.fromkeys(panel[0][lines] for panel in part)) if lines else [None]
        titled = {(panel[0][lines] if lines else None, panel[0][columns] if columns else None): (title(panel[0], panel_keys), panel[1]) for panel in part}
        if len(titled) == len(part) >= 0.6 * len(across) * len(down):
            grid = [[titled.get((i, j)) for j in across] for i in down]
        else:
            flat = [(title(panel[0], panel_keys), panel[1]) for panel in part]
            grid = [(flat[i:i + 3] + [None] * 3)[:3 if len(flat) > 3 else len(flat)] for i in range(0, len(flat), 3)]
        same = part[0][0]
        shared = [key for key in ["cell", "storage", "regime", "shape", "pass", *load.CONTEXT]
                  if len({panel[0][key] for panel in part}) == 1 and key not in panel_keys and same[key] not in (None, "kernel", "recurrence", "all", "zero")]
        shared = [key for key in dict.fromkeys(shared) if key in apart or key in ("cell", "storage", "regime", "shape", "pass")]
        made.append(Sheet(title(same, shared), grid))
    return made, left_out, single


# ---------------------------------------------------------------------------------------------------------------------
# Figures. A panel maps data to inches by itself: matplotlib's own axes lay every tick out several times, 20 times slower than all else here.

class Scale:
    """A log or linear axis from low to high with ticks [(value, text)]."""

    def __init__(self, low, high, ticks, log=True):
        self.low, self.high, self.ticks, self.log = low, high, ticks, log

    def at(self, value):
        """0 at low, 1 at high; NaN stays NaN."""
        if value is None or value != value:
            return math.nan
        return math.log(value / self.low) / math.log(self.high / self.low) if self.log else (value - self.low) / (self.high - self.low)


class Panel:
    """A rectangle of the figure (inches) with two scales; draws data in their units."""

    def __init__(self, fig, left, bottom, width, height, x, y):
        self.fig, self.left, self.bottom, self.width, self.height, self.x, self.y = fig, left, bottom, width, height, x, y

    def at(self, x, y):
        return self.left + self.width * self.x.at(x), self.bottom + self.height * self.y.at(y)

    def plot(self, xs, ys, tint, marker="", dash="-", width=1.7, hollow=False, clip=False, over=3, marker_size=4.6):
        points = [self.at(x, y) for x, y in zip(xs, ys)]
        line = Line2D([p[0] for p in points], [p[1] for p in points], color=tint, marker=marker, linestyle=dash, linewidth=width, zorder=over, markersize=marker_size,
                      markerfacecolor=colour("surface") if hollow else tint, transform=self.fig.dpi_scale_trans)
        self.fig.add_artist(line)
        if clip:
            box = Bbox.from_bounds(self.left, self.bottom, self.width, self.height)
            line.set_clip_box(TransformedBbox(box, self.fig.dpi_scale_trans))

    def band(self, xs, lows, highs, tint):
        """Fills between lows and highs, in pieces where either is NaN."""
        piece = []
        for x, low, high in [*zip(xs, lows, highs), (math.nan,) * 3]:
            if low == low and high == high:
                piece.append((x, low, high))
            else:
                if len(piece) > 1:
                    outline = [self.at(p[0], min(p[2], self.y.high)) for p in piece] + [self.at(p[0], max(p[1], self.y.low)) for p in reversed(piece)]
                    self.fig.add_artist(Polygon(outline, closed=True, facecolor=tint, alpha=0.22, edgecolor="none", zorder=2, transform=self.fig.dpi_scale_trans))
                piece = []

    def box(self, xs, ys, tint, alpha=1.0):
        """A filled rectangle from xs[0], ys[0] to xs[1], ys[1]."""
        (left, bottom), (right, top) = self.at(xs[0], ys[0]), self.at(xs[1], ys[1])
        corners = [(left, bottom), (right, bottom), (right, top), (left, top)]
        self.fig.add_artist(Polygon(corners, closed=True, facecolor=tint, alpha=alpha, edgecolor="none", zorder=2, transform=self.fig.dpi_scale_trans))

    def level(self, y, tint, dash=(0, (5, 2))):
        """A horizontal line across the panel."""
        self.plot([self.x.low, self.x.high], [y, y], tint, dash=dash, width=1.1, over=1.5)

    def corner(self, place, text, tint):
        """A small line of text in the upper left corner, the place-th from above."""
        self.fig.add_artist(Text(self.left + 0.06, self.bottom + self.height - 0.04 - 0.125 * place, text, size=7, color=tint, va="top", transform=self.fig.dpi_scale_trans, zorder=5))

    def text(self, x, y, text, right_by=0.0, **look):
        where = self.at(x, y)
        self.fig.add_artist(Text(where[0] + right_by, where[1], text, transform=self.fig.dpi_scale_trans, **look))


def segments(fig, lines, tint, over):
    """Many straight lines (inches) as one path."""
    xs = [x for a, b in lines for x in (a[0], b[0], math.nan)]
    ys = [y for a, b in lines for y in (a[1], b[1], math.nan)]
    fig.add_artist(Line2D(xs, ys, color=tint, linewidth=0.8, zorder=over, transform=fig.dpi_scale_trans))


def text_width(text, points=9):
    """Inches a text takes at most in the usual interface fonts; an estimate."""
    return 0.0081 * points * len(text)


def figure(title, sheet, legend, x, y, y_label="", x_label="", x_grid=False):
    """(fig, {(i, j): Panel}): title, legend [(label, colour, marker, dash, hollow)] and empty panels that share Scales x and y.
    fig.heading is the title; fig.caption is set by the caller."""
    rows, columns = len(sheet.grid), max(len(line) for line in sheet.grid)
    left, gap, right, title_in, between, bottom = 0.72, 0.22, 0.14, 0.36, 0.62, 0.28 + 0.2 * bool(x_label)
    width = 6.4 if columns == 1 else (PAGE_IN - left - right - gap * (columns - 1)) / columns
    height = 2.5 if columns < 3 else 2.2 if columns == 3 else 1.75
    total_width = max(left + columns * width + (columns - 1) * gap + right, 0.5 + text_width(title, 12) + text_width(sheet.common))
    spots, across, line = [], 0.1, 0
    for entry in legend:
        wide = 0.42 + text_width(entry[0]) + 0.16
        if across > 0.1 and across + wide > total_width:
            across, line = 0.1, line + 1
        spots.append((across, line))
        across += wide
    legend_in = 0.21 * (line + 1) + 0.06 if legend else 0
    total_height = title_in + legend_in + 0.3 + rows * height + (rows - 1) * between + bottom
    fig = Figure(figsize=(total_width, total_height))
    fig.heading, fig.caption = title, ""
    inches = fig.dpi_scale_trans
    put = lambda x, y, text, **look: fig.add_artist(Text(x, y, text, transform=inches, **look))
    put(0.1, total_height - 0.17, title, weight="bold", size=11.5, va="center")
    put(total_width - right, total_height - 0.17, sheet.common, size=9, color=colour("muted"), va="center", ha="right")
    for (across, line), (label, tint, marker, dash, hollow) in zip(spots, legend):
        y_at = total_height - title_in - 0.1 - 0.21 * line
        if dash:
            fig.add_artist(Line2D([across, across + 0.32], [y_at, y_at], color=tint, linestyle=dash, linewidth=1.7 if marker else 1.1, transform=inches))
        if marker:
            fig.add_artist(Line2D([across + 0.16], [y_at], color=tint, marker=marker, markerfacecolor=colour("surface") if hollow else tint, transform=inches))
        put(across + 0.4, y_at, label, size=9, va="center")
    panels, grid_lines, axis_lines = {}, [], []
    for i, line in enumerate(sheet.grid):
        for j, content in enumerate(line):
            if content is None:
                continue
            panel = Panel(fig, left + j * (width + gap), total_height - title_in - legend_in - 0.3 - (i + 1) * height - i * between, width, height, x, y)
            panels[i, j] = panel
            low, high, start, end = panel.bottom, panel.bottom + height, panel.left, panel.left + width
            put(start, high + 0.1, content[0], weight="bold", size=9.5, va="bottom")
            axis_lines += [((start, high), (start, low)), ((start, low), (end, low))]
            for value, label in y.ticks:
                level = low + height * y.at(value)
                grid_lines.append(((start, level), (end, level)))
                if j == 0:
                    put(start - 0.07, level, label, size=9, color=colour("muted"), ha="right", va="center_baseline")
            for value, label in x.ticks:
                at = start + width * x.at(value)
                axis_lines.append(((at, low), (at, low - 0.04)))
                if x_grid:
                    grid_lines.append(((at, low), (at, high)))
                put(at, low - 0.09, label, size=9, color=colour("muted"), ha="center", va="top")
            if j == 0 and y_label:
                put(0.16, low + height / 2, y_label, size=9, color=colour("muted"), rotation=90, ha="center", va="center")
            if x_label and (i + 1 == rows or j >= len(sheet.grid[i + 1]) or sheet.grid[i + 1][j] is None):
                put(start + width / 2, low - 0.29, x_label, size=9, color=colour("muted"), ha="center", va="top")
    segments(fig, grid_lines, colour("grid"), 1)
    segments(fig, axis_lines, colour("axis"), 1.2)
    return fig, panels


def log_ticks(low, high, most=6):
    """Ticks of a log axis: finer ones up to 2.4 decades, else every n-th power of ten."""
    decades = math.log10(high / low)
    if decades <= 2.4:
        steps = (1, 3) if decades > 1.6 else (1, 2, 5) if decades > 1 else (1, 2, 3, 5, 7) if decades > 0.5 else (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
        ticks = [float(f"{m}e{e}") for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        return ticks[::math.ceil(len(ticks) / most)] if ticks else [low]
    every = math.ceil(decades / most)
    first = math.ceil(math.log10(low) - 1e-9)
    return [10.0**e for e in range(first, math.floor(math.log10(high) + 1e-9) + 1) if e % every == 0]


def log_scale(low, high, text, zero_at=None):
    """A log axis with its own few ticks; zero_at: where exact zeros are drawn, with a tick that says 0."""
    ticks = [(tick, text(tick)) for tick in log_ticks(low, high) if zero_at is None or tick > 2 * zero_at]
    return Scale(low, high, ([(zero_at, "0")] if zero_at else []) + ticks)


def size_scale(found, columns):
    """A log axis over sizes: powers of two, at most eight labels (six in narrow panels); below 1 plain numbers."""
    low, high = min(found), max(found)
    pad = (high / low) ** 0.05 if high > low else 1.5
    if low < 1:
        return log_scale(low / pad, high * pad, lambda value: f"{value:g}")
    exponents = range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)
    every = max(1, math.ceil(len(exponents) / (8 if columns < 4 else 6)))
    ticks = [2**e for e in exponents if (exponents[-1] - e) % every == 0] if len(exponents) > 2 else sorted(found)
    return Scale(low / pad, high * pad, [(tick, size(tick)) for tick in ticks])


def legend_of(lines, hollow):
    """Legend entries of [(solver, variant)]; one more where hollow marks are drawn."""
    entries, count = [], {}
    for solver, variant in lines:
        dash = DASHES[count.setdefault(solver, 0) % len(DASHES)]
        count[solver] += 1
        tint, marker = solver_look(solver)
        entries.append((solver + (f" ({variant})" if variant else ""), tint, marker, dash, False))
    if hollow:
        entries.append(("hollow: not ok", colour("muted"), "o", None, True))
    return entries


class LineChart:
    """A chart of one value of a row over a size, a line a solver: what time, speedup and error share.
    value(row) -> (y, low, high) or None; low and high None where there is no interval. Points that are not ok stand hollow and unconnected."""

    def __init__(self, title, y_label, value, text, caption, decorate=None, extra_legend=(), clip=None):
        self.extra_legend = list(extra_legend)
        self.title, self.y_label, self.value, self.text, self.caption = title, y_label, value, text, caption
        self.decorate, self.clip = decorate, clip

    def draw(self, rows, x):
        drawn = [row for row in rows if self.value(row) is not None]
        made, left_out, single = sheets(drawn, x)
        return [self._sheet(sheet, x, left_out if sheet is made[-1] else [], single if sheet is made[-1] else []) for sheet in made]

    def _sheet(self, sheet, x, left_out, single):
        rows = [row for _, same in sheet.panels() for row in same]
        lines = [key for key, _ in load.series(rows)]
        legend = legend_of(lines, any(not load.is_ok(row) for row in rows))
        look = dict(zip(lines, legend))
        extra = [v for _, same in sheet.panels() for v in (self.decorate(None, same, x) if self.decorate else [])]
        found = [v for row in rows for v in self.value(row) if v is not None and v > 0] + extra
        low, high = min(found, default=1), max(found, default=1)
        clipped = self.clip is not None and high > self.clip
        high = min(high, self.clip) if clipped else high
        zero_at = low / 10 if any(self.value(row)[0] == 0 for row in rows) else None
        pad = max((high / low) ** 0.06, 1.08)
        y = log_scale((zero_at or low) / pad, high * pad, self.text, zero_at)
        fig, panels = figure(f"{self.title} over {SIZE_NAME[x]}", sheet, legend + self.extra_legend, size_scale(load.values(rows, x), len(sheet.grid[0])), y,
                             self.y_label, SIZE_LABEL[x])
        names = load.swept_policy(rows)
        for (i, j), panel in panels.items():
            same = sheet.grid[i][j][1]
            if self.decorate:
                self.decorate(panel, same, x)
            for key, line in load.group(same, lambda row: (row["solver"], load.variant(row, names))).items():
                _, tint, marker, dash, _ = look[key]
                line = sorted(line, key=lambda row: row[x])
                xs = [row[x] for row in line]
                at = [min(self.value(row)[0] or zero_at, y.high) for row in line]
                panel.plot(xs, [a if load.is_ok(row) else math.nan for a, row in zip(at, line)], tint, marker, dash)
                hollow = [(row[x], a) for a, row in zip(at, line) if not load.is_ok(row)]
                if hollow:
                    panel.plot(*zip(*hollow), tint, marker, "none", hollow=True, over=4)
                bounds = [self.value(row)[1:] if load.is_ok(row) and None not in self.value(row) else (math.nan, math.nan) for row in line]
                panel.band(xs, *zip(*bounds), tint)
        fig.caption = self.caption + axis_notes(rows, zero_at is not None, clipped, left_out, single, x)
        return fig


def axis_notes(rows, zeros, clipped, left_out, single, x):
    """What the reader of a caption must know beyond what was asked."""
    notes = ""
    count = sum(not load.is_ok(row) for row in rows)
    if count:
        notes += f" Hollow: {count} row{'s' if count > 1 else ''} not ok."
    if zeros:
        notes += " The lowest tick stands for exactly 0."
    if clipped:
        notes += " Points on the upper edge lie beyond it."
    if single:
        notes += f" {len(single)} row{'s' if len(single) > 1 else ''} with no second {SIZE_NAME[x]} beside {'them' if len(single) > 1 else 'it'}: in the tables only."
    if left_out:
        notes += f" {len(left_out)} more panels are left out here ({'; '.join(left_out[:3])}{' …' if len(left_out) > 3 else ''}): draw them with this figure's own script."
    return notes


# ---------------------------------------------------------------------------------------------------------------------
# SVG

def css(scope=":root"):
    """The colours as CSS variables, dark ones under prefers-color-scheme."""
    block = lambda scheme: "".join(f"--{name.replace('_', '-')}:{pair[scheme]};" for name, pair in COLOURS.items())
    return (f"{scope}{{color-scheme:light dark;--font:{FONT};{block(0)}}}\n"
            f"@media (prefers-color-scheme:dark){{{scope}{{{block(1)}}}}}\n")


VARIABLE = {pair[0]: f"var(--{name.replace('_', '-')})" for name, pair in COLOURS.items()}


def svg(fig, prefix="", standalone=False):
    """The figure as one <svg> element: colours as variables, text as text in the page's font, ids made unique by prefix."""
    out = io.StringIO()
    fig.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    text = text[text.index("<svg"):]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.S)  # its style would rule the whole page
    text = re.sub(r' id="(?:figure|axes|patch|text|line2d|xtick|ytick|legend|matplotlib\.axis|PolyCollection|FillBetweenPolyCollection)_\d+"', "", text)
    text = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{prefix}", text)
    text = text.replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "").replace("xlink:href", "href")
    text = re.sub(r"#[0-9a-f]{6}\b", lambda match: VARIABLE.get(match[0], match[0]), text)
    text = re.sub(r"(font: [^;\"]*?px) [^;\"]*", r"\1 var(--font)", text)
    text = re.sub(r'\b(?:d|x|y|transform|width|height)="[^"]*"', lambda match: re.sub(r"(\.\d\d)\d+", r"\1", match[0]), text)
    text = re.sub(r"\n\s*\n+", "\n", re.sub(r"\n +", "\n", text))
    wide, high = (round(side * 96) for side in fig.get_size_inches())
    head = f'<svg role="img" style="stroke-linejoin:round" aria-label="{fig.heading}" width="{wide}" height="{high}" viewBox="0 0 {wide * 0.75:g} {high * 0.75:g}"'
    text = re.sub(r"<svg[^>]*>", head + (' xmlns="http://www.w3.org/2000/svg">' if standalone else ">"), text, count=1)
    if standalone:
        text = text.replace(">", f">\n<style>{css('svg')}svg{{background:var(--surface)}}</style>", 1)
    return text


class Arguments(argparse.ArgumentParser):
    """Bad usage is exit code 64, one line (design section 1)."""

    def error(self, message):
        self.exit(64, f"{self.prog}: {message}\n")


def commands(module):
    """What makes the records of a figure of the paper (or beyond), a command a suite."""
    return [f"./prnn run suites/paper/{suite}.toml --device cuda" for suite in getattr(module, "suites", [])]


def figure_main(module):
    """python3 plots/FIGURE.py FILE... --out x.svg: draws one kind of figure alone; more than one goes to x-2.svg, x-3.svg ..."""
    parser = Arguments(description=module.__doc__)
    parser.add_argument("files", nargs="+", help="record files (JSON lines)")
    parser.add_argument("--out", default=None, help="SVG file to write")
    args = parser.parse_args()
    try:
        global MAX_PANELS
        MAX_PANELS = 10**6
        figures = module.draw(load.read(args.files).rows)
    except load.BadRecord as error:
        print(error, file=sys.stderr)
        return 64
    if not figures:
        print("; ".join([f"{module.title}: nothing in {' '.join(args.files)} to draw", *commands(module)]), file=sys.stderr)
        return 64
    stem = re.sub(r"\.svg$", "", args.out or module.title.replace(" ", "_"))
    for number, fig in enumerate(figures, 1):
        path = f"{stem}{'' if number == 1 else f'-{number}'}.svg"
        try:
            with open(path, "w", encoding="utf-8") as out:
                out.write(svg(fig, standalone=True))
        except OSError as error:
            print(f"{path}: {error.strerror}; expected a writable path", file=sys.stderr)
            return 64
        print(path)
    return 0
