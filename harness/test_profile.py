"""Tests of harness/profile.sh and its table, with a program and a profiler that say what they are told to."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import profile_table as table  # noqa: E402

COLUMNS = ["ID", "Kernel Name", "Block Size", "Grid Size", table.READ, table.WRITTEN, table.TIME, table.REGISTERS, table.WARPS]
UNITS = ["", "", "", "", "byte", "byte", "ns", "register/thread", "%"]
CASE = "recurrence/kernel/gru_diag/forward/all/f32/B8/D1024/L2048/paper/h0=zero/seed=1/exact/adaptive/rotating/"
NAME = "void prnn::cuda::step_kernel<prnn::GruDiag, float>(prnn::cuda::Layout<prnn::GruDiag>, void (*)(int))"


def profile(*launches):
    rows = [COLUMNS, UNITS, *([str(i), *map(str, launch)] for i, launch in enumerate(launches))]
    return "==PROF== Connected\n" + "".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in rows)


def row_of(**changes):
    row = {"name": "step_kernel<GruDiag, float>", "solver": "seq_fused", "storage": "f32", "pass": "forward", "threads": 128, "registers": 40}
    row |= {"local_bytes": 8, "static_shared_bytes": 16, "dynamic_shared_bytes": 64, "blocks_a_multiprocessor": 5, "occupancy": 0.3125}
    return row | changes


class Table(unittest.TestCase):
    def test_a_kernel_s_name_loses_its_parameters_and_our_namespaces(self):
        self.assertEqual(table.short(NAME), "step_kernel<GruDiag, float>")
        self.assertEqual(table.short("plain"), "plain")

    def test_equal_launches_are_one_line_of_medians(self):
        text = profile((NAME, "(128, 1, 1)", "(8, 1, 1)", 10, 1, 5, 40, 50), (NAME, "(128, 1, 1)", "(9, 1, 1)", 7, 1, 5, 40, 50), (NAME, "(128, 1, 1)", "(8, 1, 1)", "1,020", 3, 7, 40, 60))
        (name, count, of), (_, other, _) = table.kernels(table.launches(text))
        self.assertEqual((name, count, other), ("step_kernel<GruDiag, float>", 2, 1))
        self.assertEqual([of[m] for m in (table.READ, table.WRITTEN, table.TIME, table.REGISTERS, table.WARPS)], [515, 2, 6, 40, 55])

    def test_bytes_moved_stand_against_bytes_min(self):
        record = json.dumps({"record": "provenance"}) + "\n" + json.dumps({"record": "case", "bytes_min": 2e6}) + "\n"
        lines, whole = table.case_lines(CASE + "seq_fused", 0, profile((NAME, "(128, 1, 1)", "(8, 1, 1)", 2e6, 1e6, 1e3, 40, 50)), "", record)
        self.assertTrue(whole)
        self.assertEqual(lines[0], "seq_fused gru_diag forward f32 B8 D1024 L2048: bytes_min 2.0 MB")
        for part in ("1 x      1.0 us", "2.0 MB read", "1.0 written =  1.500 bytes_min", " 3000 GB/s", " 40 registers", "50.0 % of warps", "step_kernel<GruDiag, float>"):
            self.assertIn(part, lines[1])

    def test_what_was_not_profiled_says_why(self):
        def why(code, profiled, log):
            lines, whole = table.case_lines(CASE + "seq_fused", code, profiled, log, "")
            self.assertFalse(whole)
            return lines[0].split(": ", 1)[1]

        self.assertEqual(why(1, "==PROF== x\n==ERROR== ERR_NVGPUCTRPERM - no permission\n", ""), "refused: ERR_NVGPUCTRPERM - no permission")
        self.assertEqual(why(124, "", ""), "no end within its time")
        self.assertEqual(why(137, "", ""), "no end within its time")
        self.assertEqual(why(2, "", "a\nthe end\n"), "exit code 2: the end")
        self.assertEqual(why(2, "", ""), "exit code 2")

    def test_a_kernel_is_listed_once_in_each_size(self):
        lines = table.kernel_lines([row_of(), row_of(batch=2), row_of(threads=256), {"name": None, "why_not": "no GPU"}])
        self.assertEqual(len(lines), 4)
        self.assertEqual(lines[1].split(), "128 40 8 16 64 5 0.31 seq_fused f32 forward: step_kernel<GruDiag, float>".split())
        self.assertEqual(lines[3], "none: no GPU")


class Script(unittest.TestCase):
    def run_with(self, gpu, refused):
        """profile.sh over two cases and one that is skipped -> (exit code, the words that ncu was called with, the text that it wrote)."""
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            (folder / "info").write_text(json.dumps({"commit": "0123456789", "dirty": False, "gpu": gpu}, separators=(",", ":")))
            listed = [row_of(), row_of(name="cub::detail::scan::DeviceScanKernel<int>"), {"name": None, "why_not": "no room"}]
            (folder / "kernels").write_text(json.dumps(listed, separators=(",", ":")))
            (folder / "plan").write_text(f"  96.0 MiB  {CASE}seq_fused\n  96.0 MiB  {CASE}newton_unfused\n  96.0 MiB  {CASE}reduction  skipped: no forward\n")
            (folder / "csv").write_text("==ERROR== no counters\n" if refused else profile((NAME, "(128, 1, 1)", "(8, 1, 1)", 2e6, 1e6, 1e3, 40, 50)))
            (folder / "prnn").write_text(f'#!/bin/sh\ncase "$1" in info) cat {folder}/info ;; list) cat {folder}/kernels ;; run) cat {folder}/plan ;; esac\n')
            (folder / "ncu").write_text(
                f'#!/bin/bash\necho "$*" >>{folder}/said\nwhile (($#)); do case $1 in --log-file) cp {folder}/csv "$2" ;; --out) echo \'{{"record":"case","bytes_min":2e6}}\' >"$2" ;; esac; shift; done\n'
            )
            for program in ("prnn", "ncu"):
                (folder / program).chmod(0o755)
            environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
            done = subprocess.run([HERE / "profile.sh", folder / "prnn", folder / "out", "--set", "storage=f16"], env=environment, capture_output=True, text=True, timeout=60)
            written = sorted((folder / "out").glob("*")) if (folder / "out").exists() else []
            said = (folder / "said").read_text() if (folder / "said").exists() else ""
            return done.returncode, said, "".join(f"{path.name}\n{path.read_text()}" for path in written)

    def test_each_case_is_profiled_alone(self):
        code, said, text = self.run_with({"name": "NVIDIA H200"}, refused=False)
        self.assertEqual(code, 0)
        first, second = said.splitlines()
        for words in (first, second):
            self.assertIn("regex:^(DeviceScanKernel|step_kernel)$", words)
            self.assertIn("--set storage=f16", words)
        self.assertIn("exact/[^/]*/rotating/seq_fused$", first)
        self.assertNotIn("iteration_limit", first)
        self.assertIn("--set iteration_limit=1", second)
        self.assertRegex(text, r"^h200-\d{4}-\d\d-\d\d-0123456\.txt\n")
        self.assertEqual(text.count("1.500 bytes_min"), 2)
        self.assertIn("no room", text)

    def test_a_refusal_is_reported_as_one(self):
        code, _, text = self.run_with({"name": "NVIDIA H200"}, refused=True)
        self.assertEqual(code, 5)
        self.assertEqual(text.count("refused: no counters"), 2)

    def test_without_a_gpu_nothing_is_written(self):
        self.assertEqual(self.run_with(None, refused=False), (64, "", ""))


if __name__ == "__main__":
    unittest.main()
