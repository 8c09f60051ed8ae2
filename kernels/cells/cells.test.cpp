// cells.test.cpp: what is derived from a cell's step (Jacobian, vector-Jacobian product, rounding bound, guards) and the numbers it computes with.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include <gtest/gtest.h>
#include <Eigen/Core>

#include "kernels/cells/all.hpp"
#include "kernels/cells/graph.hpp"
#include "kernels/cells/rules.hpp"
#include "kernels/cells/testing.hpp"
#include "reference/mp.hpp"
#include "reference/thresholds.hpp"

namespace prnn {
namespace {

using testing::CellTypes;
using testing::copy;
using testing::EveryCell;
using testing::Point;
TYPED_TEST_SUITE(EveryCell, CellTypes);

/// f(x) [kState] at 50 digits with component n of the point moved by `by`.
template <class Cell>
std::array<Mp, Cell::kState> moved_step(const Point<Cell>& point, int n, const Mp& by) {
  Mp h[Cell::kState], a[Cell::kWeights], u[Cell::kInputs], f[Cell::kState];
  copy(point.h, h);
  copy(point.a, a);
  copy(point.u, u);
  (n < Cell::kState ? h[n] : n < Cell::kState + Cell::kWeights ? a[n - Cell::kState] : u[n - Cell::kState - Cell::kWeights]) += by;
  Cell::step(h, a, u, f);
  std::array<Mp, Cell::kState> out;
  std::copy_n(f, Cell::kState, out.begin());
  return out;
}

/// d f_i / d x_n by central differences, and a bound on its error. With step s = 10^-16 the quotient is off by s^2 f'''/6 and that of 2 s by four
/// times as much, so their difference, three times the error, bounds it; 50 digits add 10^-49 / s for values below 10.
template <class Cell>
struct Difference {
  std::array<Mp, Cell::kState> slope, error;

