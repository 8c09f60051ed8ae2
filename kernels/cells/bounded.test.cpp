// bounded.test.cpp: the bound that Bounded carries is the formula of every operation, and holds for vector-Jacobian products in float, double and with coarse gates.
#include <algorithm>
#include <cmath>
#include <random>

#include <gtest/gtest.h>

#include "kernels/cells/bounded.hpp"
#include "kernels/cells/testing.hpp"
#include "reference/mp.hpp"

namespace prnn {
namespace {

using testing::CellTypes;
using testing::copy;
using testing::EveryCell;
using testing::Point;
using testing::Size;

using F32 = Bounded<float>;
using F64 = Bounded<double>;
using Coarse = Bounded<float, true>;
constexpr double kTiny = 0x1p-150;  // half the smallest subnormal float

// --- operations: powers of two, so that every bound is exact in double ------------------------------------------------------

TEST(Bounded, PlainNumbersAreExact) {
  const F32 x = 3;
  EXPECT_EQ(x.value, 3);
  EXPECT_EQ(x.error, 0);
}

TEST(Bounded, SumAddsErrorsAndOneRounding) {
  const F32 x(3, 0x1p-10), y(-5, 0x1p-12);
  for (const F32& z : {x + y, y + x}) {
    EXPECT_EQ(z.value, -2);
    EXPECT_EQ(z.error, 0x1p-10 + 0x1p-12 + 0x1p-24 * 2);
  }
  const F32 difference = x - y;
  EXPECT_EQ(difference.value, 8);
  EXPECT_EQ(difference.error, 0x1p-10 + 0x1p-12 + 0x1p-24 * 8);
  EXPECT_EQ((-x).value, -3);
  EXPECT_EQ((-x).error, 0x1p-10);
  EXPECT_EQ((F64(1) + F64(-3)).error, 0x1p-53 * 2);
}

TEST(Bounded, ProductHasEveryTerm) {
  const F32 x(-4, 0x1p-10), y(8, 0x1p-12);
  for (const F32& z : {x * y, y * x}) {
    EXPECT_EQ(z.value, -32);
    EXPECT_EQ(z.error, 4 * 0x1p-12 + 8 * 0x1p-10 + 0x1p-22 + 0x1p-24 * 32);  // 2^-150 is lost beside them
  }
  EXPECT_EQ((F64(-4) * F64(8)).error, 0x1p-53 * 32);
  EXPECT_EQ((F32(0, 0x1p-10) * F32(0, 0x1p-12)).error, 0x1p-22 + kTiny);
  EXPECT_EQ((F32(0x1p-100) * F32(0x1p-60)).error, kTiny + 0x1p-184);  // underflow
  EXPECT_EQ((F64(0x1p-600) * F64(0x1p-600)).error, 0x1p-1074);
}

TEST(Bounded, GateHasItsSlopeAndItsStatedError) {
  const double e = 0x1p-20, x = 0.75, s = sigmoid(x), t = tanh_gate(x);
  EXPECT_EQ(sigmoid(F32(x, e)).value, s);
  EXPECT_EQ(tanh_gate(F32(x, e)).value, t);
  EXPECT_EQ(sigmoid(F32(x, e)).error, s * (1 - s) * e + gate_error_v<float>);
  EXPECT_EQ(tanh_gate(F32(x, e)).error, (1 - t * t) * e + gate_error_v<float>);
  EXPECT_EQ(sigmoid(F64(x)).error, gate_error_v<double>);
  EXPECT_EQ(tanh_gate(F64(x)).error, gate_error_v<double>);
  EXPECT_EQ(sigmoid(Coarse(x)).error, kApproxGateError);
  EXPECT_EQ(tanh_gate(Coarse(x)).error, kApproxGateError);
  EXPECT_EQ((Coarse(1) + Coarse(1)).error, 0x1p-24 * 2);
}

TEST(Bounded, GateOfAnUncertainArgumentIsBoundedByItsSteepestSlope) {
  // Anywhere in -40 +- 64 lie values from 0 to 1: the slope at -40 says nothing.
  EXPECT_GE(sigmoid(F32(-40, 64)).error, 1);
  EXPECT_GE(tanh_gate(F32(-40, 64)).error, 2);
  EXPECT_EQ(sigmoid(F32(-40, 0.5)).error, 0.125 + gate_error_v<float>);  // 1/4, the slope at 0
  EXPECT_EQ(tanh_gate(F32(-40, 0.5)).error, 0.5 + gate_error_v<float>);
  // Just below the change of formula the slope grows by at most e^2e = 1.14 within the bound.
  for (double x = -8; x <= 8; x += 0.125) {
    const double e = 0x1.fp-5;
    for (const double y : {x - e, x + e}) {
      EXPECT_LE(std::fabs(sigmoid(y) - sigmoid(x)), std::exp(2 * e) * sigmoid(F32(x, e)).error);
      EXPECT_LE(std::fabs(tanh_gate(y) - tanh_gate(x)), std::exp(2 * e) * tanh_gate(F32(x, e)).error);
    }
  }
}

TEST(Bounded, NeverLosesANan) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const F32& z : {F32(nan) + F32(1), F32(1) - F32(nan), F32(0) * F32(nan), F32(nan) * F32(0), sigmoid(F32(nan)), tanh_gate(F32(nan))}) EXPECT_TRUE(std::isnan(z.value));
}

