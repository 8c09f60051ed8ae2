// growth.hpp: how fast a small difference of states grows along a sequence: the product of its Jacobians, kept within range.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

namespace prnn {

/// J_l ... J_1 [K, K] as matrix x 2^exponent. Only frexp, ldexp, products and sums: the same bits on every host.
template <int K>
class Growth {
 public:
  Growth() {
    for (int i = 0; i < K; ++i) matrix_[i][i] = 1;
  }

  void advance(const double (&jacobian)[K][K]) {
    double product[K][K];
    for (int i = 0; i < K; ++i) {
      for (int j = 0; j < K; ++j) {
        product[i][j] = jacobian[i][0] * matrix_[0][j];
        for (int k = 1; k < K; ++k) product[i][j] += jacobian[i][k] * matrix_[k][j];
      }
    }
    int shift = 0;
    std::frexp(largest(product), &shift);
    for (int i = 0; i < K; ++i) {
      for (int j = 0; j < K; ++j) matrix_[i][j] = std::ldexp(product[i][j], -shift);
    }
    exponent_ += shift;
    ++steps_;
  }

  /// e with 2^(e-1) <= largest |entry| of the product < 2^e; no meaning where it is 0.
  std::int64_t exponent() const { return exponent_; }
  bool vanished() const { return largest(matrix_) == 0; }
  /// Largest Lyapunov exponent over these steps, nats a step: ln of the largest |entry| of the product, over their number. -infinity where the product is 0.
  double lyapunov() const { return (std::log(largest(matrix_)) + double(exponent_) * std::log(2.0)) / double(steps_); }

 private:
  static double largest(const double (&matrix)[K][K]) {
    double most = 0;
    for (const auto& row : matrix) {
      for (const double x : row) {
        const double size = std::fabs(x);
        if (!(size <= most)) most = size;
      }
    }
    return most;
  }

  double matrix_[K][K] = {};
  std::int64_t exponent_ = 0, steps_ = 0;
};

}  // namespace prnn
