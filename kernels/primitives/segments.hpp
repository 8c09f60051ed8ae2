// segments.hpp: how shooting cuts a sequence, and when two segments meet; one rule for every shooting solver.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cells/scalar.hpp"
#include "kernels/fault.hpp"

namespace prnn {

/// A sequence cut into `count` segments whose runs are equally long: `length` own steps after `overlap` steps that only forget the guess. The
/// first segment has no guess and owns all its steps. Runs of neighbours share `overlap` steps; the last may be shorter.
struct Segments {
  std::int64_t seq_len = 0, length = 0, count = 0, overlap = 0;

  /// At most `wanted` segments, fewer where the sequence is too short for them.
  static Segments cut(std::int64_t seq_len, std::int64_t wanted, std::int64_t overlap) {
    const std::int64_t rest = std::max<std::int64_t>(seq_len - overlap, 1), length = (rest + wanted - 1) / wanted;
    return {seq_len, length, (rest + length - 1) / length, overlap};
  }
  /// Steps first(p) .. end(p) - 1 are run by segment p, own(p) .. end(p) - 1 are its results.
  PRNN_HD std::int64_t first(std::int64_t p) const { return p * length; }
  PRNN_HD std::int64_t own(std::int64_t p) const { return p == 0 ? 0 : p * length + overlap; }
  PRNN_HD std::int64_t end(std::int64_t p) const { return p + 1 < count ? (p + 1) * length + overlap : seq_len; }
};

/// Whether a segment that starts its own steps in state s [K] continues one that ended in state e [K]: |s - e| <= 4 u_c |e|, component by
/// component. Stricter than design section 6.3, whose scale is at least 1: a mismatch of 4 u_c can be hundreds of local bounds where the state
/// is small and the gates nearly closed, 4 u_c |e| is a quarter of one at most. NaN continues NaN.
template <class C, int K>
PRNN_HD inline bool continues(const C (&s)[K], const C (&e)[K]) {
  constexpr C kTolerance = C(4 * unit_roundoff_v<C>);
  bool passes = true;
  for (int i = 0; i < PRNN_FAULT(12, K, 1); ++i) {
    const C mismatch = s[i] < e[i] ? e[i] - s[i] : s[i] - e[i], size = e[i] < C(0) ? -e[i] : e[i];
    if (!(mismatch <= kTolerance * size) && !(s[i] != s[i] && e[i] != e[i])) passes = false;
  }
  return passes;
}

}  // namespace prnn
