// gate_policy.test.cpp: every key does what harness/gate.toml says, and what is not understood is refused in one line.
#include "harness/gate_policy.hpp"

#include <gtest/gtest.h>
#include <functional>

#include "kernels/api.hpp"

namespace prnn {
namespace {

GatePolicy parsed(const std::string& text) { return parse_gate_policy("p.toml", text); }

std::string refusal(const std::string& text) {
  try {
    parsed(text);
  } catch (const BadInput& error) {
    return error.what();
  }
  return "accepted";
}

/// Every field but the overrides, in one value.
auto fields(const GatePolicy& p) {
  return std::tuple(p.fdr, p.inconclusive, p.time, p.margin, p.uncalibrated_noise, p.speedup_baselines, p.speedup_margin, p.growth, p.floor, p.more_iterations, p.more_rounds,
                    p.strict, p.resample_runs);
}

TEST(GatePolicyFile, ThatIsShippedShowsTheDefaults) {
  const GatePolicy shipped = load_gate_policy(PRNN_SOURCE_DIR "/harness/gate.toml");
  EXPECT_EQ(fields(shipped), fields(GatePolicy{}));
  EXPECT_TRUE(shipped.overrides.empty());
  EXPECT_EQ(fields(load_gate_policy("")), fields(GatePolicy{}));
}

TEST(GatePolicyFile, SetsEveryField) {
  const GatePolicy p = parsed(R"(
fdr = 0.25
inconclusive = 0.125
[time]
gate = "same_machine"
margin = 0.5
uncalibrated_noise = 0.0625
[speedup]
baselines = ["seq_fused", "auto"]
margin = 0.75
[numerics]
growth = 4
floor = 3
[convergence]
iterations = 7
rounds = 8
[coverage]
missing = "lenient"
[resample]
runs = 9
)");
  EXPECT_EQ(fields(p), std::tuple(0.25, 0.125, GatePolicy::Time::same_machine, 0.5, 0.0625, std::vector<std::string>{"seq_fused", "auto"}, 0.75, 4.0, 3.0, std::int64_t{7},
                                  std::int64_t{8}, false, std::int64_t{9}));
  EXPECT_EQ(parsed("[time]\ngate = \"off\"").time, GatePolicy::Time::off);
  EXPECT_EQ(parsed("[time]\ngate = \"require\"").time, GatePolicy::Time::require);
  EXPECT_TRUE(parsed("[coverage]\nmissing = \"strict\"").strict);
  EXPECT_EQ(parsed("[time]\nmargin = 0").margin, 0);
  EXPECT_EQ(parsed("[numerics]\ngrowth = 1").growth, 1);
}

TEST(GatePolicyFile, OverridesTheMarginOfSomeCases) {
  const GatePolicy p = parsed("[[override]]\ncase = \"newton\"\nmargin = 0.1\n[[override]]\ncase = \"fused$\"\nmargin = 0\n");
  EXPECT_EQ(p.margin_of("a/seq_stepwise"), 0.015);
  EXPECT_EQ(p.margin_of("a/newton_unfused/x"), 0.1);
  EXPECT_EQ(p.margin_of("a/newton_fused"), 0);
}

TEST(GatePolicyFile, ThatIsNotUnderstoodIsRefusedInOneLine) {
  EXPECT_EQ(refusal("[time]\nmargn = 1"), "p.toml:2: unknown key 'margn' in time; did you mean 'margin'?");
  EXPECT_EQ(refusal("tiem = 1"), "p.toml:1: unknown key 'tiem' in policy; did you mean 'time'?");
  EXPECT_EQ(refusal("time = 1"), "p.toml:1: time: expected a table");
  EXPECT_EQ(refusal("[time]\nmargin = -0.5"), "p.toml:2: time.margin: expected a finite number >= 0, not -0.5");
  EXPECT_EQ(refusal("[time]\nmargin = \"x\""), "p.toml:2: time.margin: expected a number, not 'x'");
  EXPECT_EQ(refusal("[time]\ngate = \"of\""), "p.toml:2: unknown time.gate 'of'; did you mean 'off'?");
  EXPECT_EQ(refusal("fdr = 0"), "p.toml:1: fdr: expected a finite number > 0, not 0");
  EXPECT_EQ(refusal("fdr = 1"), "p.toml:1: fdr: 1 is outside 0 .. 1");
  EXPECT_EQ(refusal("inconclusive = 1.5"), "p.toml:1: inconclusive: 1.5 is outside 0 .. 1");
  EXPECT_EQ(refusal("[numerics]\ngrowth = 0.9"), "p.toml:2: numerics.growth: 0.9 is below 1: an error that stays as it is would fail");
  EXPECT_EQ(refusal("[convergence]\nrounds = -1"), "p.toml:2: convergence.rounds: -1 is outside 0 .. 1000000");
  EXPECT_EQ(refusal("[resample]\nruns = 101"), "p.toml:2: resample.runs: 101 is outside 0 .. 100");
  EXPECT_EQ(refusal("[speedup]\nbaselines = \"seq_fused\""), "p.toml:2: speedup.baselines: expected a list of solvers");
  EXPECT_EQ(refusal("[speedup]\nbaselines = [\"seq_fusd\"]"), "p.toml:2: unknown solver 'seq_fusd'; did you mean 'seq_fused'?");
  EXPECT_EQ(refusal("override = 1"), "p.toml:1: override: expected tables, [[override]]");
  EXPECT_EQ(refusal("[[override]]\ncase = \"a\""), "p.toml:1: override: expected case and margin");
  EXPECT_EQ(refusal("[[override]]\nmargin = 1"), "p.toml:1: override: expected case and margin");
  EXPECT_TRUE(refusal("[[override]]\ncase = \"(\"\nmargin = 1").starts_with("p.toml:2: override.case (: bad regular expression: "));
  EXPECT_EQ(refusal("[[override]]\ncase = \"a\\n(\"\nmargin = 1"), "p.toml:2: override.case: expected a regular expression of one line");
  EXPECT_EQ(refusal(std::string("fdr\0", 4)), "p.toml: expected a policy in TOML, not a binary file");
  EXPECT_THROW(load_gate_policy("/nowhere/p.toml"), BadInput);
}

}  // namespace
}  // namespace prnn
