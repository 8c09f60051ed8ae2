// scan.emulated.test.cpp: the block scan equals the plain loop to the bit, in the ring modulo 2^32, under several schedules.
#include "kernels/primitives/scan.cuh"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace prnn::emulated {
namespace {

/// Inclusive scan of maps [lanes, length] -> out [lanes, length], tile after tile, one step a thread.
template <class Map>
PRNN_KERNEL scan_kernel(const Map* maps, Map* out, int length, int lanes) {
  BlockScan<Map> scan(shared_memory<Map>(), lanes);
  const int g = thread_index() % lanes, time = thread_index() / lanes, tile = thread_count() / lanes;
  for (int begin = 0; begin < length; begin += tile) {
    const int l = begin + time;
    const Map own = l < length ? maps[g * length + l] : Map::identity();
    scan.publish(own);
    barrier();
    Map inclusive = time == 0 ? own : compose(scan.before(), own);
    if (begin > 0) inclusive = compose(out[g * length + begin - 1], inclusive);
    if (l < length) out[g * length + l] = inclusive;
    barrier();
  }
}

template <int N>
void check(int length, int lanes, int threads) {
  using Map = Affine<std::uint32_t, N>;
  std::mt19937 random(std::uint32_t(length * 100 + lanes));
  std::vector<Map> maps(std::size_t(lanes * length)), out(maps.size());
  for (Map& map : maps) {
    for (auto& row : map.jacobian) {
      for (auto& x : row) x = random();
    }
    for (auto& x : map.offset) x = random();
  }
  launch(&scan_kernel<Map>, 1, threads, BlockScan<Map>::shared_maps(threads, lanes) * int(sizeof(Map)), nullptr, maps.data(), out.data(), length, lanes);
  for (int g = 0; g < lanes; ++g) {
    Map sum = maps[std::size_t(g * length)];
    for (int l = 0; l < length; ++l) {
      if (l > 0) sum = compose(sum, maps[std::size_t(g * length + l)]);
      ASSERT_EQ(std::memcmp(&sum, &out[std::size_t(g * length + l)], sizeof sum), 0)
          << "length " << length << ", lanes " << lanes << ", threads " << threads << ", g " << g << ", l " << l;
    }
  }
}

struct WithSchedule {
  explicit WithSchedule(Schedule schedule) { set_schedule(schedule); }
  ~WithSchedule() { set_schedule({}); }
};

TEST(TheBlockScan, EqualsThePlainLoopToTheBit) {
  for (const Schedule schedule : {Schedule{Order::ascending}, Schedule{Order::descending}, Schedule{Order::random, 3}}) {
    const WithSchedule set(schedule);
    for (int length = 1; length <= 130; ++length) {
      check<1>(length, 1, 32);
      check<2>(length, 8, 96);
    }
    for (const int lanes : {1, 2, 4, 8, 16, 32, 64}) {
      for (const int threads : {32, 64, 128}) {
        const int tile = threads / lanes;
        if (tile == 0) continue;
        for (const int length : {1, tile - 1, tile, tile + 1, 2 * tile, 2 * tile + 1}) {
          if (length > 0) check<2>(length, lanes, threads);
        }
      }
    }
    check<1>(1025, 1, 1024);
  }
}

TEST(TheBlockScan, EqualsThePlainLoopAtEveryLength) {
  const Schedule schedules[] = {Schedule{Order::ascending}, Schedule{Order::descending}, Schedule{Order::random, 7}};
  constexpr int kLanes[] = {1, 2, 4, 8, 16, 32, 64}, kThreads[] = {64, 128, 256};
  for (int length = 1; length <= 1100; ++length) {
    const WithSchedule set(schedules[length % 3]);
    check<1>(length, 1, kThreads[length / 3 % 3]);
    check<2>(length % 97 + 1, kLanes[length % 7], kThreads[length / 7 % 3]);  // pairs of the two, at lengths around their tiles
  }
}

TEST(TheWarpScan, EqualsThePlainLoopAtEveryLength) {  // a warp alone: no row of shared memory is another's
  for (int length = 1; length <= 1100; length += length < 140 ? 1 : 61) {
    for (const int lanes : {1, 2, 4, 8, 16, 32}) check<1>(length, lanes, 32);
  }
}

TEST(TheBlockScan, GivesTheFirstTimeThreadTheIdentity) {
  // An overflowed map must not meet an identity in a product: inf x 0.
  using Map = Affine<float, 1>;
  struct Kernel {
    static void run(Map* out) {
      BlockScan<Map> scan(shared_memory<Map>(), 1);
      scan.publish({{{1e30f}}, {0.0f}});
      barrier();
      out[thread_index()] = scan.before();
    }
  };
  std::vector<Map> out(64);
  launch(&Kernel::run, 1, 64, 2 * sizeof(Map), nullptr, out.data());
  EXPECT_EQ(out[0].jacobian[0][0], 1.0f);
  EXPECT_EQ(out[0].offset[0], 0.0f);
  EXPECT_EQ(out[1].jacobian[0][0], 1e30f);
  EXPECT_EQ(out[2].offset[0], 0.0f);
}

/// Offsets of the inclusive scan of one sequence of maps, one step a thread.
template <int N>
std::vector<Affine<float, N>> scanned(const std::vector<Affine<float, N>>& maps, int threads) {
  using Map = Affine<float, N>;
  std::vector<Map> out(maps.size());
  launch(&scan_kernel<Map>, 1, threads, BlockScan<Map>::shared_maps(threads, 1) * int(sizeof(Map)), nullptr, maps.data(), out.data(), int(maps.size()), 1);
  return out;
}

TEST(TheBlockScan, OfAlternatingSignsIsExact) {
  // J = -1, r = 1 from 0: 1, 0, 1, 0, ... A9 of the adversarial cases; a neutral element of the wrong sign shows.
  const std::vector<Affine<float, 1>> maps(301, {{{-1.0f}}, {1.0f}});
  const auto out = scanned(maps, 64);
  for (std::size_t l = 0; l < out.size(); ++l) EXPECT_EQ(out[l].offset[0], l % 2 == 0 ? 1.0f : 0.0f) << l;
}

TEST(TheBlockScan, OfPermutationsIsExact) {
  // A10: each step swaps the two components or not, and adds to the first: integers that must end where plain swaps put them.
  std::mt19937 random(3);
  std::vector<Affine<float, 2>> maps;
  for (int l = 0; l < 301; ++l) {
    const bool swap = random() % 2 == 0;
    maps.push_back({{{swap ? 0.0f : 1.0f, swap ? 1.0f : 0.0f}, {swap ? 1.0f : 0.0f, swap ? 0.0f : 1.0f}}, {float(random() % 8), 0.0f}});
  }
  const auto out = scanned(maps, 96);
  float h[2] = {0, 0};
  for (std::size_t l = 0; l < out.size(); ++l) {
    if (maps[l].jacobian[0][0] == 0.0f) std::swap(h[0], h[1]);
    h[0] += maps[l].offset[0];
    EXPECT_EQ(out[l].offset[0], h[0]) << l;
    EXPECT_EQ(out[l].offset[1], h[1]) << l;
  }
}

TEST(TheBlockScan, OfProductsThatOverflowIsRightOrNotFinite) {
  // A6: J = 4 for 120 steps, then J = 0, again and again; the states stay below 2^115, products do not stay below 2^128. No finite number may be wrong.
  std::vector<Affine<float, 1>> maps;
  for (int l = 0; l < 484; ++l) maps.push_back({{{l % 121 == 120 ? 0.0f : 4.0f}}, {l == 0 ? 0x1p-126f : 0.0f}});
  int overflowed = 0;
  for (const int threads : {32, 128, 512}) {
    const auto out = scanned(maps, threads);
    float h = 0;
    for (std::size_t l = 0; l < out.size(); ++l) {
      h = maps[l].jacobian[0][0] * h + maps[l].offset[0];
      const bool finite = is_finite(out[l].offset[0]);
      overflowed += !finite;
      EXPECT_EQ(finite ? out[l].offset[0] : h, h) << threads << " " << l;
      EXPECT_TRUE(finite || l >= 64) << "nothing can have overflowed yet";
    }
  }
  EXPECT_GT(overflowed, 0) << "or this tests nothing";
}

TEST(TheSegmentedOperator, ScansSequencesEndToEndInAnyGroupingAtEveryLength) {
  using Map = Affine<std::uint32_t, 1>;
  std::mt19937 random(11);
  const ComposeSegments then;
  for (int length = 1; length <= 1100; ++length) {
    const int sequence = 1 + int(random() % std::uint32_t(length));
    std::vector<Segmented<Map>> scanned;
    std::vector<Map> plain;
    for (int l = 0; l < length; ++l) {
      const Map own{{{std::uint32_t(random())}}, {std::uint32_t(random())}};
      scanned.push_back({own, l % sequence == 0});
      plain.push_back(l % sequence == 0 ? own : compose(plain.back(), own));
    }
    // Hillis and Steele's grouping; a plain loop would be one of the two sides twice.
    for (int distance = 1; distance < length; distance *= 2) {
      for (int l = length - 1; l >= distance; --l) scanned[std::size_t(l)] = then(scanned[std::size_t(l - distance)], scanned[std::size_t(l)]);
    }
    for (int l = 0; l < length; ++l) ASSERT_EQ(std::memcmp(&scanned[std::size_t(l)].map, &plain[std::size_t(l)], sizeof(Map)), 0) << length << " " << l;
  }
}

TEST(TheSegmentedOperator, IsAssociativeAndForgetsWhatCameBeforeAStart) {
  // A library scans in any grouping: each must give what the plain loop over each sequence gives.
  using Map = Affine<std::uint32_t, 2>;
  std::mt19937 random(5);
  const auto element = [&] {
    Segmented<Map> e;
    for (auto& row : e.map.jacobian) {
      for (auto& x : row) x = random();
    }
    for (auto& x : e.map.offset) x = random();
    e.starts = random() % 3 == 0;
    return e;
  };
  const ComposeSegments then;
  for (int trial = 0; trial < 200; ++trial) {
    const auto a = element(), b = element(), c = element();
    const auto left = then(then(a, b), c), right = then(a, then(b, c));
    EXPECT_EQ(std::memcmp(&left, &right, sizeof left), 0);
    const auto both = then(a, b);
    const Map expected = b.starts ? b.map : compose(a.map, b.map);
    EXPECT_EQ(std::memcmp(&both.map, &expected, sizeof expected), 0);
    EXPECT_EQ(both.starts != 0, a.starts || b.starts) << "whatever follows must know that a start is inside";
  }
}

}  // namespace
}  // namespace prnn::emulated
