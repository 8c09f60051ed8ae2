"""python3 plots/report.py F... --out DIR: one self-contained HTML page of the records and verdicts.json beside it; prints the page's path."""

import errno
import html
import json
import pathlib
import re
import sys

import claims
import crossover
import error_vs_length
import fig1
import fig2_left
import fig2_right
import fig4
import fig5
import fig6
import fig7_8
import load
import newton_residual
import speedup_vs_length
import style
import time_against_error
import time_vs_length
import waterfall
import weight_scale

PAPER = [fig1, fig2_left, fig2_right, fig4, fig5, fig6, fig7_8]  # drawn from records of their own suites
BEYOND = [waterfall, crossover, time_against_error, weight_scale]  # from any record that has what they show
GENERAL = [time_vs_length, speedup_vs_length, newton_residual, error_vs_length]
SHOWN_BY_PAPER = [time_vs_length, newton_residual]  # leave out rows that a figure above shows in the paper's axes

STATUS_TEXT = {"ok": "ok", "wrong": "wrong", "not_converged": "not converged", "error": "error", "timeout": "timed out", "skipped": "skipped"}
HEADLINE_ROWS = 12
ODD_ROWS = 12

PAGE_CSS = """
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 var(--font)}
main{max-width:1192px;margin:0 auto;padding:28px 28px 64px}
h1{font-size:26px;line-height:1.25;margin:2px 0 6px;letter-spacing:-.01em;text-wrap:balance}
h2{font-size:18px;margin:40px 0 10px}
p{margin:0 0 10px;max-width:88ch}
a{color:var(--link)}
code,.id{font:12.5px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.eyebrow,.muted{color:var(--muted)}
.eyebrow{font-size:13px;margin:0}
.verdict{display:flex;flex-wrap:wrap;gap:8px 14px;align-items:center;margin:18px 0 20px;padding:11px 16px;border-radius:8px;border:1px solid var(--edge);
  border-left:5px solid var(--good);background:var(--surface)}
.verdict.bad{border-left-color:var(--fail)}
.verdict strong{font-size:16px}
.chip{font-size:13px;padding:1px 9px;border-radius:99px;border:1px solid var(--edge);color:var(--muted);white-space:nowrap}
.facts{margin-top:20px;display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:14px;margin-bottom:8px}
.facts section{background:var(--surface);border:1px solid var(--edge);border-radius:8px;padding:12px 16px}
.facts h3{font-size:13px;font-weight:600;color:var(--muted);margin:0 0 6px}
.facts ul{list-style:none;margin:0;padding:0}
.facts li{margin:0 0 4px}
.facts b{font-weight:650}
.scroll{overflow-x:auto}
figure,.card{margin:14px 0 0;background:var(--surface);border:1px solid var(--edge);border-radius:8px;padding:14px 16px 12px}
figure svg{display:block;max-width:100%;height:auto}
figcaption{font-size:13px;line-height:1.45;color:var(--muted);max-width:120ch;margin-top:8px}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:4px 10px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--grid)}
th{color:var(--muted);font-weight:600;vertical-align:bottom}
tr:last-child td{border-bottom:0}
td.text,th.text{text-align:left}
td.reason{text-align:left;white-space:normal;min-width:16em}
td small{color:var(--muted);font-size:12px}
.rows th{white-space:normal;padding:4px 7px}
.rows td{border:0;padding:2px 7px}
.rows tr.first td{border-top:1px solid var(--edge);padding-top:5px}
.rows td.reason{padding-top:0}
.grand th{padding:4px 5px}
.grand td{padding:6px 5px;vertical-align:top}
.grand small{display:block}
.best{font-weight:700}
.best::after{content:" \\2605";font-weight:400;color:var(--good)}
.not_ok{color:var(--fail)}
.as_expected{color:var(--muted)}
.swatch{display:inline-block;width:9px;height:9px;border-radius:2px;margin-right:6px}
details{margin:8px 0 0;background:var(--surface);border:1px solid var(--edge);border-radius:8px;padding:0 16px}
summary{cursor:pointer;padding:8px 0;font-weight:600;font-size:14px}
summary span{font-weight:400;color:var(--muted)}
details>.scroll,details>pre{margin:0 0 12px}
pre{font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-x:auto}
dl{display:grid;grid-template-columns:max-content 1fr;gap:3px 18px;margin:0;font-size:13.5px}
dt{color:var(--muted)}
dd{margin:0;overflow-wrap:anywhere}
.how{columns:2;column-gap:36px;padding-left:18px;margin:0;font-size:13.5px}
.how li{break-inside:avoid;margin-bottom:4px}
@media (max-width:760px){.how{columns:1}main{padding:18px 14px 48px}}
"""
PAGE_COLOURS = {"page": ("#f6f7f8", "#0f1317"), "edge": ("#dfe3e7", "#2a323b"), "good": ("#1d8a4e", "#46c982"), "link": ("#0b58a2", "#7fb8f5")}

