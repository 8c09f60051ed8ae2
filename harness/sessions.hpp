// sessions.hpp: records of two programs that took turns (run --against), found among many, and what their pairs of processes say of a case.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "harness/record_files.hpp"

namespace prnn {

using Session = std::pair<const RecordFile*, const RecordFile*>;  // its two records

/// In the order of files, each with what took turns with it among the others.
std::vector<Session> sessions(const std::vector<RecordFile>& files, const std::vector<const std::vector<RecordFile>*>& others);
/// Those of a program with itself, undamaged: their pairs differ by noise alone.
std::vector<Session> sessions_of_one_build(const std::vector<RecordFile>& files, const std::vector<RecordFile>& others);

/// Log ratios (first over second) of the visits of a case, by pair of processes; its rows in the sessions that have such pairs.
struct PairsOfProcesses {
  std::vector<std::vector<double>> visits;
  std::vector<const CaseRecord*> mine, theirs;
};
PairsOfProcesses pairs_of(const std::vector<Session>&, const std::string& case_id);

}  // namespace prnn
