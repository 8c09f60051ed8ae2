// affine.test.cpp: the scan operator, exact in the ring of integers modulo 2^32: no rounding can hide a wrong order.
#include "kernels/primitives/affine.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace prnn {
namespace {

template <int N>
struct Ring {
  using Map = Affine<std::uint32_t, N>;
  std::mt19937 random{7};

  Map map() {
    Map m;
    for (auto& row : m.jacobian) {
      for (std::uint32_t& x : row) x = random();
    }
    for (std::uint32_t& x : m.offset) x = random();
    return m;
  }
};

template <class T, int N>
bool equal(const Affine<T, N>& a, const Affine<T, N>& b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

template <int N>
void check_algebra() {
  Ring<N> ring;
  for (int trial = 0; trial < 50; ++trial) {
    const auto a = ring.map(), b = ring.map(), c = ring.map();
    std::uint32_t x[N], after_a[N], after_b[N], at_once[N];
    for (std::uint32_t& v : x) v = ring.random();
    apply(a, x, after_a);
    apply(b, after_a, after_b);
    apply(compose(a, b), x, at_once);
    for (int i = 0; i < N; ++i) EXPECT_EQ(at_once[i], after_b[i]);
    EXPECT_TRUE(equal(compose(compose(a, b), c), compose(a, compose(b, c))));
    EXPECT_FALSE(equal(compose(a, b), compose(b, a)));
    EXPECT_TRUE(equal(compose(Affine<std::uint32_t, N>::identity(), a), a));
    EXPECT_TRUE(equal(compose(a, Affine<std::uint32_t, N>::identity()), a));
  }
}

TEST(AnAffineMap, ComposesEarlierThenLaterAssociatively) {
  check_algebra<1>();
  check_algebra<2>();
  check_algebra<3>();
}

/// The composition of count maps from first on, cut in two at random places.
template <int N>
Affine<std::uint32_t, N> in_random_groups(const Affine<std::uint32_t, N>* first, std::size_t count, std::mt19937& random) {
  if (count == 1) return *first;
  const std::size_t cut = 1 + random() % (count - 1);
  const auto earlier = in_random_groups<N>(first, cut, random), later = in_random_groups<N>(first + cut, count - cut, random);
  return compose(earlier, later);
}

template <int N>
void check_every_length() {
  Ring<N> ring;
  std::vector<Affine<std::uint32_t, N>> maps = {ring.map()};
  auto in_order = maps[0];
  for (std::size_t length = 1; length <= 1100; ++length) {
    ASSERT_TRUE(equal(in_random_groups<N>(maps.data(), length, ring.random), in_order)) << N << " components, length " << length;
    maps.push_back(ring.map());
    in_order = compose(in_order, maps.back());
  }
}

TEST(AnAffineMap, ComposesToTheSameInEveryGroupingOfEveryLength) {
  check_every_length<1>();
  check_every_length<2>();
  check_every_length<3>();
}

TEST(AnAffineMap, MultipliesByRows) {
  const Affine<int, 2> map{{{1, 2}, {3, 4}}, {50, 60}};
  const int x[2] = {5, 7};
  int y[2];
  apply(map, x, y);
  EXPECT_EQ(y[0], 1 * 5 + 2 * 7 + 50);
  EXPECT_EQ(y[1], 3 * 5 + 4 * 7 + 60);
}

}  // namespace
}  // namespace prnn
