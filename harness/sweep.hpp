// sweep.hpp: runs a plan: for each case verify -> trace -> time, on poisoned outputs, and makes its row. No row is ever dropped: what goes wrong in a case becomes the row of that case.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "harness/inject.hpp"
#include "harness/plan.hpp"
#include "harness/record.hpp"
#include "harness/suite.hpp"
#include "harness/supervisor.hpp"
#include "kernels/api.hpp"
#include "reference/reference.hpp"

namespace prnn {

class Turns;

/// Where the wall clock of a sweep went, seconds. reference: 50-digit truths; time: sampling, with its checks; other: plan, records, memory.
struct PhaseTimes {
  double draw_s = 0, reference_s = 0, verify_s = 0, time_s = 0, other_s = 0;
  double total_s() const { return draw_s + reference_s + verify_s + time_s + other_s; }
  std::string line() const;  // one line for a person
};
Json to_json(const PhaseTimes&);

struct SweepOptions {
  bool time = true;                                                                              // false: `prnn verify`
  std::uint64_t order_seed = 1;                                                                  // recorded; each group's order follows from it and the group_id
  ReferenceCache* reference = nullptr;                                                           // null: no truth, the local test judges alone
  std::optional<double> copy_bytes_per_s;                                                        // of the record that is written; empty: the machine's
  std::function<void(const std::vector<CaseRecord>&)> write;                                     // a complete group, to be flushed; empty: nothing
  std::function<void(std::int64_t done, std::int64_t total, const std::string& what)> progress;  // empty: silent
  std::function<bool()> interrupted;                                                             // asked between samples and cases; empty: never
  std::function<double()> now;                                                                   // seconds; empty: steady clock
  std::function<void(const std::string& case_id)> in_flight;                                     // before each step of a case; empty case_id: none is any more
  EndedCases ended;                                                                              // get this row and are not run
  double spent_s = 0;                                                                            // of limits.total_s, before this
  Injection injection;                                                                           // default: no damage
  Turns* turns = nullptr;                                                                        // says what is timed when, and when a group is at its end; null: nobody else
};

/// The device is of no more use to this process (a CUDA context after a fault is not), and the case that was in flight.
struct DeviceLost : DeviceError {
  DeviceLost(std::string id, const std::string& reason) : DeviceError(reason), case_id(std::move(id)) {}
  std::string case_id;
};

struct SweepResult {
  std::vector<CaseRecord> rows;  // of complete groups, in the order of the plan
  PhaseTimes phases;
  bool interrupted = false;  // the group in flight was given up
};

/// What `write` throws (disk full) ends the sweep; what a case throws does not, unless the machine then throws too: DeviceLost.
SweepResult sweep(const Suite&, const std::vector<Group>&, Machine&, const SweepOptions&);

/// The verdict on a verifying launch (design section 6): status and, where it is not ok, the reason.
struct Verdict {
  Status status = Status::ok;
  std::string reason;
};
Verdict judge_outcome(const Outcome&, const ErrorReport&, Status expected);

/// Speedups of every row against each baseline: between ok rows of one group only, else a reason. samples of a row: its samples_s.
void add_speedups(std::vector<CaseRecord>& group, const std::vector<std::string>& baselines, std::uint64_t seed);

}  // namespace prnn
