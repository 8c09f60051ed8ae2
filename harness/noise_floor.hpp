// noise_floor.hpp: what A/A runs say of a case: the noise from run to run, and the smallest slowdown that a gate can show against it.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "harness/comparison.hpp"
#include "harness/record_files.hpp"

namespace prnn {

/// Of each timed row.
std::vector<RunValue> times_of(const std::vector<const CaseRecord*>& rows);

/// What is known of a case: median of the runs, seconds, and the noise between them; none below kFewestRuns.
struct NoiseFloor {
  std::string case_id;
  double time_s = 0;
  std::size_t runs = 0;
  std::optional<RunNoise> noise;
  std::optional<PairNoise> of_pairs;  // of processes, where the runs took turns with runs of the same build
  std::optional<double>
      detectable;  // share; over the sweep, by the default policy: by a session like these and what is run again, where there are pairs, else by one run against all of these
};
/// partners: what took turns with the runs.
std::vector<NoiseFloor> noise_floors(const Runs&, const std::vector<RecordFile>& partners);

}  // namespace prnn