HOW = ["Every speedup names its baseline: time of the baseline over time of the solver, on the same inputs, launches interleaved.",
       "Times are medians of one launch with every device-side check and correction round inside; brackets and bands are 95 % intervals.",
       "Hollow marks are rows that are not ok: wrong, not converged or timed out. They never get a speedup.",
       "The memory floor is the least traffic the problem needs over the measured copy bandwidth: no correct kernel that reads its inputs from memory beats it by much.",
       "Error / bound compares with a bound derived from roundoff and condition; a row passes up to a constant c that holds for every cell, length and regime.",
       "Rest on a number in a table to see it in full, as the record has it; on a dash to see why it is missing. A column headed × NAME is the speedup against NAME."]


def esc(value):
    return html.escape(str(value), quote=True)


def count_of(number, noun):
    return f"{number:,} {noun}{'' if number == 1 else 's'}".replace(",", "\u202f")


def unbroken(text):
    """No line break within "L = 512", "(8, 1024)" and "95 %"."""
    return re.sub(r"\((\w+), (\w+)\)", "(\\1,\u00a0\\2)", text).replace(" = ", "\u00a0=\u00a0").replace(" %", "\u202f%")


def spread(found, text):
    """[4 … 512] as "4 to 512", a few values as a list."""
    found = list(found)
    return ", ".join(map(text, found)) if len(found) <= 4 else f"{text(found[0])} to {text(found[-1])} ({len(found)} values)"


# ---------------------------------------------------------------------------------------------------------------------
# First screen

def verdict(rows, records):
    counts = {status: [row for row in rows if row["status"] == status] for status in load.STATUSES}
    odd = [row for row in rows if not load.expected(row)]
    if not rows:
        text = "The record holds no case."
    elif not odd:
        text = f"All {count_of(len(rows), 'case')} came out as the suite expects."
    else:
        text = f"{len(odd)} of {count_of(len(rows), 'case')} {'differs' if len(odd) == 1 else 'differ'} from what the suite expects."
    chips = []
    for status, found in counts.items():
        if found:
            planned = sum(load.expected(row) for row in found)
            note = "" if status == "ok" or not planned else ", as expected" if planned == len(found) else f", {planned} as expected"
            chips.append(f'<span class="chip">{len(found)} {STATUS_TEXT[status]}{note}</span>')
    for file in records.files:
        if file["truncated"]:
            chips.append(f'<span class="chip">last line of {esc(pathlib.Path(file["path"]).name)} cut short, left out</span>')
    out = f'<div class="verdict{" bad" if odd or not rows else ""}"><strong>{text}</strong>{"".join(chips)}</div>'
    if odd:
        odd.sort(key=lambda row: load.STATUSES.index(row["status"]) if row["status"] != "ok" else 99)
        lines = "".join(f'<tr><td class="text not_ok">{STATUS_TEXT[row["status"]]}</td><td class="text">{STATUS_TEXT[row["expected_status"]]}</td>'
                        f'<td class="reason">{esc(row.get("reason") or "")}</td><td class="reason id">{esc(row["case_id"])}</td></tr>' for row in odd[:ODD_ROWS])
        more = f'<figcaption>{len(odd) - ODD_ROWS} more in the tables below, which stand open where they hold one.</figcaption>' if len(odd) > ODD_ROWS else ""
        out += (f'<h2>Not as expected</h2><div class="card scroll"><table><tr><th class="text">status</th><th class="text">expected</th>'
                f'<th class="text">reason</th><th class="text">case</th></tr>{lines}</table>{more}</div>')
    return out


