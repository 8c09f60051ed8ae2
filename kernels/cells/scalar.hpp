// scalar.hpp: the numbers a cell computes with: storage types, compute types, gates, and dual numbers that derive its Jacobian.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "kernels/cells/units.hpp"
#include "kernels/fault.hpp"

namespace prnn {

// ---------------------------------------------------------------------------------------------------------------------
// Storage types. Two 16-bit formats stand as bits: arithmetic is never done in them.

struct Bf16 {
  std::uint16_t bits;
};
struct F16 {
  std::uint16_t bits;
};

/// The type a value of storage type T is computed in: double for double, float for everything else.
template <class T>
using compute_t = std::conditional_t<std::is_same_v<T, double>, double, float>;

/// Rounds to nearest, ties to even; NaN stays NaN.
PRNN_HD inline Bf16 to_bf16(float x) {
  const std::uint32_t bits = detail::float_bits(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {std::uint16_t(0x7fff)};
  return {std::uint16_t((bits + PRNN_FAULT(25, 0x7fffu + ((bits >> 16) & 1u), 0x8000u)) >> 16)};
}
PRNN_HD inline float to_float(Bf16 x) { return detail::bits_float(std::uint32_t(x.bits) << 16); }

/// Rounds to nearest, ties to even, subnormals kept; overflow gives infinity, NaN stays NaN.
PRNN_HD inline F16 to_f16(float x) {
  const std::uint32_t bits = detail::float_bits(x);
  const std::uint32_t sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {std::uint16_t(0x7fff)};
  if (magnitude >= 0x477ff000u) return {std::uint16_t(sign | 0x7c00u)};  // 65520 and above round to infinity
  if (magnitude < PRNN_FAULT(61, 0x38800000u, 0x38000000u)) {            // below 2^-14: adding 0.5 leaves the subnormal, rounded, in the low bits of the significand
    const float shifted = detail::bits_float(magnitude) + 0.5f;
    return {std::uint16_t(sign | (detail::float_bits(shifted) - 0x3f000000u))};
  }
  const std::uint32_t rebiased = magnitude - 0x38000000u;  // exponent bias 127 -> 15
  return {std::uint16_t(sign | ((rebiased + 0xfffu + ((rebiased >> 13) & 1u)) >> 13))};
}
PRNN_HD inline float to_float(F16 x) {
  const std::uint32_t sign = std::uint32_t(x.bits & 0x8000u) << 16, exponent = (x.bits >> 10) & 0x1fu, fraction = x.bits & 0x3ffu;
  if (exponent == 31) return detail::bits_float(sign | 0x7f800000u | (fraction << 13));
  if (exponent == 0) {
    const float magnitude = float(fraction) * detail::bits_float(0x33800000u);  // 2^-24, exact
    return detail::bits_float(sign | detail::float_bits(magnitude));
  }
  return detail::bits_float(sign | ((exponent + 112u) << 23) | (fraction << 13));
}

/// Storage -> compute, exact.
PRNN_HD inline float to_compute(float x) { return x; }
PRNN_HD inline double to_compute(double x) { return x; }
PRNN_HD inline float to_compute(Bf16 x) { return to_float(x); }
PRNN_HD inline float to_compute(F16 x) { return to_float(x); }

/// Compute -> storage, rounded once to nearest even.
template <class T>
PRNN_HD inline T to_storage(compute_t<T> x) {
  if constexpr (std::is_same_v<T, Bf16>) {
    return to_bf16(x);
  } else if constexpr (std::is_same_v<T, F16>) {
    return to_f16(x);
  } else {
    return x;
  }
}

/// Unit roundoff (half the distance from 1 to the next number).
template <class T>
inline constexpr double unit_roundoff_v = std::is_same_v<T, double>  ? 0x1p-53
                                          : std::is_same_v<T, float> ? 0x1p-24
                                          : std::is_same_v<T, Bf16>  ? 0x1p-8
                                                                     : 0x1p-11;
/// Below it numbers are subnormal: they lie at equal distances, and rounding is no longer relative.
template <class T>
inline constexpr double smallest_normal_v = std::is_same_v<T, double> ? 0x1p-1022
                                            : std::is_same_v<T, F16>  ? 0x1p-14
                                                                      : 0x1p-126;

/// Bound on the error of storing x as a T: u_s |x|, and half the distance of the subnormals below the normal range.
template <class T>
PRNN_HD inline double storing_error(double x) {
  const double size = fabs(x);
  return unit_roundoff_v<T> * (size > smallest_normal_v<T> ? size : smallest_normal_v<T>);
}

/// False for infinities and NaN, on every compiler flag that keeps IEEE comparisons.
template <class T>
PRNN_HD inline bool is_finite(T x) {
  return x - x == T(0);
}

template <class T>
PRNN_HD inline T not_a_number() {
  if constexpr (std::is_same_v<T, double>) {
    return double(detail::bits_float(0x7fc00000u));
  } else {
    return detail::bits_float(0x7fc00000u);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Gates. Exact: each within 1.5e-7 (float), 3e-16 (double) of the true value, absolutely; NaN in, NaN out.

/// Stated absolute error of one gate in compute type T; enters every error bound.
template <class T>
inline constexpr double gate_error_v = std::is_same_v<T, double> ? 3e-16 : 1.5e-7;

/// 1 / (1 + e^-x).
template <class F>
  requires(std::is_floating_point_v<F>)
PRNN_HD inline F sigmoid(F x) { return reciprocal_unit(F(1) + exp2_unit(F(-1.4426950408889634) * x)); }
/// (1 - t) / (1 + t), t = e^-2|x|: unlike 2 sigmoid(2 x) - 1 it does not double an error.
template <class F>
  requires(std::is_floating_point_v<F>)
PRNN_HD inline F tanh_gate(F x) {
  const F t = exp2_unit(F(-2.8853900817779268) * std::fabs(x));
  return with_sign(F(1) - t, x) * reciprocal_unit(F(1) + t);  // the reciprocal comes last: nothing waits after it but the product
}

/// For number types that bring their own exp and tanh (the 50-digit reference).
template <class T>
  requires(!std::is_arithmetic_v<T>)
T sigmoid(const T& x) { return T(1) / (T(1) + exp(T(-x))); }
template <class T>
  requires(!std::is_arithmetic_v<T>)
T tanh_gate(const T& x) { return tanh(x); }

/// A float whose gates come straight from the coarse tanh unit (`gates = approx`): half the special functions, errors of 1e-4.
struct Approx {
  float x;
  Approx() = default;
  PRNN_HD Approx(float value) : x(value) {}
  PRNN_HD explicit operator float() const { return x; }
};
PRNN_HD inline Approx operator+(Approx a, Approx b) { return a.x + b.x; }
PRNN_HD inline Approx operator-(Approx a, Approx b) { return a.x - b.x; }
PRNN_HD inline Approx operator*(Approx a, Approx b) { return a.x * b.x; }
PRNN_HD inline Approx operator-(Approx a) { return -a.x; }
PRNN_HD inline Approx sigmoid(Approx a) { return 0.5f * tanh_unit(0.5f * a.x) + 0.5f; }
PRNN_HD inline Approx tanh_gate(Approx a) { return tanh_unit(a.x); }
/// Stated absolute error of one approximate gate: tanh_unit is within 2^-11 of the truth relatively, so absolutely.
inline constexpr double kApproxGateError = 0x1p-11;

// ---------------------------------------------------------------------------------------------------------------------
// Dual numbers: a value and its derivative along N directions. T may itself be dual (second derivatives) or have 50 digits.

template <class T, int N>
struct Dual {
  using Value = T;
  T value;
  T slope[N];

  Dual() = default;
  PRNN_HD Dual(const T& v) : value(v) {
    for (int n = 0; n < N; ++n) slope[n] = T(0);
  }
  /// The variable of direction n.
  PRNN_HD static Dual variable(const T& v, int n) {
    Dual x(v);
    x.slope[n] = T(1);
    return x;
  }
};

template <class T, int N>
PRNN_HD Dual<T, N> operator+(const Dual<T, N>& x, const Dual<T, N>& y) {
  Dual<T, N> r(x.value + y.value);
  for (int n = 0; n < N; ++n) r.slope[n] = x.slope[n] + y.slope[n];
  return r;
}
template <class T, int N>
PRNN_HD Dual<T, N> operator-(const Dual<T, N>& x, const Dual<T, N>& y) {
  Dual<T, N> r(x.value - y.value);
  for (int n = 0; n < N; ++n) r.slope[n] = x.slope[n] - y.slope[n];
  return r;
}
template <class T, int N>
PRNN_HD Dual<T, N> operator*(const Dual<T, N>& x, const Dual<T, N>& y) {
  Dual<T, N> r(x.value * y.value);
  for (int n = 0; n < N; ++n) r.slope[n] = x.slope[n] * y.value + x.value * y.slope[n];
  return r;
}
// A plain number on one side is a constant: it has no slope to carry.
template <class T, int N>
PRNN_HD Dual<T, N> operator+(const Dual<T, N>& x, const std::type_identity_t<T>& y) {
  Dual<T, N> r = x;
  r.value = x.value + y;
  return r;
}
template <class T, int N>
PRNN_HD Dual<T, N> operator+(const std::type_identity_t<T>& x, const Dual<T, N>& y) {
  return y + x;
}
template <class T, int N>
PRNN_HD Dual<T, N> operator-(const std::type_identity_t<T>& x, const Dual<T, N>& y) {
  Dual<T, N> r(x - y.value);
  for (int n = 0; n < N; ++n) r.slope[n] = -y.slope[n];
  return r;
}
template <class T, int N>
PRNN_HD Dual<T, N> operator-(const Dual<T, N>& x, const std::type_identity_t<T>& y) {
  Dual<T, N> r = x;
  r.value = x.value - y;
  return r;
}
template <class T, int N>
PRNN_HD Dual<T, N> operator-(const Dual<T, N>& x) {
  return T(0) - x;
}
template <class T, int N>
PRNN_HD Dual<T, N> operator*(const Dual<T, N>& x, const std::type_identity_t<T>& y) {
  Dual<T, N> r(x.value * y);
  for (int n = 0; n < N; ++n) r.slope[n] = x.slope[n] * y;
  return r;
}
template <class T, int N>
PRNN_HD Dual<T, N> operator*(const std::type_identity_t<T>& x, const Dual<T, N>& y) {
  return y * x;
}

template <class T, int N>
PRNN_HD Dual<T, N> sigmoid(const Dual<T, N>& x) {
  const T s = sigmoid(x.value);
  const T ds = s * (T(1) - s);
  Dual<T, N> r(s);
  for (int n = 0; n < N; ++n) r.slope[n] = ds * x.slope[n];
  return r;
}
template <class T, int N>
PRNN_HD Dual<T, N> tanh_gate(const Dual<T, N>& x) {
  const T t = tanh_gate(x.value);
  const T dt = T(1) - PRNN_FAULT(4, t * t, t);
  Dual<T, N> r(t);
  for (int n = 0; n < N; ++n) r.slope[n] = dt * x.slope[n];
  return r;
}

// ---------------------------------------------------------------------------------------------------------------------
// Probe: a dual number that also opens one direction per gate call, so that rounding inside a step can be bounded
// (design section 6: g_l = u_c (|h| + sum |df/dp_k| |p_k|) + sum |df/dgate| x gate error, p_k the argument of gate k).

template <int MaxGates>
struct GateTape {
  int count = 0;
  double argument[MaxGates] = {};  // p_k
  double slope[MaxGates] = {};     // dgate/dp at p_k
};

/// Directions 0 .. States-1 are the state components, States .. States+MaxGates-1 the gates in call order.
template <int States, int MaxGates>
struct Probe {
  static constexpr int kDirections = States + MaxGates;
  Dual<double, kDirections> dual;
  GateTape<MaxGates>* tape = nullptr;

  Probe() = default;
  PRNN_HD Probe(double v) : dual(v) {}
  PRNN_HD Probe(const Dual<double, kDirections>& d, GateTape<MaxGates>* t) : dual(d), tape(t) {}
};

#define PRNN_PROBE_OPERATOR(op)                                                                  \
  template <int K, int G>                                                                        \
  PRNN_HD Probe<K, G> operator op(const Probe<K, G>& x, const Probe<K, G>& y) {                  \
    return {x.dual op y.dual, x.tape ? x.tape : y.tape};                                         \
  }                                                                                              \
  template <int K, int G>                                                                        \
  PRNN_HD Probe<K, G> operator op(const Probe<K, G>& x, const std::type_identity_t<double>& y) { \
    return {x.dual op y, x.tape};                                                                \
  }                                                                                              \
  template <int K, int G>                                                                        \
  PRNN_HD Probe<K, G> operator op(const std::type_identity_t<double>& x, const Probe<K, G>& y) { \
    return {x op y.dual, y.tape};                                                                \
  }
PRNN_PROBE_OPERATOR(+)
PRNN_PROBE_OPERATOR(-)
PRNN_PROBE_OPERATOR(*)
#undef PRNN_PROBE_OPERATOR
template <int K, int G>
PRNN_HD Probe<K, G> operator-(const Probe<K, G>& x) {
  return 0.0 - x;
}

namespace detail {
template <int K, int G>
PRNN_HD Probe<K, G> record_gate(const Probe<K, G>& x, Dual<double, K + G> gate, double slope) {
  const int k = x.tape->count++;
  x.tape->argument[k] = x.dual.value;
  x.tape->slope[k] = slope;
  gate.slope[K + k] = 1.0;
  return {gate, x.tape};
}
}  // namespace detail

template <int K, int G>
PRNN_HD Probe<K, G> sigmoid(const Probe<K, G>& x) {
  const Dual<double, K + G> gate = sigmoid(x.dual);
  return detail::record_gate(x, gate, gate.value * (1.0 - gate.value));
}
template <int K, int G>
PRNN_HD Probe<K, G> tanh_gate(const Probe<K, G>& x) {
  const Dual<double, K + G> gate = tanh_gate(x.dual);
  return detail::record_gate(x, gate, 1.0 - gate.value * gate.value);
}

}  // namespace prnn
