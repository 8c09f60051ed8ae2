// testing.hpp: points to evaluate cells at, for tests.
#pragma once

#include <cstddef>
#include <random>

#include <gtest/gtest.h>

#include "kernels/cells/all.hpp"

namespace prnn::testing {

template <class Cell>
class EveryCell : public ::testing::Test {};
using CellTypes = ::testing::Types<GruDiag, LstmCifgDiag, ElmanDiag, LinearDiag<1>>;

/// How large the numbers of a point are.
struct Size {
  double h = 1, a = 2, u = 3;
};

/// A random point (h, a, u), exact in float: not a solution of anything.
template <class Cell>
struct Point {
  double h[Cell::kState], a[Cell::kWeights], u[Cell::kInputs];

  explicit Point(std::mt19937& random, Size size = {}) {
    const auto draw = [&](double most) { return double(float(most * (2.0 * double(random()) / 4294967296.0 - 1))); };
    for (double& x : h) x = draw(size.h);
    for (double& x : a) x = draw(size.a);
    for (double& x : u) x = draw(size.u);
  }
  /// Component n of (h, a, u) in that order.
  double& at(int n) { return n < Cell::kState ? h[n] : n < Cell::kState + Cell::kWeights ? a[n - Cell::kState] : u[n - Cell::kState - Cell::kWeights]; }
  static constexpr int kSize = Cell::kState + Cell::kWeights + Cell::kInputs;
};

template <class T, std::size_t N>
void copy(const double (&from)[N], T (&to)[N]) {
  for (std::size_t i = 0; i < N; ++i) to[i] = T(from[i]);
}

}  // namespace prnn::testing
