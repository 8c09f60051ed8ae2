// inject.test.cpp: damage that is asked for is done, as much of it as was asked for, to whom it was meant, and said so; without being asked nothing is.
#include "harness/inject.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <nlohmann/json.hpp>

#include "harness/program_test.hpp"
#include "harness/record.hpp"
#include "harness/testing.hpp"
#include "harness/timer.hpp"

namespace prnn {
namespace {

TEST(Inject, IsReadFromOneWord) {
  EXPECT_EQ(parse_injection("slowdown=0.03").slowdown, 0.03);
  EXPECT_EQ(parse_injection("slowdown=10").slowdown, 10);
  EXPECT_EQ(parse_injection("truncate=16").truncate, 16);
  const Injection one = parse_injection("iteration_limit=2:newton_fused");
  EXPECT_EQ(one.iteration_limit, 2);
  EXPECT_EQ(one.solver, "newton_fused");
  EXPECT_EQ(one.text, "iteration_limit=2:newton_fused");
  EXPECT_FALSE(one.slowdown || one.truncate);
  for (const char* bad : {"", "slowdown", "slowdown=", "slowdown=0", "slowdown=-1", "slowdown=10.1", "slowdown=nan", "slowdown=0.03x", "truncate=0", "truncate=17", "truncate=1.5",
                          "iteration_limit=0", "iteration_limit=1001", "warmth=1", "slowdown=0.1:", "slowdown=0.1:none", "newton_fused:slowdown=1"}) {
    EXPECT_THROW(parse_injection(bad), BadInput) << bad;
  }
}

TEST(Inject, IsForTheSolverThatIsNamed) {
  const Solver iterates{.name = "newton_fused", .iterates = true}, walks{.name = "seq_fused"};
  EXPECT_FALSE(Injection{}.applies_to(walks));
  EXPECT_TRUE(parse_injection("slowdown=1").applies_to(walks));
  EXPECT_TRUE(parse_injection("slowdown=1:seq_fused").applies_to(walks));
  EXPECT_FALSE(parse_injection("slowdown=1:seq_fused").applies_to(iterates));
  EXPECT_TRUE(parse_injection("iteration_limit=1").applies_to(iterates));
  EXPECT_FALSE(parse_injection("iteration_limit=1").applies_to(walks));
}

/// A launch takes 1 ms, a spin as its steps say, and less to launch behind other work: the scripted clock adds up what is launched.
class SpinningMachine : public testing::ScriptedMachine {
 public:
  double launch_s = 5e-6, launch_behind_s = 2e-6, step_s = 4e-9;
  std::vector<std::int64_t> spins;
  void spin(std::int64_t steps, Stream) override {
    spins.push_back(steps);
    spun_s_ += (launch_time_s > 0 ? launch_behind_s : launch_s) + static_cast<double>(steps) * step_s;
  }
  Sample time(const std::function<void(Stream)>& launch, bool is_queued) override {
    spun_s_ = launch_time_s = 0;
    queued.push_back(is_queued);
    launch(nullptr);
    return {launch_time_s + spun_s_, 0};
  }