def run(rows):
    return [row for row in rows if row["status"] != "skipped"]


def measured(rows):
    """What was measured, in a few lines of words."""
    cells, solvers, absent = load.values(rows, "cell"), load.values(run(rows), "solver"), sorted(set(load.values(rows, "solver")) - set(load.values(run(rows), "solver")), key=load.rank)
    lines = [f"<b>{count_of(len(cells), 'cell')}</b>: {esc(', '.join(cells))}",
             f"<b>{count_of(len(solvers), 'solver')}</b>: {esc(', '.join(sorted(solvers, key=load.rank)))}" +
             (f' <span class="muted">(skipped in every case: {esc(", ".join(absent))})</span>' if absent else "")]
    shapes = list(dict.fromkeys((row.get("batch"), row.get("hidden")) for row in sorted(rows, key=lambda row: [row.get(key) or 0 for key in load.SIZES])))
    if len(shapes) <= 4:
        sizes = ["(B, D) = " + ", ".join(f"({b}, {d})" for b, d in shapes)]
    else:
        sizes = [f"{symbol} = {spread(load.values(rows, key), style.size)}" for key, symbol in (("batch", "B"), ("hidden", "D"))]
    sizes = [f"L = {spread(load.values(rows, 'seq_len'), style.size)}", *sizes]
    lines.append(f"<b>length, batch, hidden</b>: {unbroken(esc('; '.join(sizes)))}")
    rest = [", ".join(map(str, load.values(rows, key))) for key in ("storage", "pass")] + ["regime " + ", ".join(map(str, load.values(rows, "regime")))]
    lines.append(esc("; ".join(rest)))
    return lines


def machine(provenance):
    lines = []
    gpu = provenance.get("gpu")
    if gpu:
        lines.append(f"<b>{esc(gpu.get('name'))}</b>" + (f", driver {esc(gpu['driver'])}" if gpu.get("driver") else ""))
    cpu = load.get(provenance, "machine.cpu")
    if cpu:
        cores = load.get(provenance, "machine.cores")
        lines.append(f"{'host ' if gpu else '<b>'}{esc(cpu)}{'' if gpu else '</b>'}" + (f", {count_of(cores, 'core')}" if isinstance(cores, int) else ""))
    copy = load.number(provenance, "copy_bytes_per_s")
    if copy:
        lines.append(f'copies <span title="{copy!r} bytes/s">{style.significant(copy / 1e9)} GB/s</span>, read + written')
    commit = provenance.get("commit")
    dirty = ' <b class="not_ok">with uncommitted changes</b>' if provenance.get("dirty") else ""
    lines.append(f"{esc(provenance.get('time_utc') or 'time unknown')}, commit {esc((commit or 'unknown')[:12])}{dirty}")
    return lines


def where(row):
    return f"{row.get('cell')}, " + ", ".join(f"{symbol} = {style.size(row[key])}" for key, symbol in (("batch", "B"), ("hidden", "D"), ("seq_len", "L")) if row.get(key) is not None)


def outcome(rows):
    """What came out: the best speedup against each baseline, iterations, worst error."""
    lines = []
    groups = load.group(rows, lambda row: row["group_id"])
    for baseline in load.baselines(rows):
        found = [(ratio, row) for row in rows if row["solver"] != baseline and (ratio := load.speedup(row, baseline, groups[row["group_id"]]))]
        if found:
            ratio, row = max(found, key=lambda item: item[0][0])
            lines.append(f'against {esc(baseline)}: up to <b title="{ratio[0]!r}">{style.times(ratio[0])}</b> by {esc(row["solver"])} <span class="muted">({unbroken(esc(where(row)))})</span>')
    adaptive = [row for row in rows if load.is_ok(row) and row.get("iteration_limit") in (None, "adaptive") and load.number(row, "iterations") is not None]
    if adaptive:
        found = sorted(row["iterations"] for row in adaptive)
        lines.append(f"Newton iterations: <b>{found[0]}</b>" if found[0] == found[-1] else
                     f'Newton iterations: <b>{found[0]} to {found[-1]}</b> <span class="muted">(median {found[len(found) // 2]})</span>')
    worst = max((row for row in rows if load.is_ok(row) and load.number(row, "error.test_ratio") is not None), key=lambda row: row["error"]["test_ratio"], default=None)
    if worst:
        ratio = worst["error"]["test_ratio"]
        lines.append(f'largest error of an ok row: <b title="{ratio!r}">{style.power(ratio)}</b> of its bound <span class="muted">({error_vs_length.pass_line(rows)[1]})</span>')
    return lines or ["no timings, iterations or errors in this record"]


