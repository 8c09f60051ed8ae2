// growth.test.cpp: products of Jacobians against their closed forms, far beyond the range of double.
#include "kernels/cells/growth.hpp"

#include <gtest/gtest.h>

namespace prnn {
namespace {

constexpr double kRoundoff = 0x1p-52;

TEST(Growth, OfOneNumberIsTheMeanOfItsLogarithms) {
  Growth<1> growth;
  double sum = 0;
  for (int l = 0; l < 3000; ++l) {
    const double x = l % 3 == 0 ? -1e-200 : l % 3 == 1 ? 3e250 : 0.25;
    growth.advance({{x}});
    sum += std::log(std::fabs(x));
  }
  // A rounding of the product a step, and of ln and the sum.
  EXPECT_NEAR(growth.lyapunov(), sum / 3000, kRoundoff * (1 + 3000 * std::fabs(std::log(3e250)) / 3000));
  EXPECT_FALSE(growth.vanished());
}

TEST(Growth, IsThatOfTheLargestDirectionWhateverOrderTheAxesHave) {
  for (const bool swapped : {false, true}) {
    Growth<2> growth;
    for (int l = 0; l < 5000; ++l) {
      if (swapped) growth.advance({{0.5, 0}, {0, 2}});
      else growth.advance({{2, 0}, {0, 0.5}});
    }
    EXPECT_NEAR(growth.lyapunov(), std::log(2.0), 2 * kRoundoff);
    EXPECT_EQ(growth.exponent(), 5001);  // 2^5000 = 0.5 x 2^5001
  }
}

TEST(Growth, MultipliesLaterFromTheLeft) {
  Growth<2> growth;
  growth.advance({{0, 1}, {0, 0}});
  growth.advance({{0, 0}, {8, 0}});  // later x earlier has an 8, earlier x later too, but only in its corner:
  growth.advance({{0, 3}, {0, 0}});  // 3 x 8 against 0
  EXPECT_NEAR(growth.lyapunov(), std::log(24.0) / 3, 4 * kRoundoff);
}

TEST(Growth, OfARotationIsItsScale) {
  Growth<2> growth;
  const int L = 4000;
  for (int l = 0; l < L; ++l) growth.advance({{0.9 * std::cos(0.3), -0.9 * std::sin(0.3)}, {0.9 * std::sin(0.3), 0.9 * std::cos(0.3)}});
  // The largest entry of a rotation is between sqrt(1/2) and 1.
  EXPECT_LE(growth.lyapunov(), std::log(0.9) + L * kRoundoff);
  EXPECT_GE(growth.lyapunov(), std::log(0.9) - std::log(2.0) / 2 / L - L * kRoundoff);
}

TEST(Growth, ThatEndsIsMinusInfinity) {
  Growth<2> growth;
  growth.advance({{1, 0}, {0, 1}});
  EXPECT_FALSE(growth.vanished());
  EXPECT_EQ(growth.lyapunov(), 0);
  growth.advance({{0, 0}, {0, 0}});
  growth.advance({{5, 0}, {0, 5}});
  EXPECT_TRUE(growth.vanished());
  EXPECT_EQ(growth.lyapunov(), -std::numeric_limits<double>::infinity());
}

TEST(Growth, ANanStays) {
  Growth<2> growth;
  growth.advance({{1, 0}, {0, std::nan("")}});
  EXPECT_TRUE(std::isnan(growth.lyapunov()));
}

}  // namespace
}  // namespace prnn
