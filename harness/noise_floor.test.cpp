// noise_floor.test.cpp: noise and smallest effect from runs whose logs are given.
#include "harness/noise_floor.hpp"

#include <gtest/gtest.h>
#include <cmath>

#include "harness/gate_test.hpp"

namespace prnn {
namespace {

using testing::file_of;
using testing::row_of;
using testing::runs_of;
using testing::sessions_with_itself;

TEST(NoiseFloors, AreThoseOfTheRunsOfABaseline) {
  std::vector<RecordFile> files;
  for (const double log_time : {0.0, 0.01, 0.02, 0.01}) files.push_back(file_of("b", {row_of("a", {std::exp(log_time)}), row_of("untimed", {})}));
  const std::vector<NoiseFloor> floors = noise_floors(runs_of(files), {});
  ASSERT_EQ(floors.size(), 1u);
  EXPECT_EQ(floors[0].runs, 4u);
  EXPECT_NEAR(floors[0].time_s, std::exp(0.01), 1e-12);
  EXPECT_NEAR(floors[0].noise->between, std::sqrt(2.0 / 3) * 0.01, 1e-12);
  EXPECT_NEAR(*floors[0].detectable, std::expm1((3.182446 + 5.840909) * floors[0].noise->between * std::sqrt(1.25)), 1e-6);  // t of 3 degrees, 1 % of two cases
  files.resize(2);
  EXPECT_FALSE(noise_floors(runs_of(files), {})[0].noise);
}

TEST(NoiseFloors, OfRunsThatTookTurnsAreThoseOfTheirPairs) {
  std::vector<RecordFile> partners;
  const Runs runs = sessions_with_itself({0.01, -0.02, 0.02}, partners);
  const NoiseFloor floor = noise_floors(runs, partners).at(0);
  ASSERT_TRUE(floor.of_pairs);
  EXPECT_NEAR(floor.of_pairs->spread, std::sqrt(0.0009 / 3), 1e-12);
  EXPECT_NEAR(*floor.detectable, std::expm1((3.182446 + 4.540703) * floor.of_pairs->spread / std::sqrt(3)), 1e-6);  // t of 3 degrees; a session and two more, of one pair each
  EXPECT_FALSE(noise_floors(runs, {}).at(0).of_pairs);
  partners[1].head.inject = "slowdown=0.1";
  EXPECT_FALSE(noise_floors(runs, partners).at(0).of_pairs) << "two are too few";
}

}  // namespace
}  // namespace prnn