def headline(rows):
    """Time of every solver at the largest size of each panel: the answer as a table."""
    timed = [row for row in rows if time_vs_length.value(row)]
    if not timed:
        return ""
    x = style.x_axis(timed) or "seq_len"
    order = style.in_order(rows)
    parts = load.group(sorted(rows, key=order), lambda row: tuple(style.facet(row, x).values()))
    names = load.swept_policy(rows)
    picked = []
    for same in parts.values():
        sizes = [row[x] for row in same if load.is_ok(row) and time_vs_length.value(row) and row.get(x) is not None]
        if sizes:
            picked.append([row for row in same if row.get(x) == max(sizes)])
    total = len(picked)
    picked.sort(key=lambda part: len(parts[tuple(style.facet(part[0], x).values())]) == len(part))  # what has one size only goes first when room is short
    picked = sorted(picked[:HEADLINE_ROWS], key=lambda part: order(part[0]))
    if not picked:
        return ""
    here = [row for part in picked for row in part]
    columns = [key for key, same in load.series(run(here)) if not key[1] or any(load.is_ok(row) and time_vs_length.value(row) for row in same)]
    variants = len(columns) > 6 and any(key[1] for key in columns)
    if variants:
        columns = [key for key in columns if not key[1]]
    baselines = load.baselines(here)
    facets = [style.facet(part[0], x) for part in picked]
    varied = [key for key in dict.fromkeys(["cell", "storage", "regime", *style.FACETS]) if len({f[key] for f in facets}) > 1] or ["cell", "shape"]
    line_of = lambda row: (row["solver"], load.variant(row, names))
    head = f'<th class="text">{"cell" if "cell" in varied else "case"}</th>'
    head += f"<th>{style.SIZE_SYMBOL[x]}</th>" + "".join(f'<th><span class="swatch" style="background:{css_colour(s)}"></span>{esc(s)}{f"<br>{esc(v)}" if v else ""}</th>' for s, v in columns)
    lines = ""
    for part, facets_of in zip(picked, facets):
        first, *rest = [style.named(key, facets_of[key]) for key in varied if facets_of[key] is not None]
        cells = f'<td class="text">{esc(first)}<small>{esc(" · ".join(rest))}</small></td><td>{style.size(part[0][x])}</td>'
        by = {line_of(row): row for row in part}
        right = [row for row in part if load.is_ok(row) and time_vs_length.value(row) and line_of(row) in columns]
        best = min(right, key=lambda row: row["time_s"]["median"], default=None)
        for key in columns:
            row = by.get(key)
            if row is None:
                cells += '<td class="muted">—</td>'
            elif not load.is_ok(row):
                cells += f'<td class="{"as_expected" if load.expected(row) else "not_ok"}" title="{esc(row.get("reason") or "")}">{STATUS_TEXT[row["status"]]}</td>'
            elif not time_vs_length.value(row):
                cells += missing(row, "time_s")
            else:
                ratios = [(b, load.speedup(row, b, part)) for b in baselines]
                small = " · ".join("baseline" if b == row["solver"] and not key[1] else style.times(r[0]) if r else "—" for b, r in ratios)
                median = row["time_s"]["median"]
                cells += f'<td title="{median!r} s"><span{" class=best" if row is best else ""}>{style.seconds(median)}</span><small>{small}</small></td>'
        floor = load.number(part[0], "floor_s") or next((f for row in part if (f := load.number(row, "floor_s"))), None)
        cells += f'<td class="muted" title="{floor!r} s">{style.seconds(floor)}</td>' if floor else '<td class="muted">—</td>'
        lines += f"<tr>{cells}</tr>"
    below = f" Below each time: how many times faster than {esc(' · '.join(baselines))}." if baselines else ""
    below += " Fixed iteration counts and other variants are in the tables." if variants else ""
    left = f" {total - len(picked)} more combinations are in the tables." if total > len(picked) else ""
    return (f'<h2>Time of a launch at the largest {style.SIZE_NAME[x]}</h2><div class="card"><div class="scroll"><table class="grand"><tr>{head}<th>memory floor</th></tr>{lines}</table></div>'
            f'<figcaption>Medians. A star marks the fastest right answer of a line.{below}{left}</figcaption></div>')


