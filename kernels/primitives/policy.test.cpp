// policy.test.cpp: every shipped policy can be launched, fits what it was chosen for, and every bad override is named in one line.
#include "kernels/primitives/policy.hpp"

#include <gtest/gtest.h>

namespace prnn {
namespace {

static_assert(ceil_div(1, 32) == 1 && ceil_div(32, 32) == 1 && ceil_div(33, 32) == 2);
static_assert(power_of_two_from(1) == 1 && power_of_two_from(5) == 8 && power_of_two_from(8) == 8);
static_assert(!is_power_of_two(0) && is_power_of_two(1) && is_power_of_two(16) && !is_power_of_two(12));

Problem problem(std::int64_t batch, std::int64_t hidden, std::int64_t seq_len, Storage storage = Storage::f32) {
  Problem p;
  p.cell = "gru_diag";
  p.batch = batch;
  p.hidden = hidden;
  p.seq_len = seq_len;
  p.storage = storage;
  return p;
}

TEST(ASequentialPolicy, SpreadsFewChannelsAndWidensForMany) {
  EXPECT_EQ(sequential_policy(1).threads, 32);
  EXPECT_EQ(sequential_policy(32 * 32 * kMultiprocessors).threads, 32);
  EXPECT_EQ(sequential_policy(32 * 32 * kMultiprocessors + 1).threads, 64);
  EXPECT_EQ(sequential_policy(std::int64_t(1) << 40).threads, 128);
}

TEST(AFusedPolicy, TakesTilesWhereTheyFitAndFillTheMachine) {
  const auto policy = [](std::int64_t batch, std::int64_t hidden, Storage storage = Storage::f32, std::int64_t seq_len = 2048) {
    return fused_policy(problem(batch, hidden, seq_len, storage));
  };
  EXPECT_EQ(policy(8, 4096), (FusedPolicy{256, 1}));
  EXPECT_EQ(policy(4, 4096), (FusedPolicy{128, 1}));
  EXPECT_EQ(policy(2, 4096), (FusedPolicy{32, 0}));
  EXPECT_EQ(policy(8, 4096 - 128), (FusedPolicy{128, 1}));
  EXPECT_EQ(policy(8, 4100), (FusedPolicy{32, 0}));  // blocks would hold channels of two sequences
  for (const Storage storage : {Storage::f64, Storage::bf16, Storage::f16}) EXPECT_EQ(policy(8, 4096, storage).tiles, 0);
  EXPECT_EQ(policy(8, 4096, Storage::f32, 1 << 25).tiles, 1);
  EXPECT_EQ(policy(8, 4096, Storage::f32, (1 << 25) + 1).tiles, 0);
  Problem p = problem(8, 4096, 512);
  p.policy = {{"tiles", 0}};
  EXPECT_EQ(fused_policy(p), (FusedPolicy{32, 0}));
  p.policy = {{"tiles", 0}, {"prefetch", 24}};
  EXPECT_EQ(fused_prefetch(p, fused_policy(p)), 24);
  p.policy = {{"tiles", 0}};
  EXPECT_EQ(fused_prefetch(p, fused_policy(p)), kMostPrefetch<float>);
  p.policy = {};
  EXPECT_EQ(fused_prefetch(p, fused_policy(p)), kTilePrefetch);
  p.policy = {{"prefetch", 40}};
  EXPECT_EQ(fused_prefetch(p, fused_policy(p)), 40);
  p.policy = {{"threads", 64}};
  EXPECT_EQ(fused_policy(p), (FusedPolicy{64, 1}));
  p.policy = {{"threads", 96}};
  EXPECT_EQ(fused_policy(p), (FusedPolicy{96, 0}));
  p = problem(1, 64, 512);
  p.policy = {{"tiles", 1}, {"threads", 64}};
  EXPECT_EQ(fused_policy(p), (FusedPolicy{64, 1}));
}

TEST(AReductionPolicy, IsAsWideAsLeavesEveryMultiprocessorABlock) {
  const auto policy = [](std::int64_t batch, std::int64_t hidden, int state = 1, Storage storage = Storage::f32) {
    return reduction_policy(problem(batch, hidden, 2048, storage), state);
  };
  EXPECT_EQ(policy(8, 4096), (ReductionPolicy{512, 64}));
  EXPECT_EQ(policy(8, 4096, 2), (ReductionPolicy{256, 64}));
  EXPECT_EQ(policy(8, 1024), (ReductionPolicy{512, 64}));
  EXPECT_EQ(policy(8, 1024, 2), (ReductionPolicy{256, 32}));
  EXPECT_EQ(policy(8, 256, 2), (ReductionPolicy{512, 32}));  // one block is all that a multiprocessor gets
  EXPECT_EQ(policy(8, 256), (ReductionPolicy{512, 32}));
  EXPECT_EQ(policy(8, 1024, 1, Storage::bf16), (ReductionPolicy{512, 64}));
  EXPECT_EQ(policy(8, 4096, 1, Storage::bf16), (ReductionPolicy{256, 128}));
  for (const Storage storage : kStorages) {
    for (const int state : {1, 2}) {
      for (const std::int64_t batch : {1, 8, 100}) {
        for (const std::int64_t hidden : {1, 63, 64, 1000, 4096, 100000}) {
          const ReductionPolicy chosen = policy(batch, hidden, state, storage);
          EXPECT_LE(chosen.threads, kMostReductionThreads);
          EXPECT_EQ(chosen.threads % chosen.channels_a_block, 0);
          EXPECT_EQ(chosen.channels_a_block % reduction_panel(size_of(storage)), 0);
          EXPECT_LE(chosen.threads / chosen.channels_a_block * reduction_steps(state, size_of(storage)) * 3, kMostTileRows) << "three inputs a step";
        }
      }
    }
  }
}

TEST(AnAdjointShootingPolicy, HasABlockForEveryMultiprocessorAndStretchesWorthTheirOverlap) {
  const auto segments = [](std::int64_t batch, std::int64_t hidden, std::int64_t seq_len, Storage storage = Storage::f32) {
    return adjoint_shooting_policy(problem(batch, hidden, seq_len, storage), 1).cut.segments;
  };
  EXPECT_EQ(segments(8, 256, 2048), 2);
  EXPECT_EQ(segments(8, 256, 2048, Storage::bf16), 3);
  EXPECT_EQ(segments(8, 4096, 2048), 1);
  EXPECT_EQ(segments(1, 64, 127), 1);
  EXPECT_EQ(segments(1, 64, 512), 8);
  EXPECT_EQ(segments(1, 64, 2048), 16);
  EXPECT_EQ(segments(1, 64, 8192), 32);
  EXPECT_EQ(segments(1, 64, 1 << 20), 64);
  EXPECT_EQ(segments(1, 33 * 32, 2048), 3);
  EXPECT_EQ(segments(1, 42 * 32, 2048), 2) << "126 blocks in clusters of three are not all resident";
  EXPECT_EQ(adjoint_shooting_policy(problem(1, 64, 512), 1).cut.overlap, shooting_overlap(64, 512, 4));
}

TEST(AnAdjointShootingPolicy, OfOneStretchIsThatOfReduction) {
  for (const int state : {1, 2}) {
    const Problem p = problem(8, 4096, 2048);
    EXPECT_EQ(adjoint_shooting_policy(p, state).blocks, reduction_policy(p, state)) << state;
  }
}

TEST(ANewtonPolicy, ComputesWholeTiles) {
  for (const std::int64_t seq_len : {1, 191, 256, 281, 4096, 5000}) {
    const Problem p = problem(13, 94, seq_len);
    const NewtonPolicy policy = newton_policy(p, 1);
    const std::int64_t tile = policy.threads * policy.steps_a_thread / policy.channels_a_block, steps = newton_computed_steps(p, 1);
    EXPECT_EQ(steps % tile, 0) << seq_len;
    EXPECT_GE(steps, seq_len);
    EXPECT_LT(steps, seq_len + tile);
  }
}

TEST(AShootingPolicy, CanBeLaunchedAtEveryShapeAndFillsTheMachine) {
  for (const Storage storage : kStorages) {
    for (const std::int64_t batch : {1, 8, 1000}) {
      for (const std::int64_t hidden : {1, 3, 8, 33, 64, 256, 1024, 4096}) {
        for (const std::int64_t seq_len : {1, 2, 57, 512, 2048, 8192, 1 << 20}) {
          const Problem p = problem(batch, hidden, seq_len, storage);
          const ShootingPolicy policy = shooting_policy(p);
          const std::string where = std::string(to_string(storage)) + " " + std::to_string(batch) + " " + std::to_string(hidden) + " " + std::to_string(seq_len);
          Problem overridden = p;
          overridden.policy = policy.printed();
          EXPECT_EQ(shooting_policy(overridden), policy) << where;
          overridden.policy.erase("prefetch");  // asked for, it is taken as it is, compiled or not
          EXPECT_EQ(find_solver("shooting", "emulated", overridden)->why_not(overridden), "") << where;
          EXPECT_TRUE(policy.segments == 1 || policy.segments * 8 + policy.overlap <= seq_len) << where << ": a segment owns 8 steps at least";
          const std::int64_t groups = ceil_div(batch * hidden, policy.channels_a_block);
          EXPECT_TRUE(policy.blocks_a_team == 1 || groups * policy.blocks_a_team < 2 * 120) << where << ": no team larger than the machine needs";
          EXPECT_TRUE(policy.blocks_a_team <= kMostClusterBlocks || groups * policy.blocks_a_team <= kMultiprocessors) << where << ": a grid that is resident at once";
        }
      }
    }
  }
}

TEST(AShootingPolicy, IsSequentialOnceTheChannelsFillTheMachine) {
  EXPECT_EQ(shooting_policy(8, 4096, 8192, 4, false), (ShootingPolicy{1, 56, 32, 1, 16}));
  EXPECT_EQ(shooting_policy(8, 1024, 2048, 4, false), (ShootingPolicy{4, 56, 64, 1, 16}));
  EXPECT_EQ(shooting_policy(8, 256, 2048, 4, false), (ShootingPolicy{16, 56, 32, 2, 24}));
  EXPECT_EQ(shooting_policy(1, 64, 512, 4, false), (ShootingPolicy{58, 48, 8, 8, 24}));
  EXPECT_EQ(shooting_policy(1, 64, 2048, 4, false), (ShootingPolicy{125, 48, 8, 8, 24}));
  EXPECT_EQ(shooting_policy(1, 64, 8192, 4, false), (ShootingPolicy{254, 56, 16, 16, 24}));
  EXPECT_EQ(shooting_policy(1, 64, 32768, 4, false), (ShootingPolicy{528, 56, 16, 32, 24}));
  EXPECT_EQ(shooting_policy(1, 64, 1 << 20, 4, false), (ShootingPolicy{528, 56, 64, 128, 16}));
  EXPECT_EQ(shooting_policy(8, 4096, 2048, 2, true), (ShootingPolicy{4, 56, 256, 1, 16}));
  EXPECT_EQ(shooting_policy(8, 4096, 2048, 8, false).overlap, 120);
}

TEST(ANewtonPolicy, CanBeLaunchedAtEveryShape) {
  for (const Storage storage : kStorages) {
    for (const int state : {1, 2}) {
      for (const std::int64_t batch : {1, 8, 1000}) {
        for (const std::int64_t hidden : {1, 3, 8, 33, 1024, 4096}) {
          for (const std::int64_t seq_len : {1, 2, 31, 512, 513, 4096, 1 << 20}) {
            Problem p = problem(batch, hidden, seq_len, storage);
            p.cell = state == 1 ? "gru_diag" : "lstm_cifg_diag";
            const NewtonPolicy policy = newton_policy(p, state);
            const std::string where = std::string(to_string(storage)) + " " + std::to_string(batch) + " " + std::to_string(hidden) + " " + std::to_string(seq_len);
            EXPECT_EQ(find_solver("newton_fused", "emulated", p)->why_not(p), "") << where;
            EXPECT_EQ(policy.threads % 32, 0) << where;
            EXPECT_GE(policy.threads, 32) << where;
            EXPECT_LE(policy.threads, newton_most_threads(state, size_of(compute_storage(storage)))) << where;
            EXPECT_TRUE(is_power_of_two(policy.channels_a_block) && policy.channels_a_block <= kMostChannelsABlock) << where;
            EXPECT_LE(policy.channels_a_block * size_of(storage), 32) << where;
            EXPECT_LT(policy.channels_a_block, 2 * hidden) << where;
          }
        }
      }
    }
  }
}

TEST(ANewtonPolicy, UsesWholeSectorsOnlyWhereNoMultiprocessorIdlesForIt) {
  EXPECT_EQ(newton_policy(1, 64, 512, 1, 4).channels_a_block, 1);
  EXPECT_EQ(newton_policy(8, 1024, 512, 1, 4).channels_a_block, 8);
  EXPECT_EQ(newton_policy(8, 1024, 512, 1, 8).channels_a_block, 4);
  EXPECT_EQ(newton_policy(8, 4096, 512, 1, 2).channels_a_block, 16);
  EXPECT_EQ(newton_policy(1, 64, 256, 1, 4), (NewtonPolicy{256, 1, 1}));
  EXPECT_EQ(newton_policy(1, 64, 512, 1, 4), (NewtonPolicy{256, 2, 1}));
  EXPECT_EQ(newton_policy(1, 64, 1024, 1, 4), (NewtonPolicy{256, 4, 1}));
  EXPECT_EQ(newton_policy(1, 64, 4096, 1, 4).tile(), 4096);
}

TEST(APolicy, TakesOverridesByName) {
  Problem p = problem(1, 8, 50);
  p.policy = {{"threads", 64}, {"steps_a_thread", 4}, {"channels_a_block", 8}, {"overlap", 3}};
  EXPECT_EQ(newton_policy(p, 1), (NewtonPolicy{64, 4, 8}));
  EXPECT_EQ(newton_policy(p, 1).tile(), 32);
  EXPECT_EQ(sequential_policy(p).threads, 64);
}

TEST(APolicyParameter, AcceptsItsValuesAndSaysWhichTheyAre) {
  const PolicyParameter range{.key = "n", .least = 0, .most = 7}, warps{.key = "n", .least = 32, .most = 100, .multiple = 32}, powers{.key = "n", .most = 8, .powers_of_two = true};
  const auto accepted = [](const PolicyParameter& parameter, std::int64_t most) {
    std::vector<std::int64_t> values;
    for (std::int64_t n = -most; n <= most; ++n) {
      if (parameter.accepts(n)) values.push_back(n);
    }
    return values;
  };
  EXPECT_EQ(accepted(range, 9), (std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(accepted(warps, 200), (std::vector<std::int64_t>{32, 64, 96}));
  EXPECT_EQ(accepted(powers, 20), (std::vector<std::int64_t>{1, 2, 4, 8}));
  EXPECT_EQ(range.values(), "0 to 7");
  EXPECT_EQ(warps.values(), "a multiple of 32 from 32 to 100");
  EXPECT_EQ(powers.values(), "a power of two from 1 to 8");
  EXPECT_EQ((PolicyParameter{.key = "n", .least = 0, .most = 1}.values()), "0 or 1");
  EXPECT_EQ((PolicyParameter{.key = "n", .least = 3, .most = 3}.values()), "3");
}

/// What a solver of the emulated GPU says to a problem with one override.
std::string why_not(const char* solver, Problem p, const char* key, std::int64_t value) {
  p.policy = {{key, value}};
  return find_solver(solver, "emulated", p)->why_not(p);
}

TEST(APolicy, NamesABadValueAndWhatWasExpected) {
  const Problem p = problem(1, 64, 50);
  Problem lstm = p, doubles = problem(1, 64, 50, Storage::f64);
  lstm.cell = "lstm_cifg_diag";
  EXPECT_EQ(why_not("newton_fused", p, "threads", 0), "policy threads = 0: must be a multiple of 32 from 32 to 1024");
  for (const std::int64_t bad : {33, 1056}) EXPECT_NE(why_not("newton_fused", p, "threads", bad), "");
  EXPECT_EQ(why_not("newton_fused", p, "threads", 1024), "");
  EXPECT_EQ(why_not("newton_fused", lstm, "threads", 1024), "policy threads = 1024: must be a multiple of 32 from 32 to 512");
  EXPECT_NE(why_not("newton_fused", doubles, "threads", 1024), "");
  EXPECT_EQ(why_not("newton_fused", p, "channels_a_block", 3), "policy channels_a_block = 3: must be a power of two from 1 to 16");
  EXPECT_NE(why_not("newton_fused", p, "channels_a_block", 32), "");
  EXPECT_EQ(why_not("newton_fused", p, "channels_a_block", 16), "");
  EXPECT_EQ(why_not("newton_fused", p, "steps_a_thread", 9), "policy steps_a_thread = 9: must be 1 to 8");
  EXPECT_EQ(why_not("seq_fused", p, "threads", 512), "policy threads = 512: must be a multiple of 32 from 32 to 256");
  EXPECT_EQ(why_not("seq_fused", p, "threads", 256), "");
  EXPECT_EQ(why_not("seq_fused", p, "tiles", 2), "policy tiles = 2: must be 0 or 1");
  EXPECT_EQ(why_not("seq_fused", doubles, "tiles", 1), "policy tiles = 1: must be 0") << "f32 alone";
  EXPECT_EQ(why_not("shooting", p, "steps_a_tile", -5), "") << "a key of another solver";
  Problem limited = p;
  limited.iteration_limit = 3;
  for (const char* solver : {"seq_stepwise", "seq_fused", "shooting"})
    EXPECT_EQ(find_solver(solver, "emulated", limited)->why_not(limited), std::string(solver) + " has no iterations to limit");
  EXPECT_EQ(find_solver("newton_fused", "emulated", limited)->why_not(limited), "");
}

TEST(APolicy, MayNeedAKernelThatIsNotCompiledWithTheProgram) {
  const Problem p = problem(1, 64, 50), doubles = problem(1, 64, 50, Storage::f64);
  const auto ahead = [](const char* solver, Problem q, const char* key, std::int64_t value) {
    q.policy = {{key, value}};
    const Solver* const found = find_solver(solver, "emulated", q);
    const std::vector<KernelSource> kernels = found->kernels(q);
    EXPECT_EQ(kernels.size(), 1u);
    EXPECT_EQ(found->why_not(q).empty(), kernels[0].ahead) << found->why_not(q);
    return kernels[0].ahead;
  };
  for (const int steps : {1, 2, 3, 4, 8}) {
    EXPECT_EQ(ahead("newton_fused", p, "steps_a_thread", steps), steps != 3 && steps != 8) << steps;
    EXPECT_EQ(ahead("newton_fused", doubles, "steps_a_thread", steps), steps == 2) << steps;
  }
  for (const int prefetch : {8, 16, 24, 32, 64}) {
    EXPECT_EQ(ahead("shooting", p, "prefetch", prefetch), prefetch == 16 || prefetch == 24) << prefetch;
    EXPECT_EQ(ahead("shooting", doubles, "prefetch", prefetch), prefetch == 8) << prefetch;
    EXPECT_EQ(ahead("seq_fused", p, "prefetch", prefetch), prefetch == 24) << prefetch;
    EXPECT_EQ(ahead("seq_fused", doubles, "prefetch", prefetch), prefetch == 8) << prefetch;
    EXPECT_EQ(ahead("seq_fused", problem(4, 4096, 50), "prefetch", prefetch), prefetch == 16) << prefetch << ": tiles";
  }
  EXPECT_EQ(why_not("newton_fused", p, "steps_a_thread", 3),
            "this policy needs a kernel that is not compiled with the program, prnn::cuda::newton_fused_kernel<prnn::GruDiag, float, prnn::RecurrenceTensors<float>, 3>, and emulated has no compiler");
}

TEST(APolicy, IsRefusedWhereABlockCannotHaveTheSharedMemory) {
  Problem p = problem(1, 256, 50, Storage::f64);
  p.policy = {{"threads", 256}, {"prefetch", 64}};
  const std::int64_t inputs = 3, bytes = (64 + 8) * inputs * 8 * 256;  // steps ahead and one group, a double each
  EXPECT_EQ(find_solver("seq_fused", "emulated", p)->why_not(p), "this policy needs " + std::to_string(bytes) + " bytes of shared memory a block; there are 232448");
  p = problem(1, 256, 50);
  p.op = "reduction";
  p.cell = "2x2";
  p.policy = {{"threads", 256}, {"prefetch", 64}, {"tiles", 1}};
  const std::int64_t tiles = (64 / 8 + 1) * (8 * 6 * 4 * 256 + 2 * 8);  // of 8 steps, 6 inputs; two barriers each
  EXPECT_EQ(find_solver("seq_fused", "emulated", p)->why_not(p), "this policy needs " + std::to_string(tiles) + " bytes of shared memory a block; there are 232448");
  p = problem(1, 256, 50, Storage::f64);
  EXPECT_EQ(shared_memory_fault(232448), "");
  EXPECT_NE(shared_memory_fault(232449), "");
  p.policy = {{"channels_a_block", 256}, {"prefetch", 64}};
  EXPECT_NE(find_solver("shooting", "emulated", p)->why_not(p).find("shared memory"), std::string::npos);
}

TEST(EverySolver, HasAShippedPolicyInItsSpaceAndItsKernelsAhead) {
  for (const Solver& solver : solvers()) {
    if (solver.device != "emulated" || solver.cell == "diag" || solver.cell == "2x2") continue;
    for (Problem p : {problem(1, 64, 50), problem(2, 33, 200), problem(8, 4096, 512)}) {
      p.cell = solver.cell;
      p.storage = solver.storage;
      p.pass = solver.pass;
      EXPECT_EQ(solver.why_not(p), "") << solver.name << " " << solver.cell;
      if (!solver.kernels) continue;
      for (const KernelSource& kernel : solver.kernels(p)) EXPECT_TRUE(kernel.ahead) << kernel.expression;
    }
  }
}

}  // namespace
}  // namespace prnn
