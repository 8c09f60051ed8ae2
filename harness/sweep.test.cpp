// sweep.test.cpp: whole sweeps over solver doubles that lie, throw, stall or forget to write, on a machine whose clock is a script.
#include "harness/sweep.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <stdexcept>

#include "harness/metrics/metric.hpp"
#include "harness/testing.hpp"
#include "harness/timer.hpp"

namespace prnn {
namespace {

using testing::ScriptedMachine;

/// What a double does beside running seq_fused.
struct Behaviour {
  double time_s = 1e-3;
  bool deterministic = true;
  bool writes = true;                                                                  // false: launches nothing
  std::function<void(const Tensors&, int launch)> after = [](const Tensors&, int) {};  // launch counts from 1, the verifying one
  std::function<Outcome(int launches)> outcome = [](int) { return Outcome{}; };
  std::function<void()> prepare = [] {};
  std::string solver;                // what it says it chose
  std::vector<bool> found_poisoned;  // of each launch
};
constexpr int kDoubles = 4;
std::array<Behaviour, kDoubles> behaviours;
ScriptedMachine* scripted = nullptr;

bool poisoned(const Tensors& tensors) {
  return std::all_of(tensors.items.begin(), tensors.items.end(), [](const Tensors::Item& item) {
    const auto* at = static_cast<const unsigned char*>(item.data);
    return !item.spec.written() || std::all_of(at, at + item.spec.bytes(), [](unsigned char byte) { return byte == 0xff; });
  });
}

class DoubleRun : public Run {
 public:
  DoubleRun(Behaviour& behaviour, std::unique_ptr<Run> inner) : behaviour_(behaviour), inner_(std::move(inner)) {}
  Policy policy() const override { return {{"threads", 7}}; }
  std::string_view solver() const override { return behaviour_.solver; }
  int launches() const override { return 1; }
  void launch(const Tensors& tensors, Stream stream) override {
    behaviour_.found_poisoned.push_back(poisoned(tensors));
    if (behaviour_.writes) inner_->launch(tensors, stream);
    scripted->launch_time_s = behaviour_.time_s;
    behaviour_.after(tensors, ++launches_);
  }
  Outcome outcome() override { return behaviour_.outcome(launches_); }

 private:
  Behaviour& behaviour_;
  std::unique_ptr<Run> inner_;
  int launches_ = 0;
};

template <std::size_t I>
Solver double_solver(const char* pass) {
  return {.name = "double_" + std::to_string(I),
          .device = "cpu",
          .cell = "gru_diag",
          .storage = Storage::f32,
          .pass = pass,
          .why_not = [](const Problem&) { return std::string(); },
          .workspace_bytes = [](const Problem&) { return std::int64_t{0}; },
          .prepare = [](const Problem& problem, Machine& machine) -> std::unique_ptr<Run> {
            behaviours[I].prepare();
            return std::make_unique<DoubleRun>(behaviours[I], find_solver("seq_fused", "cpu", problem)->prepare(problem, machine));
          }};
}

float* state(const Tensors& tensors) { return tensors.data<float>("h"); }

struct SweepTest : ::testing::Test {
  ScriptedMachine machine;
  std::string axes = "batch = [2]\nhidden = [3]\nseq_len = [5]\n";
  SweepOptions options;
  std::size_t solvers_before = solvers().size();

  SweepTest() {
    scripted = &machine;
    behaviours = {};
    for (const char* pass : {"forward", "backward"}) {
      solvers().push_back(double_solver<0>(pass));
      solvers().push_back(double_solver<1>(pass));
      solvers().push_back(double_solver<2>(pass));
      solvers().push_back(double_solver<3>(pass));
    }
    options.now = [this] { return machine.now_s; };
  }
  ~SweepTest() override { solvers().erase(solvers().begin() + static_cast<std::ptrdiff_t>(solvers_before), solvers().end()); }