def laws(rows):
    """By which power of the length the error of each line grows; empty where nothing can be fitted."""
    found = error_vs_length.error_laws(rows)
    if not found:
        return ""
    varied = [key for key in dict.fromkeys(["cell", "storage", "regime", *style.FACETS]) if len({load.hashable(law["facets"][key]) for law in found}) > 1] or ["cell", "storage"]
    lines = ""
    for law in found:
        first, *rest = [style.named(key, law["facets"][key]) for key in varied if law["facets"][key] is not None]
        beside = f" <small>{esc(law['variant'])}</small>" if law["variant"] else ""
        lines += (f'<tr><td class="text">{esc(first)} <small>{esc(" · ".join(rest))}</small></td>'
                  f'<td class="text"><span class="swatch" style="background:{css_colour(law["solver"])}"></span>{esc(law["solver"])}{beside}</td>'
                  f'<td title="{law["exponent"]!r}">{law["exponent"]:.2f}</td><td>[{law["ci95_low"]:.2f}, {law["ci95_high"]:.2f}]</td><td>{spread(law["seq_len"], style.size)}</td></tr>')
    return (f'<h2>Growth of the error with length</h2><div class="card scroll"><table><tr><th class="text">case</th><th class="text">solver</th><th>error ∝ L to the power</th>'
            f'<th>95 % interval</th><th>lengths</th></tr>{lines}</table><figcaption>Largest absolute error of ok rows, least squares of the logarithms, Student\'s t; lines of three lengths '
            f'and more.</figcaption></div>')


# ---------------------------------------------------------------------------------------------------------------------
# Tables and provenance

def css_colour(solver):
    return style.VARIABLE[style.solver_look(solver)[0]]


def missing(row, field):
    why = (row.get("null_reasons") or {}).get(field) or (row.get("null_reasons") or {}).get(field.split(".")[0]) or row.get("reason") or ""
    return f'<td class="muted" title="{esc(why)}">—</td>'


def cell(row, field, text, note=""):
    value = load.number(row, field)
    return missing(row, field) if value is None else f'<td title="{value!r}{note}">{text(value)}</td>'


def truncated(row):
    """For the tooltip of a largest error: what of it a fixed count of iterations has left."""
    left, rest = (load.number(row, f"truncation.{key}") for key in ("truncation_max", "rounding_max"))
    return "" if left is None else f": stopped early {left!r}" + ("" if rest is None else f", rounding {rest!r}")


def time_cell(row):
    median, low, high = (load.number(row, f"time_s.{key}") for key in ("median", "ci95_low", "ci95_high"))
    if not median:
        return missing(row, "time_s")
    text, unit = style.seconds(median).split(" ")
    interval = ""
    if low and high:
        scale = {"s": 1, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}[unit]
        interval = f" <small>[{style.significant(low / scale)}, {style.significant(high / scale)}]</small>"
    return f'<td title="{median!r} s, 95 % from {low!r} to {high!r} s, {load.get(row, "time_s.samples")} samples">{text} {unit}{interval}</td>'


def floor_text(fraction):
    return f"{style.power(100 * fraction)} %" if fraction >= 1e-3 else "< 0.1 %"