// --- vector-Jacobian products -----------------------------------------------------------------------------------------------

namespace rough {  // of its own, so that its gates do not hide those above
/// A float whose gates are off by `off`, one way or the other from call to call.
struct Rough {
  float x;
  static inline double off = 0;
  static inline std::mt19937 random{1};
  Rough() = default;
  Rough(float value) : x(value) {}
};
Rough operator+(const Rough& x, const Rough& y) { return x.x + y.x; }
Rough operator-(const Rough& x, const Rough& y) { return x.x - y.x; }
Rough operator*(const Rough& x, const Rough& y) { return x.x * y.x; }
Rough gate(double value) { return float(value + (Rough::random() % 2 ? Rough::off : -Rough::off)); }
Rough sigmoid(const Rough& x) { return gate(1 / (1 + std::exp(-double(x.x)))); }
Rough tanh_gate(const Rough& x) { return gate(std::tanh(double(x.x))); }
}  // namespace rough
using rough::Rough;

/// The largest and the median of error / bound over all gradients of many steps.
struct Ratios {
  std::vector<double> all;
  double median() {
    std::nth_element(all.begin(), all.begin() + std::ptrdiff_t(all.size() / 2), all.end());
    return all[all.size() / 2];
  }
  double worst() const {
    double most = 0;
    for (const double ratio : all) most = max_or_nan(most, ratio);
    return most;
  }
};

/// step_vjp in type Computed, its g off by g_error, against the truth in type True, over the bound that Number carries.
template <class Cell, class Number, class Computed, class True>
Ratios ratios(int points, Size size, double g_size = 1, double g_error = 0) {
  constexpr int K = Cell::kState, W = Cell::kWeights, I = Cell::kInputs;
  std::mt19937 random(1);
  Ratios out;
  const auto judge = [&](const auto& computed, const auto& truth, const auto& bounded) {
    for (std::size_t i = 0; i < std::size(bounded); ++i) {
      double error;
      if constexpr (std::is_same_v<Computed, Rough>) error = double(std::fabs(double(computed[i].x) - truth[i]));
      else error = double(abs(True(True(computed[i]) - truth[i])));
      out.all.push_back(error == 0 ? 0 : error / bounded[i].error);
    }
  };
  for (int point = 0; point < points; ++point) {
    const Point<Cell> at(random, size), gradient(random, {.h = g_size});
    Number g[K], by_h[K], by_a[W], by_u[I];
    Computed h[K], a[W], u[I], computed_g[K], computed_h[K], computed_a[W], computed_u[I];
    True true_h[K], true_a[W], true_u[I], true_g[K], truth_h[K], truth_a[W], truth_u[I];
    copy(at.h, h);
    copy(at.a, a);
    copy(at.u, u);
    copy(at.h, true_h);
    copy(at.a, true_a);
    copy(at.u, true_u);
    for (int i = 0; i < K; ++i) {
      g[i] = {gradient.h[i], g_error};
      true_g[i] = True(gradient.h[i]);
      computed_g[i] = Computed(gradient.h[i] + (random() % 2 ? g_error : -g_error));
    }
    vjp_and_bound<Cell>(at.h, at.a, at.u, g, by_h, by_a, by_u);
    step_vjp<Cell>(h, a, u, computed_g, computed_h, computed_a, computed_u);
    step_vjp<Cell>(true_h, true_a, true_u, true_g, truth_h, truth_a, truth_u);
    judge(computed_h, truth_h, by_h);
    judge(computed_a, truth_a, by_a);
    judge(computed_u, truth_u, by_u);
  }
  return out;
}

