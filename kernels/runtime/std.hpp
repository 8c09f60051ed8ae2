// std.hpp: what kernels use of the standard library, for NVRTC, which has none: every <header> of the library is this file there (sources.cpp).
// Names, meanings and types are the library's; nothing else includes it.
#pragma once

namespace std {

using int8_t = signed char;
using uint8_t = unsigned char;
using int16_t = short;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned;
using int64_t = long;
using uint64_t = unsigned long;
using size_t = unsigned long;
using ptrdiff_t = long;

template <class T, T v>
struct integral_constant {
  static constexpr T value = v;
};
template <class A, class B>
inline constexpr bool is_same_v = false;
template <class A>
inline constexpr bool is_same_v<A, A> = true;
template <class A, class B>
concept same_as = is_same_v<A, B>;
template <class T>
inline constexpr bool is_floating_point_v = is_same_v<T, float> || is_same_v<T, double>;
template <class T>
inline constexpr bool is_arithmetic_v = is_floating_point_v<T> || is_same_v<T, int> || is_same_v<T, unsigned> || is_same_v<T, int64_t> || is_same_v<T, uint64_t>;
template <class T>
inline constexpr bool is_pointer_v = false;
template <class T>
inline constexpr bool is_pointer_v<T*> = true;
template <class From, class To>
concept convertible_to = __is_convertible_to(From, To);

template <bool condition, class A, class B>
struct conditional {
  using type = A;
};
template <class A, class B>
struct conditional<false, A, B> {
  using type = B;
};
template <bool condition, class A, class B>
using conditional_t = typename conditional<condition, A, B>::type;
template <class T>
struct type_identity {
  using type = T;
};
template <class T>
using type_identity_t = typename type_identity<T>::type;

template <class T, T... i>
struct integer_sequence {};
namespace detail {
template <class T, T n, T... i>
constexpr auto counted() {
  if constexpr (n == 0) return integer_sequence<T, i...>();
  else return counted<T, n - 1, n - 1, i...>();
}
}  // namespace detail
template <class T, T n>
using make_integer_sequence = decltype(detail::counted<T, n>());

template <class T>
struct numeric_limits;
template <>
struct numeric_limits<int64_t> {
  static constexpr int64_t max() { return 0x7fffffffffffffff; }
};
template <>
struct numeric_limits<double> {
  static constexpr double infinity() { return __builtin_bit_cast(double, 0x7ff0000000000000); }
};

template <class T>
constexpr const T& min(const T& a, const T& b) {
  return b < a ? b : a;
}
template <class T>
constexpr const T& max(const T& a, const T& b) {
  return a < b ? b : a;
}
template <class T>
constexpr const T& clamp(const T& x, const T& least, const T& most) {
  return x < least ? least : most < x ? most : x;
}

using ::fabs;

}  // namespace std
