// draws.test.cpp: the generator against its published vectors, and that every draw is what design section 5 says.
#include <cmath>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cells/all.hpp"
#include "kernels/primitives/draws.hpp"

namespace prnn {
namespace {

void expect_words(const Philox& actual, std::uint32_t w0, std::uint32_t w1, std::uint32_t w2, std::uint32_t w3) {
  EXPECT_EQ(actual.word[0], w0);
  EXPECT_EQ(actual.word[1], w1);
  EXPECT_EQ(actual.word[2], w2);
  EXPECT_EQ(actual.word[3], w3);
}

TEST(Philox, GivesTheKnownAnswersOfRandom123) {
  expect_words(philox({{0, 0, 0, 0}}, 0, 0), 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8);
  expect_words(philox({{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}}, 0xffffffff, 0xffffffff), 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd);
  expect_words(philox({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0), 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1);
}

TEST(Draws, CountersAreWhereTheyAreSaidToBe) {
  const Philox expected = philox({{7, 5, 3, (2u << 16) | 4u}}, 0x89abcdefu, 0x01234567u), actual = draw_bits(0x0123456789abcdefu, DrawStream::input, 3, 5, 4, 7);
  expect_words(actual, expected.word[0], expected.word[1], expected.word[2], expected.word[3]);
}

TEST(Draws, EveryCoordinateChangesTheValue) {
  std::set<std::uint64_t> seen;
  const auto is_new = [&](std::uint64_t seed, DrawStream stream, std::int64_t b, std::int64_t l, int k, std::int64_t d) {
    const Philox bits = draw_bits(seed, stream, b, l, k, d);
    return seen.insert((std::uint64_t(bits.word[0]) << 32) | bits.word[1]).second;
  };
  for (const DrawStream stream : {DrawStream::weight, DrawStream::input, DrawStream::initial, DrawStream::embedding}) {
    EXPECT_TRUE(is_new(1, stream, 0, 0, 0, 0));
    EXPECT_TRUE(is_new(2, stream, 0, 0, 0, 0));
    EXPECT_TRUE(is_new(1 + (std::uint64_t(1) << 32), stream, 0, 0, 0, 0));
    EXPECT_TRUE(is_new(1, stream, 1, 0, 0, 0));
    EXPECT_TRUE(is_new(1, stream, 0, 1, 0, 0));
    EXPECT_TRUE(is_new(1, stream, 0, 1 << 20, 0, 0));
    EXPECT_TRUE(is_new(1, stream, 0, 0, 1, 0));
    EXPECT_TRUE(is_new(1, stream, 0, 0, 0, 1));
    EXPECT_TRUE(is_new(1, stream, 0, 0, 0, 1 << 20));
  }
}

TEST(Draws, NormalIntegerIsTheCentredSumOfItsHalves) {
  EXPECT_EQ(normal_integer({{0, 0, 0, 0}}), -262140);
  EXPECT_EQ(normal_integer({{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}}), 262140);
  EXPECT_EQ(normal_integer({{0x00010002, 0x00040008, 0x00100020, 0x00400080}}), -262140 + 255);
}

TEST(Draws, HaveMeanZeroVarianceOneAndTheTailsOfASumOfEight) {
  const int n = 200'000;
  double sum = 0, squares = 0, fourth = 0, neighbours = 0, before = 0;
  for (int d = 0; d < n; ++d) {
    const double x = normal_integer(draw_bits(1, DrawStream::input, 0, 0, 0, d)) / kNormalDeviation;
    EXPECT_LE(std::fabs(x), 4.9);
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
    neighbours += x * before;
    before = x;
  }
  // Excess kurtosis of a sum of eight uniforms is -1.2 / 8; five standard errors each.
  const double kurtosis = 3 - 1.2 / 8;
  EXPECT_NEAR(sum / n, 0, 5 / std::sqrt(n));
  EXPECT_NEAR(squares / n, 1, 5 * std::sqrt((kurtosis - 1) / n));
  EXPECT_NEAR(fourth / n, kurtosis, 5 * std::sqrt(105.0 / n));
  EXPECT_NEAR(neighbours / n, 0, 5 / std::sqrt(n));
  EXPECT_NEAR(kNormalDeviation, std::sqrt(8 * (65536.0 * 65536.0 - 1) / 12), 1e-9);
}

TEST(Draws, WeightsAreScaledClippedOrCorners) {
  const Regime free{.weight_deviation = 0.5}, clipped{.weight_deviation = 0.5, .weight_clip = 0.5}, corner{.weight_deviation = 0.5, .weight_corner = 0.5};
  int at_low = 0, at_high = 0, low_corners = 0;
  double squares = 0;
  const int n = 4000;
  for (int d = 0; d < n; ++d) {
    const double w = draw_weight(free, 1, 2, d), c = draw_weight(clipped, 1, 2, d), corner_weight = draw_weight(corner, 1, 2, d);
    EXPECT_EQ(w, normal_integer(draw_bits(1, DrawStream::weight, 0, 0, 2, d)) * (0.5 / kNormalDeviation));
    EXPECT_EQ(c, w < -0.5 ? -0.5 : w > 0.5 ? 0.5 : w);
    EXPECT_EQ(std::fabs(corner_weight), 0.5);
    at_low += c == -0.5;
    at_high += c == 0.5;
    low_corners += corner_weight < 0;
    squares += w * w;
  }
  EXPECT_NEAR(squares / n, 0.25, 0.25 * 5 * std::sqrt(2.0 / n));
  EXPECT_GT(at_low, n / 10);  // 16 % lie beyond one deviation on each side
  EXPECT_GT(at_high, n / 10);
  EXPECT_NEAR(low_corners, n / 2, 5 * std::sqrt(n) / 2);
  EXPECT_NE(draw_weight(free, 1, 0, 0), draw_weight(free, 1, 1, 0));
  EXPECT_NE(draw_weight(free, 1, 0, 0), draw_weight(free, 2, 0, 0));
}

TEST(Draws, InputsAreScaledAndTheMemoryGateAloneIsShifted) {
  const Regime plain{.input_deviation = 3}, shifted{.input_deviation = 3, .memory_shift = 6};
  AllCells::for_each([&]<class Cell>() {
    for (int k = 0; k < Cell::kInputs; ++k) {
      const double u = draw_input(plain, Cell::memory, 1, 2, 3, k, 4, 10, nullptr, 0), v = draw_input(shifted, Cell::memory, 1, 2, 3, k, 4, 10, nullptr, 0);
      EXPECT_EQ(u, normal_integer(draw_bits(1, DrawStream::input, 2, 3, k, 4)) * (3 / kNormalDeviation));
      EXPECT_EQ(v, k == Cell::memory.input ? u + 6.0 * Cell::memory.towards_remembering : u) << Cell::name << " input " << k;
    }
  });
  EXPECT_EQ(GruDiag::memory.input, 0);
  EXPECT_EQ(GruDiag::memory.towards_remembering, -1);
  EXPECT_EQ(LstmCifgDiag::memory.input, 0);
  EXPECT_EQ(LstmCifgDiag::memory.towards_remembering, +1);
}

TEST(Draws, AWeightDrawnAgainIsAnother) {
  const Regime free{.weight_deviation = 0.5};
  EXPECT_EQ(draw_weight(free, 1, 2, 3, 0), draw_weight(free, 1, 2, 3));
  EXPECT_EQ(draw_weight(free, 1, 2, 3, 7), normal_integer(draw_bits(1, DrawStream::weight, 0, 7, 2, 3)) * (0.5 / kNormalDeviation));
  EXPECT_NE(draw_weight(free, 1, 2, 3, 7), draw_weight(free, 1, 2, 3, 8));
}

TEST(Draws, ImpulsesStandAtPowersOfTwoAndBesideThem) {
  std::vector<std::int64_t> steps;
  for (std::int64_t l = 0; l < 70; ++l) {
    if (is_impulse(l)) steps.push_back(l);
  }
  EXPECT_EQ(steps, (std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65}));
  const Regime plain{.input_deviation = 60}, impulses{.input_deviation = 60, .memory_shift = 6, .impulses = true};
  const auto at = [&](const Regime& regime, std::int64_t l) { return draw_input(regime, Memory{}, 1, 2, l, 1, 4, 100, nullptr, 0); };
  for (std::int64_t l = 0; l < 70; ++l) EXPECT_EQ(at(impulses, l), is_impulse(l) ? at(plain, l) : 0) << l;
}

TEST(Draws, DoNotDependOnTheLength) {
  const Regime plain{};
  EXPECT_EQ(draw_input(plain, {}, 1, 2, 3, 0, 4, 10, nullptr, 0), draw_input(plain, {}, 1, 2, 3, 0, 4, 1000, nullptr, 0));
}

TEST(Draws, TextIsAnEmbeddingOfItsBytes) {
  const unsigned char text[] = {'a', 'b', 'a', 'c', 'b'};
  const Regime regime{.text = true};
  const std::int64_t seq_len = 4;
  const auto at = [&](std::int64_t b, std::int64_t l, int k, std::int64_t d) { return draw_input(regime, {}, 1, b, l, k, d, seq_len, text, 5); };
  EXPECT_EQ(at(0, 0, 0, 0), at(0, 2, 0, 0));  // both 'a'
  EXPECT_NE(at(0, 0, 0, 0), at(0, 1, 0, 0));
  EXPECT_EQ(at(1, 0, 0, 0), at(0, 1, 0, 0));  // byte 4, 'b'
  EXPECT_EQ(at(1, 1, 0, 0), at(0, 0, 0, 0));  // byte 5 wraps to 'a'
  EXPECT_NE(at(0, 0, 0, 0), at(0, 0, 1, 0));
  EXPECT_NE(at(0, 0, 0, 0), at(0, 0, 0, 1));
  EXPECT_EQ(at(0, 3, 1, 2), normal_integer(draw_bits(1, DrawStream::embedding, 0, 'c', 1, 2)) * (1 / kNormalDeviation));
}

TEST(Draws, InitialStateIsZeroOrStandardNormal) {
  const Regime zero{}, random{.random_h0 = true};
  EXPECT_EQ(draw_initial(zero, 1, 2, 1, 3), 0);
  EXPECT_EQ(draw_initial(random, 1, 2, 1, 3), normal_integer(draw_bits(1, DrawStream::initial, 2, 0, 1, 3)) * (1 / kNormalDeviation));
  EXPECT_NE(draw_initial(random, 1, 2, 1, 3), draw_initial(random, 1, 1, 1, 3));
}

TEST(Draws, RoundOnceThroughTheComputeType) {
  const double x = 1 + 0x1p-8 + 0x1p-40;  // to bf16: through float it is a tie, which goes to even
  EXPECT_EQ(to_float(drawn<Bf16>(x)), 1.0f);
  EXPECT_EQ(drawn<float>(0.1), 0.1f);
  EXPECT_EQ(drawn<double>(0.1), 0.1);
  EXPECT_EQ(to_float(drawn<F16>(0.1)), to_float(to_f16(0.1f)));
}

}  // namespace
}  // namespace prnn
