// noise_floor.cpp: see noise_floor.hpp.
#include "harness/noise_floor.hpp"

#include <cmath>
#include <span>

#include "harness/gate_policy.hpp"
#include "harness/sessions.hpp"
#include "harness/statistics.hpp"

namespace prnn {

std::vector<RunValue> times_of(const std::vector<const CaseRecord*>& rows) {
  std::vector<RunValue> runs;
  for (const CaseRecord* row : rows) {
    if (!row->samples_s.empty()) runs.push_back(run_value(row->samples_s, hash_text(row->case_id)));
  }
  return runs;
}

std::vector<NoiseFloor> noise_floors(const Runs& runs, const std::vector<RecordFile>& partners) {
  const GatePolicy policy;
  const double miss = policy.inconclusive / static_cast<double>(runs.files.front().rows.size());
  const std::vector<Session> of_one_build = sessions_of_one_build(runs.files, partners);
  std::vector<NoiseFloor> floors;
  for (const CaseRecord& row : runs.files.front().rows) {
    const std::vector<RunValue> values = times_of(rows_of(runs.files, row.case_id));
    if (values.empty()) continue;
    std::vector<double> logs;
    for (const RunValue& value : values) logs.push_back(value.value);
    NoiseFloor floor{.case_id = row.case_id, .time_s = std::exp(median(logs)), .runs = values.size()};
    const PairsOfProcesses pairs = pairs_of(of_one_build, row.case_id);
    if (values.size() >= kFewestRuns) {
      floor.noise = run_noise(values);
      floor.detectable = std::expm1(compare_runs(std::span(values).first(1), values, *floor.noise, 1, miss).detectable);
    }
    if (pairs.visits.size() >= kFewestRuns) {
      floor.of_pairs = pair_noise(pairs.visits);
      const std::vector<std::vector<double>> one_pair = {{0}};
      const std::size_t most = pairs.visits.size() / pairs.mine.size() * (1 + static_cast<std::size_t>(policy.resample_runs));
      floor.detectable = std::expm1(compare_pairs(one_pair, *floor.of_pairs, most, miss).detectable);
    }
    floors.push_back(std::move(floor));
  }
  return floors;
}

}  // namespace prnn