  static std::string quoted(const std::vector<std::string>& names) {
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : ", ") + ("\"" + name + "\"");
    return "[" + text + "]";
  }
  Suite suite(const std::vector<std::string>& names, const std::vector<std::string>& baselines = {}) {
    return parse_suite("test.toml",
                       "title = \"t\"\ncells = [\"gru_diag\"]\nsolvers = " + quoted(names) + "\n" + (baselines.empty() ? "" : "baselines = " + quoted(baselines) + "\n") + axes);
  }
  std::vector<Group> plan(const Suite& s) { return make_plan(s, {.last_level_cache_bytes = machine.cache_bytes}); }
  SweepResult run_suite(const Suite& s) {
    for (std::size_t i = 0; i < 2 * kDoubles; ++i) solvers()[solvers_before + i].deterministic = behaviours[i % kDoubles].deterministic;
    return sweep(s, plan(s), machine, options);
  }
  SweepResult run(const std::vector<std::string>& names, const std::vector<std::string>& baselines = {}) { return run_suite(suite(names, baselines)); }
};

void expect_untimed(const CaseRecord& row) {
  EXPECT_FALSE(row.time_s);
  EXPECT_TRUE(row.samples_s.empty());
  EXPECT_FALSE(row.floor_fraction);
  EXPECT_TRUE(row.speedup.empty());
  EXPECT_TRUE(row.null_reasons.contains("time_s"));
}

TEST_F(SweepTest, ARightCaseIsVerifiedTimedAndRecorded) {
  behaviours[0].after = [&](const Tensors&, int launch) {  // skewed: a fast sample, then five slow ones
    const int sample = launch - 1 - kWarmUps;
    machine.launch_time_s = sample == 1 ? 0.5e-3 : 2 <= sample && sample <= 6 ? 21e-3 : 1e-3;
  };
  machine.host_overhead_s = 1e-3;
  const SweepResult result = run({"double_0"});
  ASSERT_EQ(result.rows.size(), 1u);
  const CaseRecord& row = result.rows[0];
  EXPECT_EQ(row.status, Status::ok);
  EXPECT_EQ(row.reason, "");
  EXPECT_EQ(row.policy, (Policy{{"threads", 7}}));
  EXPECT_EQ(row.deterministic, true);
  ASSERT_TRUE(row.time_s);
  EXPECT_EQ(row.time_s->samples, static_cast<std::int64_t>(row.samples_s.size()));
  EXPECT_EQ(row.time_s->median, 1e-3);
  EXPECT_EQ(row.time_s->min, 0.5e-3);
  EXPECT_DOUBLE_EQ(*row.floor_fraction, *row.floor_s / 1e-3);
  EXPECT_EQ(row.time_s->mad, 0);
  EXPECT_DOUBLE_EQ(row.time_s->mean, std::accumulate(row.samples_s.begin(), row.samples_s.end(), 0.0) / static_cast<double>(row.samples_s.size()));
  EXPECT_GT(row.time_s->mean, 2e-3);
  EXPECT_LE(row.time_s->ci95_low, row.time_s->median);
  EXPECT_GE(row.time_s->ci95_high, row.time_s->median);
  EXPECT_EQ(row.host_s, 2e-3);
  EXPECT_EQ(row.clock_mhz, 1500);
  EXPECT_NE(row.time_s->method.find("rotating over"), std::string::npos);
  ASSERT_TRUE(row.error);
  EXPECT_TRUE(passes(*row.error->ratio_local));
  EXPECT_EQ(row.null_reasons.at("error.abs_max"), "no reference");
}

TEST_F(SweepTest, ARowOfASolverThatChoosesNamesItsChoice) {
  behaviours[0].solver = "seq_fused";
  const SweepResult result = run({"double_0", "double_1", "auto"});
  ASSERT_EQ(result.rows.size(), 3u);
  EXPECT_EQ(to_json(result.rows[0])["policy"].dump(), R"({"solver":"seq_fused","threads":7})");
  EXPECT_EQ(result.rows[0].solver, "double_0");
  EXPECT_EQ(to_json(result.rows[0])["null_reasons"]["boundaries"], "has none");
  EXPECT_EQ(to_json(result.rows[0])["null_reasons"]["iterations"], "sequential");
  EXPECT_EQ(to_json(result.rows[1])["policy"].dump(), R"({"threads":7})");
  EXPECT_EQ(to_json(result.rows[1])["null_reasons"]["boundaries"], "has none");
  const CaseRecord& chosen = result.rows[2];
  EXPECT_EQ(chosen.status, Status::ok);
  EXPECT_EQ(chosen.solver, "auto");
  EXPECT_EQ(chosen.policy_solver, find_solver("auto", "cpu", chosen.problem)->prepare(chosen.problem, machine)->solver());
  EXPECT_NE(chosen.policy_solver, "");
  EXPECT_TRUE(chosen.case_id.ends_with("/auto"));
  EXPECT_EQ(case_record(to_json(chosen)).policy_solver, chosen.policy_solver);
}

TEST_F(SweepTest, OutputsArePoisonedBeforeEveryLaunchThatCounts) {
  run({"double_0"});
  EXPECT_EQ(behaviours[0].found_poisoned, std::vector<bool>(1 + kWarmUps + kMinSamples, true));
}

TEST_F(SweepTest, SpeedupIsTheBaselinesTimeOverThisOne) {
  behaviours[0].time_s = 4e-3;
  behaviours[1].time_s = 1e-3;
  const SweepResult result = run({"double_0", "double_1"}, {"double_0", "double_2"});
  ASSERT_EQ(result.rows.size(), 3u);  // the second baseline was added
  EXPECT_EQ(result.rows[1].speedup.at("double_0").ratio, 4);
  EXPECT_EQ(result.rows[1].speedup.at("double_0").ci95_low, 4);
  EXPECT_EQ(result.rows[0].speedup.at("double_0").ratio, 1);
  EXPECT_EQ(result.rows[0].speedup.at("double_2").ratio, 0.25);
}

TEST_F(SweepTest, WrongOrUnconvergedOrThrowingRowsAreNotTimedAndGetNoSpeedup) {
  behaviours[0].after = [](const Tensors& t, int) { state(t)[7] += 1e-3f; };
  behaviours[1].outcome = [](int) { return Outcome{.iterations = 9, .converged = false}; };
  behaviours[2].after = [](const Tensors&, int) { throw DeviceError("somewhere.cu:1: launch failed"); };
  const SweepResult result = run({"double_0", "double_1", "double_2", "double_3"}, {"double_0", "double_3"});
  ASSERT_EQ(result.rows.size(), 4u);
  EXPECT_EQ(result.rows[0].status, Status::wrong);
  EXPECT_NE(result.rows[0].reason.find("local test"), std::string::npos);
  EXPECT_EQ(result.rows[1].status, Status::not_converged);
  EXPECT_EQ(result.rows[1].iterations, 9);
  EXPECT_EQ(result.rows[1].converged, false);
  EXPECT_EQ(result.rows[2].status, Status::error);
  EXPECT_EQ(result.rows[2].reason, "somewhere.cu:1: launch failed");
  for (int i = 0; i < 3; ++i) {
    expect_untimed(result.rows[static_cast<std::size_t>(i)]);
    EXPECT_EQ(result.rows[static_cast<std::size_t>(i)].null_reasons.at("speedup.double_3"), "this row is not ok");
    EXPECT_EQ(behaviours[static_cast<std::size_t>(i)].found_poisoned.size(), i == 1 ? 2u : 1u);  // the verifying launch, and the trace of what iterates
  }
  EXPECT_EQ(result.rows[3].status, Status::ok);
  EXPECT_TRUE(result.rows[3].time_s);
  EXPECT_EQ(result.rows[3].null_reasons.at("speedup.double_0"), "double_0 is wrong");
  EXPECT_FALSE(result.rows[3].speedup.contains("double_0"));
  EXPECT_EQ(to_json(result.rows[3])["null_reasons"]["speedup.double_0"], "double_0 is wrong");
}

TEST_F(SweepTest, OutputThatIsWrongInTimedLaunchesOnlyIsCaught) {
  for (const int from : {2 + kWarmUps, 1 + kWarmUps + kMinSamples}) {  // first and last sample
    for (const int element : {0, 29}) {                                // of h [2, 5, 1, 3]
      behaviours[0].after = [=](const Tensors& t, int launch) {
        if (launch == from) state(t)[element] += 1e-3f;
      };
      const SweepResult result = run({"double_0", "double_1"}, {"double_0"});
      EXPECT_EQ(result.rows[0].status, Status::wrong);
      EXPECT_NE(result.rows[0].reason.find("timed launch"), std::string::npos);
      expect_untimed(result.rows[0]);
      EXPECT_EQ(result.rows[1].status, Status::ok);
      EXPECT_TRUE(result.rows[1].speedup.empty());
    }
  }
  behaviours[0].after = [=](const Tensors& t, int launch) {  // the last state counts too
    if (launch > 1) t.data<float>("last")[5] += 1e-3f;
  };
  EXPECT_EQ(run({"double_0"}).rows[0].status, Status::wrong);
}

TEST_F(SweepTest, WhatIsNotWrittenIsCaught) {
  behaviours[0].writes = false;
  const CaseRecord silent = run({"double_1", "double_0"}).rows[1];  // although the case before left a right result there
  EXPECT_EQ(silent.status, Status::wrong);
  EXPECT_NE(silent.reason.find("the local test"), std::string::npos) << silent.reason;
  behaviours[0].writes = true;
  behaviours[0].after = [](const Tensors& t, int) { std::memset(&state(t)[29], 0xff, 4); };
  EXPECT_EQ(run({"double_0"}).rows[0].status, Status::wrong);
  behaviours[0].after = [](const Tensors& t, int launch) {
    if (launch > 1) std::memset(&t.data<float>("last")[0], 0xff, 4);
  };
  EXPECT_EQ(run({"double_0"}).rows[0].status, Status::wrong);
}

TEST_F(SweepTest, ADeterministicSolverMustRepeatItselfBitForBitAnotherMustBeRight) {
  const auto last_bit = [](const Tensors& t, int launch) {
    if (launch > 1) state(t)[3] = std::nextafter(state(t)[3], 2.0f);
  };
  behaviours[0].after = last_bit;
  EXPECT_EQ(run({"double_0"}).rows[0].status, Status::wrong);
  behaviours[0].deterministic = false;
  const SweepResult loose = run({"double_0"});
  EXPECT_EQ(loose.rows[0].status, Status::ok) << loose.rows[0].reason;
  EXPECT_EQ(loose.rows[0].deterministic, false);
  behaviours[0].after = [](const Tensors& t, int launch) {
    if (launch > 1) state(t)[3] += 1e-3f;
  };
  EXPECT_EQ(run({"double_0"}).rows[0].status, Status::wrong);
}

TEST_F(SweepTest, ATimedLaunchThatDoesNotConvergeSpoilsTheRow) {
  behaviours[0].outcome = [](int launches) { return Outcome{.iterations = 2, .converged = launches == 1}; };
  const SweepResult result = run({"double_0"});
  EXPECT_EQ(result.rows[0].status, Status::not_converged);
  EXPECT_NE(result.rows[0].reason.find("in a timed launch"), std::string::npos);
  expect_untimed(result.rows[0]);
}

TEST_F(SweepTest, AnExpectedFailureIsTimedButGetsNoSpeedup) {
  behaviours[0].outcome = [](int) { return Outcome{.converged = false}; };
  axes += "expect = \"not_converged\"\n";
  const SweepResult result = run({"double_0", "double_1"}, {"double_1"});
  EXPECT_EQ(result.rows[0].status, Status::not_converged);
  EXPECT_TRUE(result.rows[0].time_s);
  EXPECT_TRUE(result.rows[0].speedup.empty());
  EXPECT_EQ(result.rows[0].null_reasons.at("speedup.double_1"), "this row is not ok");
  EXPECT_EQ(result.rows[1].status, Status::ok);
  EXPECT_EQ(result.rows[1].expected_status, Status::not_converged);
}

TEST_F(SweepTest, ACaseThatThrowsDoesNotEndTheSweep) {
  axes = "hidden = [2, 3]\nseq_len = [4]\n";
  behaviours[0].prepare = [] { throw std::logic_error("no"); };
  behaviours[1].prepare = [] { throw 3; };
  behaviours[2].after = [](const Tensors&, int launch) {
    if (launch == 1 + kWarmUps + 4) throw DeviceError("late");
  };
  const SweepResult result = run({"double_0", "double_1", "double_2", "double_3"});
  ASSERT_EQ(result.rows.size(), 8u);
  for (std::size_t i = 0; i < 8; i += 4) {
    EXPECT_EQ(result.rows[i].reason, "no");
    EXPECT_EQ(result.rows[i].status, Status::error);
    EXPECT_EQ(result.rows[i + 1].status, Status::error);
    EXPECT_EQ(result.rows[i + 2].status, Status::error);
    EXPECT_EQ(result.rows[i + 2].reason, "late");
    expect_untimed(result.rows[i + 2]);
    EXPECT_EQ(result.rows[i + 3].status, Status::ok);
  }
}

TEST_F(SweepTest, WithTotalTimeSpentTheRestTimesOutAndIsStillThere) {
  axes = "hidden = [2, 3, 4]\nseq_len = [4]\nlimits = { total_s = 1 }\n";
  behaviours[0].time_s = 0.1;
  const SweepResult result = run({"double_0", "double_1"});
  ASSERT_EQ(result.rows.size(), 6u);
  EXPECT_EQ(result.rows[0].status, Status::ok);  // fewer samples than asked for, and it says so
  EXPECT_LT(result.rows[0].time_s->samples, kMinSamples);
  EXPECT_NE(result.rows[0].time_s->method.find("stopped by total_s"), std::string::npos);
  for (std::size_t i = 2; i < 6; ++i) {
    EXPECT_EQ(result.rows[i].status, Status::timeout);
    EXPECT_EQ(result.rows[i].reason, "limits.total_s = 1 was spent before this case");
    expect_untimed(result.rows[i]);
  }
  EXPECT_EQ(behaviours[0].found_poisoned.size(), static_cast<std::size_t>(1 + 1 + result.rows[0].time_s->samples));
}

TEST_F(SweepTest, TotalTimeSpentWithinAGroupEndsItsOtherCases) {
  axes += "limits = { total_s = 1 }\n";
  behaviours[0].after = [&](const Tensors&, int) { machine.now_s += 2; };
  const SweepResult result = run({"double_0", "double_1"});
  EXPECT_EQ(result.rows[0].status, Status::timeout);
  EXPECT_EQ(result.rows[0].reason, "limits.total_s = 1 was spent before it could be timed");
  EXPECT_EQ(result.rows[1].reason, "limits.total_s = 1 was spent before this case");
  EXPECT_TRUE(behaviours[1].found_poisoned.empty());
}

TEST_F(SweepTest, AVerificationLongerThanTheCaseMayTakeTimesOut) {
  axes += "limits = { case_s = 3 }\n";
  behaviours[0].after = [&](const Tensors&, int) { machine.now_s += 4; };
  const SweepResult result = run({"double_0", "double_1"});
  EXPECT_EQ(result.rows[0].status, Status::timeout);
  EXPECT_NE(result.rows[0].reason.find("verification alone took 4 s, limits.case_s = 3"), std::string::npos);
  EXPECT_EQ(result.rows[1].status, Status::ok);
}

TEST_F(SweepTest, VerificationCountsAgainstTheTimeOfTheCase) {
  axes += "limits = { case_s = 3 }\n";
  behaviours[0].time_s = 0.5;
  behaviours[0].after = [&](const Tensors&, int launch) { machine.now_s += launch == 1 ? 2.2 : 0; };
  EXPECT_EQ(run({"double_0"}).rows[0].time_s->samples, 1);  // 2.2 s, a warm-up, one sample
}

TEST_F(SweepTest, WhatASolverSaysOfItselfIsRecorded) {
  behaviours[0].outcome = [](int) { return Outcome{.iterations = 9, .converged = true, .rounds = 1, .boundaries = 4, .boundaries_failed = 2}; };
  const CaseRecord row = run({"double_0"}).rows[0];
  EXPECT_EQ(row.iterations, 9);
  EXPECT_EQ(row.converged, true);
  EXPECT_EQ(row.rounds, 1);
  EXPECT_EQ(row.boundaries, 4);
  EXPECT_EQ(row.boundaries_failed, 2);
}

TEST_F(SweepTest, TheTimeInAGraphStandsBesideTheSamples) {
  const Suite s = suite({"double_0"});
  const std::vector<Group> groups = plan(s);
  const Case& c = groups[0].cases[0];
  const Solver& solver = *find_solver("double_0", "cpu", c.problem);
  const auto run = solver.prepare(c.problem, machine);
  const Tensors tensors;
  CaseContext context{s, c, find_op("recurrence"), solver, machine, *run, tensors, nullptr, nullptr};
  const Timing timing{.samples_s = {2e-5, 1e-5, 3e-5}, .host_s = {5e-5, 6e-5, 4e-5}, .graph_s = 7e-6, .clock_mhz = 1700, .graph_launches = 50, .method = "m"};
  context.timing = &timing;
  CaseRecord row;
  for (const Metric& metric : metrics()) {
    if (metric.name == "time") metric.timed(context, row);
  }
  EXPECT_EQ(row.time_s->median, 2e-5);
  EXPECT_EQ(row.samples_s, timing.samples_s);
  EXPECT_EQ(row.host_s, 5e-5);
  EXPECT_EQ(row.time_graph_s, 7e-6);
  EXPECT_EQ(row.graph_launches, 50);
  EXPECT_EQ(row.clock_mhz, 1700);
  EXPECT_EQ(row.time_s->method, "m");
}

TEST_F(SweepTest, ThePlannedSetsAreThereForTimingAndOneForVerifying) {
  machine.cache_bytes = 10000;
  const std::int64_t set_bytes = 4 * (2 * 5 * 3 * 3 + 3 * 3 + 2 * 3 + 2 * 5 * 3 + 2 * 3);
  const std::string method = run({"double_0"}).rows[0].time_s->method;
  EXPECT_NE(method.find("over " + std::to_string(3 * 10000 / set_bytes + 1) + " sets of " + std::to_string(set_bytes) + " bytes"), std::string::npos) << method;
  options.time = false;
  machine.allocated = 0;
  run({"double_0"});
  EXPECT_LT(machine.allocated, 2 * 5 * 512);  // one set of five tensors, each rounded up
}

TEST_F(SweepTest, NothingIsAllocatedOnceTheTimeIsSpent) {
  axes = "hidden = [2, 30000]\nseq_len = [4]\nlimits = { total_s = 1 }\n";
  behaviours[0].time_s = 0.1;
  EXPECT_EQ(run({"double_0"}).rows[1].status, Status::timeout);
  EXPECT_LT(machine.allocated, 4 * 30000 * 4 * 4);
}

TEST_F(SweepTest, SkippedCasesKeepTheirReasonAndAllocateNothing) {
  const Suite s = suite({"double_0"});
  std::vector<Group> groups = plan(s);
  groups[0].cases[0].skip = too_large("much");
  const SweepResult result = sweep(s, groups, machine, options);
  EXPECT_EQ(result.rows[0].status, Status::skipped);
  EXPECT_EQ(result.rows[0].reason, too_large("much"));
  EXPECT_EQ(machine.allocations, 0);
}

TEST_F(SweepTest, MemoryThatRunsOutIsASkipThatIsExcused) {
  machine.free = 100;
  const SweepResult result = run({"double_0"});
  EXPECT_EQ(result.rows[0].status, Status::skipped);
  EXPECT_TRUE(excused(result.rows[0].reason)) << result.rows[0].reason;
}

TEST_F(SweepTest, GroupsAreWrittenWholeAndOnce) {
  axes = "hidden = [2, 3]\nseq_len = [4]\n";
  std::vector<std::vector<std::string>> written;
  options.write = [&](const std::vector<CaseRecord>& rows) {
    written.emplace_back();
    for (const CaseRecord& row : rows) written.back().push_back(row.case_id);
  };
  const Suite s = suite({"double_0", "double_1"});
  const std::vector<Group> groups = plan(s);
  const SweepResult result = sweep(s, groups, machine, options);
  ASSERT_EQ(written.size(), 2u);
  for (std::size_t g = 0; g < 2; ++g) {
    EXPECT_EQ(written[g], (std::vector<std::string>{groups[g].cases[0].case_id, groups[g].cases[1].case_id}));
    EXPECT_EQ(result.rows[2 * g].case_id, written[g][0]);
  }
  options.write = [](const std::vector<CaseRecord>&) { throw DiskFull("no room"); };
  EXPECT_THROW(run({"double_0"}), DiskFull);
}

TEST_F(SweepTest, AnInterruptGivesUpTheGroupInFlightOnly) {
  axes = "hidden = [2, 3, 4]\nseq_len = [4]\n";
  int launches = 0, written = 0;
  behaviours[0].after = [&](const Tensors&, int) { ++launches; };
  options.interrupted = [&] { return launches >= 1 + kWarmUps + kMinSamples + 5; };
  options.write = [&](const std::vector<CaseRecord>&) { ++written; };
  const SweepResult result = run({"double_0"});
  EXPECT_TRUE(result.interrupted);
  EXPECT_EQ(result.rows.size(), 1u);
  EXPECT_EQ(written, 1);
  EXPECT_EQ(launches, 1 + kWarmUps + kMinSamples + 5);
}

TEST_F(SweepTest, VerifyingAloneTimesNothing) {
  options.time = false;
  const SweepResult result = run({"double_0"}, {"double_1"});
  EXPECT_EQ(result.rows[0].status, Status::ok);
  EXPECT_FALSE(result.interrupted);
  expect_untimed(result.rows[0]);
  EXPECT_EQ(result.rows[0].null_reasons.at("time_s"), "verified only");
  EXPECT_EQ(machine.timed_launches, 0);
  EXPECT_TRUE(result.rows[0].error->ratio_local);
}

TEST_F(SweepTest, ASuiteWithoutTheMetricTimeTimesNothing) {
  axes += "metrics = [\"error\"]\n";
  const SweepResult result = run({"double_0"});
  EXPECT_EQ(result.rows[0].null_reasons.at("time_s"), "the suite does not ask for time");
  EXPECT_EQ(machine.timed_launches, 0);
}

TEST_F(SweepTest, WithoutTheMetricErrorAWrongRowIsStillWrong) {
  axes += "metrics = [\"time\"]\n";
  behaviours[0].after = [](const Tensors& t, int) { state(t)[7] += 1e-3f; };
  const SweepResult result = run({"double_0", "double_1"});
  EXPECT_EQ(result.rows[0].status, Status::wrong);
  EXPECT_FALSE(result.rows[1].error);
  EXPECT_TRUE(result.rows[1].time_s);
}

TEST_F(SweepTest, TheOrderOfAGroupFollowsFromTheSeedAndItsName) {
  axes = "hidden = [2, 3]\nseq_len = [4]\n";
  std::set<std::string> methods;
  for (const std::uint64_t seed : {1, 1, 2}) {
    options.order_seed = seed;
    for (const CaseRecord& row : run({"double_0"}).rows) {
      const std::string& method = row.time_s->method;
      methods.insert(method.substr(method.find("order seed"), method.find("; stopped") - method.find("order seed")));
    }
  }
  EXPECT_EQ(methods.size(), 4u);  // two groups x two seeds
}

TEST_F(SweepTest, TheWallClockIsChargedToPhases) {
  behaviours[0].after = [&](const Tensors&, int launch) { machine.now_s += launch == 1 ? 5 : 0; };
  const double start = machine.now_s;
  const SweepResult result = run({"double_0"});
  EXPECT_DOUBLE_EQ(result.phases.verify_s, 5);
  EXPECT_NEAR(result.phases.time_s, (kWarmUps + kMinSamples) * 1e-3, 1e-9);
  EXPECT_NEAR(result.phases.total_s(), machine.now_s - start, 1e-9);
  EXPECT_EQ(result.phases.reference_s, 0);
  const Json json = to_json(result.phases);
  EXPECT_EQ(json["verify_s"], 5);
  EXPECT_EQ(json["total_s"], result.phases.total_s());
  EXPECT_NE(result.phases.line().find("verifying 5.0 s (99 %)"), std::string::npos) << result.phases.line();
}

TEST_F(SweepTest, ProgressCountsEveryCase) {
  std::vector<std::int64_t> done;
  std::int64_t all = 0;
  options.progress = [&](std::int64_t d, std::int64_t total, const std::string&) { done.push_back(d), all = total; };
  axes = "hidden = [2, 3]\nseq_len = [4]\n";
  run({"double_0", "double_1"});
  EXPECT_EQ(done, (std::vector<std::int64_t>{0, 1, 2, 2, 3, 4}));
  EXPECT_EQ(all, 4);
}

TEST_F(SweepTest, LimitsAreThePassOverMemoryAndTheArithmetic) {
  const SweepResult result = run({"double_0"});
  const CaseRecord& row = result.rows[0];
  const std::int64_t bytes = 4 * 2 * 5 * 3 * (3 + 1);
  EXPECT_EQ(row.bytes_min, bytes);
  EXPECT_EQ(row.flops, find_op("recurrence").flops(row.problem));
  EXPECT_DOUBLE_EQ(*row.floor_s, static_cast<double>(bytes) / 1e9);
  EXPECT_DOUBLE_EQ(*row.floor_fraction, *row.floor_s / 1e-3);
  EXPECT_FALSE(row.compute_floor_s);
  EXPECT_TRUE(row.null_reasons.contains("compute_floor_s"));
  options.copy_bytes_per_s = 2e9;  // of a record that is continued
  EXPECT_DOUBLE_EQ(*run({"double_0"}).rows[0].floor_s, static_cast<double>(bytes) / 2e9);
  axes += "cache = [\"hot\"]\n";
  const CaseRecord hot = run({"double_0"}).rows[0];
  EXPECT_TRUE(hot.floor_s);
  EXPECT_FALSE(hot.floor_fraction);
  EXPECT_NE(hot.time_s->method.find("hot"), std::string::npos);
}

TEST_F(SweepTest, TheArithmeticFloorIsTheSlowerOfTheTwoUnitsAtTheObservedClock) {
  machine.gpu_info = GpuInfo{.name = "toy", .driver = "1", .sm = 90, .multiprocessors = 10};
  machine.clock = 1000;
  const CaseRecord row = run({"double_0"}).rows[0];
  const auto flops = static_cast<double>(find_op("recurrence").flops(row.problem)), special = static_cast<double>(find_op("recurrence").special(row.problem));
  EXPECT_DOUBLE_EQ(*row.compute_floor_s, std::max(flops / 256, special / 16) / (10 * 1e9));
  EXPECT_EQ(row.gpu_name, "toy");
  machine.clock.reset();
  EXPECT_FALSE(run({"double_0"}).rows[0].compute_floor_s);
  machine.clock = 1000;
  machine.gpu_info->multiprocessors = 0;
  EXPECT_FALSE(run({"double_0"}).rows[0].compute_floor_s);
  for (const int guessed : {1, 75, 100, 120}) EXPECT_FALSE(instruction_rates(guessed)) << guessed;
  machine.gpu_info->multiprocessors = 10;
  for (const auto& [sm, flops32, special32] : {std::tuple{80, 128, 16}, {86, 256, 16}, {89, 256, 16}}) {
    machine.gpu_info->sm = sm;
    EXPECT_DOUBLE_EQ(*run({"double_0"}).rows[0].compute_floor_s, std::max(flops / flops32, special / special32) / (10 * 1e9)) << sm;
  }
  EXPECT_EQ(instruction_rates(80)->flops64, 64);
  EXPECT_EQ(instruction_rates(86)->flops64, 4);
  EXPECT_EQ(instruction_rates(89)->flops64, 4);
  EXPECT_EQ(instruction_rates(90)->flops64, 128);
}

TEST_F(SweepTest, ATraceHasTheResidualOfTheGuessAndOfEachIteration) {
  const SweepResult result = run({"newton_fused", "seq_fused"});
  const CaseRecord& row = result.rows[0];
  ASSERT_EQ(row.status, Status::ok) << row.reason;
  ASSERT_TRUE(row.iterations);
  ASSERT_EQ(row.residual_max.size(), static_cast<std::size_t>(*row.iterations) + 1);
  EXPECT_FALSE(row.step_max.empty());
  EXPECT_GT(row.residual_max.front(), row.residual_max.back());
  EXPECT_TRUE(result.rows[1].residual_max.empty());
  axes += "metrics = [\"error\"]\n";
  EXPECT_TRUE(run({"newton_fused"}).rows[0].residual_max.empty());
}

TEST_F(SweepTest, SampledChannelsAreHeldAgainstTheReference) {
  const std::filesystem::path directory = std::filesystem::path(::testing::TempDir()) / ("sweep_reference_" + std::to_string(getpid()));
  {
    ReferenceCache cache(directory);
    options.reference = &cache;
    options.now = {};
    behaviours[1].after = [](const Tensors& t, int) { state(t)[0] = -state(t)[0]; };
    const SweepResult result = run({"double_0", "double_1"});
    ASSERT_TRUE(result.rows[0].error);
    EXPECT_EQ(result.rows[0].status, Status::ok) << result.rows[0].reason;
    EXPECT_TRUE(result.rows[0].error->ratio_forward);
    EXPECT_NE(*result.rows[0].error->ratio_forward, *result.rows[0].error->ratio_local);
    EXPECT_EQ(result.rows[0].error->verified_prefix, 5);
    EXPECT_FALSE(result.rows[0].error->channels_checked.empty());
    EXPECT_EQ(*result.rows[0].error->test_ratio, std::max(*result.rows[0].error->ratio_local, *result.rows[0].error->ratio_forward));
    EXPECT_EQ(result.rows[1].status, Status::wrong);
    EXPECT_GT(result.phases.reference_s, 0);
  }
  std::filesystem::remove_all(directory);
}

TEST_F(SweepTest, ARowSaysWhatItsRecurrenceDoesAndWhatStoppingEarlyLeaves) {
  axes =
      "batch = [2]\nhidden = [3]\nseq_len = [60]\nregime = \"expansive\"\nstorage = [\"f32\", \"f64\"]\niteration_limit = [\"adaptive\", 3]\npasses = [\"forward\", \"backward\", "
      "\"both\"]\n";
  const std::filesystem::path directory = std::filesystem::path(::testing::TempDir()) / ("sweep_truncation_" + std::to_string(getpid()));
  {
    ReferenceCache cache(directory);
    options.reference = &cache;
    options.time = false;
    const SweepResult result = run({"newton_fused", "seq_fused"});
    int stopped = 0;
    for (const CaseRecord& row : result.rows) {
      const Problem& p = row.problem;
      if (row.status == Status::skipped) continue;
      const bool backward = p.pass == "backward", early = p.iteration_limit && !backward;
      EXPECT_EQ(row.lyapunov.has_value(), !backward);
      EXPECT_EQ(row.truncation.has_value(), early);
      if (backward) continue;
      EXPECT_EQ(row.lyapunov, cache.dynamics(p).lyapunov);
      EXPECT_EQ(row.jacobian_max, cache.dynamics(p).jacobian_max);
      EXPECT_EQ(row.status, early ? Status::wrong : Status::ok) << row.reason;
      EXPECT_EQ(row.reason.find("3 iterations in exact arithmetic leave ") != std::string::npos, early) << row.reason;
      if (!early) continue;
      ++stopped;
      ASSERT_TRUE(row.truncation->truncation_max && row.truncation->rounding_max && row.error->abs_max);
      EXPECT_EQ(row.truncation->verified_prefix, 60);
      EXPECT_EQ(row.truncation->channels_checked, sampled_channels(p));
      // The error is the one and the other; the other is what 60 steps round at most, of either storage type.
      const auto rounding = [](double unit) { return 16 * 60 * unit; };
      const bool f64 = p.storage == Storage::f64;
      EXPECT_LE(std::fabs(*row.truncation->truncation_max - *row.error->abs_max), *row.truncation->rounding_max);
      EXPECT_GT(*row.truncation->truncation_max, rounding(0x1p-24)) << "else nothing tells them apart";
      EXPECT_LE(*row.truncation->rounding_max, rounding(f64 ? 0x1p-53 : 0x1p-24));
      EXPECT_EQ(*row.truncation->rounding_max > rounding(0x1p-53), !f64);
    }
    EXPECT_EQ(stopped, 4);
    axes += "metrics = [\"error\"]\n";
    for (const CaseRecord& row : run({"newton_fused"}).rows) EXPECT_FALSE(row.truncation) << "the suite asks for no metric newton";
  }
  std::filesystem::remove_all(directory);
}

TEST_F(SweepTest, AProductOfJacobiansThatIsZeroIsNullWithTheReason) {
  axes = "batch = [1]\nhidden = [2]\nseq_len = [9]\nregime = \"huge\"\n";
  const std::filesystem::path directory = std::filesystem::path(::testing::TempDir()) / ("sweep_dynamics_" + std::to_string(getpid()));
  {
    ReferenceCache cache(directory);
    options.reference = &cache;
    options.time = false;
    const CaseRecord row = run({"seq_fused"}).rows[0];
    const Json json = to_json(row);
    EXPECT_TRUE(json["lyapunov"].is_null());
    EXPECT_EQ(json["null_reasons"]["lyapunov"], "-infinity: the product of Jacobians of every sampled channel is 0");
    EXPECT_TRUE(json["jacobian_max"].is_number());
  }
  std::filesystem::remove_all(directory);
}

TEST_F(SweepTest, TheExactIteratesTakeNoTimeOfTheCase) {
  axes = "batch = [1]\nhidden = [1]\nseq_len = [2000]\niteration_limit = 20\nlimits = { case_s = 0.2, reference_s = 4 }\n";
  const std::filesystem::path directory = std::filesystem::path(::testing::TempDir()) / ("sweep_iterates_" + std::to_string(getpid()));
  {
    ReferenceCache cache(directory);
    options.reference = &cache;
    options.now = {};
    options.time = false;
    const CaseRecord row = run({"newton_fused"}).rows[0];
    EXPECT_EQ(row.status, Status::ok) << row.reason;
    ASSERT_TRUE(row.truncation);
    EXPECT_LE(*row.truncation->truncation_max, 2000 * 0x1p-104) << "what the numbers of the exact iterates round";
    EXPECT_GT(cache.spent_s(), 0.2) << "else this tests nothing";
  }
  std::filesystem::remove_all(directory);
}

TEST_F(SweepTest, EveryPassHasTheErrorsOfItsOutputs) {
  axes += "passes = [\"forward\", \"backward\", \"both\"]\n";
  const std::filesystem::path directory = std::filesystem::path(::testing::TempDir()) / ("sweep_gradients_" + std::to_string(getpid()));
  {
    ReferenceCache cache(directory);
    options.reference = &cache;
    options.now = {};
    const SweepResult result = run({"double_0", "double_1"}, {"double_1"});
    ASSERT_EQ(result.rows.size(), 6u);
    std::set<std::string> groups;
    for (const CaseRecord& row : result.rows) {
      const std::string& pass = row.problem.pass;
      EXPECT_EQ(row.status, Status::ok) << pass << " " << row.reason;
      EXPECT_TRUE(row.time_s) << pass;
      EXPECT_EQ(row.error.has_value(), pass != "backward");
      groups.insert(row.group_id);
      for (const auto* error : {&row.error_du, &row.error_da, &row.error_dh0}) {
        EXPECT_EQ(error->has_value(), pass != "forward");
        if (!*error) continue;
        EXPECT_GT((*error)->ratio_local.value(), 0);
        EXPECT_GT((*error)->ratio_forward.value(), 0);
        EXPECT_EQ((*error)->test_ratio, std::max(*(*error)->ratio_local, *(*error)->ratio_forward));
        EXPECT_EQ((*error)->verified_prefix, 5);
        EXPECT_FALSE((*error)->channels_checked.empty());
        EXPECT_FALSE((*error)->reference.empty());
      }
      if (pass != "forward") {
        EXPECT_NE(row.error_du->ratio_local, row.error_da->ratio_local) << "each its own";
      }
      ASSERT_EQ(row.error_end_to_end.has_value(), pass == "both");
      if (pass == "both") {
        for (const auto* error : {&row.error_end_to_end->du, &row.error_end_to_end->da, &row.error_end_to_end->dh0}) {
          ASSERT_TRUE(*error);
          EXPECT_GT((*error)->abs_max.value(), 0);
          EXPECT_EQ((*error)->verified_prefix, 5);
        }
        EXPECT_EQ(row.error_end_to_end->du->channels_checked, row.error_du->channels_checked);
        EXPECT_NE(row.error_end_to_end->du->abs_max, row.error_du->abs_max) << "the states have errors too";
      }
      EXPECT_TRUE(row.speedup.contains("double_1")) << "a baseline of its own pass";
      const std::int64_t steps = 2 * 3 * 5 * 4;
      EXPECT_EQ(row.bytes_min, steps * (pass == "forward" ? 4 : pass == "backward" ? 8 : 12));
    }
    EXPECT_EQ(groups.size(), 3u);
    EXPECT_EQ(to_json(result.rows[2])["null_reasons"]["error"], "states are given");
    EXPECT_EQ(to_json(result.rows[0])["null_reasons"]["error_du"], "forward");
  }
  std::filesystem::remove_all(directory);
}

TEST_F(SweepTest, ALossInsideIsJudgedAndReportedApart) {
  axes += "passes = [\"backward\", \"both\"]\ngrad = [\"all\", \"squares\"]\n";
  const std::filesystem::path directory = std::filesystem::path(::testing::TempDir()) / ("sweep_squares_" + std::to_string(getpid()));
  {
    ReferenceCache cache(directory);
    options.reference = &cache;
    options.now = {};
    // The gradient of half that loss: neither test may pass it.
    behaviours[1].after = [](const Tensors& t, int) {
      for (const Tensors::Item& item : t.items) {
        if (item.spec.name == "dh0") t.data<float>("dh0")[0] *= 0.5f;
      }
    };
    const SweepResult result = run({"double_0", "double_1"}, {"double_0"});
    ASSERT_EQ(result.rows.size(), 8u);
    std::map<std::string, std::set<std::string>> groups;
    for (const CaseRecord& row : result.rows) {
      const std::string& grad = row.problem.grad;
      groups[grad].insert(row.group_id);
      EXPECT_EQ(to_json(row)["grad"], grad);
      EXPECT_EQ(row.status, row.solver == "double_0" ? Status::ok : Status::wrong) << row.case_id << " " << row.reason;
      for (const auto* error : {&row.error_du, &row.error_da, &row.error_dh0}) {
        const bool right = row.solver == "double_0" || error != &row.error_dh0;
        ASSERT_TRUE(*error && (*error)->ratio_local && (*error)->ratio_forward);
        EXPECT_EQ(passes(*(*error)->ratio_local), right) << row.case_id;
        EXPECT_EQ(passes(*(*error)->ratio_forward), right) << row.case_id;
      }
      EXPECT_EQ(row.bytes_min, 2 * 3 * 5 * 4 * ((grad == "squares" ? 7 : 8) + (row.problem.pass == "both" ? 4 : 0)));
      EXPECT_EQ(row.speedup.contains("double_0"), row.solver == "double_0") << "a baseline of its own loss";
    }
    EXPECT_EQ(groups["all"].size(), 2u);
    EXPECT_EQ(groups["squares"].size(), 2u);
    for (const std::string& id : groups["squares"]) EXPECT_FALSE(groups["all"].contains(id));
  }
  std::filesystem::remove_all(directory);
}

TEST_F(SweepTest, AWrongGradientIsCaughtWhicheverItIs) {
  axes += "passes = [\"backward\", \"both\"]\n";
  int damaged = 0;
  const char* names[] = {"du", "da", "dh0"};
  for (int i = 0; i < 3; ++i) {
    behaviours[std::size_t(i)].after = [&, name = names[i]](const Tensors& t, int) {
      const bool backward = std::any_of(t.items.begin(), t.items.end(), [&](const auto& item) { return item.spec.name == name; });
      if (backward) t.data<float>(name)[2] += 1e-2f, ++damaged;
    };
  }
  const SweepResult result = run({"double_0", "double_1", "double_2", "double_3"});
  for (const CaseRecord& row : result.rows) {
    EXPECT_EQ(row.status, row.solver == "double_3" ? Status::ok : Status::wrong) << row.case_id;
    if (row.solver == "double_3") continue;
    EXPECT_TRUE(row.reason.starts_with("the local test finds an error of")) << row.reason;
    expect_untimed(row);
    const auto wrong = [](const std::optional<ErrorSummary>& error) { return !passes(error->ratio_local.value()); };
    EXPECT_EQ(wrong(row.error_du), row.solver == "double_0");
    EXPECT_EQ(wrong(row.error_da), row.solver == "double_1");
    EXPECT_EQ(wrong(row.error_dh0), row.solver == "double_2");
  }
  EXPECT_GE(damaged, 6);
}

TEST_F(SweepTest, TheErrorEndToEndIsOfEachOutputAndNoVerdict) {
  axes += "passes = [\"both\"]\nh0 = [\"random\"]\n";
  // double_0 .. 2 change a gradient after either pass, double_3 the states between the two.
  const char* names[] = {"du", "da", "dh0"};
  for (int i = 0; i < 3; ++i) {
    behaviours[std::size_t(i)].after = [name = names[i]](const Tensors& t, int) { t.data<float>(name)[0] += 1; };
  }
  behaviours[3].after = [](const Tensors& t, int) {
    if (!std::isnan(t.data<float>("dh0")[0])) return;  // written already
    const Tensors::Item& h = t.at("h");
    for (std::int64_t i = 0; i < h.spec.elements(); ++i) state(t)[i] *= 0.5f;
  };
  options.time = false;
  const Suite asked = suite({"double_0", "double_1", "double_2", "double_3", "seq_fused"});
  const SweepResult without = run_suite(asked);
  ASSERT_EQ(without.rows.size(), 5u);
  EXPECT_FALSE(without.rows[4].error_end_to_end);
  EXPECT_EQ(to_json(without.rows[4])["null_reasons"]["error_end_to_end"], "no reference");
  const std::filesystem::path directory = std::filesystem::path(::testing::TempDir()) / ("sweep_end_to_end_" + std::to_string(getpid()));
  {
    ReferenceCache cache(directory);
    options.reference = &cache;
    options.now = {};
    const SweepResult result = run_suite(asked);
    for (std::size_t i = 0; i < 5; ++i) {
      const CaseRecord& row = result.rows[i];
      ASSERT_TRUE(row.error_end_to_end) << row.case_id;
      const std::optional<ErrorSize>* errors[] = {&row.error_end_to_end->du, &row.error_end_to_end->da, &row.error_end_to_end->dh0};
      for (std::size_t which = 0; which < 3; ++which) {
        ASSERT_TRUE(*errors[which]);
        const double error = (*errors[which])->abs_max.value();
        const ErrorSize& sound = *(which == 0 ? result.rows[4].error_end_to_end->du : which == 1 ? result.rows[4].error_end_to_end->da : result.rows[4].error_end_to_end->dh0);
        const double most = 16 * sound.abs_max.value();  // c of design section 6, of a solver that nobody damaged
        const double adding = unit_roundoff_v<float> * (1 + sound.abs_max.value() / sound.rel_max.value());
        if (i == 3) EXPECT_GT(error, most) << which;
        else if (i == which) EXPECT_NEAR(error, 1, most + adding);
        else EXPECT_LE(error, most) << i << " " << which;
      }
    }
    EXPECT_EQ(result.rows[4].status, Status::ok);
    EXPECT_EQ(result.rows[3].status, Status::wrong) << "by the states";
    for (const auto* error : {&result.rows[3].error_du, &result.rows[3].error_da, &result.rows[3].error_dh0}) EXPECT_TRUE(passes((*error)->test_ratio.value()));
  }
  std::filesystem::remove_all(directory);
}

TEST_F(SweepTest, WithoutTimeForTheReferenceThereIsNoErrorEndToEnd) {
  axes += "passes = [\"both\"]\nlimits = { reference_s = 1e-9 }\n";
  const std::filesystem::path directory = std::filesystem::path(::testing::TempDir()) / ("sweep_no_time_" + std::to_string(getpid()));
  {
    ReferenceCache cache(directory, 1e-9);
    options.reference = &cache;
    options.time = false;
    const CaseRecord row = run({"double_0"}).rows.at(0);
    EXPECT_EQ(row.status, Status::ok) << row.reason;
    const Json json = to_json(row);
    EXPECT_TRUE(json["error_end_to_end"].is_null());
    EXPECT_NE(json["null_reasons"]["error_end_to_end"].get<std::string>().find("out of time"), std::string::npos);
  }
  std::filesystem::remove_all(directory);
}

TEST_F(SweepTest, TheReferenceOfGradientsTakesNoTimeOfTheCaseAndEveryGroupHasAShare) {
  axes = "batch = [2]\nhidden = [3]\nseq_len = [4096, 4097]\npasses = \"backward\"\nlimits = { case_s = 20, reference_s = 0.4 }\n";
  const std::filesystem::path directory = std::filesystem::path(::testing::TempDir()) / ("sweep_shares_" + std::to_string(getpid()));
  {
    ReferenceCache cache(directory);
    options.reference = &cache;
    options.now = {};
    options.time = false;
    const SweepResult result = run({"double_0"});
    ASSERT_EQ(result.rows.size(), 2u);
    for (const CaseRecord& row : result.rows) {
      EXPECT_EQ(row.status, Status::ok) << row.reason;
      EXPECT_GT(row.error_du->verified_prefix.value(), 0) << "its share of the time";
      EXPECT_LT(row.error_du->verified_prefix.value(), 4096) << "and no more";
    }
    EXPECT_GT(result.phases.reference_s, 0.2);
    EXPECT_LT(result.phases.reference_s, 4);
    EXPECT_GE(result.phases.verify_s, 0);
  }
  std::filesystem::remove_all(directory);
}

// Verification may not rest on the local test alone where the truth disagrees.
TEST(Verdicts, FollowDesignSectionSix) {
  ErrorReport right, locally_wrong, forward_wrong, nan;
  right.ratio_local = 0.5;
  locally_wrong.ratio_local = 2 * kErrorFactor;
  forward_wrong.ratio_forward = 2 * kErrorFactor;
  nan.ratio_local = std::nan("");
  const Outcome done{.converged = true}, stuck{.iterations = 3, .converged = false}, unchecked, infinite{.nonfinite = {{1, 2, 3}}},
      infinite_stuck{.converged = false, .nonfinite = {{1, 2, 3}}};
  const auto status = [](const Outcome& outcome, const ErrorReport& errors, Status expected = Status::ok) { return judge_outcome(outcome, errors, expected).status; };
  EXPECT_EQ(status(done, right), Status::ok);
  EXPECT_EQ(status(unchecked, right), Status::ok);
  EXPECT_EQ(judge_outcome(done, right, Status::wrong).reason, "");
  EXPECT_EQ(status(stuck, right), Status::not_converged);
  EXPECT_EQ(status(stuck, locally_wrong), Status::not_converged);
  EXPECT_EQ(judge_outcome(stuck, right, Status::ok).reason, "not converged after 3 iterations");
  EXPECT_EQ(status(unchecked, locally_wrong), Status::wrong);
  EXPECT_EQ(status(done, forward_wrong), Status::wrong);
  EXPECT_NE(judge_outcome(done, forward_wrong, Status::ok).reason.find("forward test"), std::string::npos);
  EXPECT_NE(judge_outcome(done, locally_wrong, Status::ok).reason.find("local test"), std::string::npos);
  EXPECT_EQ(status(done, nan), Status::wrong);
  EXPECT_EQ(status(infinite, right), Status::error);
  EXPECT_EQ(judge_outcome(infinite, right, Status::ok).reason, "not finite at (b, l, d) = (1, 2, 3)");
  EXPECT_EQ(status(infinite, nan, Status::wrong), Status::wrong);
  EXPECT_EQ(status(infinite_stuck, nan, Status::not_converged), Status::not_converged);
  EXPECT_EQ(status(infinite, nan, Status::not_converged), Status::error);
  EXPECT_EQ(status(infinite_stuck, nan, Status::ok), Status::error);
}

CaseRecord timed_row(const std::string& solver, double time_s, Status status = Status::ok) {
  CaseRecord row;
  row.solver = solver;
  row.status = status;
  row.samples_s = {time_s, time_s, time_s};
  return row;
}

TEST(Speedups, PairARowWithTheBaselineMostLikeIt) {
  std::vector<CaseRecord> rows = {timed_row("base", 8), timed_row("base", 6), timed_row("fast", 2), timed_row("fast", 1)};
  rows[0].problem.gates = rows[2].problem.gates = "approx";
  rows[3].problem.iteration_limit = 3;  // no base has one
  add_speedups(rows, {"base", "absent"}, 1);
  EXPECT_EQ(rows[2].speedup.at("base").ratio, 4);
  EXPECT_EQ(rows[3].speedup.at("base").ratio, 6);
  EXPECT_EQ(rows[0].speedup.at("base").ratio, 1);
  EXPECT_EQ(rows[1].speedup.at("base").ratio, 1);
  EXPECT_EQ(rows[0].null_reasons.at("speedup.absent"), "absent is not in this group");
}

TEST(Speedups, PassOverABaselineThatIsNotOk) {
  std::vector<CaseRecord> rows = {timed_row("base", 8, Status::wrong), timed_row("base", 6), timed_row("fast", 2)};
  add_speedups(rows, {"base"}, 1);
  EXPECT_EQ(rows[2].speedup.at("base").ratio, 3);
  EXPECT_TRUE(rows[0].speedup.empty());
}

TEST_F(SweepTest, ACaseThatEndedAProcessGetsItsRowAndIsNotRun) {
  axes = "hidden = [2, 3]\nseq_len = [4]\n";
  const Suite s = suite({"double_0", "double_1"}, {"double_1"});
  const std::vector<Group> groups = plan(s);
  options.ended = {{groups[0].cases[0].case_id, {Status::error, "signal 11"}}, {groups[1].cases[1].case_id, {Status::timeout, "hung"}}};
  std::set<std::int64_t> run_0, run_1;
  behaviours[0].after = [&](const Tensors& t, int) { run_0.insert(t.at("h").spec.shape.back()); };
  behaviours[1].after = [&](const Tensors& t, int) { run_1.insert(t.at("h").spec.shape.back()); };
  const SweepResult result = run_suite(s);
  ASSERT_EQ(result.rows.size(), 4u);
  const Status expected[] = {Status::error, Status::ok, Status::ok, Status::timeout};
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(result.rows[i].status, expected[i]) << result.rows[i].reason;
    if (expected[i] != Status::ok) expect_untimed(result.rows[i]);
  }
  EXPECT_EQ(result.rows[0].reason, "signal 11");
  EXPECT_EQ(result.rows[3].reason, "hung");
  EXPECT_EQ(result.rows[2].null_reasons.at("speedup.double_1"), "double_1 is timeout");
  EXPECT_EQ(run_0, std::set<std::int64_t>{3});
  EXPECT_EQ(run_1, std::set<std::int64_t>{2});
}

