// newton_system.test.cpp: the true Newton iterates, their rounding bound, and that a wrong Newton solver does not pass.
#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "kernels/cells/all.hpp"
#include "kernels/primitives/affine.hpp"
#include "reference/mp.hpp"
#include "reference/reference.hpp"
#include "reference/testing.hpp"

namespace prnn {
namespace {

using testing::drawn_channel;

constexpr const char* kCells[] = {"gru_diag", "lstm_cifg_diag", "elman_diag"};

TEST(TrueIterates, AfterKSolvesTheFirstKStatesAreExact) {
  const int L = 8;
  for (const char* cell : kCells) {
    const ChannelData data = drawn_channel(cell, L, "wide");
    const std::size_t K = data.initial.size();
    const NewtonIterates iterates = true_iterates(data, L);
    ASSERT_EQ(iterates.states.size(), std::size_t(L) + 1);
    ASSERT_EQ(iterates.residual.size(), std::size_t(L) + 1);
    const Truth truth = true_states(data);
    for (std::size_t k = 0; k <= std::size_t(L); ++k) {
      // 50 digits, a few lost to L products of Jacobians.
      for (std::size_t at = 0; at < k * K; ++at) EXPECT_LT(std::fabs(iterates.residual[k][at]), 1e-45) << cell << " iterate " << k << " element " << at;
      for (std::size_t at = 0; at < k * K; ++at) EXPECT_EQ(iterates.states[k][at], truth.states[at].high);
      if (k < 3) {
        EXPECT_GT(iterates.residual_max(k), 1e-12);  // and the rest is not there yet
      }
    }
    EXPECT_LT(iterates.residual_max(std::size_t(L)), 1e-45);
  }
}

TEST(TrueIterates, StartFromTheStateOfAZeroPast) {
  for (const char* cell : kCells) {
    const ChannelData data = drawn_channel(cell, 5, "wide");
    const std::vector<double> guess = true_iterates(data, 0).states[0];
    with_cell(cell, [&]<class Cell>() {
      for (std::size_t l = 0; l < 5; ++l) {
        double zero[Cell::kState] = {}, a[Cell::kWeights], u[Cell::kInputs], f[Cell::kState];
        std::copy_n(data.weights.begin(), Cell::kWeights, a);
        std::copy_n(data.inputs.begin() + std::ptrdiff_t(l) * Cell::kInputs, Cell::kInputs, u);
        Cell::step(zero, a, u, f);
        for (int i = 0; i < Cell::kState; ++i) EXPECT_NEAR(guess[l * Cell::kState + std::size_t(i)], f[i], 2 * Cell::kGates * 3e-16);
      }
    });
  }
}

TEST(TrueIterates, ALinearCellTakesOneSolve) {
  // With a = 0 no gate sees h: h' = (1 - z) h + z c is linear.
  ChannelData data = drawn_channel("gru_diag", 20, "wide");
  std::fill(data.weights.begin(), data.weights.end(), 0.0);
  const NewtonIterates iterates = true_iterates(data, 1);
  EXPECT_GT(iterates.residual_max(0), 1e-3);
  EXPECT_LT(iterates.residual_max(1), 1e-45);
}

TEST(TrueIterates, ConvergeQuadratically) {
  const NewtonIterates iterates = true_iterates(drawn_channel("lstm_cifg_diag", 40, "paper"), 5);
  // Digits double, here from 3 solves on; the fifth reaches the last of 50 digits.
  EXPECT_LT(iterates.residual_max(4), std::pow(iterates.residual_max(3), 1.5));
  EXPECT_LT(iterates.residual_max(5), std::pow(iterates.residual_max(4), 1.5));
}

TEST(TrueIterates, InDoubleAgreeAndRefuseWhatIsTooLarge) {
  const ChannelData data = drawn_channel("lstm_cifg_diag", 12, "paper", Storage::f64);
  const std::vector<double> computed = double_iterates(data, 2).states[2];
  const NewtonIterates truth = true_iterates(data, 2);
  const std::vector<double> bound = iterate_bounds(data, truth, Storage::f64)[2];
  for (std::size_t at = 0; at < computed.size(); ++at) EXPECT_LE(std::fabs(computed[at] - truth.states[2][at]), kErrorFactor * bound[at]);
  EXPECT_NO_THROW(true_iterates(drawn_channel("elman_diag", 256, "wide"), 0));
  EXPECT_THROW(true_iterates(drawn_channel("elman_diag", 257, "wide"), 0), BadInput);
  EXPECT_THROW(true_iterates(drawn_channel("lstm_cifg_diag", 129, "wide"), 0), BadInput);
  EXPECT_NO_THROW(double_iterates(drawn_channel("lstm_cifg_diag", 1024, "wide"), 0));
  EXPECT_THROW(double_iterates(drawn_channel("lstm_cifg_diag", 1025, "wide"), 0), BadInput);
}

/// What a Newton solver can get wrong.
enum class Mistake { none, guess_from_initial, jacobian_at_new_point, jacobian_is_diagonal, residual_sign, jacobian_one_late, one_iteration_short };

/// `count` solves in compute type C; the linear recurrence in order, or as a tree of compose().
template <class C>
std::vector<double> newton(const ChannelData& data, int count, Mistake mistake, bool tree) {
  std::vector<double> out;
  with_cell(data.cell, [&]<class Cell>() {
    constexpr int K = Cell::kState;
    using Map = Affine<C, K>;
    struct State {
      C h[K];
    };
    const std::size_t L = std::size_t(data.seq_len);
    C a[Cell::kWeights], h0[K], zero[K] = {};
    std::copy_n(data.weights.begin(), Cell::kWeights, a);
    std::copy_n(data.initial.begin(), K, h0);
    const auto inputs = [&](std::size_t l, C(&u)[Cell::kInputs]) { std::copy_n(data.inputs.begin() + std::ptrdiff_t(l) * Cell::kInputs, Cell::kInputs, u); };
    std::vector<State> h(L);
    for (std::size_t l = 0; l < L; ++l) {
      C u[Cell::kInputs];
      inputs(l, u);
      Cell::step(mistake == Mistake::guess_from_initial ? h0 : zero, a, u, h[l].h);
    }
    if (mistake == Mistake::one_iteration_short) --count;
    for (int k = 0; k < count; ++k) {
      std::vector<Map> map(L);
      for (std::size_t l = 0; l < L; ++l) {
        C u[Cell::kInputs], f[K], ignored[K];
        inputs(l, u);
        step_and_jacobian<Cell>(l == 0 ? h0 : h[l - 1].h, a, u, f, map[l].jacobian);
        if (mistake == Mistake::jacobian_at_new_point) step_and_jacobian<Cell>(h[l].h, a, u, ignored, map[l].jacobian);
        for (int i = 0; i < K; ++i) {
          map[l].offset[i] = mistake == Mistake::residual_sign ? h[l].h[i] - f[i] : f[i] - h[l].h[i];
          for (int j = 0; mistake == Mistake::jacobian_is_diagonal && j < K; ++j) map[l].jacobian[i][j] = i == j ? map[l].jacobian[i][j] : C(0);
        }
      }
      if (mistake == Mistake::jacobian_one_late) {
        for (std::size_t l = L - 1; l > 0; --l) std::copy(&map[l - 1].jacobian[0][0], &map[l - 1].jacobian[0][0] + K * K, &map[l].jacobian[0][0]);
      }
      if (tree) {  // Hillis and Steele: log2 L rounds
        for (std::size_t reach = 1; reach < L; reach *= 2) {
          for (std::size_t l = L - 1; l >= reach; --l) map[l] = compose(map[l - reach], map[l]);
        }
      } else {
        for (std::size_t l = 1; l < L; ++l) map[l] = compose(map[l - 1], map[l]);
      }
      for (std::size_t l = 0; l < L; ++l) {
        for (int i = 0; i < K; ++i) h[l].h[i] += map[l].offset[i];
      }
    }
    for (const State& state : h) out.insert(out.end(), std::begin(state.h), std::end(state.h));
  });
  return out;
}

template <class C>
double ratio(const ChannelData& data, Mistake mistake, bool tree = false, std::int64_t* judged = nullptr) {
  return iterate_ratio(
      data, 3, std::is_same_v<C, double> ? Storage::f64 : Storage::f32, [&](int count) { return newton<C>(data, count, mistake, tree); }, judged);
}

TEST(IterateRatio, PassesARightSolverInEitherOrderOfSummation) {
  for (const char* cell : kCells) {
    for (const char* regime : {"paper", "wide", "corners", "saturated"}) {
      for (const bool tree : {false, true}) {
        std::int64_t judged = 0;
        const ChannelData f32 = drawn_channel(cell, 60, regime), f64 = drawn_channel(cell, 60, regime, Storage::f64, 1);
        EXPECT_TRUE(passes(ratio<float>(f32, Mistake::none, tree, &judged))) << cell << " " << regime << " " << ratio<float>(f32, Mistake::none, tree);
        EXPECT_GE(judged, 3 * 60) << cell << " " << regime;  // nearly everything is judged, not a lucky few
        EXPECT_TRUE(passes(ratio<double>(f64, Mistake::none, tree, &judged))) << cell << " " << regime << " " << ratio<double>(f64, Mistake::none, tree);
        EXPECT_EQ(judged, 3 * 60 * std::int64_t(f64.initial.size())) << cell << " " << regime;
      }
    }
  }
}

TEST(IterateRatio, FailsEveryMistake) {
  for (const char* cell : kCells) {
    const ChannelData data = drawn_channel(cell, 24, "wide");
    for (const Mistake mistake : {Mistake::guess_from_initial, Mistake::jacobian_at_new_point, Mistake::residual_sign, Mistake::jacobian_one_late, Mistake::one_iteration_short}) {
      EXPECT_FALSE(passes(ratio<float>(data, mistake))) << cell << " mistake " << int(mistake);
      EXPECT_FALSE(passes(ratio<double>(data, mistake))) << cell << " mistake " << int(mistake);
    }
  }
  EXPECT_FALSE(passes(ratio<float>(drawn_channel("lstm_cifg_diag", 24, "wide"), Mistake::jacobian_is_diagonal)));
}

TEST(IterateRatio, FailsNanAndAnotherShape) {
  const ChannelData data = drawn_channel("gru_diag", 6, "wide");
  const auto with_nan = [&](int count) {
    std::vector<double> h = newton<float>(data, count, Mistake::none, false);
    if (count == 2) h[3] = std::numeric_limits<double>::quiet_NaN();
    return h;
  };
  EXPECT_FALSE(passes(iterate_ratio(data, 3, Storage::f32, with_nan)));
  EXPECT_THROW(iterate_ratio(data, 1, Storage::f32, [](int) { return std::vector<double>(5); }), std::invalid_argument);
}

TEST(LastIterate, IsThatOfTheWholeSystem) {
  for (const char* cell : kCells) {
    const ChannelData data = drawn_channel(cell, 40, "wide");
    const std::size_t K = data.initial.size();
    const NewtonIterates iterates = true_iterates(data, 4);
    for (int count = 0; count <= 4; ++count) {
      const std::vector<DoubleDouble> last = last_iterate(data, count, 1000, 40);
      ASSERT_EQ(last.size(), 40 * K);
      for (std::size_t at = 0; at < last.size(); ++at) {
        // 50 digits both, but for what 40 products of Jacobians take; rounded to double, neighbours at most.
        EXPECT_NEAR(last[at].high, iterates.states[std::size_t(count)][at], 0x1p-52 * std::fabs(last[at].high)) << cell << " iterate " << count << " element " << at;
        EXPECT_LE(std::fabs(last[at].low), 0x1p-53 * std::fabs(last[at].high));
      }
    }
    EXPECT_EQ(last_iterate(data, 2, 1000, 7).size(), 7 * K);
    EXPECT_TRUE(last_iterate(data, 2, 1000, 40, std::chrono::steady_clock::now()).empty());
  }
}

TEST(LastIterate, OfATileStartsFromTheLastOfTheOneBefore) {
  for (const char* cell : kCells) {
    const ChannelData data = drawn_channel(cell, 23, "wide");
    const std::size_t K = data.initial.size(), inputs = data.inputs.size() / 23;
    const std::vector<DoubleDouble> tiled = last_iterate(data, 2, 8, 23);
    ChannelData tile = data;
    for (std::size_t begin = 0; begin < 23; begin += 8) {
      tile.seq_len = std::int64_t(std::min<std::size_t>(8, 23 - begin));
      tile.inputs.assign(data.inputs.begin() + std::ptrdiff_t(begin * inputs), data.inputs.begin() + std::ptrdiff_t((begin + std::size_t(tile.seq_len)) * inputs));
      const std::vector<double> alone = true_iterates(tile, 2).states[2];
      for (std::size_t at = 0; at < alone.size(); ++at) {
        // The start is rounded to double here: at most 8 products of Jacobians, each within 2 in regime wide, take that to 2^8 roundings.
        EXPECT_NEAR(tiled[begin * K + at].high, alone[at], 0x1p-53 * 0x1p8) << cell << " step " << begin + at / K;
      }
      tile.initial.assign(alone.end() - std::ptrdiff_t(K), alone.end());
    }
    EXPECT_NE(tiled.back().high, last_iterate(data, 2, 23, 23).back().high);
  }
}

TEST(Truncation, IsWhatExactArithmeticLeavesApartFromTheRest) {
  Problem p = testing::small_problem("lstm_cifg_diag", 50, "wide");
  p.batch = 2, p.hidden = 3;
  const std::filesystem::path directory = std::filesystem::path(::testing::TempDir()) / "prnn_truncation";
  {
    ReferenceCache cache(directory);
    const auto exact = [&](int count) {
      return [&p, count](std::int64_t b, std::int64_t d) {
        std::vector<double> states;
        for (const DoubleDouble& h : last_iterate(draw_channel(p, b, d), count, 16, 50)) states.push_back(h.high);
        return states;
      };
    };
    double left = 0;
    for (const auto& [b, d] : sampled_channels(p)) {
      const std::vector<double> iterate = exact(2)(b, d);
      const Truth truth = true_states(draw_channel(p, b, d));
      for (std::size_t at = 0; at < iterate.size(); ++at) left = std::max(left, std::fabs(iterate[at] - truth.states[at].high));
    }
    EXPECT_GT(left, 1e-6);
    const Truncation t = judge_truncation(p, 2, 16, exact(2), cache);
    EXPECT_NEAR(t.truncation_max, left, 4 * 0x1p-53);
    EXPECT_LE(t.rounding_max, 0x1p-53);
    EXPECT_EQ(t.verified_prefix, 50);
    EXPECT_EQ(t.channels_checked, sampled_channels(p));
    // What is computed otherwise is not truncation, wherever it is.
    const auto damaged = [&](std::int64_t b, std::int64_t d) {
      std::vector<double> states = exact(2)(b, d);
      if (std::array{b, d} == sampled_channels(p).back()) states.back() -= 0x1p-20;
      return states;
    };
    EXPECT_NEAR(judge_truncation(p, 2, 16, damaged, cache).rounding_max, 0x1p-20, 2 * 0x1p-53);
    EXPECT_EQ(judge_truncation(p, 2, 16, damaged, cache).truncation_max, t.truncation_max);
    const auto nan = [&](std::int64_t b, std::int64_t d) {
      std::vector<double> states = exact(2)(b, d);
      states.front() = std::nan("");
      return states;
    };
    EXPECT_TRUE(std::isnan(judge_truncation(p, 2, 16, nan, cache).rounding_max));
    // Enough iterations leave nothing, and their count, the tile and the problem are told apart.
    EXPECT_LE(judge_truncation(p, 16, 16, exact(16), cache).truncation_max, 1e-30);
    EXPECT_GT(judge_truncation(p, 1, 16, exact(1), cache).truncation_max, t.truncation_max);
    EXPECT_GT(judge_truncation(p, 2, 50, exact(2), cache).rounding_max, 1e-6);
    p.seed = 2;
    EXPECT_NE(judge_truncation(p, 2, 16, exact(2), cache).truncation_max, t.truncation_max);
    // Where truths end early, the shortest says how far all were compared.
    p.regime = "chaotic";
    std::int64_t least = 50, most = 0;
    for (const auto& [b, d] : sampled_channels(p)) least = std::min(least, cache.truth(p, b, d).steps), most = std::max(most, cache.truth(p, b, d).steps);
    EXPECT_LT(least, most);
    EXPECT_EQ(judge_truncation(p, 2, 16, exact(2), cache).verified_prefix, least);
  }
  {
    ReferenceCache late(directory, 0);  // the truths are on disk
    p.seed = 1;
    const Truncation t = judge_truncation(
        p, 2, 16, [](std::int64_t, std::int64_t) { return std::vector<double>(100); }, late);
    EXPECT_EQ(t.verified_prefix, 0);
  }
  std::filesystem::remove_all(directory);
}

TEST(Truncation, TakesNoMoreThanItsShareOfTheTime) {
  Problem p = testing::small_problem("gru_diag", 4000, "paper");
  const std::filesystem::path directory = std::filesystem::path(::testing::TempDir()) / "prnn_truncation_time";
  {
    ReferenceCache cache(directory, 0.2);
    const std::vector<DoubleDouble>& first = cache.last_iterate(p, 0, 0, 9, 4000, 4000);
    EXPECT_GT(first.size(), 0u);
    EXPECT_LT(first.size(), 4000u) << "nine iterates of 4000 steps take 0.3 s and more";
    EXPECT_LT(cache.spent_s(), 0.2);
    EXPECT_GT(cache.spent_s(), kEndToEndShare * 0.2);
    EXPECT_TRUE(cache.last_iterate(p, 0, 1, 9, 4000, 4000).empty());
    const double spent_s = cache.spent_s();
    EXPECT_EQ(&cache.last_iterate(p, 0, 0, 9, 5000, 4000), &first) << "remembered, and no tile is longer than the sequence";
    EXPECT_EQ(cache.spent_s(), spent_s);
  }
  std::filesystem::remove_all(directory);
}

TEST(IterateBounds, OfTheGuessAreThoseOfOneStep) {
  const ChannelData data = drawn_channel("elman_diag", 4, "wide");
  const std::vector<double> bound = iterate_bounds(data, true_iterates(data, 0), Storage::f32)[0];
  for (std::size_t l = 0; l < 4; ++l) {
    const double u = data.inputs[l], h = std::tanh(u);
    EXPECT_NEAR(bound[l], 0x1p-24 * (std::fabs(h) + (1 - h * h) * std::fabs(u)) + 1.5e-7, 1e-20);
  }
}

TEST(IterateBounds, OfTheFirstSolveFollowTheDerivation) {
  const std::size_t L = 5;
  const ChannelData data = drawn_channel("elman_diag", std::int64_t(L), "wide");
  const NewtonIterates iterates = true_iterates(data, 1);
  const std::vector<std::vector<double>> bounds = iterate_bounds(data, iterates, Storage::f32);
  const double a = data.weights[0], u_c = 0x1p-24, gate = 1.5e-7;
  double A = 0, P = 0, delta = 0;
  for (std::size_t l = 0; l < L; ++l) {
    const double x = l == 0 ? data.initial[0] : iterates.states[0][l - 1], p = a * x + data.inputs[l], t = std::tanh(p), slope = 1 - t * t;
    const double J = a * slope, r = std::fabs(iterates.residual[0][l]), curvature = -2 * t * a * J;
    const double g = u_c * (std::fabs(t) + slope * std::fabs(p)) + gate;
    const double G = u_c * std::fabs(J) + std::fabs(2 * t * a) * (u_c * slope * std::fabs(p) + gate);  // dJ/dgate = -2 t a
    const double propagated = l == 0 ? 0 : std::fabs(curvature * delta) * bounds[0][l - 1];
    const double P_next = std::fabs(J) * P + r;
    A = std::fabs(J) * A + propagated + g + u_c * r + G * std::fabs(delta) + u_c * (2 * std::fabs(J) * P + P_next);
    P = P_next;
    delta = iterates.states[1][l] - iterates.states[0][l];
    EXPECT_NEAR(bounds[1][l], A + u_c * std::fabs(iterates.states[1][l]), 1e-9 * A);
  }
}

}  // namespace
}  // namespace prnn
