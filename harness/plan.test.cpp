// plan.test.cpp: which rows a suite means, how they are named, what is left out and why.
#include "harness/plan.hpp"

#include <gtest/gtest.h>
#include <algorithm>
#include <array>
#include <map>
#include <set>

namespace prnn {
namespace {

Suite suite(const std::string& rest, const std::string& solvers = "[\"seq_fused\", \"newton_fused\"]") {
  return parse_suite("t.toml", "title = \"t\"\ncells = [\"gru_diag\"]\nsolvers = " + solvers + "\n" + rest);
}
std::vector<Group> plan(const std::string& rest, const PlanOptions& options = {}) { return make_plan(suite(rest), options); }

std::vector<std::string> case_ids(const std::vector<Group>& groups) {
  std::vector<std::string> ids;
  for (const Group& group : groups) {
    for (const Case& c : group.cases) ids.push_back(c.case_id);
  }
  return ids;
}

TEST(Plan, NamesCasesByAllAxesAndGroupsByAllButTheSolversOwn) {
  const auto groups = plan("batch = 8\nseq_len = 512");
  ASSERT_EQ(groups.size(), 1u);
  EXPECT_EQ(groups[0].group_id, "recurrence/kernel/gru_diag/forward/all/f32/B8/D64/L512/paper/h0=zero/seed=1/rotating");
  EXPECT_EQ(case_ids(groups), (std::vector<std::string>{"recurrence/kernel/gru_diag/forward/all/f32/B8/D64/L512/paper/h0=zero/seed=1/exact/adaptive/rotating/seq_fused",
                                                        "recurrence/kernel/gru_diag/forward/all/f32/B8/D64/L512/paper/h0=zero/seed=1/exact/adaptive/rotating/newton_fused"}));
  EXPECT_EQ(groups[0].cases[0].group_id, groups[0].group_id);
  EXPECT_EQ(groups[0].cases[1].solver, "newton_fused");
  EXPECT_EQ(groups[0].cases[1].device, "cpu");

  const auto rare = plan(
      "weight_std = 0.25\nh0 = \"random\"\nseed = 7\ncache = \"hot\"\niteration_limit = 3\npolicy = { threads = 64, steps_a_thread = 1 }\nstorage = \"bf16\"\nregime = \"wide\"");
  EXPECT_EQ(rare[0].group_id, "recurrence/kernel/gru_diag/forward/all/bf16/B1/D64/L256/wide/weight_std=0.25/h0=random/seed=7/hot");
  EXPECT_EQ(rare[0].cases[1].case_id,
            "recurrence/kernel/gru_diag/forward/all/bf16/B1/D64/L256/wide/weight_std=0.25/h0=random/seed=7/exact/3/hot/newton_fused/steps_a_thread=1,threads=64");
}

TEST(Plan, PutsEveryAxisIntoTheProblem) {
  const Case c = plan(
                     "weight_std = 0.25\nh0 = \"random\"\nseed = 7\ncache = \"hot\"\niteration_limit = 3\npolicy = { threads = 64 }\nstorage = \"bf16\"\nregime = \"wide\"\n"
                     "batch = 2\nhidden = 3\nseq_len = 5")[0]
                     .cases[1];
  const Problem& p = c.problem;
  EXPECT_EQ(p.op, "recurrence");
  EXPECT_EQ(p.scope, "kernel");
  EXPECT_EQ(p.cell, "gru_diag");
  EXPECT_EQ(p.pass, "forward");
  EXPECT_EQ(p.grad, "all");
  EXPECT_EQ(p.storage, Storage::bf16);
  EXPECT_EQ(p.batch, 2);
  EXPECT_EQ(p.hidden, 3);
  EXPECT_EQ(p.seq_len, 5);
  EXPECT_EQ(p.regime, "wide");
  EXPECT_EQ(p.weight_std, 0.25);
  EXPECT_EQ(p.h0, "random");
  EXPECT_EQ(p.seed, 7u);
  EXPECT_EQ(p.gates, "exact");
  EXPECT_EQ(p.iteration_limit, 3);
  EXPECT_EQ(p.policy, (Policy{{"threads", 64}}));
  EXPECT_EQ(c.cache, "hot");
}

TEST(Plan, IsTheProductOfTheAxesInTheOrderOfTheSuite) {
  const auto groups = plan("batch = [4, 2]\nseq_len = { pow2 = [0, 2] }\niteration_limit = [\"adaptive\", 2]");
  ASSERT_EQ(groups.size(), 6u);
  EXPECT_EQ(groups[0].cases.size(), 4u);
  EXPECT_EQ(groups[0].cases[0].problem.batch, 4);
  EXPECT_EQ(groups[1].cases[0].problem.seq_len, 2);
  EXPECT_EQ(groups[3].cases[0].problem.batch, 2);
  EXPECT_EQ(groups[0].cases[3].problem.iteration_limit, 2);
  const auto ids = case_ids(groups);
  EXPECT_EQ(std::set<std::string>(ids.begin(), ids.end()).size(), 24u);
  EXPECT_EQ(ids, case_ids(plan("batch = [4, 2]\nseq_len = { pow2 = [0, 2] }\niteration_limit = [\"adaptive\", 2]")));
}

TEST(Plan, MakesEveryPolicyKeyAnAxis) {
  const auto groups = plan("policy = { threads = [32, 64], steps_a_thread = [1, 4] }");
  ASSERT_EQ(groups.size(), 1u);
  EXPECT_EQ(groups[0].cases.size(), 8u);
}

TEST(Plan, MergesPointsThatRepeatACaseAndKeepsTheLaterExpectation) {
  const auto groups = plan("seq_len = [8, 16]\n[[point]]\nseq_len = 16\n[[point]]\nseq_len = 8\nexpect = \"not_converged\"\n[[point]]\nseq_len = 99");
  ASSERT_EQ(groups.size(), 3u);
  EXPECT_EQ(case_ids(groups).size(), 6u);
  EXPECT_EQ(groups[0].cases[0].expect, Status::not_converged);
  EXPECT_EQ(groups[1].cases[0].expect, Status::ok);
  EXPECT_EQ(groups[2].cases[0].problem.seq_len, 99);
}

TEST(Plan, SkipsUndefinedCombinationsWithTheReason) {
  const auto groups = plan("iteration_limit = [\"adaptive\", 3]");
  const auto& cases = groups[0].cases;
  EXPECT_EQ(cases[0].skip, "");
  EXPECT_EQ(cases[1].skip, "undefined combination: seq_fused does not iterate, so a fixed count means nothing");
  EXPECT_EQ(cases[2].skip, "");
  EXPECT_EQ(cases[3].skip, "");
  EXPECT_TRUE(excused(cases[1].skip));

  PlanOptions nowhere;
  nowhere.device = "abacus";
  const Case c = plan("", nowhere)[0].cases[0];
  EXPECT_TRUE(c.skip.starts_with("undefined combination: seq_fused does not run on abacus (it does on cpu")) << c.skip;
}

TEST(Plan, PassesAndGradientsAreGroupsOfTheirOwn) {
  const auto groups = plan("passes = [\"forward\", \"backward\", \"both\"]\ngrad = [\"all\", \"output\", \"squares\"]");
  ASSERT_EQ(groups.size(), 9u);
  EXPECT_EQ(groups[4].group_id, "recurrence/kernel/gru_diag/backward/output/f32/B1/D64/L256/paper/h0=zero/seed=1/rotating");
  EXPECT_EQ(groups[5].group_id, "recurrence/kernel/gru_diag/backward/squares/f32/B1/D64/L256/paper/h0=zero/seed=1/rotating");
  EXPECT_EQ(groups[6].cases[0].problem.pass, "both");
  EXPECT_EQ(groups[0].cases[0].skip, "");
  EXPECT_EQ(groups[1].cases[0].skip, "undefined combination: pass forward is given no gradients, so grad 'output' means nothing");
  EXPECT_EQ(groups[2].cases[0].skip, "undefined combination: pass forward is given no gradients, so grad 'squares' means nothing");
  for (std::size_t i = 3; i < 9; ++i) EXPECT_EQ(groups[i].cases[0].skip, "") << groups[i].group_id;
  // u and du 3 x 256 x 64 each, h and grad_h 256 x 64 each, a and da 3 x 64 each, h0, grad_last and dh0 64 each; both: last too.
  EXPECT_EQ(groups[3].cases[0].set_bytes, 4 * (8 * 256 * 64 + 9 * 64));
  EXPECT_EQ(groups[6].cases[0].set_bytes, 4 * (8 * 256 * 64 + 10 * 64));
  // squares: no grad_h.
  EXPECT_EQ(groups[5].cases[0].set_bytes, 4 * (7 * 256 * 64 + 9 * 64));
  EXPECT_EQ(groups[8].cases[0].set_bytes, 4 * (7 * 256 * 64 + 10 * 64));
}

TEST(Plan, ASolverWithoutThePassIsUndefinedAndExcused) {
  const Suite suite = parse_suite("t.toml", "title = \"t\"\ncells = [\"gru_diag\"]\nsolvers = [\"seq_fused\", \"newton_unfused\"]\npasses = \"backward\"\n");
  const Case c = make_plan(suite, {})[0].cases[1];
  EXPECT_EQ(c.skip, "undefined combination: newton_unfused has no pass backward");
  EXPECT_TRUE(excused(c.skip));
}

// gru_diag, f32, B 2, D 8, L 4: u 3 x 64, a 3 x 8, h0 16, h 64, last 16 numbers of 4 bytes.
TEST(Plan, CountsMemoryAndSkipsWhatDoesNotFit) {
  constexpr std::int64_t kSet = 4 * (192 + 24 + 16 + 64 + 16);
  const std::string small = "batch = 2\nhidden = 8\nseq_len = 4\n";
  const auto groups = plan(small);
  EXPECT_EQ(groups[0].cases[0].set_bytes, kSet);
  EXPECT_EQ(groups[0].cases[0].sets, 1);
  EXPECT_EQ(groups[0].bytes(), kSet + groups[0].cases[0].workspace_bytes + groups[0].cases[1].workspace_bytes);
  EXPECT_EQ(plan(small + "limits = { bytes = " + std::to_string(kSet) + " }")[0].cases[0].skip, "");
  const std::string skip = plan(small + "limits = { bytes = " + std::to_string(kSet - 1) + " }")[0].cases[0].skip;
  EXPECT_EQ(skip, "memory: the case needs 1.2 KiB, limits.bytes allows 1.2 KiB");
  EXPECT_TRUE(excused(skip));

  PlanOptions options;
  options.free_bytes = kSet;
  EXPECT_EQ(plan(small, options)[0].cases[0].skip, "");
  options.free_bytes = kSet - 1;
  EXPECT_EQ(plan(small, options)[0].cases[0].skip, "memory: the group needs 1.2 KiB with this case, 1.2 KiB are free on cpu");
  EXPECT_EQ(plan(small, options)[0].bytes(), 0);

  options.free_bytes = 1 << 20;
  options.last_level_cache_bytes = kSet;
  EXPECT_EQ(plan(small, options)[0].cases[0].sets, 4);
  EXPECT_EQ(plan(small, options)[0].cases[0].bytes(), 4 * kSet + plan(small)[0].cases[0].workspace_bytes);
  EXPECT_EQ(plan(small + "cache = \"hot\"", options)[0].cases[0].sets, 1);

  const Case huge = plan("batch = 4194303\nhidden = 65536\nseq_len = 65536")[0].cases[0];
  EXPECT_GT(huge.set_bytes, 0);
  EXPECT_TRUE(huge.skip.starts_with("memory: the case needs 256.0 PiB")) << huge.skip;
}

TEST(Plan, RotatesThroughMoreThanThreeCaches) {
  EXPECT_EQ(rotating_sets(100, 0), 1);
  EXPECT_EQ(rotating_sets(100, 33), 1);  // 100 > 99
  EXPECT_EQ(rotating_sets(99, 33), 2);   // 99 is not more than 99
  EXPECT_EQ(rotating_sets(10, 100), 31);
  EXPECT_EQ(rotating_sets(1000, 100), 1);
}

TEST(Plan, ExcusesOnlyMemoryAndUndefinedCombinations) {
  EXPECT_TRUE(excused(undefined_combination("x")));
  EXPECT_TRUE(excused(too_large("x")));
  EXPECT_FALSE(excused("x"));
  EXPECT_FALSE(excused(""));
  EXPECT_FALSE(excused("out of memory: x"));
}

TEST(Plan, AddsTheBaselinesThatSpeedupsNeed) {
  const auto only_newton = [](const std::string& rest) { return make_plan(suite("baselines = [\"seq_stepwise\", \"seq_fused\"]\n" + rest, "\"newton_fused\""), {}); };
  const auto groups = only_newton("iteration_limit = 3\nexpect = \"wrong\"\npolicy = { threads = 64 }");
  ASSERT_EQ(groups[0].cases.size(), 3u);
  const Case& baseline = groups[0].cases[2];
  EXPECT_EQ(groups[0].cases[1].solver, "seq_stepwise");
  EXPECT_EQ(baseline.solver, "seq_fused");
  EXPECT_EQ(baseline.expect, Status::ok);
  EXPECT_EQ(baseline.problem.iteration_limit, std::nullopt);
  EXPECT_TRUE(baseline.problem.policy.empty());
  EXPECT_EQ(baseline.skip, "");
  EXPECT_EQ(baseline.group_id, groups[0].group_id);
  EXPECT_GT(baseline.set_bytes, 0);
  EXPECT_EQ(baseline.set_bytes, groups[0].cases[0].set_bytes);
  EXPECT_EQ(make_plan(suite("baselines = \"seq_fused\""), {})[0].cases.size(), 2u);
}

TEST(Plan, KeepsOnlyWhatTheExpressionFindsInTheCaseId) {
  PlanOptions options;
  options.only = "L8/.*newton";
  const auto groups = plan("seq_len = [8, 16]", options);
  ASSERT_EQ(groups.size(), 1u);
  ASSERT_EQ(groups[0].cases.size(), 1u);
  EXPECT_EQ(groups[0].cases[0].solver, "newton_fused");
  options.only = "no such";
  EXPECT_THROW(plan("", options), BadInput);
  options.only = "[";
  EXPECT_THROW(plan("", options), BadInput);
}

TEST(Plan, GivesTextProblemsTheirText) {
  const Suite s =
      parse_suite(PRNN_SOURCE_DIR "/suites/t.toml", "title = \"t\"\ncells = \"gru_diag\"\nsolvers = \"seq_fused\"\nregime = [\"text\", \"paper\"]\ntext_file = \"../LICENSE\"");
  const auto groups = make_plan(s, {});
  EXPECT_EQ(groups[0].cases[0].problem.text, s.text_bytes);
  EXPECT_EQ(groups[1].cases[0].problem.text, nullptr);
}

TEST(Plan, SaysBytesReadably) {
  EXPECT_EQ(readable_bytes(0), "0 B");
  EXPECT_EQ(readable_bytes(1023), "1023 B");
  EXPECT_EQ(readable_bytes(1024), "1.0 KiB");
  EXPECT_EQ(readable_bytes(1536), "1.5 KiB");
  EXPECT_EQ(readable_bytes(8'000'000'000), "7.5 GiB");
}

TEST(Plan, AnOpHasItsOwnNamesAndSolvers) {
  const Suite suite = parse_suite("t.toml",
                                  "title = \"t\"\nop = [\"recurrence\", \"reduction\"]\ncells = \"gru_diag\"\njacobian = [\"diag\", \"2x2\"]\nsolvers = \"all\"\n"
                                  "baselines = [\"seq_stepwise\", \"seq_fused\"]",
                                  {});
  const std::vector<Group> groups = make_plan(suite, {.device = "emulated"});
  ASSERT_EQ(groups.size(), 3u);
  for (const Group& group : groups) {
    const std::string& op = group.cases[0].problem.op;
    std::vector<std::string> solvers;
    for (const Case& c : group.cases) solvers.push_back(c.solver);
    EXPECT_EQ(solvers, solver_names(op)) << group.group_id << ": no baseline that is another op's";
    EXPECT_TRUE(group.group_id.starts_with(op + "/kernel/" + group.cases[0].problem.cell + "/"));
  }
  EXPECT_EQ(groups[0].cases[0].problem.cell, "gru_diag");
  EXPECT_EQ(groups[1].cases[0].problem.cell, "diag");
  EXPECT_EQ(groups[2].cases[0].problem.cell, "2x2");
  for (const Case& c : groups[2].cases) EXPECT_EQ(c.skip, "") << c.solver;

  const Suite other = parse_suite("t.toml", "title = \"t\"\nop = \"reduction\"\njacobian = \"diag\"\nsolvers = \"shooting\"\npasses = [\"forward\", \"backward\"]", {});
  const std::vector<Group> skipped = make_plan(other, {.device = "emulated"});
  EXPECT_EQ(skipped[0].cases[0].skip, undefined_combination("shooting is no solver of op reduction"));
  EXPECT_EQ(skipped[1].cases[0].skip, undefined_combination("op reduction has no pass backward"));
}

// quick.toml stays quick: a timed case takes at most 0.3 s on a CPU, together under a minute.
TEST(ShippedSuite, QuickHasAtMostAHundredAndNinetyFiveCasesToTimeOnACpu) {
  std::size_t timed = 0;
  bool fixed_count = false;
  for (const Group& group : make_plan(load_suite(PRNN_SOURCE_DIR "/suites/quick.toml"), {})) {
    for (const Case& c : group.cases) {
      timed += c.skip.empty();
      fixed_count |= c.problem.iteration_limit && c.expect == Status::wrong;
    }
  }
  EXPECT_LE(timed, 195u);  // 0.3 s each: under a minute
  EXPECT_TRUE(fixed_count);
}

TEST(ShippedSuite, BackwardAndBothHaveThePeersShapesInBothRegimesAndLargeOnesInEveryStorage) {
  using Shape = std::array<std::int64_t, 3>;
  std::set<Shape> shapes{{16, 2048, 2048}, {32, 1024, 2048}};
  for (const std::int64_t seq_len : {128, 512, 2048, 8192, 32768}) shapes.insert({1, 64, seq_len});
  for (const std::int64_t hidden : {256, 1024, 4096}) {
    for (const std::int64_t seq_len : {512, 2048, 8192}) shapes.insert({8, hidden, seq_len});
  }
  for (const std::string pass : {"backward", "both"}) {
    std::map<std::string, std::set<Shape>> found;
    std::map<std::string, std::size_t> of_the_loss;  // groups at one shape
    for (const Group& group : make_plan(load_suite(PRNN_SOURCE_DIR "/suites/" + pass + ".toml"), {})) {
      const Problem& p = group.cases[0].problem;
      EXPECT_EQ(p.pass, pass);
      of_the_loss[p.grad + " " + p.regime] += Shape{p.batch, p.hidden, p.seq_len} == Shape{8, 4096, 2048};
      if (p.grad == "all") found[p.cell + " " + std::string(to_string(p.storage)) + " " + p.regime].insert({p.batch, p.hidden, p.seq_len});
    }
    std::set<std::string> seen;
    for (const auto& [axes, its] : found) {
      seen.insert(axes.substr(axes.find(' ') + 1));
      const std::string kind = axes.substr(axes.find(' ') + 1);
      const std::set<Shape> one{{8, 4096, 2048}}, large{{8, 4096, 2048}, {8, 4096, 8192}, {8, 1024, 8192}};
      EXPECT_EQ(its, kind.starts_with("f32") ? shapes : kind.starts_with("f64") || kind.ends_with("corners") ? one : large) << pass << " " << axes;
    }
    EXPECT_EQ(found.size(), 2 * seen.size()) << "every cell";
    EXPECT_EQ(seen, (std::set<std::string>{"f32 paper", "f32 corners", "bf16 paper", "bf16 corners", "f16 paper", "f16 corners", "f64 paper"})) << pass;
    of_the_loss.erase("all paper"), of_the_loss.erase("all corners");
    EXPECT_EQ(of_the_loss, (std::map<std::string, std::size_t>{{"output paper", 2}, {"output corners", 2}, {"squares paper", 2}})) << pass;
  }
}

TEST(ShippedSuite, ThePapersTimesAreTakenByItsProtocolAtFourPairsOfBatchAndHidden) {
  struct Figure {
    std::string name, pass;
    std::int64_t first, last;  // of the lengths
    std::size_t lengths, rows_a_length;
  };
  for (const Figure& figure : {Figure{"fig1", "forward", 4, 512, 8, 7}, Figure{"fig2_right", "forward", 4, 131072, 12, 3}, Figure{"fig5", "forward", 4, 131072, 12, 5},
                               Figure{"fig6", "both", 4, 65536, 9, 5}, Figure{"fig7_8", "forward", 256, 32768, 8, 3}}) {
    const Suite suite = load_suite(PRNN_SOURCE_DIR "/suites/paper/" + figure.name + ".toml");
    EXPECT_EQ(suite.protocol, "paper") << figure.name;
    EXPECT_LE(suite.limits.total_s, 500) << figure.name;
    std::map<std::tuple<std::string, std::int64_t, std::int64_t>, std::set<std::int64_t>> lengths;
    for (const Group& group : make_plan(suite, {})) {
      const Problem& p = group.cases[0].problem;
      EXPECT_EQ(p.pass, figure.pass);
      EXPECT_EQ(p.grad, figure.pass == "both" ? "squares" : "all");
      const bool baselines_and_auto = figure.name == "fig6" && p.cell == "linear_diag";
      EXPECT_EQ(group.cases.size(), baselines_and_auto ? 3 : figure.rows_a_length) << group.group_id;
      lengths[{p.cell, p.batch, p.hidden}].insert(p.seq_len);
    }
    std::set<std::pair<std::int64_t, std::int64_t>> shapes;
    for (const auto& [key, found] : lengths) {
      shapes.insert({std::get<1>(key), std::get<2>(key)});
      EXPECT_EQ(found.size(), figure.lengths) << figure.name;
      EXPECT_TRUE(*found.begin() == figure.first && *found.rbegin() == figure.last && found.contains(512)) << figure.name;
    }
    EXPECT_EQ(shapes, (std::set<std::pair<std::int64_t, std::int64_t>>{{1, 64}, {8, 256}, {8, 1024}, {8, 4096}})) << figure.name;
  }
}

TEST(ShippedSuite, ThePapersConvergenceIsOfOneTileAndTenIterations) {
  std::map<std::string, std::set<std::int64_t>> lengths;  // by count
  for (const Group& group : make_plan(load_suite(PRNN_SOURCE_DIR "/suites/paper/fig4.toml"), {})) {
    for (const Case& c : group.cases) {
      const auto& policy = c.problem.policy;
      EXPECT_GE(policy.at("threads") * policy.at("steps_a_thread") / policy.at("channels_a_block"), c.problem.seq_len) << c.case_id;
      EXPECT_EQ(c.problem.batch, 8);
      lengths[c.problem.iteration_limit ? std::to_string(*c.problem.iteration_limit) : "adaptive"].insert(c.problem.seq_len);
    }
  }
  const std::set<std::int64_t> all{256, 512, 1024, 2048};
  EXPECT_EQ(lengths, (std::map<std::string, std::set<std::int64_t>>{{"10", all}, {"adaptive", all}}));
}

}  // namespace
}  // namespace prnn
