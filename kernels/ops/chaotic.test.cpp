// chaotic.test.cpp: the weights of regime chaotic are the first that are, by a count of its own, and the same for every shape and type.
#include "kernels/ops/chaotic.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/cells/all.hpp"
#include "kernels/ops/recurrence.hpp"

namespace prnn {
namespace {

Problem problem_of(std::string cell) {
  Problem p;
  p.cell = std::move(cell);
  p.regime = "chaotic";
  p.hidden = 3;
  p.seq_len = 5;
  return p;
}

/// The exponent over `steps` steps of gru_diag, whose Jacobian is a number: the mean of logarithms, with the derivative by a quotient of differences.
double exponent_of_gru(std::uint64_t seed, std::int64_t d, int draw, std::int64_t steps) {
  const auto normal = [](const Philox& bits) { return normal_integer(bits) / kNormalDeviation; };
  double a[3], u[3], h[1] = {0}, sum = 0;
  for (int k = 0; k < 3; ++k) a[k] = 4 * normal(draw_bits(seed, DrawStream::weight, 0, draw, k, d));
  for (std::int64_t l = 0; l < steps; ++l) {
    for (int k = 0; k < 3; ++k) u[k] = normal(draw_bits(seed, DrawStream::input, 0, l, k, d));
    constexpr double kStep = 1e-6;
    const double below[1] = {h[0] - kStep}, above[1] = {h[0] + kStep};
    double low[1], high[1];
    GruDiag::step(below, a, u, low);
    GruDiag::step(above, a, u, high);
    sum += std::log(std::fabs((high[0] - low[0]) / (2 * kStep)));
    GruDiag::step(h, a, u, low);
    h[0] = low[0];
  }
  return sum / double(steps);
}

TEST(ChaoticDraws, AreTheFirstWithAnExponentAboveTheLeast) {
  const Regime regime = regime_of(problem_of("gru_diag"));
  EXPECT_EQ(regime.weight_deviation, 4);
  EXPECT_EQ(regime.weight_clip, 0);
  EXPECT_EQ(regime.input_deviation, 1);
  int tried = 0;
  for (std::int64_t d = 0; d < 3; ++d) {
    const int draw = chaotic_draw("gru_diag", regime, 7, d);
    tried += draw;
    // Trajectories of the two counts part after some hundred steps where they are chaotic: exponents of 4096 steps agree to a few thousandths.
    EXPECT_GT(exponent_of_gru(7, d, draw, 4096), 0.02 - 0.01);
    for (int before = 0; before < draw; ++before) {
      EXPECT_TRUE(exponent_of_gru(7, d, before, 256) < -0.09 || exponent_of_gru(7, d, before, 4096) < 0.02 + 0.01) << d << " " << before;
    }
  }
  EXPECT_GT(tried, 10) << "one in 45 is chaotic";
}

TEST(ChaoticDraws, AreOfAChannelWhateverTheShapeAndType) {
  for (const char* cell : {"gru_diag", "lstm_cifg_diag"}) {
    Problem p = problem_of(cell);
    const Regime regime = regime_of(p);
    const std::vector<std::uint16_t> draws = chaotic_draws(cell, regime, 1, 3);
    for (std::int64_t d = 0; d < 3; ++d) {
      EXPECT_EQ(draws[std::size_t(d)], chaotic_draw(cell, regime, 1, d));
      p = problem_of(cell);
      p.storage = Storage::f64;
      const std::vector<double> weights = draw_channel(p, 0, d).weights;
      for (int k = 0; k < int(weights.size()); ++k) EXPECT_EQ(weights[std::size_t(k)], draw_weight(regime, 1, k, d, draws[std::size_t(d)]));
      p.batch = 9, p.hidden = 50, p.seq_len = 77, p.h0 = "random";
      EXPECT_EQ(draw_channel(p, 8, d).weights, weights);
      p.storage = Storage::bf16;
      const std::vector<double> rounded = draw_channel(p, 8, d).weights;
      for (std::size_t k = 0; k < weights.size(); ++k) EXPECT_NEAR(rounded[k], weights[k], 0x1p-8 * std::fabs(weights[k]));
    }
    EXPECT_NE(draws, chaotic_draws(cell, regime, 2, 3)) << "another seed";
    p.weight_std = 6;
    EXPECT_NE(draws, chaotic_draws(cell, regime_of(p), 1, 3)) << "and another deviation";
  }
}

TEST(ChaoticDraws, AreRefusedWhereACellHasNone) {
  // tanh is monotone: so is every composition of steps, and a bounded monotone map does not stretch everywhere.
  const Problem p = problem_of("elman_diag");
  EXPECT_THROW(chaotic_draw("elman_diag", regime_of(p), 1, 2), BadInput);
  EXPECT_THROW(chaotic_draws("elman_diag", regime_of(p), 1, 3), BadInput);
  EXPECT_THROW(draw_channel(p, 0, 0), BadInput);
  EXPECT_NE(find_op("recurrence").why_not(p).find("makes channel 0 of elman_diag chaotic"), std::string::npos);
  EXPECT_EQ(find_op("recurrence").why_not(problem_of("gru_diag")), "");
}

}  // namespace
}  // namespace prnn
