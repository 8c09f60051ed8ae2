"""C01, C02, C05, C06, C07: how fast the whole cell is, against what, and how its time grows with the length."""

from . import evidence as e

REACHED = {"larger": 665, "smaller": 447}  # C01; the paper does not say which cell reaches which
LENGTH = 512  # of C01 and C05
LINEAR_FROM = 64  # steps; below, what a launch costs at all is no small part
AGAINST_LINEAR = {("gru_diag", "newton_unfused"): 1.2, ("lstm_cifg_diag", "newton_unfused"): 0.5, ("gru_diag", "newton_fused"): 2.6, ("lstm_cifg_diag", "newton_fused"): 1.5}
UNFUSED_GRU_WINS_FROM = 2**12
FRAMEWORK_NEWTON = "torch_newton"
LOOPS = e.FRAMEWORK_LOOPS["forward"]
PEERS = "harness/peers/run.py suites/peers{}.toml"  # makes the rows of a framework, by pass


def best_ratios(evidence, baseline):
    """{cell: (ratio, rows)}: where newton_fused gains most on a baseline, whatever the shape."""
    best = {}
    for slow, fast in evidence.pairs(evidence.times(solver=baseline, seq_len=LENGTH), evidence.times(solver="newton_fused", seq_len=LENGTH)):
        found = (e.ratio(slow, fast), [slow, fast])
        if fast["cell"] in e.CELLS and found[0][0] > best.get(fast["cell"], ((0,), None))[0][0]:
            best[fast["cell"]] = found
    return best


def c01(evidence):
    """Naive is one launch a step; what a framework's loop costs on top is no merit of Newton's method, so a claim that only that baseline supports says so."""
    tried, missing = {}, []
    for baseline in ["seq_stepwise", *LOOPS, "seq_fused"]:
        best = best_ratios(evidence, baseline)
        parts = []
        for (cell, (measure, rows)), least in zip(sorted(best.items(), key=lambda item: -item[1][0][0]), REACHED.values()):
            parts.append(e.part(f"{cell}, newton_fused against {baseline}, best shape ({e.at(rows[1])})", measure, rows, least))
        if len(best) == len(e.CELLS):
            tried[baseline] = parts
    naive = [baseline for baseline in tried if baseline != "seq_fused"]
    if not naive:
        return e.finding([], missing=["newton_fused and seq_stepwise or a framework loop at L = 512, both cells"])
    meets = [baseline for baseline in naive if all(p["holds"] for p in tried[baseline])]
    decisive = meets[0] if meets else max(naive, key=lambda baseline: tried[baseline][0]["value"])
    weak = decisive if meets and decisive in LOOPS else None
    for baseline, parts in tried.items():
        for p in parts:
            p["decides"] = baseline == decisive
    said = lambda baseline: (" and ".join(f"{p['value']:.3g}" for p in tried[baseline]) + f" times against {baseline}") if baseline in tried else f"no rows of {baseline}"
    reason = f"{'holds against a weak baseline alone: ' if weak else ''}{said(decisive)}"
    others = [baseline for baseline in ["seq_stepwise", *LOOPS, "seq_fused"] if baseline != decisive]
    how = "" if set(LOOPS) & set(tried) else f" ({PEERS.format('')} makes them)"
    return e.finding([p for parts in tried.values() for p in parts], f"{reason}; {', '.join(map(said, others))}{how}", weak_baseline=weak)


def c02(evidence):
    parts, missing = [], []
    for cell in e.CELLS:
        lines = e.load.group([row for row in evidence.times(cell=cell, solver="seq_stepwise") if row["seq_len"] >= LINEAR_FROM], e.shape)
        found = [(exponent, rows) for rows in lines.values() if (exponent := e.slope(rows))]
        parts.append(e.each(f"{cell}, exponent of seq_stepwise from L = {LINEAR_FROM}", found, *e.LINEAR))
        missing += [] if found else [f"{cell} by seq_stepwise, four lengths from {LINEAR_FROM}"]
        short = [row for row in evidence.times(cell=cell, solver="newton_fused") if row["seq_len"] <= LENGTH]
        fewest = min(map(e.channels, short), default=None)
        for (batch, hidden), rows in e.load.group(short, e.shape).items():
            found, fills = e.slope(rows), batch * hidden > fewest
            what = f"{cell}, exponent of newton_fused to L = {LENGTH}, {batch} x {hidden} channels"
            parts.append(e.part(what + (", which fill the machine sooner" if fills else ""), found, rows, -1, e.FLAT, decides=not fills) if found else None)
        missing += [] if any(p and p["decides"] and "newton_fused" in p["what"] and cell in p["what"] for p in parts) else [f"{cell} by newton_fused, four lengths to {LENGTH}"]
    return e.finding(parts, "exponents of time over length, fitted in the logarithms; the fewest channels decide whether the parallel time is flat", missing)