def tables(rows):
    """Every row of the record, a table for each panel of the figures; the reason of a status stands below its row."""
    baselines = load.baselines(rows)
    names = load.swept_policy(rows)
    x = style.x_axis(rows) or "seq_len"
    groups = load.group(rows, lambda row: row["group_id"])
    graph = any(load.number(row, "time_graph_s") for row in rows)
    varied = load.varying(rows, load.CONTEXT)
    columns = [style.SIZE_SYMBOL[x], "solver", "status", "time, median [95\u202f%]", *["in a graph"] * graph, "floor / time", *(f"× {b}" for b in baselines), "iterations",
               "error / bound", "largest error"]
    head = "<tr>" + "".join(f'<th{" class=text" if name in ("solver", "status") else ""}>{esc(name)}</th>' for name in columns) + "</tr>"
    out = []
    for same in load.group(sorted(rows, key=style.in_order(rows)), lambda row: tuple(style.facet(row, x).values())).values():
        facets = style.facet(same[0], x)
        title = " · ".join(style.named(key, facets[key]) for key in dict.fromkeys(["cell", "shape", "storage", "regime", *varied]) if facets[key] is not None)
        odd = sum(not load.expected(row) for row in same)
        lines, before = "", None
        for row in sorted(same, key=lambda row: (row.get(x) or 0, load.rank(row["solver"]), load.variant(row, names) != "")):
            extra = load.variant(row, names)
            chosen = (row.get("policy") or {}).get("solver")  # of solver auto
            beside = ", ".join(filter(None, [extra, f"chose {chosen}" if chosen else ""]))
            new, before = row.get(x) != before, row.get(x)
            name = f'<span class="swatch" style="background:{css_colour(row["solver"])}"></span>{esc(row["solver"])}' + (f" <small>{esc(beside)}</small>" if beside else "")
            mark = "" if load.is_ok(row) else " as_expected" if load.expected(row) else " not_ok"
            note = "" if row["status"] == row["expected_status"] or load.expected(row) else f" <small>(expected: {STATUS_TEXT[row['expected_status']]})</small>"
            lines += (f'<tr{" class=first" if new else ""}><td>{style.size(row[x]) if new and row.get(x) is not None else ""}</td><td class="text">{name}</td>'
                      f'<td class="text{mark}">{STATUS_TEXT[row["status"]]}{note}</td>{time_cell(row)}' +
                      (cell(row, "time_graph_s", style.seconds, " s") if graph else "") + cell(row, "floor_fraction", floor_text))
            for baseline in baselines:
                ratio = load.speedup(row, baseline, groups[row["group_id"]])
                if ratio and row["solver"] == baseline and not extra:
                    lines += '<td class="muted">baseline</td>'
                elif ratio:
                    lines += f'<td title="{ratio[0]!r}, 95 % from {ratio[1]!r} to {ratio[2]!r}">{style.times(ratio[0])}</td>'
                else:
                    lines += missing(row, f"speedup.{baseline}")
            lines += cell(row, "iterations", lambda v: f"{v:g}") + cell(row, "error.test_ratio", style.power) + cell(row, "error.abs_max", style.power, truncated(row)) + "</tr>"
            if row.get("reason"):
                lines += f'<tr><td></td><td class="reason{mark}" colspan="{len(columns) - 1}">{esc(row["reason"])}</td></tr>'
        note = f', <span class="not_ok">{odd} not as expected</span>' if odd else ""
        out.append(f'<details{" open" if odd else ""}><summary>{esc(title)} <span>— {count_of(len(same), "row")}{note}</span></summary>'
                   f'<div class="scroll"><table class="rows">{head}{lines}</table></div></details>')
    return "<h2>All rows</h2>" + "".join(out)


