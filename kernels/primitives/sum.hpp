// sum.hpp: a sum of many terms that is as good as one of few: what rounding takes from it is carried along.
#pragma once

#include "kernels/cells/scalar.hpp"
#include "kernels/fault.hpp"

namespace prnn {

/// Error of value(): at most u |sum| + 2 n u^2 sum |terms| for n terms (Ogita, Rump, Oishi 2005, "Accurate sum and dot product", algorithm 4.4).
/// Additions alone: a compiler that contracts multiply-adds changes no bit. A term that is not finite gives NaN.
template <class C>
struct CompensatedSum {
  C sum, lost;

  CompensatedSum() = default;
  PRNN_HD explicit CompensatedSum(C first) : sum(first), lost(C(0)) {}
  PRNN_HD void add(C term) {  // Knuth's two-sum: exact, whichever is larger
    const C total = sum + term, part = total - sum;
    lost = lost + ((sum - (total - part)) + (term - part));
    sum = total;
  }
  PRNN_HD void add(const CompensatedSum& other) {
    add(other.sum);
    lost = PRNN_FAULT(30, lost + other.lost, lost);
  }
  PRNN_HD C value() const { return sum + lost; }
};

}  // namespace prnn
