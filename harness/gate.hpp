// gate.hpp: the verdict on a record against a baseline: a pure function of records and a policy, case by case (design section 1: what each exit code means).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "harness/comparison.hpp"
#include "harness/gate_policy.hpp"
#include "harness/record_files.hpp"

namespace prnn {

/// 1.043 -> "+4.3 %".
std::string readable_ratio(double ratio);

/// In the order of exit codes: the first that a sweep has is its own.
enum class Finding { wrong, broken, not_converged, slower, inconclusive, unenforceable, pass };
std::string_view to_string(Finding);
int exit_code(Finding);

/// One comparison of a case: "time", or "speedup over SOLVER" (of which less is worse: ratio is baseline over candidate).
struct Compared {
  std::string metric;
  double ratio = 1, low = 1, high = 1;    // candidate over baseline, above 1 is worse; 95 %
  double margin = 0, enforced = 0;        // shares; enforced: the margin, or the smallest detectable effect where that is larger
  double detectable = 0, p = 1;           // p: of the ratio where the truth is the enforced margin
  std::optional<double> ratio_in_cycles;  // where both clocks were seen
  std::string basis;                      // what the interval rests on
  Finding finding = Finding::pass;
};

struct CaseVerdict {
  std::string case_id, group_id;
  Finding finding = Finding::pass;
  std::string reason;                        // of a finding that is not pass
  std::optional<double> time_s, baseline_s;  // medians of the first runs, seconds
  std::vector<Compared> compared;
  std::size_t runs = 1;  // of the candidate

  bool worth_a_run(std::int64_t most) const;  // inconclusive, or slower by the word of one process
};

struct GateVerdict {
  std::string candidate, baseline;
  std::vector<CaseVerdict> cases;  // in the order of the candidate, then what it lacks
  std::vector<std::string> notes;
  Finding finding() const;
  std::size_t count(Finding) const;
};

/// candidate.files[0] is judged, the others are fresh runs of it. partners: records that took turns with some of the candidate's, beside those in baseline, or of the calibration's. calibration: A/A runs for
/// the noise, of pairs where they took turns; null: the baseline's own, where there are enough. Throws BadInput where the policy asks for absolute times across machines, or the records have no case in common.
GateVerdict judge(const Runs& candidate, const Runs& baseline, const std::vector<RecordFile>& partners, const Runs* calibration, const GatePolicy&);

/// Times alone, of all cases that both have, without a policy's margins.
std::vector<CaseVerdict> compare(const Runs& candidate, const Runs& baseline, const std::vector<RecordFile>& partners, const GatePolicy&);

/// What is known of a case from A/A runs: median of the runs, seconds, and the noise between them; none below kFewestRuns.
struct NoiseFloor {
  std::string case_id;
  double time_s = 0;
  std::size_t runs = 0;
  std::optional<RunNoise> noise;
  std::optional<double> detectable;  // share, by one run against all of these
};
std::vector<NoiseFloor> noise_floors(const Runs&);

}  // namespace prnn
