// gate_policy.hpp: what `prnn gate` calls a regression, from a TOML file. harness/gate.toml shows every key with its default.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace prnn {

struct GatePolicy {
  enum class Time { require, same_machine, off };
  double fdr = 0.01, inconclusive = 0.01;
  Time time = Time::require;
  double margin = 0.015, uncalibrated_noise = 0.02;
  std::vector<std::string> speedup_baselines;
  double speedup_margin = 0.05;
  double growth = 1.5, floor = 0.5;
  std::int64_t more_iterations = 1, more_rounds = 0;
  bool strict = true;
  std::int64_t resample_runs = 2;

  struct Override {
    std::string expression;
    std::function<bool(const std::string&)> fits;
    double margin = 0;
  };
  std::vector<Override> overrides;
  /// Of time, for a case.
  double margin_of(const std::string& case_id) const;
};

/// path is for messages. Throws BadInput: "file:line: what; what was expected".
GatePolicy parse_gate_policy(const std::string& path, const std::string& text);
/// The same from a file; empty: the defaults.
GatePolicy load_gate_policy(const std::string& path);

}  // namespace prnn
