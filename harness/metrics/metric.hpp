// metric.hpp: a metric fills its own fields of a row. One file a metric, entering itself into metrics(); a suite names those it wants.
#pragma once

#include <string>
#include <vector>

#include "harness/record.hpp"
#include "harness/timer.hpp"
#include "kernels/api.hpp"
#include "reference/reference.hpp"

namespace prnn {

/// The errors of each output that a pass has.
struct CaseErrors : GradientReports {
  ErrorReport h;
  GradientReports end_to_end;  // pass both: no verdict
  CaseErrors() = default;
  explicit CaseErrors(const LocalRatios& ratios) {
    h.ratio_local = ratios.h.value_or(0);
    du.ratio_local = ratios.du.value_or(0);
    da.ratio_local = ratios.da.value_or(0);
    dh0.ratio_local = ratios.dh0.value_or(0);
  }
  /// The report that decides.
  const ErrorReport& worst() const {
    const ErrorReport* most = &h;
    for (const ErrorReport* other : {&du, &da, &dh0}) {
      if (!(other->test_ratio() <= most->test_ratio()) && most->test_ratio() == most->test_ratio()) most = other;
    }
    return *most;
  }
};

/// Everything known of a case that has run. tensors hold the output of the verifying launch in Metric::verified, anything later.
struct CaseContext {
  const Suite& suite;
  const Case& planned;
  const Op& op;
  const Solver& solver;
  Machine& machine;
  Run& run;
  const Tensors& tensors;
  ReferenceCache* reference;     // null: no truth, the local test judges alone
  GradientReference* gradients;  // of the group; null: as reference, or the pass has none
  double copy_bytes_per_s;       // as in the provenance; not a number where nothing is timed
  Outcome outcome{};             // of the verifying launch
  CaseErrors errors{};           // ratio_local is there from the start
  const Timing* timing = nullptr;
};

struct Metric {
  std::string name;  // as in a suite; "limit" goes with time
  bool (*wanted)(const Suite&);
  /// After the verifying launch, before the verdict; reads its output, launches nothing. Null: nothing to do.
  void (*verified)(CaseContext&, CaseRecord&);
  /// After all `verified`, before any timing: may launch on the tensors again. Null: nothing to do.
  void (*traced)(CaseContext&, CaseRecord&);
  /// After timing; `timing` is set. Null: nothing to do.
  void (*timed)(CaseContext&, CaseRecord&);
};
std::vector<Metric>& metrics();

inline void add_metric(Metric metric) { metrics().push_back(std::move(metric)); }

/// What samples say of a time; samples_s is not empty.
TimeSummary summary_of(const std::vector<double>& samples_s, const std::string& method);

/// Operations a second of one multiprocessor, a clock.
struct InstructionRates {
  double flops32, flops64, special32;
};
/// NVIDIA, CUDA C++ Programming Guide, "Throughput of Native Arithmetic Instructions" (results per clock and multiprocessor), a multiply-add counted as two
/// operations; sm 8.0, 8.6, 8.9 and 9.0, no guess for others.
std::optional<InstructionRates> instruction_rates(int sm);

}  // namespace prnn
