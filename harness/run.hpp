// run.hpp: the commands `run` and `verify`: a suite is planned, swept in a process that may fail, written, shown.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "harness/record.hpp"
#include "harness/suite.hpp"

namespace prnn {

struct RunFlags {
  std::string suite, out, device = "auto", only, shard = "1/1", against, inject, cell;
  std::vector<std::string> set;
  int processes = 5;  // of each program, with against
  bool resume = false, dry = false, no_report = false, json = false;
  bool turns = false;  // run by another prnn that says what is timed when (harness/turns.hpp)
};

/// timed: run; else verify. command: as it was typed, for the record. Exit code of design section 1.
int run_command(const RunFlags&, bool timed, const std::string& command);

/// After so many seconds without a sign of life a step of a case hangs: what is slow ends before; verification includes the reference of gradients.
double patience_s(const Suite&);

/// What is left after a sweep: table, record and page on stdout, what went wrong on stderr.
struct Finished {
  std::vector<CaseRecord> rows;
  std::vector<std::string> planned;  // case_ids
  std::string phases;                // where the time went: a line, and for programs
  Json phases_json;
  std::string unwritten;  // why the last group is not in the record; it is in the table all the same. Empty: it is
  bool interrupted = false;
};
/// Prints it and makes the page; the exit code.
int finish(const Suite&, const RunFlags&, const std::string& out, const Finished&);

}  // namespace prnn