  Difference(const Point<Cell>& point, int n) {
    const Mp s = Mp(1) / 10'000'000'000'000'000;
    const auto up = moved_step(point, n, s), down = moved_step(point, n, Mp(-s)), up2 = moved_step(point, n, Mp(2 * s)), down2 = moved_step(point, n, Mp(-2 * s));
    for (std::size_t i = 0; i < slope.size(); ++i) {
      slope[i] = (up[i] - down[i]) / (2 * s);
      error[i] = abs(Mp((up2[i] - down2[i]) / (4 * s) - slope[i])) + Mp("1e-49") / s;
    }
  }
};

TYPED_TEST(EveryCell, JacobianIsThatOfTheStepAtAnyPoint) {
  using Cell = TypeParam;
  constexpr int K = Cell::kState;
  std::mt19937 random(1);
  for (int trial = 0; trial < 20; ++trial) {
    const Point<Cell> point(random);
    Mp h[K], a[Cell::kWeights], u[Cell::kInputs], f[K], jacobian[K][K];
    copy(point.h, h);
    copy(point.a, a);
    copy(point.u, u);
    step_and_jacobian<Cell>(h, a, u, f, jacobian);
    double f_double[K], jacobian_double[K][K];
    step_and_jacobian<Cell>(point.h, point.a, point.u, f_double, jacobian_double);
    const auto value = moved_step(point, 0, Mp(0));
    for (int j = 0; j < K; ++j) {
      const Difference<Cell> difference(point, j);
      for (int i = 0; i < K; ++i) {
        EXPECT_EQ(f[i], value[std::size_t(i)]);
        EXPECT_LE(abs(Mp(jacobian[i][j] - difference.slope[std::size_t(i)])), difference.error[std::size_t(i)]);
        EXPECT_LT(difference.error[std::size_t(i)], Mp("1e-28"));
        // Under 64 operations, each within u of intermediate values that are at most (1 + sum |a|)^2.
        double size = 1;
        for (const double w : point.a) size += std::fabs(w);
        EXPECT_LT(std::fabs(jacobian_double[i][j] - static_cast<double>(jacobian[i][j])), 64 * 0x1p-53 * size * size);
      }
    }
  }
}

TYPED_TEST(EveryCell, VectorJacobianProductIsTheTransposedJacobianForEveryArgument) {
  using Cell = TypeParam;
  constexpr int K = Cell::kState, W = Cell::kWeights, I = Cell::kInputs;
  std::mt19937 random(2);
  for (int trial = 0; trial < 10; ++trial) {
    const Point<Cell> point(random), other(random);
    Mp h[K], a[W], u[I], g[K], grad[K + W + I];
    copy(point.h, h);
    copy(point.a, a);
    copy(point.u, u);
    copy(other.h, g);
    Mp grad_h[K], grad_a[W], grad_u[I];
    step_vjp<Cell>(h, a, u, g, grad_h, grad_a, grad_u);
    std::copy_n(grad_h, K, grad);
    std::copy_n(grad_a, W, grad + K);
    std::copy_n(grad_u, I, grad + K + W);
    double by_h[K], by_a[W], by_u[I], by[K + W + I], size = 1;
    step_vjp<Cell>(point.h, point.a, point.u, other.h, by_h, by_a, by_u);
    std::copy_n(by_h, K, by);
    std::copy_n(by_a, W, by + K);
    std::copy_n(by_u, I, by + K + W);
    for (const double w : point.a) size += std::fabs(w);
    for (int n = 0; n < K + W + I; ++n) {
      const Difference<Cell> difference(point, n);
      Mp expected = 0, error = 0;
      for (int i = 0; i < K; ++i) {
        expected += g[i] * difference.slope[std::size_t(i)];
        error += abs(g[i]) * difference.error[std::size_t(i)];
      }
      EXPECT_LE(abs(Mp(grad[n] - expected)), error) << "component " << n;
      EXPECT_LT(std::fabs(by[n] - static_cast<double>(grad[n])), 64 * 0x1p-53 * size * size) << "component " << n;
    }
    // The same derivatives backwards along the step's graph: to 50 digits in 50, and as rounded in double.
    const auto by_graph = [&]<class T>(const T(&h)[K], const T(&a)[W], const T(&u)[I], const T(&g)[K], T(&grad_h)[K], T(&grad_a)[W], T(&grad_u)[I]) {
      const StepValues<Cell, T> values = step_values<Cell>(h, a, u);
      T jacobian[K][K];
      step_jacobian<Cell>(values, jacobian);
      multiply_transposed(jacobian, g, grad_h);
      step_gradients<Cell>(values, g, grad_a, grad_u);
    };
    by_graph(h, a, u, g, grad_h, grad_a, grad_u);
    by_graph(point.h, point.a, point.u, other.h, by_h, by_a, by_u);
    const auto expect_same = [&](int n, const Mp& reverse, double rounded) {
      EXPECT_LE(abs(Mp(reverse - grad[n])), 64 * std::numeric_limits<Mp>::epsilon() * size * size) << "component " << n;
      EXPECT_LT(std::fabs(rounded - static_cast<double>(grad[n])), 64 * 0x1p-53 * size * size) << "component " << n;
    };
    for (int n = 0; n < K; ++n) expect_same(n, grad_h[n], by_h[n]);
    for (int n = 0; n < W; ++n) expect_same(K + n, grad_a[n], by_a[n]);
    for (int n = 0; n < I; ++n) expect_same(K + W + n, grad_u[n], by_u[n]);
  }
}

/// Every operation of a graph: numbers on either side, a result that is a variable, one that is a number, a node that two others use, an input that none does.
struct EveryOperation {
  static constexpr int kState = 3, kWeights = 2, kInputs = 2;
  template <class S, class P>
  PRNN_HD static constexpr void step(const S (&h)[kState], const P (&a)[kWeights], const P (&u)[kInputs], S (&h_next)[kState]) {
    const S shared = sigmoid(h[0] * h[1] - u[0]);
    h_next[0] = -shared * (P(2) - tanh_gate(shared + a[0])) + h[0] * P(3) - P(0.5);
    h_next[1] = h[2];
    h_next[2] = P(0.25);
  }
};

TEST(StepGraph, HasTheDerivativesOfEveryOperation) {
  using Cell = EveryOperation;
  std::mt19937 random(4);
  for (int trial = 0; trial < 10; ++trial) {
    const Point<Cell> p(random), g(random);
    double by_h[3], by_a[2], by_u[2], grad_h[3], grad_a[2], grad_u[2], jacobian[3][3];
    step_vjp<Cell>(p.h, p.a, p.u, g.h, by_h, by_a, by_u);
    const StepValues<Cell, double> values = step_values<Cell>(p.h, p.a, p.u);
    step_jacobian<Cell>(values, jacobian);
    multiply_transposed(jacobian, g.h, grad_h);
    step_gradients<Cell>(values, g.h, grad_a, grad_u);
    const double roundoff = 64 * unit_roundoff_v<double>;  // some twenty roundings of numbers of a few units
    for (int i = 0; i < 3; ++i) EXPECT_NEAR(grad_h[i], by_h[i], roundoff) << i;
    for (int i = 0; i < 2; ++i) EXPECT_NEAR(grad_a[i], by_a[i], roundoff) << i;
    for (int i = 0; i < 2; ++i) EXPECT_NEAR(grad_u[i], by_u[i], roundoff) << i;
    EXPECT_EQ(jacobian[1][2], 1);
    EXPECT_EQ(grad_a[1], 0);
    EXPECT_NE(grad_u[0], 0);
    EXPECT_NE(grad_a[0], 0);
  }
}

/// Elman's cell with a Jacobian by hand that nobody would take for the step's.
struct OwnJacobian : ElmanDiag {
  template <class T>
  static void jacobian(const T (&)[1], const T (&)[1], const T (&)[1], T (&f)[1], T (&jacobian)[1][1]) {
    f[0] = T(7);
    jacobian[0][0] = T(8);
  }
};

TEST(OwnJacobian, IsWhatSolversTakeAndNotWhatTheReferenceTakes) {
  static_assert(HasOwnJacobian<OwnJacobian, float> && HasOwnJacobian<OwnJacobian, double> && !HasOwnJacobian<OwnJacobian, Dual<double, 1>> && !HasOwnJacobian<ElmanDiag, double>);
  const double h[1] = {0.5}, a[1] = {0.25}, u[1] = {0.125};
  double f[1], jacobian[1][1];
  step_and_jacobian<OwnJacobian>(h, a, u, f, jacobian);
  EXPECT_EQ(f[0], 7);
  EXPECT_EQ(jacobian[0][0], 8);
  double derived[1][1];
  derived_jacobian<OwnJacobian>(h, a, u, f, derived);
  step_and_jacobian<ElmanDiag>(h, a, u, f, jacobian);
  EXPECT_EQ(derived[0][0], jacobian[0][0]);
  EXPECT_NEAR(derived[0][0], 0.25 * (1 - std::tanh(0.25) * std::tanh(0.25)), 4e-16);  // of a gate within 3e-16
}

TEST(Rules, HoldForTheCellsOfTheProgram) {
  AllCells::for_each([]<class Cell>() {
    EXPECT_EQ(sizeof(CellRules<Cell>), 1u);
    compile_step<Cell>();
  });
}

TEST(LstmJacobian, IsFullAndGoesThroughTheNewCellState) {
  std::mt19937 random(3);
  for (int trial = 0; trial < 10; ++trial) {
    const Point<LstmCifgDiag> p(random);
    double next[2], J[2][2];
    step_and_jacobian<LstmCifgDiag>(p.h, p.a, p.u, next, J);
    // dh'/d(c, h) by hand: h' = o tanh(c'), o = sigmoid(a_o h + u_o + c_o c').
    const double o = sigmoid(p.a[1] * p.h[1] + p.u[1] + p.a[4] * next[0]), t = std::tanh(next[0]), by_o = t * o * (1 - o);
    const double by_new_c = o * (1 - t * t) + by_o * p.a[4];
    const double roundoff = 16 * unit_roundoff_v<double>;  // a dozen roundings of numbers below 1
    EXPECT_NEAR(J[1][0], by_new_c * J[0][0], roundoff);
    EXPECT_NEAR(J[1][1], by_new_c * J[0][1] + by_o * p.a[1], roundoff);
    EXPECT_NE(J[0][1], 0);
    EXPECT_NE(J[1][0], 0);
    EXPECT_GT(std::fabs(by_o * p.a[4] * J[0][0]), 1e-6);  // the term through c' inside o is not small
  }
}

// --- equations as the paper prints them, written a second time ---------------------------------------------------------

TEST(CellEquations, AreThoseOfThePaper) {
  std::mt19937 random(4);
  const auto logistic = [](double x) { return std::exp(x) / (1 + std::exp(x)); };
  const double close = 1e-14;
  for (int trial = 0; trial < 10; ++trial) {
    const Point<GruDiag> g(random);
    double h[2];
    {
      double next[1];
      GruDiag::step(g.h, g.a, g.u, next);
      const double z = logistic(g.a[0] * g.h[0] + g.u[0]), r = logistic(g.a[1] * g.h[0] + g.u[1]), c = std::tanh(g.a[2] * (g.h[0] * r) + g.u[2]);
      EXPECT_NEAR(next[0], (1 - z) * g.h[0] + z * c, close);
    }
    const Point<LstmCifgDiag> p(random);
    LstmCifgDiag::step(p.h, p.a, p.u, h);
    const double f = logistic(p.a[0] * p.h[1] + p.u[0] + p.a[3] * p.h[0]), z = std::tanh(p.a[2] * p.h[1] + p.u[2]), c = f * p.h[0] + (1 - f) * z;
    EXPECT_NEAR(h[0], c, close);
    EXPECT_NEAR(h[1], logistic(p.a[1] * p.h[1] + p.u[1] + p.a[4] * c) * std::tanh(c), close);
  }
}

TEST(CellEquations, OfTheLinearCellAreThoseOfTheSelectiveScan) {
  std::mt19937 random(14);
  for (int trial = 0; trial < 10; ++trial) {
    const Point<LinearDiag<1>> p(random);
    double next[1];
    LinearDiag<1>::step(p.h, p.a, p.u, next);
    // Zero-order hold of x' = A x + B u over a time softplus(-u_f), A = -1, B = a (arXiv:2312.00752, eq. 4).
    const double time = std::log1p(std::exp(-p.u[0])), decay = std::exp(-time), hold = (decay - 1) / -1;
    EXPECT_NEAR(next[0], decay * p.h[0] + hold * p.a[0] * p.u[1], 1e-14);
  }
}

TYPED_TEST(EveryCell, HasAJacobianThatIsTheSameAtEveryStateWhereItSaysThatItIsAffine) {
  using Cell = TypeParam;
  constexpr int K = Cell::kState;
  std::mt19937 random(15);
  const Point<Cell> here(random), there(random);
  double f[K], at_here[K][K], at_there[K][K];
  step_and_jacobian<Cell>(here.h, here.a, here.u, f, at_here);
  step_and_jacobian<Cell>(there.h, here.a, here.u, f, at_there);
  EXPECT_EQ(std::memcmp(at_here, at_there, sizeof at_here) == 0, is_affine<Cell>);
}

TYPED_TEST(EveryCell, MemoryNamesTheGateAndTheSignThatRemembers) {
  using Cell = TypeParam;
  if (Cell::memory.input < 0) {
    EXPECT_EQ(Cell::memory.towards_remembering, 0);
    return;
  }
  std::mt19937 random(5);
  Point<Cell> point(random);
  point.u[Cell::memory.input] = 40.0 * Cell::memory.towards_remembering;
  double next[Cell::kState];
  Cell::step(point.h, point.a, point.u, next);
  EXPECT_NEAR(next[0], point.h[0], 4 * unit_roundoff_v<double>);  // nothing is forgotten
  point.u[Cell::memory.input] *= -1;
  Cell::step(point.h, point.a, point.u, next);
  EXPECT_GT(std::fabs(next[0] - point.h[0]), 1e-3);
}

// --- guards -----------------------------------------------------------------------------------------------------------

TYPED_TEST(EveryCell, AnyNonFiniteArgumentMakesEveryComponentNan) {
  using Cell = TypeParam;
  constexpr int K = Cell::kState, W = Cell::kWeights, I = Cell::kInputs;
  std::mt19937 random(6);
  const Point<Cell> finite(random);
  const auto guarded_step = [](const Point<Cell>& point, float(&next)[K]) {
    float h[K], a[W], u[I];
    copy(point.h, h);
    copy(point.a, a);
    copy(point.u, u);
    guard_start<Cell>(a, h);
    guard_inputs<Cell>(u);
    Cell::step(h, a, u, next);
  };
  float plain[K], guarded[K], h[K], a[W], u[I];
  copy(finite.h, h);
  copy(finite.a, a);
  copy(finite.u, u);
  Cell::step(h, a, u, plain);
  guarded_step(finite, guarded);
  EXPECT_EQ(std::memcmp(plain, guarded, sizeof plain), 0);
  for (int n = 0; n < Point<Cell>::kSize; ++n) {
    for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()}) {
      Point<Cell> point = finite;
      point.at(n) = bad;
      guarded_step(point, guarded);
      for (const float x : guarded) EXPECT_TRUE(std::isnan(x)) << "argument " << n << " = " << bad;
      if (n >= K + W) continue;  // a start is NaN in every component, whatever the step mixes
      copy(point.h, h);
      copy(point.a, a);
      guard_start<Cell>(a, h);
      for (const float x : h) EXPECT_TRUE(std::isnan(x)) << "argument " << n << " = " << bad;
    }
    Point<Cell> large = finite;  // large is finite: the guard leaves it alone
    large.at(n) = 0x1p100;
    copy(large.h, h);
    copy(large.a, a);
    copy(large.u, u);
    guard_start<Cell>(a, h);
    guard_inputs<Cell>(u);
    for (int i = 0; i < K; ++i) EXPECT_EQ(h[i], float(large.h[i]));
    for (int i = 0; i < I; ++i) EXPECT_EQ(u[i], float(large.u[i]));
  }
}