TEST_F(SweepTest, AGroupAllOfWhichEndedProcessesAllocatesNothing) {
  const Suite s = suite({"double_0"});
  options.ended = {{plan(s)[0].cases[0].case_id, {Status::error, "signal 11"}}};
  machine.lost = true;
  EXPECT_EQ(run_suite(s).rows[0].reason, "signal 11");
}

TEST_F(SweepTest, TheCaseInFlightIsTheOneWhoseLaunchItIs) {
  axes = "hidden = [2, 3]\nseq_len = [4]\n";
  std::string now;
  std::size_t told = 0;
  std::int64_t allocations_before = -1;
  options.in_flight = [&](const std::string& case_id) {
    if (told++ == 0) allocations_before = machine.allocations;
    now = case_id;
  };
  for (const std::size_t i : {0u, 1u}) {
    behaviours[i].prepare = [&, i] { EXPECT_TRUE(now.ends_with("/double_" + std::to_string(i))) << now; };
    behaviours[i].after = [&, i](const Tensors& t, int) {
      EXPECT_TRUE(now.ends_with("/double_" + std::to_string(i))) << now;
      EXPECT_NE(now.find("/D" + std::to_string(t.at("h").spec.shape.back()) + "/"), std::string::npos) << now;
    };
  }
  options.write = [&](const std::vector<CaseRecord>&) { EXPECT_EQ(now, ""); };
  const SweepResult result = run({"double_0", "double_1"});
  EXPECT_EQ(result.rows.size(), 4u);
  EXPECT_EQ(now, "");
  EXPECT_EQ(allocations_before, 0) << "drawing the inputs counts for the first case";
  EXPECT_GE(told, 4u * (1 + kMinSamples)) << "each step of a case is a sign of life";
}

