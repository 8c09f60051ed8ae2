// power.hpp: what many verdicts of the gate say of the gate: how often it cries wolf, and how much damage it finds (harness/power_study.sh).
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "harness/suite.hpp"

namespace prnn {

using Json = nlohmann::ordered_json;

/// One-sided 95 % bounds of a rate of which `seen` of `trials` was seen (Clopper and Pearson, Biometrika 26, 1934). trials > 0.
double rate_at_most(std::int64_t seen, std::int64_t trials);
double rate_at_least(std::int64_t seen, std::int64_t trials);

/// The verdict of one trial: damage as run --inject has it, "none" for two runs of the same.
struct Trial {
  struct Case {
    std::string case_id, finding;
    double baseline_s = 0;  // 0: not timed
  };
  std::string damage;
  std::int64_t number = 0;
  int exit_code = 0;
  std::vector<Case> cases;
};

/// The core that a trial had for itself, of so many trials at once; at_once 0: it had the machine.
struct Pinned {
  std::int64_t core = 0, at_once = 0;
};
/// From what `prnn gate --json` says; throws BadInput.
Json trial_line(const std::string& damage, std::int64_t number, const Pinned&, const std::string& gate_json);
/// A file of such lines; throws BadInput ("file:line: ...").
std::vector<Trial> read_trials(const std::string& path);

/// So many trials in which something was seen.
struct Rate {
  std::string damage, what;
  std::int64_t seen = 0, trials = 0;
};
/// For "none": gates that fail (false alarms) and that stay inconclusive. For a slowdown, by the length of a launch: cases of the damaged solver that are called slower, and of these the one
/// that is found least often. For damage to numbers or convergence: gates that fail.
std::vector<Rate> rates(const std::vector<Trial>&);
/// A Markdown table, with the bound that matters: the upper one of what should not be, the lower one of what should; and the smallest slowdown of all solvers that is found.
std::string table_of(const std::vector<Rate>&);

}  // namespace prnn