 private:
  double spun_s_ = 0;
};

struct FixedRun : Run {
  explicit FixedRun(SpinningMachine& machine) : machine_(machine) {}
  int launches() const override { return launches_; }
  Policy policy() const override { return {{"threads", 7}}; }
  std::string_view solver() const override { return "chosen"; }
  bool capturable() const override { return false; }
  void launch(const Tensors&, Stream) override { machine_.launch_time_s = 1e-3; }
  Outcome outcome() override { return {.iterations = 7}; }
  SpinningMachine& machine_;
  int launches_ = 1;
};

Solver fixed_solver(SpinningMachine& machine, std::optional<int>* asked = nullptr, int launches = 1) {
  return {.name = "fixed", .iterates = true, .prepare = [&machine, asked, launches](const Problem& problem, Machine&) -> std::unique_ptr<Run> {
            if (asked) *asked = problem.iteration_limit;
            auto run = std::make_unique<FixedRun>(machine);
            run->launches_ = launches;
            return run;
          }};
}

TEST(Inject, WhatIsDamagedSaysOfItselfWhatItIs) {
  SpinningMachine machine;
  const auto run = prepare_injected(parse_injection("truncate=4"), fixed_solver(machine), {}, machine);
  EXPECT_EQ(run->policy(), (Policy{{"threads", 7}}));
  EXPECT_EQ(run->solver(), "chosen");
  EXPECT_FALSE(run->capturable());
}

TEST(Inject, ItsWorkIsMeasuredBehindADelayWhereTheLaunchesAre) {
  for (const int launches : {1, kMaxQueuedLaunches - 1, kMaxQueuedLaunches}) {
    SpinningMachine machine;
    const auto run = prepare_injected(parse_injection("slowdown=0.1"), fixed_solver(machine, nullptr, launches), {}, machine);
    run->calibrate(machine, [] { return Tensors{}; });
    ASSERT_FALSE(machine.queued.empty());
    for (const bool is_queued : machine.queued) EXPECT_EQ(is_queued, launches < kMaxQueuedLaunches) << launches << " and the work itself";
  }
}

TEST(Inject, ASlowdownIsWorkOfTheShareThatWasAskedFor) {
  SpinningMachine machine;
  for (const double share : {0.03, 0.5, 2.0}) {
    const auto run = prepare_injected(parse_injection("slowdown=" + std::to_string(share)), fixed_solver(machine), {}, machine);
    machine.spins.clear();
    run->launch({}, nullptr);
    EXPECT_TRUE(machine.spins.empty()) << "not before it is calibrated";
    run->calibrate(machine, [] { return Tensors{}; });
    const Sample damaged = machine.time([&](Stream stream) { run->launch({}, stream); }, true);
    EXPECT_NEAR(damaged.time_s, 1e-3 * (1 + share), machine.step_s) << "to a step";
    EXPECT_EQ(run->launches(), 2);
    EXPECT_EQ(run->outcome().iterations, 7);
    EXPECT_NE(run->describe().find(std::to_string(machine.spins.back()) + " steps"), std::string::npos) << run->describe();
  }
}

TEST(Inject, AShareBelowTheLaunchOfTheWorkIsThatLaunch) {
  SpinningMachine machine;
  const auto run = prepare_injected(parse_injection("slowdown=0.001"), fixed_solver(machine), {}, machine);
  run->calibrate(machine, [] { return Tensors{}; });
  run->launch({}, nullptr);
  EXPECT_EQ(machine.spins.back(), 0);
}

TEST(Inject, ALimitReachesTheSolver) {
  SpinningMachine machine;
  std::optional<int> asked;
  prepare_injected(parse_injection("iteration_limit=3"), fixed_solver(machine, &asked), {}, machine);
  EXPECT_EQ(asked, 3);
  prepare_injected(parse_injection("truncate=3"), fixed_solver(machine, &asked), {}, machine);
  EXPECT_EQ(asked, std::nullopt);
}

TEST(Inject, ATruncationIsOfEveryOutputAndOfNothingElse) {
  SpinningMachine machine;
  std::array<float, 2> h{}, last{}, u{};
  const auto fill = [](std::array<float, 2>& values) { std::memset(values.data(), 0xff, sizeof values); };
  fill(h), fill(last), fill(u);
  const auto spec = [](const char* name, Role role) { return TensorSpec{name, role, Storage::f32, {2}}; };
  const Tensors tensors{{{spec("u", Role::input), u.data()}, {spec("h", Role::output), h.data()}, {spec("last", Role::last), last.data()}}};
  const auto run = prepare_injected(parse_injection("truncate=4"), fixed_solver(machine), {}, machine);
  run->launch(tensors, nullptr);
  const auto bits = [](float value) { return std::bit_cast<std::uint32_t>(value); };
  for (int i : {0, 1}) {
    EXPECT_EQ(bits(h[i]), 0xfffffff0u);
    EXPECT_EQ(bits(last[i]), 0xfffffff0u);
    EXPECT_EQ(bits(u[i]), 0xffffffffu);
  }
  fill(h);
  run->trace(tensors, nullptr);
  EXPECT_EQ(bits(h[1]), 0xfffffff0u);
  EXPECT_TRUE(machine.spins.empty());
}

class InjectProgram : public Program {};

TEST_F(InjectProgram, SaysSoAndStaysOutOfResults) {
  refused("run small.toml --inject slowdown=x", "--inject slowdown=x: expected a share");
  refused("run small.toml --inject slowdwn=1", "--inject slowdwn=1: unknown damage 'slowdwn'; did you mean 'slowdown'?");
  refused("verify small.toml --inject truncate=4", "prnn verify: unknown flag '--inject'");
  refused("run small.toml --inject truncate=4 --out '" PRNN_SOURCE_DIR "/results/small/x.jsonl'", "--inject truncate=4: expected --out outside of");
  const std::string words = "run small.toml --device cpu --no-report --out r.jsonl ";
  EXPECT_EQ(prnn(words + "--inject slowdown=0.5").code, 0);
  const Records records = read_records((folder_ / "r.jsonl").string());
  EXPECT_EQ(records.head.inject, "slowdown=0.5");
  for (const CaseRecord& row : records.rows) EXPECT_NE(row.time_s->method.find("; injected slowdown=0.5 ("), std::string::npos) << row.time_s->method;
  refused(words + "--resume", "--resume: r.jsonl is of another injected damage (slowdown=0.5); expected none");
}

TEST_F(InjectProgram, WrongRoundingAndTooFewIterationsAreSeen) {
  put("one.toml", "title = \"t\"\ncells = [\"gru_diag\"]\nsolvers = [\"newton_fused\"]\nregime = \"expansive\"\nhidden = 4\nseq_len = 64\ncache = \"hot\"\n");
  EXPECT_EQ(prnn("run one.toml --device cpu --no-report --out a.jsonl").code, 0);
  EXPECT_EQ(prnn("run one.toml --device cpu --no-report --out b.jsonl --inject truncate=8").code, 2);
  EXPECT_EQ(prnn("run one.toml --device cpu --no-report --out c.jsonl --inject iteration_limit=1").code, 2);
  const CaseRecord row = read_records((folder_ / "c.jsonl").string()).rows.at(0);
  EXPECT_EQ(row.iterations, 1);
  EXPECT_FALSE(row.problem.iteration_limit) << "the case is the one that was planned";
}

}  // namespace
}  // namespace prnn