def linear_times(evidence, **fields):
    """Rows of the linear cells, by one pass over memory."""
    return e.one_pass([row for row in evidence.times(**fields) if str(row["cell"]).startswith("linear")])


def against_linear(evidence, cell, solver, **fields):
    """[(ratio, rows)]: time of each linear cell over that of a solver at the same sizes."""
    mine = {e.sizes(row): row for row in reversed(evidence.times(cell=cell, solver=solver, **fields))}
    return [(e.ratio(row, mine[e.sizes(row)]), [row, mine[e.sizes(row)]]) for row in linear_times(evidence, **fields) if e.sizes(row) in mine]


def c05(evidence):
    parts, missing = [], []
    for (cell, solver), least in AGAINST_LINEAR.items():
        found = against_linear(evidence, cell, solver, seq_len=LENGTH)
        parts.append(e.each(f"{cell} by {solver}, {least} times as fast as the linear cell", found, least))
        missing += [] if found else [f"{cell} by {solver} beside a linear cell at L = {LENGTH}"]
    return e.finding(parts, f"time of the linear cell over that of the solver, L = {LENGTH}, every shape", missing)


def ranking(evidence, pass_):
    """(parts, missing, weak baseline or None): sequential over framework Newton over unfused over fused, at every size; but unfused GRU under fused beyond 2^12.
    The paper's sequential one is a framework's loop: where that was measured it decides, and one launch a step stands beside it."""
    rows = lambda solver: [row for row in evidence.times(solver=solver, **{"pass": pass_}) if row["cell"] in e.CELLS]
    turned = lambda row: row["cell"] == "gru_diag" and row["seq_len"] > UNFUSED_GRU_WINS_FROM
    ratios = lambda slow, fast: [(e.ratio(a, b), [a, b]) for a, b in evidence.pairs(rows(slow), rows(fast))]
    loops = [loop for loop in e.FRAMEWORK_LOOPS[pass_] if rows(loop)]
    middle = FRAMEWORK_NEWTON if rows(FRAMEWORK_NEWTON) else "newton_unfused"
    of_loops = [e.each(f"{loop} slower than {middle}", ratios(loop, middle), 1) for loop in loops]
    stepwise = e.each("seq_stepwise slower than newton_unfused", ratios("seq_stepwise", "newton_unfused"), 1, decides=not any(of_loops))
    parts = [*of_loops, stepwise, e.each(f"{FRAMEWORK_NEWTON} slower than newton_unfused", ratios(FRAMEWORK_NEWTON, "newton_unfused"), 1)]
    neighbours = ratios("newton_unfused", "newton_fused")
    parts.append(e.each("newton_unfused slower than newton_fused", [(measure, pair) for measure, pair in neighbours if not turned(pair[1])], 1))
    beyond = [((1 / value, 1 / high, 1 / low), pair) for (value, low, high), pair in neighbours if turned(pair[1])]
    parts.append(e.each("gru_diag, newton_fused slower than newton_unfused beyond L = 2^12", beyond, 1))
    missing = [] if any(of_loops) or stepwise else ["a sequential solver beside newton_unfused"]
    missing += [] if neighbours else ["newton_unfused beside newton_fused"]
    missing += [] if beyond else ["gru_diag by newton_unfused and newton_fused beyond L = 2^12"]
    weak = loops[0] if any(of_loops) and stepwise and not stepwise["holds"] else None
    return parts, missing, weak


def said_of(parts, weak, peers):
    framework = "" if any(p and p["what"].startswith("torch_") for p in parts) else f"; no rows of a framework here ({peers} makes them)"
    return "smallest ratio of two neighbours in the order, every shape and length, by intervals" + (f"; only against {weak}, not against seq_stepwise" if weak else "") + framework


def c06(evidence):
    parts, missing, weak = ranking(evidence, "forward")
    return e.finding(parts, said_of(parts, weak, PEERS.format("")), missing, weak_baseline=weak)


def c07(evidence):
    parts, missing, weak = ranking(evidence, "both")
    gains = []
    sizes = lambda pair: (pair[0]["cell"], *(pair[0][key] for key in e.load.SIZES))  # of the linear cell
    for cell in e.CELLS:
        forward = {sizes(pair): (measure, pair) for measure, pair in against_linear(evidence, cell, "newton_fused")}
        for both, pair in against_linear(evidence, cell, "newton_fused", **{"pass": "both"}):
            if sizes(pair) in forward:
                (value, low, high), alone = forward[sizes(pair)]
                gains.append(((both[0] / value, both[1] / high, both[2] / low), [*alone, *pair]))
    parts.append(e.each("newton_fused gains on the linear cell from forward to forward and backward", gains, 1))
    missing += [] if gains else ["a linear cell and newton_fused, pass forward and pass both"]
    return e.finding(parts, said_of(parts, weak, PEERS.format("_both")), missing, weak_baseline=weak)


JUDGES = {"C01": c01, "C02": c02, "C05": c05, "C06": c06, "C07": c07}
