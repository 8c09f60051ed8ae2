// against.hpp: run SUITE --against PROGRAM: two builds of prnn measured side by side, so that what drifts on the machine drifts for both.
#pragma once

#include <string>

#include "harness/run.hpp"
#include "harness/suite.hpp"

namespace prnn {

/// Group by group both programs, each in a process of its own, hold the same case ready, and each case is visited by turns, in an order drawn from the recorded seed (ABBA). A process has luck
/// of its own (addresses, clocks at its start), so flags.processes pairs of fresh ones do all groups one after the other. Writes out (this program) and X.against.jsonl beside it (the other), flushed
/// as a run's, continued with --resume. The exit code is that of this program's rows. In one line: 64 where PROGRAM is no prnn that takes turns, 5 where it does not go on.
int run_against(const Suite&, const RunFlags&, const std::string& out, const std::string& command);

}  // namespace prnn