template <class Cell>
class EveryBoundedCell : public EveryCell<Cell> {};
TYPED_TEST_SUITE(EveryBoundedCell, CellTypes);

TYPED_TEST(EveryBoundedCell, HoldsForFloatAndIsApproached) {
  Ratios plain = ratios<TypeParam, F32, float, double>(20000, {});
  EXPECT_LE(plain.worst(), 1);
  EXPECT_GT(plain.worst(), 0.5);      // measured: 0.69 (GRU), 0.64 (LSTM), 0.70 (Elman)
  EXPECT_GT(plain.median(), 0.0156);  // measured: 0.048, 0.028, 0.12
}

TYPED_TEST(EveryBoundedCell, HoldsWhereGatesAreSaturatedAndNumbersLargeOrTiny) {
  for (const Size& size : {Size{1, 2, 60}, Size{1000, 2, 3}, Size{1, 1e6, 1e6}, Size{1e8, 2, 1e8}, Size{1e-3, 1e3, 1e-6}, Size{1, 0, 0}}) {
    for (const double g : {1.0, 1e30, 1e-37, 1e-44})
      EXPECT_LE((ratios<TypeParam, F32, float, double>(2000, size, g).worst()), 1) << size.h << " " << size.a << " " << size.u << " " << g;
  }
}

TYPED_TEST(EveryBoundedCell, HoldsForDoubleAgainstFiftyDigits) {
  Ratios plain = ratios<TypeParam, F64, double, Mp>(200, {});
  EXPECT_LE(plain.worst(), 1);
  EXPECT_GT(plain.worst(), 0.1);
  for (const Size& size : {Size{1, 2, 60}, Size{1000, 2, 3}}) EXPECT_LE((ratios<TypeParam, F64, double, Mp>(50, size).worst()), 1);
}

TYPED_TEST(EveryBoundedCell, CarriesTheErrorOfTheGradientGiven) {
  // Beside an error of 2^-10 in g nothing else counts: the ratio comes near 1 where one term dominates.
  const Ratios given = ratios<TypeParam, F64, double, double>(5000, {}, 1, 0x1p-10);
  EXPECT_LE(given.worst(), 1);
  EXPECT_GT(given.worst(), 0.99);
}

TYPED_TEST(EveryBoundedCell, HoldsForGatesOffByTheirStatedError) {
  Rough::off = kApproxGateError - 0x1p-24;  // the value itself rounds once more
  const Ratios coarse = ratios<TypeParam, Coarse, Rough, double>(5000, {});
  EXPECT_LE(coarse.worst(), 1);
  EXPECT_GT(coarse.worst(), 0.5);
  EXPECT_GT((ratios<TypeParam, F32, Rough, double>(100, {}).worst()), 16);  // and not for coarser gates than stated
  Rough::off = gate_error_v<float> - 0x1p-24;
  EXPECT_LE((ratios<TypeParam, F32, Rough, double>(5000, {}).worst()), 1);
}

}  // namespace
}  // namespace prnn