def provenance_of(file):
    p = file["provenance"]
    gpu, build, host, suite = (p.get(key) or {} for key in ("gpu", "build", "machine", "suite"))
    lines = [("record", file["path"]), ("command", p.get("command")), ("time", p.get("time_utc")), ("commit", f"{p.get('commit')}{' with uncommitted changes' if p.get('dirty') else ''}"),
             ("GPU", ", ".join(text.format(gpu[key]) for key, text in (("name", "{}"), ("sm", "sm_{}"), ("driver", "driver {}"), ("memory_bytes", "{} bytes"), ("clock_mhz", "{} MHz"))
                               if gpu.get(key) is not None) or "none"),
             ("machine", ", ".join(str(v) for v in (host.get("cpu"), f"{host.get('cores')} cores", host.get("os")) if v)),
             ("build", ", ".join(f"{key}: {value}" for key, value in build.items())), ("copy bandwidth", f"{p.get('copy_bytes_per_s')} bytes/s, read + written"),
             ("empty launch", f"{p.get('launch_s')} s"), ("order seed", p.get("order_seed")), ("fingerprint", p.get("fingerprint")), ("suite", f"{suite.get('path')}, sha256 {suite.get('sha256')}")]
    lines += [("text", ", ".join(f"{key} {value}" for key, value in p["text"].items()))] if isinstance(p.get("text"), dict) and p["text"] else []
    body = "".join(f"<dt>{esc(name)}</dt><dd>{esc('—' if value is None else value)}</dd>" for name, value in lines)
    return f'<div class="card"><dl>{body}</dl></div><details><summary>The suite as it was run</summary><pre>{esc(suite.get("text") or "")}</pre></details>'


# ---------------------------------------------------------------------------------------------------------------------
# Page

def figures(records):
    """Every figure that the records have rows for; where they are of a suite of the paper, which command makes the records of the others."""
    suites = {load.suite_name(file["provenance"]) for file in records.files}
    of_paper = bool(suites & {suite for module in PAPER + BEYOND for suite in module.suites})
    drawn, absent, shown = [], [], set()
    for module in PAPER + BEYOND:
        found = module.draw(records.rows) if module in BEYOND or suites & set(module.suites) else None
        drawn += found or []
        if found:
            shown |= suites & set(module.suites)
        else:
            absent.append(module)
    rest = [row for file in records.files if load.suite_name(file["provenance"]) not in shown for row in file["rows"]]
    for module in GENERAL:
        drawn += module.draw(rest if module in SHOWN_BY_PAPER else records.rows) or []
    out = "".join(f'<figure><div class="scroll">{style.svg(fig, f"f{number}")}</div><figcaption>{unbroken(esc(fig.caption))}</figcaption></figure>' for number, fig in enumerate(drawn, 1))
    if not drawn:
        out = '<p class="muted">The record holds nothing that the figures show.</p>'
    if of_paper and absent:
        lines = "".join(f"<li>{esc(module.title)}: {' '.join(f'<code>{esc(command)}</code>' for command in style.commands(module))}</li>" for module in absent)
        out += f'<details><summary>{count_of(len(absent), "figure")} without records here <span>— which command makes them</span></summary><ul>{lines}</ul></details>'
    return "<h2>Figures</h2>" + out


def claim_table(judged):
    """Every claim of the paper with its verdict; what holds or not with value, interval and the parts that decide."""
    lines = ""
    for v in judged:
        decided = v["verdict"] in (claims.HOLDS, claims.FAILS)
        mark = " not_ok" if v["verdict"] == claims.FAILS else "" if decided else " as_expected"
        value = ""
        if v["value"] is not None:
            low, high = v["interval"]
            value = f'<span title="{v["value"]!r}">{style.significant(v["value"])}</span> <small>[{style.significant(low)}, {style.significant(high)}]</small>'
        weak = f"<small>against {esc(v['weak_baseline'])} alone</small>" if v.get("weak_baseline") else ""
        parts = "".join(f"<li{'' if part['holds'] else ' class=not_ok'}>{esc(part['what'])}: {style.significant(part['value'])} "
                        f"[{style.significant(part['interval'][0])}, {style.significant(part['interval'][1])}]{'' if part['decides'] else ' (shown, does not decide)'}</li>" for part in v["parts"])
        parts = f"<details><summary>{count_of(len(v['parts']), 'part')}, {count_of(len(v['case_ids']), 'row')}</summary><ul>{parts}</ul></details>" if decided else ""
        how = "".join(f"<br><code>{esc(command)}</code>" for command in v["commands"])
        lines += (f'<tr class="first"><td class="text">{v["id"]}</td><td class="reason">{esc(v["title"])} <small>({esc(v["where"])})</small></td>'
                  f'<td class="text{mark}">{v["verdict"]} {weak}</td><td>{value}</td></tr>'
                  f'<tr><td></td><td class="reason as_expected" colspan="3">{esc(v["reason"])}{how}{parts}</td></tr>')
    return (f'<h2>Claims of the paper</h2><div class="card scroll"><table class="rows"><tr><th class="text">id</th><th class="text">claim</th><th class="text">verdict</th>'
            f'<th>value [interval]</th></tr>{lines}</table><figcaption>A claim holds where the whole interval of every part that decides does; value and interval are those of the part that is '
            f'nearest to failing, or fails by most. verdicts.json beside this page has the same with the case_ids.</figcaption></div>')


