// gradients.test.cpp: the true gradients where closed forms exist, against products with the Jacobian taken forward, and against differences of the loss.
// Against numbers of other hands: witness.test.cpp.
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <thread>

#include <gtest/gtest.h>

#include "reference/mp.hpp"
#include "reference/reference.hpp"
#include "reference/testing.hpp"

namespace prnn {
namespace {

using testing::backward_channel;
using testing::evaluate;
using testing::small_problem;

constexpr const char* kCells[] = {"gru_diag", "lstm_cifg_diag", "elman_diag"};
constexpr const char* kGrads[] = {"all", "output", "squares"};

ChannelData elman(double weight, std::vector<double> inputs, double initial = 0) { return {"elman_diag", std::int64_t(inputs.size()), {weight}, std::move(inputs), {initial}}; }

double error(const DoubleDouble& x, const Mp& truth) { return static_cast<double>(Mp(abs(Mp(join(x) - truth)))); }

TEST(TrueGradients, OfOneStepAreProducts) {
  // One step, h = tanh(a h0 + u): d(h^2)/du = 2 h (1 - h^2), times h0 for a, times a for h0.
  const Gradients gradients = true_gradients(elman(0.5, {0.25}, 0.75), Loss::last_component);
  const Mp h = tanh(Mp(5) / 8), by_u = 2 * h * (1 - h * h);
  EXPECT_LT(error(gradients.inputs[0], by_u), 0x1p-104);
  EXPECT_LT(error(gradients.weights[0], Mp(by_u * 3 / 4)), 0x1p-104);
  EXPECT_LT(error(gradients.initial[0], Mp(by_u / 2)), 0x1p-104);
}

TEST(TrueGradients, TakeTheStoredStatesAsTheyAre) {
  // h_1 = 0.5 whatever a step would give. g_2 = 3 + 5, p_2 = a h_1 + u_2; g_1 = 2 + a g_2 (1 - tanh^2 p_2).
  const BackwardChannel channel{elman(0.5, {0.25, -0.5}, 0.75), {0.5, 100}, {{2, 3}, {5}}};
  const Gradients gradients = true_gradients(channel);
  ASSERT_EQ(gradients.steps, 2);
  const auto slope = [](const Mp& p) { return Mp(1 - tanh(p) * tanh(p)); };
  const Mp by_2 = 8 * slope(Mp(-1) / 4), by_1 = (2 + by_2 / 2) * slope(Mp(5) / 8);
  EXPECT_LT(error(gradients.inputs[1], by_2), 0x1p-100);
  EXPECT_LT(error(gradients.inputs[0], by_1), 0x1p-100);
  EXPECT_LT(error(gradients.weights[0], Mp(by_2 / 2 + by_1 * 3 / 4)), 0x1p-100);
  EXPECT_LT(error(gradients.initial[0], Mp(by_1 / 2)), 0x1p-100);
}

/// Sum over a channel's steps of w_l . t_l, t_l = J_l t_{l-1} + what (a, u_l) moved by v gives, at the states that are given: the same number by the other route.
template <class Cell>
Mp product_forward(const BackwardChannel& channel, const BackwardChannel& v, Mp& size) {
  constexpr int K = Cell::kState;
  using D = Dual<Mp, 1>;
  const auto moved = [](double x, double by) {
    D out{Mp(x)};
    out.slope[0] = by;
    return out;
  };
  const std::int64_t L = channel.data.seq_len, G = std::int64_t(channel.loss.states.size()) / L;
  D h[K], a[Cell::kWeights], u[Cell::kInputs], next[K];
  for (std::size_t k = 0; k < Cell::kWeights; ++k) a[k] = moved(channel.data.weights[k], v.data.weights[k]);
  for (std::size_t i = 0; i < K; ++i) h[i] = moved(channel.data.initial[i], v.data.initial[i]);
  Mp sum = 0;
  const auto add = [&](double w, const Mp& t) {
    sum += w * t;
    size += abs(Mp(w * t));
  };
  for (std::int64_t l = 0; l < L; ++l) {
    for (std::int64_t k = 0; k < Cell::kInputs; ++k) u[k] = moved(channel.data.inputs[std::size_t(l * Cell::kInputs + k)], v.data.inputs[std::size_t(l * Cell::kInputs + k)]);
    Cell::step(h, a, u, next);
    for (std::int64_t i = 0; i < K; ++i) {
      const Mp t = next[i].slope[0];
      if (i >= K - G) add(channel.loss.states[std::size_t(l * G + i - (K - G))], t);
      if (l == L - 1) add(channel.loss.last[std::size_t(i)], t);
      h[i] = next[i];
      if (!channel.states.empty()) h[i].value = channel.states[std::size_t(l * K + i)];
    }
  }
  return sum;
}

Mp product_backward(const Gradients& gradients, const ChannelData& v, Mp& size) {
  Mp sum = 0;
  const auto add = [&](const std::vector<DoubleDouble>& gradient, const std::vector<double>& direction) {
    ASSERT_EQ(gradient.size(), direction.size());
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      const Mp term = join(gradient[i]) * direction[i];
      sum += term;
      size += abs(term);
    }
  };
  add(gradients.weights, v.weights);
  add(gradients.inputs, v.inputs);
  add(gradients.initial, v.initial);
  return sum;
}

TEST(TrueGradients, AreTheTransposeOfTheJacobian) {
  for (const char* cell : kCells) {
    for (const char* grad : kGrads) {
      Problem p = small_problem(cell, 37, "wide", Storage::bf16);
      p.grad = grad;
      BackwardChannel channel = backward_channel<Bf16>(p, 0, 0);
      const BackwardChannel v = backward_channel<Bf16>(p, 1, 3);
      for (const bool stored : {true, false}) {
        if (!stored) channel.states.clear();
        const Gradients gradients = true_gradients(channel);
        with_cell(cell, [&]<class Cell>() {
          // Every number of the gradients is rounded to 2^-106 of itself, and both sums lose a few of 50 digits.
          Mp size = 0;
          const Mp backward = product_backward(gradients, v.data, size), forward = product_forward<Cell>(channel, v, size);
          EXPECT_LT(static_cast<double>(Mp(abs(Mp(forward - backward)) / size)), 0x1p-105) << cell << " " << grad << " " << stored;
        });
      }
    }
  }
}

/// <grad_h, h> + <grad_last, last> of the channel in double, or |h|^2 for <grad_h, h> where none is drawn, and what rounding may have done to it.
double loss_in_double(const ChannelData& data, const ChannelGradients& loss, double& roundoff) {
  const std::vector<double> h = evaluate<double>(data), bound = forward_bound(data, true_states(data), Storage::f64);
  const std::size_t K = data.initial.size(), L = std::size_t(data.seq_len), G = loss.states.size() / L;
  double sum = 0;
  roundoff = 0;
  const auto add = [&](double w, std::size_t at, int degree = 1) {
    sum += w * h[at];
    roundoff += degree * std::fabs(w) * kErrorFactor * bound[at] + 2 * double(L * K) * unit_roundoff_v<double> * std::fabs(w * h[at]);  // fewer than 2 L K roundings follow
  };
  for (std::size_t l = 0; l < L; ++l) {
    for (std::size_t i = 0; i < G; ++i) add(loss.states[l * G + i], l * K + K - G + i);
  }
  for (std::size_t at = 0; at < L * K && G == 0; ++at) add(h[at], at, 2);
  for (std::size_t i = 0; i < K; ++i) add(loss.last[i], (L - 1) * K + i);
  return sum;
}

TEST(TrueGradients, AreDifferencesOfTheLossInDouble) {
  for (const char* cell : kCells) {
    for (const char* grad : kGrads) {
      Problem p = small_problem(cell, 12, "paper", Storage::f64);
      p.grad = grad;
      const ChannelData data = draw_channel(p, 0, 0);
      const ChannelGradients loss = draw_gradients(p, 0, 0);
      const Gradients gradients = true_gradients({data, {}, loss});
      ChannelData moved = data;
      const auto check = [&](double& x, const DoubleDouble& gradient) {
        const double at = x;
        double roundoff = 0;
        const auto quotient = [&](double step) {
          double up_roundoff, down_roundoff;
          const volatile double above = at + step, below = at - step;  // as they are rounded: their distance is exact
          x = above;
          const double up = loss_in_double(moved, loss, up_roundoff);
          x = below;
          const double down = loss_in_double(moved, loss, down_roundoff);
          x = at;
          roundoff += (up_roundoff + down_roundoff) / (2 * step);
          return (up - down) / (above - below);
        };
        // The quotient of s is off by s^2 f'''/6, that of 2 s by four times as much: their difference is three times the error. Rounding the ends by
        // 2^-53 |x| moves the middle by as much, which f'' = O(10) makes 2^-50 |x|.
        const double s = 0x1p-17, near = quotient(s), error = std::fabs(quotient(2 * s) - near) + roundoff + 0x1p-50 * std::fabs(at);
        EXPECT_NEAR(gradient.high, near, error) << cell << " " << grad;
        EXPECT_LT(error, 0x1p13 * s * s);  // of third derivatives up to 6 x 2^13, or the quotients show nothing
      };
      for (std::size_t k = 0; k < data.weights.size(); ++k) check(moved.weights[k], gradients.weights[k]);
      for (std::size_t k = 0; k < data.inputs.size(); k += 5) check(moved.inputs[k], gradients.inputs[k]);
      for (std::size_t k = 0; k < data.initial.size(); ++k) check(moved.initial[k], gradients.initial[k]);
    }
  }
}

TEST(TrueGradients, OfSquaresAreThoseOfTwiceTheStates) {
  for (const Loss loss : {Loss::all_components, Loss::last_component}) {
    const ChannelData data = testing::drawn_channel("lstm_cifg_diag", 15, "paper");
    ChannelGradients twice{{}, {0, 0}};
    const Truth truth = true_states(data);
    for (std::size_t i = 0; i < truth.states.size(); ++i) {
      if (loss == Loss::all_components || i % 2 == 1) twice.states.push_back(2 * truth.states[i].high);
    }
    const Gradients squares = true_gradients(data, loss), given = true_gradients({data, {}, twice});
    // 2 h is rounded to double here, 2^-53 of it, and reaches at most 30 numbers with factors of order 1.
    for (std::size_t i = 0; i < squares.inputs.size(); ++i) EXPECT_NEAR(squares.inputs[i].high, given.inputs[i].high, 30 * 0x1p-52);
    for (std::size_t i = 0; i < squares.weights.size(); ++i) EXPECT_NEAR(squares.weights[i].high, given.weights[i].high, 15 * 30 * 0x1p-52);
    EXPECT_NE(squares.inputs[3].low, given.inputs[3].low);
  }
}

TEST(AChannelAtStoredStates, HasTheLossOfJustThese) {
  for (const char* cell : kCells) {
    for (const char* grad : kGrads) {
      Problem p = small_problem(cell, 5, "paper", Storage::f16);
      p.grad = grad;
      std::vector<double> states = evaluate<F16>(draw_channel(p, 1, 2));
      states[3] = 0.75;  // what a solver stored, right or wrong
      const BackwardChannel channel = channel_at(p, 1, 2, states);
      const ChannelGradients drawn = draw_gradients(p, 1, 2);
      std::vector<double> twice = states;
      for (double& x : twice) x *= 2;
      EXPECT_EQ(channel.states, states);
      EXPECT_EQ(channel.data.inputs, draw_channel(p, 1, 2).inputs);
      EXPECT_EQ(channel.loss.states, p.grad == "squares" ? twice : drawn.states) << cell << " " << grad;
      EXPECT_EQ(channel.loss.last, drawn.last);
    }
  }
}

TEST(TrueGradients, CarryTheDifferenceOfTwoPrecisions) {
  const Gradients gradients = true_gradients(backward_channel<float>(small_problem("gru_diag", 40, "paper"), 0, 0));
  for (const auto* difference : {&gradients.difference.inputs, &gradients.difference.weights, &gradients.difference.initial}) {
    ASSERT_FALSE(difference->empty());
    const double most = *std::max_element(difference->begin(), difference->end());
    EXPECT_GT(most, 0);                // two precisions did run
    EXPECT_LT(most, 40 * 25 * 1e-39);  // and the shorter one rounds at its 40th digit, at most 25 times in each of 40 steps
  }
  EXPECT_EQ(gradients.difference.inputs.size(), gradients.inputs.size());
}

TEST(TrueGradients, StopAtTheDeadlineWithTheLastStepsRight) {
  const BackwardChannel channel = backward_channel<float>(small_problem("lstm_cifg_diag", 600, "paper"), 0, 0);
  const Gradients whole = true_gradients(channel), none = true_gradients(channel, std::chrono::steady_clock::now() - std::chrono::seconds(1));
  EXPECT_EQ(none.steps, 0);
  EXPECT_TRUE(none.inputs.empty() && none.difference.inputs.empty() && none.weights.empty() && none.initial.empty());
  ASSERT_EQ(whole.steps, 600);
  const Gradients part = true_gradients(channel, std::chrono::steady_clock::now() + std::chrono::milliseconds(3));
  ASSERT_LT(part.steps, 600);
  EXPECT_TRUE(part.weights.empty() && part.initial.empty());
  ASSERT_EQ(part.inputs.size(), std::size_t(part.steps) * 3);
  ASSERT_EQ(part.difference.inputs.size(), part.inputs.size());
  for (std::size_t i = 1; i <= part.inputs.size(); ++i) EXPECT_EQ(part.inputs[part.inputs.size() - i].low, whole.inputs[whole.inputs.size() - i].low);
}

TEST(TrueGradients, AtTrueStatesHaveNoStepWhereTheseTakeAllTheTime) {
  BackwardChannel channel = backward_channel<float>(small_problem("lstm_cifg_diag", 600, "paper"), 0, 0);
  channel.states.clear();
  const Gradients none = true_gradients(channel, std::chrono::steady_clock::now() - std::chrono::seconds(1));
  EXPECT_EQ(none.steps, 0);
  EXPECT_TRUE(none.inputs.empty() && none.weights.empty() && none.initial.empty());
  EXPECT_EQ(true_gradients(channel, std::chrono::steady_clock::now() + std::chrono::hours(1)).weights[0].low, true_gradients(channel).weights[0].low);
}

TEST(TrueGradients, RefuseOtherShapes) {
  const BackwardChannel right = backward_channel<float>(small_problem("lstm_cifg_diag", 9, "paper"), 0, 0);
  EXPECT_NO_THROW(true_gradients(right));
  BackwardChannel wrong = right;
  wrong.states.pop_back();
  EXPECT_THROW(true_gradients(wrong), std::invalid_argument);
  for (const auto member : {&ChannelGradients::states, &ChannelGradients::last}) {
    wrong = right;
    (wrong.loss.*member).pop_back();
    EXPECT_THROW(true_gradients(wrong), std::invalid_argument);
    EXPECT_THROW(true_gradients({wrong.data, {}, wrong.loss}), std::invalid_argument);
  }
  for (const auto member : {&ChannelData::inputs, &ChannelData::weights, &ChannelData::initial}) {
    wrong = right;
    (wrong.data.*member).pop_back();
    EXPECT_THROW(true_gradients(wrong), std::invalid_argument);
  }
  wrong = right;
  wrong.loss.states.clear();
  EXPECT_THROW(true_gradients(wrong), std::invalid_argument) << "|h|^2 is of the true states alone";
  wrong = right;
  wrong.data.cell = "no_cell";
  EXPECT_THROW(true_gradients(wrong), BadInput);
}

// --- GradientReference --------------------------------------------------------------------------------------------------------

std::vector<BackwardChannel> some_channels(std::int64_t count, std::int64_t seq_len) {
  std::vector<BackwardChannel> channels;
  for (std::int64_t b = 0; b < count; ++b) channels.push_back(backward_channel<float>(small_problem("gru_diag", seq_len, "paper"), b, 0));
  return channels;
}
std::vector<const BackwardChannel*> pointers(const std::vector<BackwardChannel>& channels) {
  std::vector<const BackwardChannel*> out;
  for (const BackwardChannel& channel : channels) out.push_back(&channel);
  return out;
}

TEST(GradientReference, GivesEveryChannelItsOwnInOrder) {
  const std::vector<BackwardChannel> channels = some_channels(5, 20);
  const auto all = GradientReference().of(pointers(channels), 2);
  ASSERT_EQ(all.size(), 5u);
  for (std::size_t c = 0; c < 5; ++c) EXPECT_EQ(all[c]->inputs[0].low, true_gradients(channels[c]).inputs[0].low);
}

TEST(GradientReference, RemembersWhatItKnowsAndNothingElse) {
  std::vector<BackwardChannel> channels = some_channels(2, 20);
  GradientReference reference;
  const auto first = reference.of(pointers(channels), 2);
  EXPECT_GT(reference.spent_s(), 0);
  EXPECT_EQ(reference.of(pointers(channels), 2), first);
  for (double* x :
       {&channels[0].data.inputs[7], &channels[0].data.weights[1], &channels[0].data.initial[0], &channels[0].states[3], &channels[0].loss.states[19], &channels[0].loss.last[0]}) {
    const double before = *x;
    *x += 0.5;
    const auto other = reference.of(pointers(channels), 2);
    EXPECT_NE(other[0], first[0]);
    EXPECT_EQ(other[1], first[1]);
    EXPECT_EQ(other[0]->weights[0].low, true_gradients(channels[0]).weights[0].low);
    *x = before;
  }
}

TEST(GradientReference, GivesTheFirstGroupTheTimeThereIs) {
  EXPECT_EQ(GradientReference(0).of(pointers(some_channels(1, 5)), 1)[0]->steps, 0);
  // 1000 channels, and time for a tenth of them: a fair share for each would finish none.
  const std::vector<BackwardChannel> channels = some_channels(50, 400);
  std::vector<const BackwardChannel*> all;
  for (int i = 0; i < 20; ++i) {
    for (const BackwardChannel& channel : channels) all.push_back(&channel);
  }
  double one_s = 1;  // the least of a few: another process may have had the core
  for (int i = 0; i < 5; ++i) {
    GradientReference one;
    one.of({&channels[0]}, 1);
    one_s = std::min(one_s, one.spent_s());
  }
  GradientReference reference(one_s * 100 / std::max(1u, std::thread::hardware_concurrency()));
  const auto some = reference.of(all, 4);
  EXPECT_EQ(some.front()->steps, 400);
  EXPECT_EQ(some.back()->steps, 0);
}

TEST(GradientReference, LeavesMostOfItsTimeToVerdicts) {
  std::vector<BackwardChannel> stored = some_channels(24, 3000), unstored = stored;
  for (BackwardChannel& channel : unstored) channel.states.clear();
  const auto for_every_core = [](const std::vector<BackwardChannel>& channels) {  // seconds of work for each
    std::vector<const BackwardChannel*> all;
    for (unsigned core = 0; core < std::max(1u, std::thread::hardware_concurrency()); ++core) {
      for (const BackwardChannel& channel : channels) all.push_back(&channel);
    }
    return all;
  };
  GradientReference reference(0.8);
  EXPECT_EQ(reference.end_to_end(for_every_core(unstored), 1).back()->steps, 0);
  const double spent_s = reference.spent_s();
  EXPECT_GT(spent_s, 0.15);
  EXPECT_LT(spent_s, 0.5) << "a quarter, on a machine that may stand still";
  for (BackwardChannel& channel : unstored) channel.data.weights[0] += 0.25;
  EXPECT_EQ(reference.end_to_end(for_every_core(unstored), 1).back()->steps, 0) << "and that once";
  EXPECT_LT(reference.spent_s() - spent_s, 0.1);
  EXPECT_GT(reference.of(for_every_core(stored), 1).front()->steps, 0);
  EXPECT_GT(reference.spent_s(), 0.75);
}

TEST(GradientReference, RemembersTheGradientsAtTrueStatesApart) {
  std::vector<BackwardChannel> channels = some_channels(1, 20);
  GradientReference reference;
  const auto stored = reference.of(pointers(channels), 1);
  channels[0].states.clear();
  const auto end_to_end = reference.end_to_end(pointers(channels), 1);
  EXPECT_NE(end_to_end[0]->inputs[0].high, stored[0]->inputs[0].high);
  EXPECT_EQ(reference.end_to_end(pointers(channels), 1), end_to_end);
}

TEST(GradientReference, HandsOnWhatIsThrown) {
  BackwardChannel wrong = some_channels(1, 5)[0];
  wrong.states.pop_back();
  EXPECT_THROW(GradientReference().of({&wrong}, 1), std::invalid_argument);
}

}  // namespace
}  // namespace prnn