TYPED_TEST(EveryCell, ANanStateStaysNan) {
  using Cell = TypeParam;
  std::mt19937 random(7);
  Point<Cell> point(random);
  for (double& x : point.h) x = std::numeric_limits<double>::quiet_NaN();
  double next[Cell::kState];
  Cell::step(point.h, point.a, point.u, next);
  for (const double x : next) EXPECT_TRUE(std::isnan(x));
}

// --- the rounding bound of one step --------------------------------------------------------------------------------------

namespace moved {  // of its own, so that its gates do not hide those above
/// A double whose k-th gate call returns its value moved by `by`; notes the arguments of the gates.
struct Moved {
  double value;
  static inline int call = 0, which = -1;
  static inline double by = 0, argument[8] = {};
  static inline bool tanh[8] = {};
  Moved(double v = 0) : value(v) {}
};
Moved operator+(const Moved& x, const Moved& y) { return x.value + y.value; }
Moved operator-(const Moved& x, const Moved& y) { return x.value - y.value; }
Moved operator*(const Moved& x, const Moved& y) { return x.value * y.value; }
Moved gate(const Moved& x, double value, bool is_tanh) {
  Moved::argument[Moved::call] = x.value;
  Moved::tanh[Moved::call] = is_tanh;
  return value + (Moved::call++ == Moved::which ? Moved::by : 0);
}
Moved sigmoid(const Moved& x) { return gate(x, 1 / (1 + std::exp(-x.value)), false); }
Moved tanh_gate(const Moved& x) { return gate(x, std::tanh(x.value), true); }
}  // namespace moved
using moved::Moved;