TEST_F(SweepTest, ADeviceThatIsLostEndsTheSweepAndNamesTheCase) {
  axes = "hidden = [2, 3]\nseq_len = [4]\n";
  for (const int fatal : {1, 1 + kWarmUps, 2 + kWarmUps}) {  // the launch that is verified, a warm-up, a sample
    machine.lost = false;
    std::size_t written = 0;
    options.write = [&](const std::vector<CaseRecord>& rows) { written += rows.size(); };
    behaviours[0].after = [&](const Tensors&, int) { EXPECT_FALSE(machine.lost) << "nothing runs after it"; };
    behaviours[1].after = [&](const Tensors& t, int launch) {
      if (launch != fatal || t.at("h").spec.shape.back() != 3) return;
      machine.lost = true;
      throw DeviceError("illegal address");
    };
    try {
      run({"double_0", "double_1"});
      ADD_FAILURE() << "launch " << fatal;
    } catch (const DeviceLost& error) {
      EXPECT_TRUE(error.case_id.ends_with("/double_1")) << error.case_id;
      EXPECT_NE(error.case_id.find("/D3/"), std::string::npos) << error.case_id;
      EXPECT_STREQ(error.what(), "illegal address");
    }
    EXPECT_EQ(written, 2u) << "the group before is kept";
  }
}

