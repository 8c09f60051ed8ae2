// offsets.emulated.test.cpp: where a number lies and which channel a thread has, at sizes for which no machine has the memory: an offset of 32 bits is wrong there alone.
#include <gtest/gtest.h>

#include "kernels/cells/testing.hpp"
#include "kernels/primitives/channel.cuh"

namespace prnn {
namespace {

/// Sizes whose products are on both sides of 2^31, 2^32 and 2^33, at any place of the shape.
constexpr std::int64_t kSizes[] = {1, 3, (1 << 16) - 1, (1 << 16) + 1, (std::int64_t(1) << 31) - 1, (std::int64_t(1) << 31) + 1, (std::int64_t(1) << 32) + 1};

/// Offset of an element of a tensor, slowest axis first.
template <std::size_t N>
__int128 offset(const std::int64_t (&shape)[N], const std::int64_t (&index)[N]) {
  __int128 at = 0;
  for (std::size_t axis = 0; axis < N; ++axis) at = at * shape[axis] + index[axis];
  return at;
}

/// f(batch, seq_len, hidden) for all sizes with offsets of less than 2^62.
template <class F>
void for_each_shape(F&& f) {
  for (const std::int64_t batch : kSizes) {
    for (const std::int64_t seq_len : kSizes) {
      for (const std::int64_t hidden : kSizes) {
        if (__int128(batch) * seq_len * hidden < __int128(1) << 58) f(batch, seq_len, hidden);
      }
    }
  }
}

template <class Cell>
class Offsets : public ::testing::Test {};
TYPED_TEST_SUITE(Offsets, testing::CellTypes);

TYPED_TEST(Offsets, AreThoseOfTheShapesHoweverLarge) {
  for_each_shape([](std::int64_t B, std::int64_t L, std::int64_t D) {
    const Layout<TypeParam> at(B, L, D);
    constexpr std::int64_t I = TypeParam::kInputs, K = TypeParam::kState, W = TypeParam::kWeights;
    for (const std::int64_t b : {std::int64_t(0), B / 2, B - 1}) {
      for (const std::int64_t l : {std::int64_t(0), L / 2, L - 1}) {
        for (const std::int64_t d : {std::int64_t(0), D / 2, D - 1}) {
          EXPECT_TRUE(at.u(b, l, I - 1, d) == offset({B, L, I, D}, {b, l, I - 1, d})) << B << " " << L << " " << D;
          EXPECT_TRUE(at.h(b, l, K - 1, d) == offset({B, L, K, D}, {b, l, K - 1, d})) << B << " " << L << " " << D;
          EXPECT_TRUE(at.a(W - 1, d) == offset({W, D}, {W - 1, d})) << D;
          EXPECT_TRUE(at.edge(b, K - 1, d) == offset({B, K, D}, {b, K - 1, d})) << B << " " << D;
          EXPECT_TRUE(at.position(b, l, d) == offset({B, L, D}, {b, l, d})) << B << " " << L << " " << D;
        }
      }
    }
  });
}

TYPED_TEST(Offsets, LeadBackToTheChannelAndTheStep) {
  for_each_shape([](std::int64_t B, std::int64_t L, std::int64_t D) {
    const Layout<TypeParam> at(B, L, D);
    for (const std::int64_t b : {std::int64_t(0), B / 2, B - 1}) {
      for (const std::int64_t d : {std::int64_t(0), D / 2, D - 1}) {
        const emulated::Place place = emulated::place_of_channel(at, b * D + d);
        EXPECT_TRUE(place.b == b && place.d == d) << B << " " << D << ": " << b << " " << d;
        const auto found = emulated::place_of(at, at.position(b, L - 1, d));
        EXPECT_TRUE(found && *found == (std::array<std::int64_t, 3>{b, L - 1, d})) << B << " " << L << " " << D;
      }
    }
  });
}

}  // namespace
}  // namespace prnn