TYPED_TEST(EveryCell, RoundingBoundIsTheFormulaWithEveryGate) {
  using Cell = TypeParam;
  constexpr int K = Cell::kState, G = Cell::kGates;
  std::mt19937 random(8);
  for (int trial = 0; trial < 10; ++trial) {
    const Point<Cell> point(random);
    const double u_c = 0.001, gate_error = 0.125;
    double f[K], abs_jacobian[K][K], g[K], plain_f[K], jacobian[K][K];
    step_and_bound<Cell>(point.h, point.a, point.u, u_c, gate_error, f, abs_jacobian, g);
    step_and_jacobian<Cell>(point.h, point.a, point.u, plain_f, jacobian);
    const auto step_with = [&](int which, double by, double(&out)[K]) {
      Moved h[K], next[K];
      Moved::call = 0;
      Moved::which = which;
      Moved::by = by;
      copy(point.h, h);
      if constexpr (is_affine<Cell>) {  // gates of parameters alone
        Moved a[Cell::kWeights], u[Cell::kInputs];
        copy(point.a, a);
        copy(point.u, u);
        Cell::step(h, a, u, next);
      } else {
        Cell::step(h, point.a, point.u, next);
      }
      for (int i = 0; i < K; ++i) out[i] = next[i].value;
    };
    double expected[K], ignored[K];
    step_with(-1, 0, ignored);
    EXPECT_EQ(Moved::call, G);  // kGates counts them all
    double arguments[8];
    std::copy(std::begin(Moved::argument), std::end(Moved::argument), arguments);
    for (int i = 0; i < K; ++i) expected[i] = u_c * std::fabs(f[i]);
    for (int k = 0; k < G; ++k) {
      const double s = 0x1p-17;  // truncation s^2 and roundoff u / s are both below 1e-10
      double up[K], down[K];
      step_with(k, s, up);
      step_with(k, -s, down);
      const double p = arguments[k];
      const bool is_tanh = Moved::tanh[k];
      const double sigma = 1 / (1 + std::exp(-p)), slope = is_tanh ? 1 - std::tanh(p) * std::tanh(p) : sigma * (1 - sigma);
      for (int i = 0; i < K; ++i) expected[i] += std::fabs((up[i] - down[i]) / (2 * s)) * (u_c * slope * std::fabs(p) + gate_error);
    }
    for (int i = 0; i < K; ++i) {
      EXPECT_NEAR(g[i], expected[i], 1e-8);
      EXPECT_EQ(f[i], plain_f[i]);
      for (int j = 0; j < K; ++j) EXPECT_EQ(abs_jacobian[i][j], std::fabs(jacobian[i][j]));
    }
  }
}

