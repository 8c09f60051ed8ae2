// scan_testing.hpp: scans whose answer is known: of integers, exactly, and of random maps, within the bound of any order of composition. For tests.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kernels/ops/recurrence.hpp"
#include "kernels/ops/testing.hpp"
#include "kernels/primitives/register.hpp"

namespace prnn::testing {

inline Problem scan_problem(std::string jacobian, Storage storage, std::int64_t batch, std::int64_t hidden, std::int64_t seq_len) {
  Problem p = random_start_problem(std::move(jacobian), storage, batch, hidden, seq_len);
  p.op = "reduction";
  return p;
}

/// One scan of a problem: maps [B, L, K, K + 1, D] and initial states [B, K, D] as doubles.
struct ScanInputs {
  int K;
  std::vector<double> maps, initial;
};

/// J = +-1, or with two components a signed swap, a signed identity or a rotation by 90 degrees; r in {-1, 0, 1} at every step; h0 likewise. States are integers
/// up to 2 L.
inline ScanInputs integer_inputs(const Problem& p, unsigned seed) {
  const int K = p.cell == "diag" ? 1 : 2;
  std::mt19937 random(seed);
  const auto sign = [&] { return random() % 2 ? 1.0 : -1.0; };
  const auto small = [&] { return double(int(random() % 3) - 1); };
  ScanInputs in{K, std::vector<double>(std::size_t(p.batch * p.seq_len * K * (K + 1) * p.hidden)), {}};
  for (std::int64_t row = 0; row < p.batch * p.seq_len; ++row) {
    for (std::int64_t d = 0; d < p.hidden; ++d) {
      const auto at = [&](int i, int j) -> double& { return in.maps[std::size_t((row * K * (K + 1) + i * (K + 1) + j) * p.hidden + d)]; };
      const bool swaps = K == 2 && random() % 2;
      for (int i = 0; i < K; ++i) at(i, swaps ? 1 - i : i) = sign(), at(i, K) = small();
    }
  }
  for (std::int64_t i = 0; i < p.batch * K * p.hidden; ++i) in.initial.push_back(small());
  return in;
}

/// J uniform in (-largest, largest) / K, r and h0 normal.
inline ScanInputs random_inputs(const Problem& p, unsigned seed, double largest) {
  const int K = p.cell == "diag" ? 1 : 2;
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> entry(-largest / K, largest / K);
  std::normal_distribution<double> normal;
  ScanInputs in{K, {}, {}};
  for (std::int64_t i = 0; i < p.batch * p.seq_len * K * (K + 1) * p.hidden; ++i) in.maps.push_back(i / p.hidden % (K + 1) == K ? normal(random) : entry(random));
  for (std::int64_t i = 0; i < p.batch * K * p.hidden; ++i) in.initial.push_back(normal(random));
  return in;
}

/// Rounds the inputs to the bench's types, in `in` too, and uploads them.
template <class T>
void put_scan(Workbench& bench, ScanInputs& in) {
  std::vector<T> maps;
  std::vector<compute_t<T>> initial;
  for (double& x : in.maps) maps.push_back(drawn<T>(x)), x = to_compute(maps.back());
  for (double& x : in.initial) initial.push_back(compute_t<T>(x)), x = initial.back();
  bench.put("u", maps);
  bench.put("h0", initial);
}

/// h [B, L, K, D] in double, step by step, and the bound's M = |J| M + |r| in the same order.
struct ScanTruth {
  std::vector<double> states, scale;
};
inline ScanTruth scan_truth(const Problem& p, const ScanInputs& in) {
  const int K = in.K;
  ScanTruth truth;
  std::vector<double> h, size;
  for (std::int64_t b = 0; b < p.batch; ++b) {
    const auto first = in.initial.begin() + b * K * p.hidden;
    h.assign(first, first + K * p.hidden);
    size.clear();
    for (const double x : h) size.push_back(std::fabs(x));
    for (std::int64_t l = 0; l < p.seq_len; ++l) {
      std::vector<double> next(h.size()), next_size(h.size());
      for (int i = 0; i < K; ++i) {
        for (std::int64_t d = 0; d < p.hidden; ++d) {
          const auto at = [&](int j) { return in.maps[std::size_t((((b * p.seq_len + l) * K + i) * (K + 1) + j) * p.hidden + d)]; };
          const std::size_t mine = std::size_t(i * p.hidden + d);
          next[mine] = at(K), next_size[mine] = std::fabs(at(K));
          for (int j = 0; j < K; ++j) {
            next[mine] += at(j) * h[std::size_t(j * p.hidden + d)];
            next_size[mine] += std::fabs(at(j)) * size[std::size_t(j * p.hidden + d)];
          }
        }
      }
      h = next, size = next_size;
      truth.states.insert(truth.states.end(), h.begin(), h.end());
      truth.scale.insert(truth.scale.end(), size.begin(), size.end());
    }
  }
  return truth;
}

/// Every stored state is the integer it must be (rounded once to storage), and `last` the last of them.
template <class T>
void expect_exact(const Workbench& bench, const ScanTruth& truth, const std::string& where) {
  const std::vector<T> h = bench.values<T>("h");
  ASSERT_EQ(h.size(), truth.states.size()) << where;
  for (std::size_t i = 0; i < h.size(); ++i) ASSERT_EQ(to_compute(h[i]), to_compute(drawn<T>(truth.states[i]))) << where << " element " << i;
  const auto last = bench.values<compute_t<T>>("last");
  const Problem& p = bench.problem;
  const std::size_t step = last.size() / std::size_t(p.batch);
  for (std::int64_t b = 0; b < p.batch; ++b) {
    for (std::size_t i = 0; i < step; ++i)
      ASSERT_EQ(last[std::size_t(b) * step + i], truth.states[std::size_t((b + 1) * p.seq_len - 1) * step + i]) << where << " last of " << b << ", " << i;
  }
}

/// |h - truth| <= 4 eps M (eps = 2 u_c) and storing once: the truth is in double, whose own error is nothing beside it for float.
template <class T>
void expect_within_bound(const Workbench& bench, const ScanTruth& truth, const std::string& where) {
  const std::vector<T> h = bench.values<T>("h");
  for (std::size_t i = 0; i < h.size(); ++i) {
    const double bound = 8 * unit_roundoff_v<compute_t<T>> * truth.scale[i] + storing_error<T>(truth.states[i]);
    ASSERT_LE(std::fabs(to_compute(h[i]) - truth.states[i]), bound * (1 + 0x1p-20)) << where << " element " << i << " of " << truth.states[i];
  }
}

}  // namespace prnn::testing