def page(records, judged):
    rows, provenance = records.rows, records.provenance
    titles = [load.suite_of(file["provenance"]).get("title") or load.suite_name(file["provenance"]) for file in records.files]
    title = "; ".join(dict.fromkeys(map(str, titles)))
    body = [f'<p class="eyebrow">prnn report · suite {esc(", ".join(dict.fromkeys(load.suite_name(file["provenance"]) for file in records.files)))}</p>',
            f"<h1>{esc(title[:1].upper() + title[1:])}</h1>", verdict(rows, records)]
    if rows:
        cards = [("What was measured", measured(rows)), ("On what", machine(provenance) + [f"and {count_of(len(records.files) - 1, 'more record')}"] * (len(records.files) > 1)),
                 ("What came out", outcome(rows))]
        body.append('<div class="facts">' + "".join(f"<section><h3>{name}</h3><ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul></section>" for name, lines in cards) + "</div>")
        body.append(headline(rows))
        decided = any(v["verdict"] in (claims.HOLDS, claims.FAILS) for v in judged)
        if decided:
            body.append(claim_table(judged))
        body.append(figures(records))
        body.append(laws(rows))
        body.append(f'<h2>How to read this</h2><ul class="how">{"".join(f"<li>{line}</li>" for line in HOW)}</ul>')
        body.append(tables(rows))
    if not rows or not decided:
        body.append(claim_table(judged))
    body.append("<h2>Provenance</h2>" + "".join(provenance_of(file) for file in records.files))
    colours = {**PAGE_COLOURS}
    block = lambda scheme: "".join(f"--{name}:{pair[scheme]};" for name, pair in colours.items())
    css = style.css() + f":root{{{block(0)}}}\n@media (prefers-color-scheme:dark){{:root{{{block(1)}}}}}" + PAGE_CSS
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{esc(title)} · prnn</title>\n<style>\n{css}</style></head>\n<body><main>\n" + "\n".join(body) + "\n</main></body></html>\n")


def verdicts(records, judged):
    """The content of verdicts.json: judged, what claims.judge() says of the records, and the powers by which errors grow."""
    return {"schema": 1, "records": [file["path"] for file in records.files],
            "verdicts": judged,
            "error_laws": [{**{key: value for key, value in law["facets"].items() if value is not None}, **{key: value for key, value in law.items() if key != "facets"}}
                           for law in error_vs_length.error_laws(records.rows)]}


def write_whole(path, text):
    """The whole file or none: a kill or a full disk leaves what was there before."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def main():
    parser = style.Arguments(description=__doc__)
    parser.add_argument("files", nargs="+", help="record files (JSON lines)")
    parser.add_argument("--out", default=None, help="directory for the page and verdicts.json [that of the first file]")
    args = parser.parse_args()
    try:
        records = load.read(args.files)
    except load.BadRecord as error:
        print(error, file=sys.stderr)
        return 64
    out = pathlib.Path(args.out) if args.out else pathlib.Path(args.files[0]).parent
    name = pathlib.Path(args.files[0]).stem
    try:
        out.mkdir(parents=True, exist_ok=True)
        judged = claims.judge(records)
        write_whole(out / f"{name}.html", page(records, judged))
        write_whole(out / "verdicts.json", json.dumps(verdicts(records, judged), indent=1) + "\n")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            print(f"{out}: {error.strerror}; expected room for the page", file=sys.stderr)
            return 5
        print(f"{error.filename or out}: {error.strerror}; expected a directory that can be written", file=sys.stderr)
        return 64
    print(out / f"{name}.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