TYPED_TEST(EveryCell, RoundingBoundHoldsForFloatAndDouble) {
  using Cell = TypeParam;
  constexpr int K = Cell::kState, W = Cell::kWeights, I = Cell::kInputs;
  std::mt19937 random(9);
  double worst_float = 0, worst_double = 0;
  for (int trial = 0; trial < 4000; ++trial) {
    const Point<Cell> point(random);
    float h[K], a[W], u[I], next[K];
    copy(point.h, h);
    copy(point.a, a);
    copy(point.u, u);
    Cell::step(h, a, u, next);
    double f[K], J[K][K], g[K];
    step_and_bound<Cell>(point.h, point.a, point.u, unit_roundoff_v<float>, gate_error_v<float>, f, J, g);
    for (int i = 0; i < K; ++i) worst_float = std::max(worst_float, std::fabs(double(next[i]) - f[i]) / g[i]);
    if (trial % 8) continue;
    step_and_bound<Cell>(point.h, point.a, point.u, unit_roundoff_v<double>, gate_error_v<double>, f, J, g);
    const auto truth = moved_step(point, 0, Mp(0));
    for (int i = 0; i < K; ++i) worst_double = std::max(worst_double, std::fabs(static_cast<double>(Mp(truth[std::size_t(i)] - f[i]))) / g[i]);
  }
  EXPECT_LE(worst_float, kErrorFactor);
  EXPECT_LE(worst_double, kErrorFactor);
  EXPECT_GT(worst_float, 0.05);  // a bound that is never approached would let mistakes pass
  EXPECT_GT(worst_double, 0.05);
}

