// layout.hpp: where a channel's numbers lie. The channel is the fastest axis, so neighbouring lanes touch neighbouring addresses.
#pragma once

#include <cstdint>

#include "kernels/cells/scalar.hpp"
#include "kernels/fault.hpp"

namespace prnn {

/// Offsets in elements, 64 bits wide. u [B, L, kInputs, D], a [kWeights, D], h [B, L, kState, D], h0 and last [B, kState, D].
template <class Cell>
struct Layout {
  std::int64_t batch, seq_len, hidden;

  Layout() = default;
  PRNN_HD Layout(std::int64_t batch, std::int64_t seq_len, std::int64_t hidden) : batch(batch), seq_len(seq_len), hidden(hidden) {}
  /// Of another cell of the same shape (Approximated).
  template <class Other>
  explicit Layout(const Layout<Other>& other) : batch(other.batch), seq_len(other.seq_len), hidden(other.hidden) {
    static_assert(Other::kState == Cell::kState && Other::kInputs == Cell::kInputs);
  }

  PRNN_HD std::int64_t channels() const { return batch * hidden; }
  PRNN_HD std::int64_t u(std::int64_t b, std::int64_t l, int k, std::int64_t d) const { return ((b * seq_len + l) * Cell::kInputs + k) * hidden + d; }
  PRNN_HD std::int64_t h(std::int64_t b, std::int64_t l, int k, std::int64_t d) const {
    return ((PRNN_FAULT(22, b * seq_len, int(b * seq_len)) + l) * Cell::kState + k) * hidden + d;
  }
  PRNN_HD std::int64_t a(int k, std::int64_t d) const { return k * hidden + d; }
  PRNN_HD std::int64_t edge(std::int64_t b, int k, std::int64_t d) const { return (b * Cell::kState + k) * hidden + d; }
  /// The order of (b, l, d) in which "first non-finite" is meant.
  PRNN_HD std::int64_t position(std::int64_t b, std::int64_t l, std::int64_t d) const { return (b * seq_len + l) * hidden + d; }
};

}  // namespace prnn
