// gate_output.hpp: a verdict as lines for a terminal, Markdown, JUnit XML and JSON.
#pragma once

#include <string>
#include <vector>

#include "harness/gate.hpp"

namespace prnn {

/// A verdict with what it rests on.
struct GateReport {
  struct Input {
    std::string role, path, sha256;  // role: candidate, baseline, partner, calibration, policy
  };
  std::vector<Input> inputs;
  std::vector<GateVerdict> verdicts;  // one a baseline
  std::vector<std::string> notes;
  int code = 0;                                 // exit code
  std::map<std::string, std::string> commands;  // by case_id: what runs that case alone
  std::string next;                             // a command that may settle what is inconclusive; empty: none is needed
};

/// What fails or is inconclusive, with reason and command, then the counts. color: of a terminal.
std::string gate_text(const GateReport&, bool color);
std::string gate_markdown(const GateReport&);
/// A testsuite a baseline, a testcase a case. slower, not_converged, wrong: failure; broken: error; inconclusive: skipped.
std::string gate_junit(const GateReport&);
Json to_json(const GateReport&);

/// Ratios of times, worst first.
std::string compare_text(const std::vector<CaseVerdict>&, const std::string& a, const std::string& b);
Json to_json(const CaseVerdict&);

}  // namespace prnn
