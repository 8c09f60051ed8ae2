// plan.hpp: a suite becomes groups of cases: every row that a run will write, in order, with its memory, before anything is allocated.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "harness/suite.hpp"

namespace prnn {

/// One row to come. skip not empty: the row is written as skipped with this reason and never run.
struct Case {
  Problem problem;  // iteration_limit and policy included
  std::string solver, device;
  std::string cache;  // rotating | hot
  Status expect = Status::ok;
  std::string group_id;        // all axes but solver, gates, iteration_limit, policy
  std::string case_id;         // all axes as readable text; policy and weight_std only where set. Same on every machine and commit
  std::string skip;            // see undefined_combination() and too_large()
  std::int64_t set_bytes = 0;  // one set of tensors, inputs and outputs
  std::int64_t sets = 1;       // so many, used in turn, that together they exceed 3 x the last-level cache
  std::int64_t workspace_bytes = 0;
  std::int64_t bytes() const { return set_bytes * sets + workspace_bytes; }  // device memory of this case alone
};

/// Cases on the same inputs: prepared together, interleaved in time, paired for speedups, flushed, resumed and sharded as one.
struct Group {
  std::string group_id;
  std::vector<Case> cases;
  std::int64_t bytes() const;  // one set of tensors x sets + the workspaces of all cases that run
};

struct PlanOptions {
  std::string device = "cpu";
  std::string only;                                                    // regular expression (ECMAScript) searched in case_id; empty: all
  std::int64_t free_bytes = std::numeric_limits<std::int64_t>::max();  // of the machine
  std::int64_t last_level_cache_bytes = 0;                             // of the machine
};

/// Groups in the order of the suite, cases in the order of the suite's solvers, baselines that were not named last.
/// Duplicates are merged (the later expectation holds). Throws BadInput: a bad expression, nothing left to do.
std::vector<Group> make_plan(const Suite&, const PlanOptions&);

/// Whether a regular expression (ECMAScript), given with this flag, is found in a name; throws BadInput.
std::function<bool(const std::string&)> name_filter(std::string_view flag, const std::string& expression);

/// Sets of tensors to rotate through, so that what a launch reads has left the last-level cache: the fewest whose sum exceeds 3 x cache.
std::int64_t rotating_sets(std::int64_t set_bytes, std::int64_t last_level_cache_bytes);

/// The two reasons for a skip that are no fault on a device that exists (design section 1). excused(): is this reason one of them? is_undefined(): the first?
std::string undefined_combination(const std::string& why);
std::string too_large(const std::string& why);
bool is_undefined(std::string_view skip_reason);
bool excused(std::string_view skip_reason);

/// 1536 -> "1.5 KiB".
std::string readable_bytes(std::int64_t);

}  // namespace prnn
