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
  EXPECT_EQ(fused_why_not(p), "");
  p.policy = {{"prefetch", 24}};
  EXPECT_EQ(fused_why_not(p), "policy prefetch: this kernel is compiled for 16");
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
          EXPECT_EQ(shooting_why_not(overridden), "") << where;
          EXPECT_EQ(shooting_policy(overridden), policy) << where;
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
            const Problem p = problem(batch, hidden, seq_len, storage);
            const NewtonPolicy policy = newton_policy(p, state);
            const std::string where = std::string(to_string(storage)) + " " + std::to_string(batch) + " " + std::to_string(hidden) + " " + std::to_string(seq_len);
            EXPECT_EQ(newton_why_not(p, state), "") << where;
            EXPECT_EQ(policy.threads % 32, 0) << where;
            EXPECT_GE(policy.threads, 32) << where;
            EXPECT_LE(policy.threads, newton_most_threads(state, size_of(compute_storage(storage)))) << where;
            EXPECT_TRUE(is_power_of_two(policy.channels_a_block) && policy.channels_a_block <= kMostChannelsABlock) << where;
            EXPECT_LE(policy.channels_a_block * size_of(storage), 32) << where;
            EXPECT_LT(policy.channels_a_block, 2 * hidden) << where;
            EXPECT_TRUE(newton_has_steps(policy.steps_a_thread, size_of(storage))) << where;
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
  EXPECT_EQ(newton_why_not(p, 1), "");
  EXPECT_EQ(sequential_why_not("seq_fused", p), "");
}

TEST(APolicy, NamesABadValueAndWhatWasExpected) {
  const auto newton = [](const char* key, std::int64_t value, int state = 1, Storage storage = Storage::f32) {
    Problem p = problem(1, 8, 50, storage);
    p.policy[key] = value;
    return newton_why_not(p, state);
  };
  EXPECT_EQ(newton("threads", 0), "policy threads = 0: must be a multiple of 32 from 32 to 1024");
  EXPECT_NE(newton("threads", 33), "");
  EXPECT_NE(newton("threads", 1056), "");
  EXPECT_EQ(newton("threads", 1024), "");
  EXPECT_EQ(newton("threads", 1024, 2), "policy threads = 1024: at most 512 for this cell and storage type");
  EXPECT_NE(newton("threads", 1024, 1, Storage::f64), "");
  EXPECT_EQ(newton("channels_a_block", 3), "policy channels_a_block = 3: must be 1, 2, 4, 8 or 16");
  EXPECT_NE(newton("channels_a_block", 32), "");
  EXPECT_EQ(newton("channels_a_block", 16), "");
  EXPECT_EQ(newton("steps_a_thread", 3), "policy steps_a_thread = 3: f32 is compiled for 1, 2 and 4");
  EXPECT_EQ(newton("steps_a_thread", 4), "");
  EXPECT_EQ(newton("steps_a_thread", 2, 1, Storage::f64), "");
  EXPECT_NE(newton("steps_a_thread", 4, 1, Storage::bf16), "");

  Problem p = problem(1, 8, 50);
  p.policy["threads"] = 512;
  EXPECT_EQ(sequential_why_not("seq_fused", p), "policy threads = 512: must be a multiple of 32 from 32 to 256");
  p.policy["threads"] = 256;
  EXPECT_EQ(sequential_why_not("seq_fused", p), "");
  p.iteration_limit = 3;
  EXPECT_EQ(sequential_why_not("seq_fused", p), "seq_fused has no iterations to limit");
}

}  // namespace
}  // namespace prnn
