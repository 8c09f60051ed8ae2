"""profile_table.py WORK OUT: what harness/profile.sh has gathered in WORK, as one text of two tables in the folder OUT. Exit code 5 where a case has no numbers."""

import csv
import json
import pathlib
import statistics
import sys
import time

READ, WRITTEN, TIME, REGISTERS, WARPS = (
    "dram__bytes_read.sum",
    "dram__bytes_write.sum",
    "gpu__time_duration.sum",
    "launch__registers_per_thread",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
)


def short(kernel):
    """A kernel's name without its parameters and our namespaces."""
    depth, end = 0, len(kernel)
    if kernel.endswith(")"):
        for end in range(len(kernel) - 1, -1, -1):
            depth += {")": 1, "(": -1}.get(kernel[end], 0)
            if depth == 0:
                break
    return kernel[:end].removeprefix("void ").replace("prnn::cuda::", "").replace("prnn::", "")


def launches(text):
    """ncu --csv --page raw --print-units base -> [{column: text}], a launch each; the line of units is left out."""
    lines = [line for line in text.splitlines() if line.startswith('"')]
    return [row for row in csv.DictReader(lines) if row["ID"]]


def kernels(rows):
    """[(kernel, launches, {metric: median over its launches})], equal launches together, in the order of the first."""
    groups = {}
    for row in rows:
        groups.setdefault((short(row["Kernel Name"]), row["Grid Size"], row["Block Size"]), []).append(row)
    metrics = (READ, WRITTEN, TIME, REGISTERS, WARPS)
    return [(name, len(group), {m: statistics.median(float(row[m].replace(",", "")) for row in group) for m in metrics}) for (name, _, _), group in groups.items()]


def why_not(log, profile, code):
    """What kept a case from being profiled, in the words of the tool, of the program or by the exit code."""
    for line in (profile + "\n" + log).splitlines():
        if line.startswith("==ERROR=="):
            return "refused: " + line.removeprefix("==ERROR==").strip()[:150]
    if code in (124, 137):
        return "no end within its time"
    lines = log.strip().splitlines()
    return f"exit code {code}" + (f": {lines[-1][:150]}" if lines else "")


def case_lines(case_id, code, profile, log, record):
    """Lines of the first table for one case, and whether it has numbers."""
    words = case_id.split("/")
    label = " ".join((words[-1], words[2], words[3], words[5], *words[6:9]))
    found = kernels(launches(profile))
    bytes_min = next((row["bytes_min"] for row in map(json.loads, record.splitlines()) if row.get("record") == "case"), None)
    if not found or bytes_min is None:
        return [f"{label}: {why_not(log, profile, code)}"], False
    lines = [f"{label}: bytes_min {bytes_min / 1e6:.1f} MB"]
    for name, count, of in found:
        moved = of[READ] + of[WRITTEN]
        lines.append(
            f"  {count:3d} x {of[TIME] / 1e3:8.1f} us {of[READ] / 1e6:8.1f} MB read {of[WRITTEN] / 1e6:8.1f} written = {moved / bytes_min:6.3f} bytes_min,"
            f" {moved / of[TIME]:5.0f} GB/s, {of[REGISTERS]:3.0f} registers, {of[WARPS]:4.1f} % of warps  {name}"
        )
    return lines, True


def kernel_lines(rows):
    """The second table: a line for each kernel in each size it is launched in."""
    lines = ["threads registers local static dynamic blocks/SM occupancy (bytes of a thread; of a block)"]
    seen = set()
    for row in rows:
        if row["name"] is None:
            lines.append(f"{row.get('solver', 'none')}: {row['why_not']}")
            continue
        line = (
            f"{row['threads']:7d} {row['registers']:9d} {row['local_bytes']:5d} {row['static_shared_bytes']:6d} {row['dynamic_shared_bytes']:7d} {row['blocks_a_multiprocessor']:9d} "
            f"{row['occupancy']:9.2f} {row['solver']} {row['storage']} {row['pass']}: {row['name']}"
        )
        if (line, row["storage"]) not in seen:
            lines.append(line)
        seen.add((line, row["storage"]))
    return lines


def main(work, out):
    info, listed = json.loads((work / "info.json").read_text()), json.loads((work / "kernels.json").read_text())
    whole, lines = True, []
    for case in sorted(work.glob("*.case")):
        case_id, code = case.read_text().split()
        texts = [path.read_text() if path.exists() else "" for path in (case.with_suffix(end) for end in (".csv", ".log", ".jsonl"))]
        added, has_numbers = case_lines(case_id, int(code), *texts)
        lines += added
        whole = whole and has_numbers
    gpu = info["gpu"]["name"]
    head = [
        f"{gpu}, commit {info['commit'][:7]}{' (dirty)' if info['dirty'] else ''}. First: one launch under Nsight Compute, caches flushed before it, medians of equal launches; time under the profiler.",
        "newton_unfused is recorded with one solve. Then: every kernel that a solver launches with its shipped policy at some shape (prnn list kernels).",
    ]
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{gpu.split()[-1].lower()}-{time.strftime('%Y-%m-%d', time.gmtime())}-{info['commit'][:7]}.txt"
    path.write_text("\n".join(head + [""] + lines + [""] + kernel_lines(listed)) + "\n")
    print(path)
    return 0 if whole and lines else 5


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])))
