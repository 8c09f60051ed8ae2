// chaotic.cpp: see chaotic.hpp.
#include "kernels/ops/chaotic.hpp"

#include <algorithm>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <tuple>

#include "kernels/cells/all.hpp"
#include "kernels/cells/growth.hpp"

namespace prnn {
namespace {

constexpr std::int64_t kSteps = 4096, kLeastExponent = 119;      // 119 ln 2 / 4096 = 0.0201
constexpr std::int64_t kFirstSteps = 256, kFirstExponent = -37;  // most draws die early: a tenth of the work

template <class Cell>
bool is_chaotic(const Regime& regime, std::uint64_t seed, std::int64_t d, int draw) {
  constexpr int K = Cell::kState;
  double a[Cell::kWeights], u[Cell::kInputs], h[K] = {}, f[K], jacobian[K][K];
  for (int k = 0; k < Cell::kWeights; ++k) a[k] = draw_weight(regime, seed, k, d, draw);
  Growth<K> growth;
  for (std::int64_t l = 0; l < kSteps; ++l) {
    for (int k = 0; k < Cell::kInputs; ++k) u[k] = draw_input(regime, Cell::memory, seed, 0, l, k, d, kSteps, nullptr, 0);
    derived_jacobian<Cell>(h, a, u, f, jacobian);
    growth.advance(jacobian);
    if (l + 1 == kFirstSteps && growth.exponent() <= kFirstExponent) return false;
    std::copy_n(f, K, h);
  }
  return !growth.vanished() && growth.exponent() > kLeastExponent;
}

}  // namespace

int first_chaotic_draw(const std::string& cell, const Regime& regime, std::uint64_t seed, std::int64_t d) {
  const auto& loaded = loaded_chaotic_draws();
  if (const auto found = loaded.find(cell); found != loaded.end()) return found->second(cell, regime, seed, d);
  int draw = 0;
  with_cell(cell, [&]<class Cell>() {
    while (draw < kMostDraws && !is_chaotic<Cell>(regime, seed, d, draw)) ++draw;
  });
  return draw;
}

std::map<std::string, decltype(&first_chaotic_draw)>& loaded_chaotic_draws() {
  static std::map<std::string, decltype(&first_chaotic_draw)> searches;
  return searches;
}

int chaotic_draw(const std::string& cell, const Regime& regime, std::uint64_t seed, std::int64_t d) {
  static std::mutex mutex;
  static std::map<std::tuple<std::string, double, std::uint64_t, std::int64_t>, int> known;
  const std::tuple key{cell, regime.weight_deviation, seed, d};
  std::optional<int> draw;
  {
    const std::lock_guard lock(mutex);
    if (const auto found = known.find(key); found != known.end()) draw = found->second;
  }
  if (!draw) {
    draw = first_chaotic_draw(cell, regime, seed, d);
    const std::lock_guard lock(mutex);
    known[key] = *draw;
  }
  if (*draw == kMostDraws)
    throw BadInput("regime chaotic: none of " + std::to_string(kMostDraws) + " draws of its weights makes channel " + std::to_string(d) + " of " + cell + " chaotic");
  return *draw;
}

std::vector<std::uint16_t> chaotic_draws(const std::string& cell, const Regime& regime, std::uint64_t seed, std::int64_t hidden) {
  std::vector<std::uint16_t> draws(static_cast<std::size_t>(hidden));
  std::exception_ptr failure;
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t d = 0; d < hidden; ++d) {
    try {
      draws[std::size_t(d)] = std::uint16_t(chaotic_draw(cell, regime, seed, d));
    } catch (...) {
#pragma omp critical
      failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
  return draws;
}

}  // namespace prnn
