// scans.emulated.test.cpp: the device solvers of op reduction: integers exactly, random maps within the bound, at the edges of tiles and teams, on every schedule.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "kernels/primitives/device_emulated.hpp"
#include "kernels/primitives/measured.hpp"
#include "kernels/primitives/policy.hpp"
#include "kernels/solvers/scan_testing.hpp"
#include "reference/thresholds.hpp"

namespace prnn {
namespace {

using testing::scan_problem;
using testing::ScanInputs;
using testing::Workbench;

constexpr const char* kSolvers[] = {"scan_stepwise", "cub", "seq_fused", "scan_chained"};

Machine& machine() {
  static const std::unique_ptr<Machine> opened = testing::open_machine(std::getenv("PRNN_TEST_DEVICE") ? std::getenv("PRNN_TEST_DEVICE") : "emulated");
  return *opened;
}

/// Tiles of 4 steps of one channel after another, teams of three: every edge within a hundred steps.
Problem small_tiles(Problem p, int threads = 32, int channels = 32, int team = 3, int steps = 4) {
  p.policy = {{"threads", threads}, {"channels_a_block", channels}, {"tiles_a_team", team}, {"steps_a_thread", steps}};
  return p;
}

template <class T>
void expect_integers(const char* solver, Problem p) {
  const std::string where = std::string(solver) + " " + p.cell + " L " + std::to_string(p.seq_len);
  Workbench bench(std::move(p), machine());
  ScanInputs in = testing::integer_inputs(bench.problem, unsigned(bench.problem.seq_len));
  testing::put_scan<T>(bench, in);
  EXPECT_FALSE(bench.solve(solver).nonfinite) << where;
  testing::expect_exact<T>(bench, testing::scan_truth(bench.problem, in), where);
  EXPECT_EQ(bench.ratio_local(), 0) << where;
}

TEST(EveryDeviceScanSolver, IntegersAreExactAtEveryEdge) {
  for (const char* solver : kSolvers) {
    for (const std::int64_t seq_len : {1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 97}) {
      for (const char* jacobian : {"diag", "2x2"}) expect_integers<float>(solver, small_tiles(scan_problem(jacobian, Storage::f32, 2, 3, seq_len)));
    }
    for (const char* jacobian : {"diag", "2x2"}) {
      expect_integers<double>(solver, small_tiles(scan_problem(jacobian, Storage::f64, 1, 5, 41)));
      expect_integers<Bf16>(solver, small_tiles(scan_problem(jacobian, Storage::bf16, 1, 5, 41)));
      expect_integers<F16>(solver, small_tiles(scan_problem(jacobian, Storage::f16, 1, 5, 41)));
    }
  }
}

TEST(SeqFused, TakesTilesOfMapsWhereBlocksAreWhole) {
  for (const char* jacobian : {"diag", "2x2"}) {
    Problem p = scan_problem(jacobian, Storage::f32, 2, 32, 41);
    p.policy = {{"tiles", 1}, {"threads", 32}};
    EXPECT_EQ(find_solver("seq_fused", machine().device(), p)->prepare(p, machine())->policy().at("tiles"), 1);
    expect_integers<float>("seq_fused", p);
  }
}

TEST(ScanChained, IntegersAreExactAtEveryPolicy) {
  for (const auto& [threads, channels, team] : std::vector<std::array<int, 3>>{{32, 1, 1}, {64, 2, 2}, {64, 32, 1}, {128, 8, 4}, {128, 64, 5}, {256, 16, 2}}) {
    for (const char* jacobian : {"diag", "2x2"}) expect_integers<float>("scan_chained", small_tiles(scan_problem(jacobian, Storage::f32, 3, 7, 213), threads, channels, team));
  }
  expect_integers<float>("scan_chained", small_tiles(scan_problem("diag", Storage::f32, 1, 1, 1100), 32, 8, 7));  // 64 steps a tile: 18 tiles, 3 teams
  expect_integers<float>("scan_chained", scan_problem("diag", Storage::f32, 1, 33, 1100));
}

// Rows of whole 16-byte words: copied as tiles, cut at a row's and a sequence's end; else a number at a time.
TEST(ScanChained, IntegersAreExactHoweverMapsCome) {
  const auto expect = [](Problem p, const Policy& policy, bool in_tiles) {
    p.policy = policy;
    EXPECT_EQ(find_solver("scan_chained", machine().device(), p)->prepare(p, machine())->policy().at("tiles"), in_tiles);
    const int size = int(size_of(p.storage));
    size == 8 ? expect_integers<double>("scan_chained", p) : size == 4 ? expect_integers<float>("scan_chained", p) : expect_integers<Bf16>("scan_chained", p);
  };
  for (const char* jacobian : {"diag", "2x2"}) {
    for (const auto& [storage, hidden] : std::vector<std::pair<Storage, int>>{{Storage::f32, 36}, {Storage::f64, 34}, {Storage::bf16, 40}})
      expect(scan_problem(jacobian, storage, 2, hidden, 41), {{"threads", 64}, {"channels_a_block", 32}, {"steps_a_thread", 2}, {"tiles_a_team", 2}}, true);
    expect(scan_problem(jacobian, Storage::f32, 2, 35, 41), {{"threads", 64}, {"channels_a_block", 32}, {"steps_a_thread", 2}, {"tiles_a_team", 2}}, false);
    expect(scan_problem(jacobian, Storage::bf16, 2, 36, 41), {{"threads", 64}, {"channels_a_block", 32}, {"steps_a_thread", 2}, {"tiles_a_team", 2}}, false);
    expect(scan_problem(jacobian, Storage::f32, 1, 4, 41), {{"threads", 32}, {"channels_a_block", 2}, {"steps_a_thread", 1}}, false);                  // 8 bytes side by side
    expect(scan_problem(jacobian, Storage::f32, 1, 4, 300), {{"threads", 64}, {"channels_a_block", 4}, {"steps_a_thread", 16}, {"stages", 1}}, true);  // several copies a tile
  }
}

// More tiles than all blocks hold at once: every stage of the ring, again and again, in two launches.
TEST(ScanChained, IntegersAreExactAtEveryNumberOfStages) {
  for (const int stages : {1, 2, 3, 4}) {
    for (const int hidden : {4, 5}) {
      Problem p = scan_problem("diag", Storage::f32, 5, hidden, 419);  // 5 x 53 tiles of 8 steps, or 105 of 4
      p.policy = {{"threads", 32}, {"channels_a_block", hidden == 4 ? 4 : 8}, {"steps_a_thread", 1}, {"tiles_a_team", 3}, {"stages", stages}};
      Workbench bench(p, machine());
      ScanInputs in = testing::integer_inputs(p, 7);
      testing::put_scan<float>(bench, in);
      const testing::ScanTruth truth = testing::scan_truth(p, in);
      const std::unique_ptr<prnn::Run> run = find_solver("scan_chained", machine().device(), p)->prepare(p, machine());
      for (const int launch : {1, 2, 3}) {
        bench.poison_outputs();
        run->launch(bench.tensors, machine().stream());
        machine().synchronise();
        testing::expect_exact<float>(bench, truth, std::to_string(stages) + " stages, launch " + std::to_string(launch));
        EXPECT_FALSE(run->outcome().nonfinite);
      }
    }
  }
}

TEST(EveryDeviceScanSolver, RandomMapsAreWithinTheComponentwiseBound) {
  for (const char* solver : kSolvers) {
    for (const char* jacobian : {"diag", "2x2"}) {
      Workbench bench(small_tiles(scan_problem(jacobian, Storage::f32, 1, 5, 203)), machine());
      ScanInputs in = testing::random_inputs(bench.problem, 2, 0.999);
      testing::put_scan<float>(bench, in);
      bench.solve(solver);
      testing::expect_within_bound<float>(bench, testing::scan_truth(bench.problem, in), std::string(solver) + " " + jacobian);
      EXPECT_TRUE(passes(bench.ratio_local())) << solver << " " << jacobian;
    }
  }
}

TEST(EveryDeviceScanSolver, IsRightAtItsShippedPolicyAndSaysNothingElse) {
  for (const char* solver : kSolvers) {
    for (const char* jacobian : {"diag", "2x2"}) {
      for (const Storage storage : kStorages) {
        Workbench bench(scan_problem(jacobian, storage, 2, 6, 150), machine());
        const Outcome outcome = bench.solve(solver);
        EXPECT_TRUE(passes(bench.ratio_local())) << solver << " " << jacobian << " " << to_string(storage);
        EXPECT_FALSE(outcome.nonfinite || outcome.iterations || outcome.converged || outcome.rounds);
      }
    }
  }
}

TEST(EveryDeviceScanSolver, DrawsWhatTheHostDraws) {
  const std::unique_ptr<Machine> host = testing::open_machine("cpu");
  for (const char* jacobian : {"diag", "2x2"}) {
    for (const Storage storage : {Storage::f32, Storage::bf16}) {
      const Problem p = scan_problem(jacobian, storage, 2, 3, 9);
      EXPECT_EQ(Workbench(p, machine()).bytes("u"), Workbench(p, *host).bytes("u"));
    }
  }
}

TEST(EveryDeviceScanSolver, TheLocalTestIsThatOfTheHost) {
  const std::unique_ptr<Machine> host = testing::open_machine("cpu");
  for (const char* jacobian : {"diag", "2x2"}) {
    const Problem p = scan_problem(jacobian, Storage::f32, 2, 3, 300);
    Workbench here(p, machine()), there(p, *host);
    there.solve("seq_fused");
    std::vector<float> h = there.values<float>("h");
    h[h.size() / 2] += 1e-3f;
    h[h.size() / 3] += 1e-5f;
    for (Workbench* bench : {&here, &there}) bench->put("h", h), bench->put("last", there.values<float>("last"));
    EXPECT_GT(there.ratio_local(), kErrorFactor);
    EXPECT_EQ(here.ratio_local(), there.ratio_local());
  }
}

TEST(EveryDeviceScanSolver, ANumberThatIsNotFiniteStaysInItsChannel) {
  for (const char* solver : kSolvers) {
    for (const char* jacobian : {"diag", "2x2"}) {
      const int K = std::string_view(jacobian) == "diag" ? 1 : 2, I = K * (K + 1);
      Workbench clean(small_tiles(scan_problem(jacobian, Storage::f32, 1, 3, 130), 32, 8), machine());  // four slots a tile
      clean.solve(solver);
      for (const auto& [at, k] : std::vector<std::pair<int, int>>{{0, 0}, {16, I - 1}, {63, 0}, {100, 1}}) {
        Workbench bench(clean.problem, machine());
        std::vector<float> u = bench.values<float>("u");
        u[std::size_t((at * I + k) * 3 + 1)] = k == 0 ? std::nanf("") : HUGE_VALF;
        bench.put("u", u);
        const std::string where = std::string(solver) + " " + jacobian + " step " + std::to_string(at);
        EXPECT_EQ(bench.solve(solver).nonfinite, (std::array<std::int64_t, 3>{0, at, 1})) << where;
        EXPECT_TRUE(passes(bench.ratio_local())) << where;
        for (const int d : {0, 2}) EXPECT_EQ(bench.channel("h", 0, d), clean.channel("h", 0, d)) << where;
      }
    }
  }
}

TEST(ScanChained, AnInitialStateThatIsNotFiniteIsReportedAtTheFirstStep) {
  Workbench bench(small_tiles(scan_problem("2x2", Storage::f32, 1, 2, 60)), machine());
  std::vector<float> h0 = bench.values<float>("h0");
  h0[1] = std::nanf("");
  bench.put("h0", h0);
  EXPECT_EQ(bench.solve("scan_chained").nonfinite, (std::array<std::int64_t, 3>{0, 0, 1}));
  EXPECT_TRUE(passes(bench.ratio_local()));
}

TEST(ScanChained, CompositionsMayOverflowWhereStatesDoNot) {
  // J = 4 for 128 steps while h = 0, then J = 0: 4^128 overflows in a tile, and across tiles and teams, and 0 x infinity is no number; states stay below 3 x 4^22.
  // Threads, team, steps: teams of 160 and 192 steps, and tiles of 256.
  for (const auto& [threads, team, steps] : std::vector<std::array<int, 3>>{{32, 40, 4}, {64, 24, 4}, {256, 1, 32}}) {
    for (const char* jacobian : {"diag", "2x2"}) {
      const int K = std::string_view(jacobian) == "diag" ? 1 : 2;
      Problem p = small_tiles(scan_problem(jacobian, Storage::f32, 1, 2, 400), threads, 32, team, steps);
      p.policy["stages"] = 1;
      Workbench bench(p, machine());
      ScanInputs in{K, std::vector<double>(std::size_t(400 * K * (K + 1) * 2)), std::vector<double>(std::size_t(K * 2))};
      for (std::size_t i = 0; i < in.maps.size(); ++i) {
        const int l = int(i) / (2 * K * (K + 1)), column = int(i) / 2 % (K + 1);
        if (column == K) in.maps[i] = l >= 128 ? 3 : 0;
        else in.maps[i] = l < 128 ? 4 : l == 128 ? 0 : l < 150 ? 4.0 / K : 0.25 / K;
      }
      testing::put_scan<float>(bench, in);
      EXPECT_FALSE(bench.solve("scan_chained").nonfinite) << jacobian << " " << threads;
      EXPECT_TRUE(passes(bench.ratio_local())) << jacobian << " " << threads;
      testing::expect_within_bound<float>(bench, testing::scan_truth(bench.problem, in), jacobian);
    }
  }
}

TEST(ScanChained, TheSameBitsOnEveryScheduleAndAgain) {
  const Problem p = small_tiles(scan_problem("2x2", Storage::f32, 2, 9, 130), 64, 16, 4);
  Workbench bench(p, machine());
  const std::unique_ptr<prnn::Run> run = find_solver("scan_chained", machine().device(), p)->prepare(p, machine());
  std::vector<unsigned char> first;
  for (const emulated::Schedule schedule : {emulated::Schedule{}, {emulated::Order::descending, 0}, {emulated::Order::random, 1}, {emulated::Order::random, 2}}) {
    emulated::set_schedule(schedule);
    bench.poison_outputs();
    run->launch(bench.tensors, machine().stream());
    machine().synchronise();
    if (first.empty()) first = bench.bytes("h");
    EXPECT_EQ(bench.bytes("h"), first);
    EXPECT_FALSE(run->outcome().nonfinite);
  }
  emulated::set_schedule({});
}

TEST(ScanChained, TheStateIsThatOfTheUnsplitRun) {
  // Split at a tile's end, where the chain hands on the state itself: the same bits.
  const Problem whole = small_tiles(scan_problem("diag", Storage::f32, 1, 3, 96), 32, 32, 1);
  Problem half = whole;
  half.seq_len = 48;
  Workbench all(whole, machine()), one(half, machine()), two(half, machine());
  all.solve("scan_chained");
  const std::vector<float> u = all.values<float>("u"), h = all.values<float>("h");
  const auto middle = u.begin() + std::ptrdiff_t(u.size() / 2);
  one.put("u", std::vector<float>(u.begin(), middle));
  one.put("h0", all.values<float>("h0"));
  one.solve("scan_chained");
  two.put("u", std::vector<float>(middle, u.end()));
  two.put("h0", one.values<float>("last"));
  two.solve("scan_chained");
  std::vector<float> joined = one.values<float>("h");
  const std::vector<float> rest = two.values<float>("h");
  joined.insert(joined.end(), rest.begin(), rest.end());
  EXPECT_EQ(joined, h);
}

TEST(ScanChained, RefusesPoliciesThatCannotBeLaunched) {
  const auto why = [](const char* key, std::int64_t value) {
    Problem p = scan_problem("diag", Storage::f32, 1, 4, 100);
    p.policy = {{key, value}};
    return find_solver("scan_chained", "emulated", p)->why_not(p);
  };
  for (const auto& [key, good, bad] : std::vector<std::tuple<const char*, std::int64_t, std::int64_t>>{{"threads", 32, 16},
                                                                                                       {"threads", 512, 1024},
                                                                                                       {"threads", 64, 96},
                                                                                                       {"channels_a_block", 256, 512},
                                                                                                       {"channels_a_block", 1, 3},
                                                                                                       {"steps_a_thread", 1, 0},
                                                                                                       {"steps_a_thread", 32, 48},
                                                                                                       {"stages", 1, 0},
                                                                                                       {"stages", 4, 5},
                                                                                                       {"tiles_a_team", 1, 0},
                                                                                                       {"tiles_a_team", 1024, 1025}}) {
    EXPECT_EQ(why(key, good), "") << key;
    EXPECT_NE(why(key, bad).find(key), std::string::npos) << key;
  }
  Problem p = scan_problem("diag", Storage::f32, 1, 4, 100);
  p.iteration_limit = 3;
  EXPECT_NE(find_solver("scan_chained", "emulated", p)->why_not(p), "");
}

TEST(ScanChained, RefusesTilesThatSharedMemoryDoesNotHold) {
  const auto why = [](const char* jacobian, Storage storage, const Policy& policy) {
    Problem p = scan_problem(jacobian, storage, 1, 256, 100);
    p.policy = policy;
    const Solver& solver = *find_solver("scan_chained", machine().device(), p);
    const std::string reason = solver.why_not(p);
    if (reason.empty()) solver.prepare(p, machine());  // throws where it cannot be launched
    return reason;
  };
  const Policy largest{{"threads", 512}, {"channels_a_block", 256}, {"steps_a_thread", 16}, {"stages", 1}};
  EXPECT_EQ(why("2x2", Storage::f32, largest), "");
  EXPECT_EQ(why("2x2", Storage::f64, largest), "this policy needs 447488 bytes of shared memory a block; there are 232448");
  EXPECT_NE(why("2x2", Storage::f32, {{"threads", 512}, {"steps_a_thread", 16}, {"stages", 2}}), "");
  EXPECT_EQ(why("diag", Storage::f32, {{"threads", 512}, {"steps_a_thread", 16}, {"stages", 3}}), "");
  EXPECT_NE(why("diag", Storage::f32, {{"threads", 512}, {"steps_a_thread", 16}, {"stages", 4}}), "");
}

TEST(ScanChained, ShippedPoliciesAreThoseOfThreeTilesOf32KiBAndOfTeamsThatMemoryOutlasts) {
  EXPECT_EQ(chained_policy(8, 1024, 16384, 1, 4), (ChainedPolicy{256, 32, 16, 1, 3}));
  EXPECT_EQ(chained_policy(8, 256, 65536, 1, 4), (ChainedPolicy{256, 32, 16, 4, 3}));
  EXPECT_EQ(chained_policy(8, 256, 65536, 2, 4), (ChainedPolicy{256, 32, 4, 4, 3}));
  EXPECT_EQ(chained_policy(8, 1024, 16384, 2, 2), (ChainedPolicy{256, 64, 8, 2, 3}));
  EXPECT_EQ(chained_policy(8, 4096, 4096, 1, 8), (ChainedPolicy{256, 32, 8, 1, 3}));
  EXPECT_EQ(chained_policy(1, 64, 1 << 16, 1, 4), (ChainedPolicy{256, 16, 16, 64, 3}));
  EXPECT_EQ(chained_policy(1, 64, (1 << 16) - 1, 1, 4), (ChainedPolicy{256, 32, 16, 64, 3}));
  EXPECT_EQ(chained_policy(1, 64, 512, 1, 4), (ChainedPolicy{256, 32, 16, 4, 3})) << "no more than the sequence has";
  EXPECT_EQ(chained_policy(1, 3, 17, 1, 4), (ChainedPolicy{64, 4, 16, 1, 3}));
}

TEST(ScanChained, ShippedPoliciesFitTheProblem) {
  for (const std::int64_t seq_len : {1, 16, 17, 1000, 1 << 22}) {
    for (const std::int64_t hidden : {1, 3, 64, 4096}) {
      for (const std::int64_t bytes : {2, 4, 8}) {
        for (const int state : {1, 2}) {
          const ChainedPolicy policy = chained_policy(1, hidden, seq_len, state, bytes);
          EXPECT_TRUE(is_power_of_two(policy.threads) && policy.threads >= 64 && policy.threads <= kMostChainedThreads);
          EXPECT_TRUE(is_power_of_two(policy.channels_a_block) && policy.channels_a_block <= policy.threads);
          EXPECT_LT(policy.channels_a_block, 2 * hidden);
          EXPECT_TRUE(policy.tiles_a_team >= 1 && policy.tiles_a_team <= 64);
          EXPECT_LT(policy.tile() * (policy.tiles_a_team / 2), std::max<std::int64_t>(seq_len, 1));  // no team of twice as many as the sequence has
        }
      }
    }
  }
}

TEST(AutoOnAGpu, TakesForAScanWhatTheTableSaysElseAThreadAChannelWhereThereAreEnough) {
  const MeasuredTable table = parse_measured(auto_table());
  const auto expect = [&](Storage storage, std::int64_t hidden, const char* without_times) {
    const Problem p = scan_problem("2x2", storage, 8, hidden, 4);
    const Choice measured = choose(table, p, "emulated", {});
    EXPECT_EQ(find_solver("auto", "emulated", p)->prepare(p, *testing::open_machine("emulated"))->solver(), measured.solver ? measured.solver->name : without_times) << hidden;
  };
  expect(Storage::f32, 1792, "scan_chained");
  expect(Storage::f32, 1920, "seq_fused");     // 120 blocks of 128
  expect(Storage::f32, 1921, "scan_chained");  // tiles are whole blocks of channels
  expect(Storage::bf16, 1920, "scan_chained");
}

TEST(ScanStepwise, LaunchesOncePerPowerOfTwo) {
  for (const auto& [seq_len, passes] : std::vector<std::pair<int, int>>{{1, 0}, {2, 1}, {3, 2}, {4, 2}, {5, 3}, {1024, 10}, {1025, 11}}) {
    const Problem p = scan_problem("diag", Storage::f32, 1, 1, seq_len);
    EXPECT_EQ(find_solver("scan_stepwise", "emulated", p)->prepare(p, *testing::open_machine("emulated"))->launches(), 2 + passes) << seq_len;
  }
}

}  // namespace
}  // namespace prnn
