// bench.hpp: the cases of a plan as Google Benchmarks in manual-time mode, for those who have tools for that format.
#pragma once

#include <string>
#include <vector>

#include "harness/plan.hpp"

namespace benchmark {
class BenchmarkReporter;
}

namespace prnn {

/// Registers every case that is not skipped under its case_id and runs those that the --benchmark_ flags choose. Each is verified first; one that is not right is reported as an error.
/// The number of iterations is ours, not the library's: with manual time it has no wall-clock cap. Returns the exit code of design section 1; throws BadInput for a flag that the library does not know.
/// reporter null: the library's own, for --benchmark_format; that one serves a single call in a process.
int bench(const Suite&, const std::vector<Group>&, Machine&, const std::vector<std::string>& flags, benchmark::BenchmarkReporter* reporter = nullptr);

}  // namespace prnn
