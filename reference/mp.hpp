// mp.hpp: the numbers of the reference. Only reference/*.cpp and tests include it: Boost stops here.
// MPFR by measurement: one GRU step at 50 digits costs 7 to 12 us with it, 37 us with cpp_bin_float<50> (g++ 12 -O2, one core, MPFR 4.2.0).
// On the stack: a dual number of 7 directions costs 25 us a step, 36 us with allocate_dynamic.
#pragma once

#if defined(PRNN_CELL)
#include "reference/lent_number.hpp"
#else
#include <boost/multiprecision/mpfr.hpp>
#endif

#include "reference/reference.hpp"

namespace prnn {

#if defined(PRNN_CELL)
template <unsigned Digits>
using MpOf = LentNumber<Digits>;
#else
template <unsigned Digits>
using MpOf = boost::multiprecision::number<boost::multiprecision::mpfr_float_backend<Digits, boost::multiprecision::allocate_stack>, boost::multiprecision::et_off>;
#endif
/// The truth. Literals: T(1) / 10, never T(0.1), which has 16 digits.
using Mp = MpOf<50>;
/// The same computation at a second precision: the difference is the truth's own error bar.
using MpCheck = MpOf<40>;

inline DoubleDouble split(const Mp& x) {
  const double high = static_cast<double>(x);
  return {high, static_cast<double>(Mp(x - high))};
}
inline Mp join(const DoubleDouble& x) { return Mp(x.high) + Mp(x.low); }

#if !defined(PRNN_CELL)
/// Gives back what MPFR cached for the calling thread (constants such as log 2); at the end of a thread that computed.
struct MpThread {
  MpThread() = default;
  MpThread(const MpThread&) = delete;
  ~MpThread() { mpfr_free_cache(); }
};
#endif

}  // namespace prnn
