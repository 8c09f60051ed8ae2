// commands.hpp: the commands of prnn that stand in files of their own, and what they share. Each returns an exit code of design section 1.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "kernels/api.hpp"

namespace prnn {

/// auto | cuda | cpu | emulated -> machine; auto: CUDA where there is a GPU, else the CPU. Throws BadInput with the reason where it cannot be had.
std::unique_ptr<Machine> open_machine(const std::string& device);

/// Where suites/, plots/ and build/ lie: the tree whose build/<preset>/ holds the program, else the sources it was built from, else the program's own folder.
/// Never the folder it is called from.
std::filesystem::path home_directory();
std::filesystem::path build_directory();

/// Where 50-digit truths are kept, and kernels compiled at run time: $PRNN_CACHE, else build/reference.
std::filesystem::path cache_directory();

struct Page {
  int status = 5;    // an exit code
  std::string said;  // its path, or one line on what went wrong
};
/// plots/report.py in a process of its own: Python and matplotlib are not needed to measure. out: directory; empty: that of the first record.
Page make_report(const std::vector<std::string>& files, const std::string& out);

struct GateFlags {
  std::string record, policy, calibration, junit, markdown;  // empty: not given
  std::vector<std::string> baselines;                        // names, records or folders
  bool replay = false, lenient = false, json = false;
};
int gate_command(const GateFlags&, const std::string& command);  // command: the line that called it
/// Ratios of times, b over a; each a record, a folder of them or a saved baseline.
int compare_command(const std::string& a, const std::string& b, bool json);

int list_command(const std::string& what, bool json);
int info_command(bool json);
int witness_command(const std::vector<std::string>& files, const std::string& solver_pattern, const std::string& device, bool json);
int selftest_command(bool trivial, bool json);
int bench_command(const std::vector<std::string>& arguments);  // SUITE [--device D] [--benchmark_...]; bench.cpp

}  // namespace prnn
