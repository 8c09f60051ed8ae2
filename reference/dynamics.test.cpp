// dynamics.test.cpp: Lyapunov exponents and Jacobians against closed forms.
#include <cmath>

#include <gtest/gtest.h>

#include "reference/reference.hpp"
#include "reference/testing.hpp"

namespace prnn {
namespace {

double logistic(double x) { return 1 / (1 + std::exp(-x)); }

/// A channel with given weights and inputs [steps, kInputs], from state 0.
ChannelData channel(const char* cell, std::vector<double> weights, std::vector<double> inputs, std::size_t inputs_a_step, std::size_t states) {
  return {cell, std::int64_t(inputs.size() / inputs_a_step), std::move(weights), std::move(inputs), std::vector<double>(states)};
}

TEST(Dynamics, OfGatesThatDoNotSeeTheStateAreThoseOfTheGates) {
  // Weights 0: J = 1 - z(u_z) for the GRU; for the LSTM c' = f c + ..., and h' hangs on c' by less than 1: the product's largest entry is that of c.
  std::vector<double> inputs;
  double gru = 0, gru_most = 0, lstm = 0, lstm_most = 0;
  for (int l = 0; l < 200; ++l) {
    const double u = std::sin(l);
    inputs.insert(inputs.end(), {u, 0.3, -0.2});
    gru += std::log(1 - logistic(u)), gru_most = std::max(gru_most, 1 - logistic(u));
    lstm += std::log(logistic(u)), lstm_most = std::max(lstm_most, logistic(u));
  }
  const Dynamics g = dynamics(channel("gru_diag", {0, 0, 0}, inputs, 3, 1), {}), m = dynamics(channel("lstm_cifg_diag", {0, 0, 0, 0, 0}, inputs, 3, 2), {});
  // A gate is within 3e-16, which its logarithm shows relatively: none is below 1/4.
  const double bound = 4 * (3e-16 + 4 * 0x1p-53);
  EXPECT_NEAR(g.lyapunov, gru / 200, bound);
  EXPECT_NEAR(g.jacobian_max, gru_most, bound);
  EXPECT_NEAR(m.lyapunov, lstm / 200, bound);
  EXPECT_NEAR(m.jacobian_max, lstm_most, bound);
}

TEST(Dynamics, OfAFixedPointAreItsSlope) {
  // tanh(a h) at its fixed point 0 has the slope a.
  const Dynamics d = dynamics(channel("elman_diag", {-3}, std::vector<double>(1000), 1, 1), {});
  EXPECT_NEAR(d.lyapunov, std::log(3.0), 4 * 0x1p-52);
  EXPECT_EQ(d.jacobian_max, 3);
}

TEST(Dynamics, OfSaturatedGatesEnd) {
  const Dynamics d = dynamics(channel("elman_diag", {0.5}, {0, 0, 60, 0}, 1, 1), {});
  EXPECT_EQ(d.lyapunov, -std::numeric_limits<double>::infinity());
  EXPECT_EQ(d.jacobian_max, 0.5);
}

TEST(Dynamics, FollowTheTruthAsFarAsItIsKnownAndThenTheRecurrence) {
  const double a = 1.5, x = 0.25, y = -0.75;  // states that no recurrence gives
  const ChannelData data = channel("elman_diag", {a}, {0, 0, 0, 0}, 1, 1);
  Truth truth;
  truth.steps = 2;
  truth.states = {{x, 0}, {y, 0}};
  const auto slope = [&](double h) { return a * (1 - std::tanh(a * h) * std::tanh(a * h)); };
  const Dynamics d = dynamics(data, truth);
  EXPECT_NEAR(d.lyapunov, (std::log(slope(0)) + std::log(slope(x)) + std::log(slope(y)) + std::log(slope(std::tanh(a * y)))) / 4,
              64 * 0x1p-53);  // some twenty roundings in four logarithms
  EXPECT_EQ(d.jacobian_max, a);
}

TEST(Dynamics, StartFromTheInitialStateAndTakeTheDerivedJacobian) {
  ChannelData data = testing::drawn_channel("gru_diag", 1, "expansive", Storage::f64, 3);
  const auto step = [&](double h0) {
    data.initial = {h0};
    return true_states(data).states[0].high;
  };
  const double h0 = data.initial[0], width = 0x1p-13;
  const auto quotient = [&](double by) { return std::fabs(step(h0 + by) - step(h0 - by)) / (2 * by); };
  // Halving the width leaves a quarter of the quotient's error: a third of the difference; and two roundings of a state.
  const double slope = quotient(width / 2), error = std::fabs(quotient(width) - slope) / 2 + 0x1p-52 / width;
  data.initial = {h0};
  const Dynamics d = dynamics(data, true_states(data));
  EXPECT_NEAR(d.jacobian_max, slope, error);
  EXPECT_NEAR(d.lyapunov, std::log(slope), 2 * error / slope);
}

TEST(Dynamics, OfAProblemAreTheLargestOfItsSampledChannels) {
  Problem p;
  p.cell = "lstm_cifg_diag";
  p.regime = "expansive";
  p.batch = 3;
  p.hidden = 40;
  p.seq_len = 60;
  const std::filesystem::path directory = std::filesystem::path(::testing::TempDir()) / "prnn_dynamics";
  {
    ReferenceCache cache(directory);
    Dynamics most;
    const auto add = [&](std::int64_t b, std::int64_t d) {
      const Dynamics one = dynamics(draw_channel(p, b, d), cache.truth(p, b, d));
      most.lyapunov = std::max(most.lyapunov, one.lyapunov);
      most.jacobian_max = std::max(most.jacobian_max, one.jacobian_max);
    };
    for (const auto& [b, d] : sampled_channels(p)) add(b, d);
    EXPECT_EQ(cache.dynamics(p).lyapunov, most.lyapunov);
    EXPECT_EQ(cache.dynamics(p).jacobian_max, most.jacobian_max);
    p.seq_len = 7;  // another length is another product
    most = {};
    for (const auto& [b, d] : sampled_channels(p)) add(b, d);
    EXPECT_EQ(cache.dynamics(p).lyapunov, most.lyapunov);
  }
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace prnn
