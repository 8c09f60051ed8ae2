// units.hpp: the special functions that gates are made of: 2^y, 1/x and a coarse tanh. On a GPU its special-function units (part of the door to
// the machine, as device.cuh is); elsewhere, and in double, branch-free code that a compiler turns into vector instructions without fast-math.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

/// PRNN_UNROLL stands before a loop whose index addresses register arrays: an array that is indexed at run time would lie in local memory.
#if defined(__CUDA_ARCH__)
#define PRNN_UNROLL _Pragma("unroll")
#define PRNN_NO_UNROLL _Pragma("unroll 1")
#else
#define PRNN_UNROLL
#define PRNN_NO_UNROLL
#endif
#if defined(__CUDACC__)
#define PRNN_HD __host__ __device__
#elif defined(PRNN_CHECKED_ACCESSES)
#define PRNN_HD __attribute__((abi_tag("checked")))  // functions of their own, lest the linker takes those that others have compiled without checks
#else
#define PRNN_HD
#endif

namespace prnn {

namespace detail {

template <class To, class From>
PRNN_HD inline To same_bits(From x) {
  static_assert(sizeof(To) == sizeof(From));
  To y;
  memcpy(&y, &x, sizeof y);
  return y;
}
PRNN_HD inline std::uint32_t float_bits(float x) { return same_bits<std::uint32_t>(x); }
PRNN_HD inline float bits_float(std::uint32_t bits) { return same_bits<float>(bits); }

/// IEEE binary format of F: what exp2_by_polynomial has to know about it.
template <class F>
struct Format;
template <>
struct Format<float> {
  using Bits = std::uint32_t;
  static constexpr int kFraction = 23, kBias = 127;
  static constexpr float kRounder = 0x1.8p23f;  // adding it leaves the nearest integer in the low bits
};
template <>
struct Format<double> {
  using Bits = std::uint64_t;
  static constexpr int kFraction = 52, kBias = 1023;
  static constexpr double kRounder = 0x1.8p52;
};

/// 2^y, y limited to what has a normal result; NaN stays. y = n + f, |f| <= 1/2; 2^f = sum (f ln 2)^k / k!, whose first term left out is below
/// 6e-9 (float, 8th) and 5e-18 (double, 14th).
template <class F>
PRNN_HD inline F exp2_by_polynomial(F y) {
  using Bits = typename Format<F>::Bits;
  constexpr F kMost = Format<F>::kBias;
  y = y > kMost ? kMost : y;
  y = y < F(1) - kMost ? F(1) - kMost : y;
  const F rounded = y + Format<F>::kRounder, f = y - (rounded - Format<F>::kRounder);
  F p;
  if constexpr (sizeof(F) == 4) {
    p = 1.5252734e-05f;
    p = p * f + 1.5403530e-04f;
    p = p * f + 1.3333558e-03f;
  } else {
    p = 1.3691488853904129e-12;
    p = p * f + 2.5678435993488205e-11;
    p = p * f + 4.4455382718708115e-10;
    p = p * f + 7.0549116208011233e-09;
    p = p * f + 1.0178086009239699e-07;
    p = p * f + 1.3215486790144309e-06;
    p = p * f + 1.5252733804059840e-05;
    p = p * f + 1.5403530393381610e-04;
    p = p * f + 1.3333558146428443e-03;
  }
  p = p * f + F(9.6181291076284772e-03);
  p = p * f + F(5.5504108664821580e-02);
  p = p * f + F(2.4022650695910072e-01);
  p = p * f + F(6.9314718055994531e-01);
  p = p * f + F(1);
  const Bits exponent = same_bits<Bits>(rounded) + Bits(Format<F>::kBias);  // the integer part's low bits; those above the exponent field are shifted out
  return p * same_bits<F>(Bits(exponent << Format<F>::kFraction));
}

}  // namespace detail

// PRNN_PLAIN_ARITHMETIC: a build for comparison with the emulated GPU, whose gates come from the polynomial on a GPU too.
#if defined(__CUDA_ARCH__) && !defined(PRNN_PLAIN_ARITHMETIC)
#define PRNN_HAS_UNITS
#endif

/// 2^y, relative error below 2^-22 (float), 2^-51 (double) where the result is a normal number; else 0 or the smallest, infinity or the largest
/// power of two. NaN stays.
PRNN_HD inline float exp2_unit(float y) {
#ifdef PRNN_HAS_UNITS
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(y));
  return power;
#else
  return detail::exp2_by_polynomial(y);
#endif
}
PRNN_HD inline double exp2_unit(double y) { return detail::exp2_by_polynomial(y); }

/// 1/x for x >= 1: within one unit in the last place.
PRNN_HD inline float reciprocal_unit(float x) {
#ifdef PRNN_HAS_UNITS
  float reciprocal;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(x));
  return reciprocal;
#else
  return 1.0f / x;
#endif
}
PRNN_HD inline double reciprocal_unit(double x) { return 1.0 / x; }

/// |x| with the sign of `sign`.
PRNN_HD inline float with_sign(float x, float sign) { return copysignf(x, sign); }
PRNN_HD inline double with_sign(double x, double sign) { return copysign(x, sign); }

/// tanh(x) within 2^-11 of it, relatively (PTX ISA, tanh.approx.f32); exact to float elsewhere. NaN stays.
PRNN_HD inline float tanh_unit(float x) {
#ifdef PRNN_HAS_UNITS
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return tanhf(x);
#endif
}

}  // namespace prnn