// --- gates --------------------------------------------------------------------------------------------------------------

TEST(Gates, FloatIsWithinItsStatedError) {
  double worst_sigmoid = 0, worst_tanh = 0;
  for (std::uint64_t bits = 0; bits < (std::uint64_t(1) << 32); bits += 4093) {  // odd, so that every exponent and many fractions come up
    const float x = std::bit_cast<float>(std::uint32_t(bits));
    if (!std::isfinite(x)) continue;
    worst_sigmoid = max_or_nan(worst_sigmoid, std::fabs(double(sigmoid(x)) - 1 / (1 + std::exp(-double(x)))));
    worst_tanh = max_or_nan(worst_tanh, std::fabs(double(tanh_gate(x)) - std::tanh(double(x))));
  }
  EXPECT_LE(worst_sigmoid, gate_error_v<float>);
  EXPECT_LE(worst_tanh, gate_error_v<float>);
}

TEST(Gates, DoubleIsWithinItsStatedError) {
  std::mt19937_64 random(10);
  double worst = 0;
  for (int i = 0; i < 20000; ++i) {
    const double x = std::ldexp(2 * double(random()) / 18446744073709551616.0 - 1, int(random() % 14) - 7);
    const Mp s = sigmoid(Mp(x)), t = tanh_gate(Mp(x));
    worst = max_or_nan(worst, std::fabs(static_cast<double>(Mp(s - sigmoid(x)))));
    worst = max_or_nan(worst, std::fabs(static_cast<double>(Mp(t - tanh_gate(x)))));
  }
  EXPECT_LE(worst, gate_error_v<double>);
}

