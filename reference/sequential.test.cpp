// sequential.test.cpp: the sequential truth where closed forms exist; witness.test.cpp holds it against numbers of other hands.
#include <cmath>

#include <gtest/gtest.h>

#include "reference/mp.hpp"
#include "reference/reference.hpp"
#include "reference/testing.hpp"

namespace prnn {
namespace {

ChannelData elman(double weight, std::vector<double> inputs, double initial = 0) { return {"elman_diag", std::int64_t(inputs.size()), {weight}, std::move(inputs), {initial}}; }

TEST(SequentialTruth, HoldsThirtyTwoDigits) {
  // tanh(1/2) = (e - 1) / (e + 1), and the second step takes the exact first, not the rounded one.
  const Truth truth = true_states(elman(0.25, {0.5, -0.75}));
  const Mp e = exp(Mp(1)), first = (e - 1) / (e + 1);
  const Mp p = first / 4 - Mp(3) / 4, second = (exp(Mp(2 * p)) - 1) / (exp(Mp(2 * p)) + 1);
  ASSERT_EQ(truth.steps, 2);
  const Mp error_first = abs(Mp(join(truth.states[0]) - first)), error_second = abs(Mp(join(truth.states[1]) - second));
  EXPECT_LT(static_cast<double>(error_first), 0x1p-106);
  EXPECT_LT(static_cast<double>(error_second), 0x1p-106);
  EXPECT_EQ(truth.states[0].high, static_cast<double>(first));
  EXPECT_NE(truth.states[0].low, 0);
}

TEST(SequentialTruth, StartsFromTheInitialState) {
  const Truth truth = true_states(elman(1, {0.125}, 0.375));
  EXPECT_EQ(truth.states[0].high, static_cast<double>(Mp(tanh(Mp(1) / 2))));
}

TEST(SequentialTruth, CarriesTheDifferenceOfTwoPrecisions) {
  const Truth truth = true_states(testing::drawn_channel("gru_diag", 40, "paper"));
  float most = 0;
  for (const float difference : truth.difference) most = std::max(most, difference);
  EXPECT_GT(most, 0);       // two precisions did run
  EXPECT_LT(most, 1e-36f);  // a contractive channel loses a few of 40 digits
  ASSERT_EQ(truth.difference.size(), truth.states.size());
}

TEST(SequentialTruth, StopsAtTheDeadlineWithARightPrefix) {
  const ChannelData data = testing::drawn_channel("lstm_cifg_diag", 300, "paper");
  EXPECT_EQ(true_states(data, std::chrono::steady_clock::now() - std::chrono::seconds(1)).steps, 0);
  const Truth whole = true_states(data), part = true_states(data, std::chrono::steady_clock::now() + std::chrono::microseconds(100));
  ASSERT_EQ(whole.steps, 300);
  EXPECT_FALSE(part.ends);
  ASSERT_EQ(part.states.size(), std::size_t(part.steps) * 2);
  for (std::size_t i = 0; i < part.states.size(); ++i) EXPECT_EQ(part.states[i].low, whole.states[i].low);
}

TEST(SequentialTruth, StopsWhereNoVerdictIsPossible) {
  // h' = tanh(8 h) leaves 0 by a factor 8 a step: the bound passes 2^-8 after a few steps.
  const ChannelData data = elman(8, std::vector<double>(100, 0.0), 0x1p-30);
  const Truth whole = true_states(data), f32 = true_states(data, kNoDeadline, Storage::f32), f64 = true_states(data, kNoDeadline, Storage::f64);
  EXPECT_EQ(whole.steps, 100);
  EXPECT_FALSE(whole.ends);
  EXPECT_TRUE(f32.ends);
  EXPECT_TRUE(f64.ends || f64.steps == 100);
  EXPECT_LT(f32.steps, f64.steps);
  const std::vector<double> bound = forward_bound(data, f32, Storage::f32);
  EXPECT_GT(bound.back(), kJudgedBelow);                 // every step that can be judged is there ...
  EXPECT_LE(bound[bound.size() - 2], 4 * kJudgedBelow);  // ... and not many more
}

TEST(SequentialTruth, GoesOnWhereAVerdictIsPossible) {
  // tanh(8 h + 0.1) leaves 0 by a factor 8, and is flat where it arrives: the bound must follow the states.
  EXPECT_EQ(true_states(elman(8, std::vector<double>(40, 0.1)), kNoDeadline, Storage::f32).steps, 40);
  // A GRU that keeps 1024 gathers 2^-14 a step: far beyond 2^-8 in the end, and nothing beside the state.
  ChannelData keeps{"gru_diag", 200, {0, 0, 0}, {}, {1024}};
  for (int l = 0; l < 200; ++l) keeps.inputs.insert(keeps.inputs.end(), {-512, 0, 0});
  const Truth truth = true_states(keeps, kNoDeadline, Storage::f32);
  EXPECT_EQ(truth.steps, 200);
  EXPECT_GT(forward_bound(keeps, truth, Storage::f32).back(), 4 * kJudgedBelow);
}

TEST(SequentialTruth, StopsWhereAnyComponentIsHopeless) {
  // c' = f c with df/dc = 40 f (1 - f) and f = 0.9: the error of c grows, and h, behind a shut output gate, knows nothing of it.
  ChannelData data{"lstm_cifg_diag", 40, {0, 0, 0, 40, 0}, {}, {1, 0}};
  for (int l = 0; l < 40; ++l) data.inputs.insert(data.inputs.end(), {std::log(9.0) - 40 * std::pow(0.9, l), -40, 0});
  const Truth truth = true_states(data, kNoDeadline, Storage::f32);
  EXPECT_TRUE(truth.ends);
  const std::vector<double> bound = forward_bound(data, truth, Storage::f32);
  EXPECT_GT(bound[bound.size() - 2], 4 * kJudgedBelow);
  EXPECT_LT(bound.back(), kJudgedBelow);
}

TEST(SequentialTruth, RefusesAnUnknownCell) { EXPECT_THROW(true_states({"no_cell", 1, {}, {}, {}}), BadInput); }

}  // namespace
}  // namespace prnn