TEST_F(SweepTest, ADeviceThatIsLostWhileInputsAreDrawnIsTheFirstCasesFault) {
  machine.lost = true;
  try {
    run({"double_0", "double_1"});
    ADD_FAILURE();
  } catch (const DeviceLost& error) {
    EXPECT_TRUE(error.case_id.ends_with("/double_0")) << error.case_id;
    EXPECT_STREQ(error.what(), "the context is lost");
  }
}

TEST_F(SweepTest, TimeSpentInAnEarlierProcessCounts) {
  axes += "limits = { total_s = 10 }\n";
  options.spent_s = 9.9;
  EXPECT_EQ(run({"double_0"}).rows[0].status, Status::ok);
  options.spent_s = 10.1;
  EXPECT_EQ(run({"double_0"}).rows[0].reason, "limits.total_s = 10 was spent before this case");
}

using SweepDeathTest = SweepTest;

TEST_F(SweepDeathTest, AKillLosesAtMostTheGroupInFlight) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const std::filesystem::path path = std::filesystem::path(::testing::TempDir()) / "sweep_kill.jsonl";
  std::filesystem::remove(path);
  axes = "hidden = [2, 3, 4]\nseq_len = [4]\n";
  const Suite s = suite({"double_0", "double_1"});
  const auto swept_until_killed = [&] {
    RecordWriter writer = RecordWriter::create(path.string());
    writer.write(provenance_here(s, "test", "cpu", {}));
    options.write = [&](const std::vector<CaseRecord>& rows) { writer.write(rows); };
    int groups = 0;
    behaviours[1].prepare = [&] { ++groups; };
    behaviours[1].after = [&](const Tensors&, int launch) {
      if (groups == 3 && launch == 20) std::raise(SIGKILL);
    };
    run_suite(s);
  };
  EXPECT_EXIT(swept_until_killed(), ::testing::KilledBySignal(SIGKILL), "");
  const Records records = read_records(path.string());
  const std::vector<Group> groups = plan(s);
  ASSERT_EQ(records.rows.size(), 4u);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(records.rows[i].case_id, groups[i / 2].cases[i % 2].case_id);
    EXPECT_EQ(records.rows[i].status, Status::ok);
  }
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace prnn