TEST(Gates, HaveTheirLimitsAndKeepNan) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(sigmoid(inf), 1);
  EXPECT_EQ(sigmoid(0.0f), 0.5f);
  for (const float x : {-inf, -1e4f}) {  // 2^y stops at the largest power of two (units.hpp), its reciprocal is not quite 0
    EXPECT_GE(sigmoid(x), 0);
    EXPECT_LE(sigmoid(x), std::ldexp(1.0f, -detail::Format<float>::kBias));
    EXPECT_GE(sigmoid(double(x)), 0);
    EXPECT_LE(sigmoid(double(x)), std::ldexp(1.0, -detail::Format<double>::kBias));
  }
  EXPECT_EQ(tanh_gate(inf), 1);
  EXPECT_EQ(tanh_gate(-inf), -1);
  EXPECT_TRUE(std::isnan(sigmoid(nan)) && std::isnan(tanh_gate(nan)) && std::isnan(sigmoid(double(nan))) && std::isnan(tanh_gate(double(nan))));
  EXPECT_EQ(gate_error_v<float>, 1.5e-7);
  EXPECT_EQ(gate_error_v<double>, 3e-16);
}

// --- storage ------------------------------------------------------------------------------------------------------------

/// Every 16-bit pattern both ways, and floats beside every rounding boundary, against Eigen.
template <class Ours, class Theirs, class Round>
void expect_same_conversions(Round round) {
  const auto theirs = [](float x) { return Eigen::numext::bit_cast<std::uint16_t>(Theirs(x)); };
  const auto expect_rounds_alike = [&](std::uint32_t bits) {
    const float x = std::bit_cast<float>(bits);
    const std::uint16_t ours = round(x).bits;
    if (std::isnan(x)) {
      ASSERT_TRUE(std::isnan(to_float(Ours{ours}))) << std::hex << bits;
    } else {
      ASSERT_EQ(ours, theirs(x)) << std::hex << bits;
    }
  };
  for (std::uint32_t pattern = 0; pattern < 65536; ++pattern) {
    const float ours = to_float(Ours{std::uint16_t(pattern)}), expected = static_cast<float>(Eigen::numext::bit_cast<Theirs>(std::uint16_t(pattern)));
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(ours)) << pattern;
      continue;
    }
    ASSERT_EQ(std::bit_cast<std::uint32_t>(ours), std::bit_cast<std::uint32_t>(expected)) << pattern;
    ASSERT_EQ(round(ours).bits, pattern);  // what is representable stays
    // The number, the tie above it, and their neighbours.
    for (const std::uint32_t tie : {0x0u, 0x1000u, 0x8000u}) {
      for (const std::uint32_t step : {0xffffffffu, 0u, 1u}) expect_rounds_alike(std::bit_cast<std::uint32_t>(ours) + tie + step);
    }
  }
  for (std::uint64_t bits = 0; bits < (std::uint64_t(1) << 32); bits += 4093) expect_rounds_alike(std::uint32_t(bits));
  for (const float x : {65504.0f, 65519.996f, 65520.0f, 65536.0f, 0x1p-14f, 0x1p-24f, 0x1p-25f, 0x1.8p-25f, 3.4e38f, std::numeric_limits<float>::infinity(),
                        std::numeric_limits<float>::quiet_NaN()}) {
    expect_rounds_alike(std::bit_cast<std::uint32_t>(x));
    expect_rounds_alike(std::bit_cast<std::uint32_t>(-x));
  }
}

TEST(Storage, Bf16ConvertsAsEigenDoes) {
  expect_same_conversions<Bf16, Eigen::bfloat16>([](float x) { return to_bf16(x); });
}
TEST(Storage, F16ConvertsAsEigenDoes) {
  expect_same_conversions<F16, Eigen::half>([](float x) { return to_f16(x); });
}

TEST(Storage, ConvertsThroughOneDoor) {
  EXPECT_EQ(to_storage<float>(0.1f), 0.1f);
  EXPECT_EQ(to_storage<double>(0.1), 0.1);
  EXPECT_EQ(to_compute(to_storage<Bf16>(1.0f + 0x1p-7f)), 1.0f + 0x1p-7f);
  EXPECT_EQ(to_compute(to_storage<F16>(1.0f + 0x1p-10f)), 1.0f + 0x1p-10f);
}

/// Half the distance from 1 to the next number of the type.
template <class T>
double roundoff_by_search() {
  double gap = 1;
  while (double(to_compute(to_storage<T>(compute_t<T>(1 + gap / 2)))) > 1) gap /= 2;
  return gap / 2;
}

TEST(Storage, UnitRoundoffIsHalfTheGapAboveOne) {
  EXPECT_EQ(unit_roundoff_v<float>, roundoff_by_search<float>());
  EXPECT_EQ(unit_roundoff_v<double>, roundoff_by_search<double>());
  EXPECT_EQ(unit_roundoff_v<Bf16>, roundoff_by_search<Bf16>());
  EXPECT_EQ(unit_roundoff_v<F16>, roundoff_by_search<F16>());
}

TEST(Storage, StoringErrorHoldsInEveryBinadeAndIsReached) {
  const auto worst = []<class T>(T) {
    double most = 0;
    for (std::uint64_t bits = 1; bits < 0x7f000000u; bits += 50021) {
      const float x = std::bit_cast<float>(std::uint32_t(bits));
      const double stored = to_compute(to_storage<T>(x));
      if (std::isfinite(stored)) most = std::max(most, std::fabs(stored - double(x)) / storing_error<T>(x));
    }
    return most;
  };
  for (const double most : {worst(Bf16{}), worst(F16{})}) {
    EXPECT_LE(most, 1);
    EXPECT_GT(most, 0.9);
  }
  // Of a normal number it is u_s |x| and no more.
  for (const double x : {1.0, -3.0, 0.1, 0x1p-14}) EXPECT_EQ(storing_error<F16>(x), 0x1p-11 * std::fabs(x));
  for (const double x : {1.0, -3.0, 0.1, 0x1p-14, 0x1p-100, 0x1p-126}) {
    EXPECT_EQ(storing_error<float>(x), 0x1p-24 * std::fabs(x));
    EXPECT_EQ(storing_error<Bf16>(x), 0x1p-8 * std::fabs(x));
    EXPECT_EQ(storing_error<double>(x), 0x1p-53 * std::fabs(x));
  }
  EXPECT_EQ(storing_error<F16>(0), 0x1p-25);  // half the smallest subnormal
  EXPECT_EQ(storing_error<F16>(-2), 0x1p-10);
  EXPECT_EQ(storing_error<float>(0), 0x1p-150);
}

TEST(Storage, FinitenessIsSeen) {
  EXPECT_TRUE(is_finite(0.0f) && is_finite(-3.4e38f) && is_finite(1e308));
  EXPECT_FALSE(is_finite(std::numeric_limits<float>::infinity()) || is_finite(-std::numeric_limits<double>::infinity()) || is_finite(not_a_number<float>()) ||
               is_finite(not_a_number<double>()));
}

// --- dual numbers ---------------------------------------------------------------------------------------------------------

TEST(Dual, CarriesProductAndChainRuleToSecondOrder) {
  using Inner = Dual<double, 1>;
  using Outer = Dual<Inner, 1>;
  const auto second = [](auto&& f, double x) {
    const Outer y = f(Outer::variable(Inner::variable(x, 0), 0));
    return std::array<double, 3>{y.value.value, y.slope[0].value, y.slope[0].slope[0]};
  };
  const double x = 0.375, t = std::tanh(x), s = 1 / (1 + std::exp(-x));
  const auto cube = second([](const Outer& v) { return v * v * v - v * 2.0 + 1.0; }, x);
  EXPECT_EQ(cube[0], x * x * x - 2 * x + 1);  // x is three eighths: exact
  EXPECT_EQ(cube[1], 3 * x * x - 2);
  EXPECT_EQ(cube[2], 6 * x);
  const auto tanh = second([](const Outer& v) { return tanh_gate(v); }, x);
  EXPECT_NEAR(tanh[1], 1 - t * t, 1e-15);
  EXPECT_NEAR(tanh[2], -2 * t * (1 - t * t), 1e-15);
  const auto logistic = second([](const Outer& v) { return sigmoid(v); }, x);
  EXPECT_NEAR(logistic[1], s * (1 - s), 1e-15);
  EXPECT_NEAR(logistic[2], s * (1 - s) * (1 - 2 * s), 1e-15);
  const auto mixed = second([](const Outer& v) { return -(1.0 - v) * (3.0 + v) + 2.0 * v - (v - 0.5); }, x);
  EXPECT_NEAR(mixed[0], -(1 - x) * (3 + x) + 2 * x - (x - 0.5), 1e-15);
  EXPECT_NEAR(mixed[1], 2 + 2 * x + 1, 1e-15);
  EXPECT_NEAR(mixed[2], 2, 1e-15);
}

}  // namespace
}  // namespace prnn
