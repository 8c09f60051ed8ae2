// The emulated GPU: barriers, shuffles, indices, shared memory, schedules, errors, recorded work.
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "kernels/primitives/device.cuh"

namespace prnn::PRNN_BACKEND {
namespace {

const std::vector<Schedule> kSchedules = {{}, {Order::descending}, {Order::random, 1}, {Order::random, 2}, {Order::random, 3}};

/// Every test leaves the schedule as it found it.
class TheEmulatedGpu : public ::testing::Test {
 protected:
  ~TheEmulatedGpu() override { set_schedule({}); }
};

/// What work throws as DeviceError, without the kernel's name and lines; empty: nothing.
template <class Work>
std::string thrown_by(const Work& work) {
  try {
    work();
  } catch (const DeviceError& error) {
    return std::regex_replace(std::regex_replace(error.what(), std::regex("^emulated: \\w+_kernel: "), "emulated: "), std::regex(" \\(kernels/[^)]*:\\d+\\)"), "");
  }
  return "";
}
/// Whether work, which returns whether its results are right, is found out: by an error, or, where accesses are not checked, by its results.
template <class Work>
bool is_found_out(const Work& work) {
  bool right = true;
  return !thrown_by([&] { right = work(); }).empty() || !right;
}
template <class... Arguments>
std::string error_of(const Arguments&... arguments) {
  return thrown_by([&] { launch(arguments...); });
}
template <class... Arguments>
std::string team_error_of(const Arguments&... arguments) {
  return thrown_by([&] { launch_team(arguments...); });
}

PRNN_KERNEL indices_kernel(std::int64_t* out) {
  std::int64_t* mine = out + 4 * (block_index() * thread_count() + thread_index());
  mine[0] += thread_index();
  mine[1] += thread_count();
  mine[2] += block_index();
  mine[3] += block_count();
}

TEST_F(TheEmulatedGpu, RunsEachThreadOfEachBlockOnceWithItsIndices) {
  for (const Schedule schedule : kSchedules) {
    set_schedule(schedule);
    std::vector<std::int64_t> out(4 * 5 * 33, 0);
    launch(&indices_kernel, 5, 33, 0, nullptr, out.data());
    for (std::int64_t block = 0; block < 5; ++block) {
      for (std::int64_t thread = 0; thread < 33; ++thread) {
        const std::int64_t* mine = &out[std::size_t(4 * (33 * block + thread))];
        EXPECT_EQ((std::array{mine[0], mine[1], mine[2], mine[3]}), (std::array<std::int64_t, 4>{thread, 33, block, 5}));
      }
    }
  }
}

struct Trail {
  int count = 0;
  int threads[256];
  std::int64_t blocks[256];
};
PRNN_KERNEL trail_kernel(Trail* trail) {
  trail->threads[trail->count] = thread_index();
  trail->blocks[trail->count++] = block_index();
}

TEST_F(TheEmulatedGpu, OrdersThreadsAndBlocksAsTheScheduleSays) {
  const auto run = [](Schedule schedule) {
    set_schedule(schedule);
    Trail trail;
    launch(&trail_kernel, 3, 64, 0, nullptr, &trail);
    EXPECT_EQ(trail.count, 192);
    return trail;
  };
  const Trail up = run({}), down = run({Order::descending}), one = run({Order::random, 1}), again = run({Order::random, 1}), two = run({Order::random, 2});
  for (int i = 0; i < 192; ++i) {
    EXPECT_EQ(up.threads[i], i % 64);
    EXPECT_EQ(up.blocks[i], i / 64);
    EXPECT_EQ(down.threads[i], 63 - i % 64);
    EXPECT_EQ(down.blocks[i], 2 - i / 64);
  }
  const auto threads = [](const Trail& trail) { return std::vector<int>(trail.threads, trail.threads + 192); };
  EXPECT_EQ(threads(one), threads(again));
  EXPECT_NE(threads(one), threads(two));
  EXPECT_NE(threads(one), threads(up));
  std::set<std::int64_t> first_blocks;
  for (std::uint64_t seed = 0; seed < 20; ++seed) first_blocks.insert(run({Order::random, seed}).blocks[0]);
  EXPECT_EQ(first_blocks.size(), 3u);
}

/// The word at p, whatever is there.
__attribute__((no_sanitize("thread"))) std::uint32_t unchecked_word(const void* p) { return *static_cast<const std::uint32_t*>(p); }

/// Neighbours hand values round through shared memory `rounds` times.
PRNN_KERNEL ring_kernel(int rounds, int* out) {
  int* const box = shared_memory<int>();
  int value = thread_index();
  for (int round = 0; round < rounds; ++round) {
    box[thread_index()] = value;
    barrier();
    value = box[(thread_index() + 1) % thread_count()];
    barrier();
  }
  out[block_index() * thread_count() + thread_index()] = value;
}

TEST_F(TheEmulatedGpu, HoldsEveryThreadAtABarrierUntilTheLastHasCome) {
  for (const Schedule schedule : kSchedules) {
    set_schedule(schedule);
    std::vector<int> out(3 * 100, -1);
    launch(&ring_kernel, 3, 100, 400, nullptr, 7, out.data());
    for (int i = 0; i < 300; ++i) EXPECT_EQ(out[std::size_t(i)], (i % 100 + 7) % 100);
  }
}

/// out [thread, 3]: one says so, none, all.
PRNN_KERNEL vote_kernel(int speaker, int* out) {
  out[3 * thread_index()] = barrier_or(thread_index() == speaker);
  out[3 * thread_index() + 1] = barrier_or(false);
  out[3 * thread_index() + 2] = barrier_or(true);
}

TEST_F(TheEmulatedGpu, TellsEveryThreadWhetherAnySaidSo) {
  for (const Schedule schedule : kSchedules) {
    set_schedule(schedule);
    for (const int speaker : {0, 31, 32, 69}) {
      std::vector<int> out(3 * 70, -1);
      launch(&vote_kernel, 1, 70, 0, nullptr, speaker, out.data());
      for (std::size_t thread = 0; thread < 70; ++thread) EXPECT_EQ((std::array{out[3 * thread], out[3 * thread + 1], out[3 * thread + 2]}), (std::array{1, 0, 1}));
    }
  }
}

struct Pair {
  double big;
  int small, rest;
};
PRNN_KERNEL shuffle_kernel(int by, int* up, double* exchanged) {
  const Pair mine{1000.0 + thread_index(), -thread_index(), 0};
  const Pair other = shuffle_xor(mine, by);
  exchanged[thread_index()] = other.big + other.small;
  up[thread_index()] = shuffle_up(thread_index(), by);
}

TEST_F(TheEmulatedGpu, ShufflesWithinAWarp) {
  for (const Schedule schedule : kSchedules) {
    set_schedule(schedule);
    for (const int by : {1, 2, 16, 31}) {
      std::vector<int> up(96, -1);
      std::vector<double> exchanged(96);
      launch(&shuffle_kernel, 1, 96, 0, nullptr, by, up.data(), exchanged.data());
      for (int thread = 0; thread < 96; ++thread) {
        EXPECT_EQ(up[std::size_t(thread)], thread % 32 >= by ? thread - by : thread);
        EXPECT_EQ(exchanged[std::size_t(thread)], 1000.0);
      }
      std::vector<Pair> both(96);
      launch(
          +[](int mask, Pair* out) {
            out[thread_index()] = shuffle_xor(Pair{double(thread_index()), 2 * thread_index(), 0}, mask);
          },
          1, 96, 0, nullptr, by, both.data());
      for (int thread = 0; thread < 96; ++thread) {
        const int partner = thread / 32 * 32 + ((thread % 32) ^ by);
        EXPECT_EQ(both[std::size_t(thread)].big, partner);
        EXPECT_EQ(both[std::size_t(thread)].small, 2 * partner);
      }
    }
  }
}

/// Warp w shuffles w times before the block meets.
PRNN_KERNEL uneven_kernel(int* out) {
  int value = thread_index();
  for (int i = 0; i < thread_index() / kWarp; ++i) value = shuffle_xor(value, 1);
  barrier();
  out[thread_index()] = value;
}

TEST_F(TheEmulatedGpu, LetsWarpsShuffleIndependentlyOfEachOther) {
  for (const Schedule schedule : kSchedules) {
    set_schedule(schedule);
    std::vector<int> out(128, -1);
    launch(&uneven_kernel, 1, 128, 0, nullptr, out.data());
    for (int thread = 0; thread < 128; ++thread) EXPECT_EQ(out[std::size_t(thread)], thread / 32 % 2 ? thread ^ 1 : thread);
  }
}

/// Counts the words of shared memory that are not NaN, then dirties them all.
PRNN_KERNEL poison_kernel(int words, int* clean, int* misaligned) {
  float* const box = shared_memory<float>();
  if (reinterpret_cast<std::uintptr_t>(box) % 16) atomic_or(misaligned, 1);
  for (int i = 0; i < words; ++i) {
    if (unchecked_word(box + i) != 0xffffffffu) ++*clean;
    box[i] = 1.0f;
  }
}

TEST_F(TheEmulatedGpu, FillsSharedMemoryWithNanBeforeEveryBlock) {
  int clean = 0, misaligned = 0;
  launch(&poison_kernel, 4, 1, 4 * 1000, nullptr, 1000, &clean, &misaligned);
  EXPECT_EQ(clean, 0);
  EXPECT_EQ(misaligned, 0);
}

PRNN_KERNEL exit_kernel(int leaver) {
  if (thread_index() == leaver) return;
  barrier();
}
PRNN_KERNEL mixed_kernel(int odd) {
  if (thread_index() == odd) {
    barrier_or(true);
  } else {
    barrier();
  }
}
PRNN_KERNEL half_warp_kernel() {
  if (thread_index() < 16) {
    shuffle_xor(1, 1);
  } else {
    barrier();
  }
}
PRNN_KERNEL leaving_lane_kernel() {
  if (thread_index() != 5) shuffle_up(1, 1);
}
PRNN_KERNEL sizes_kernel() {
  if (thread_index() == 3) {
    shuffle_xor(1.0, 1);
  } else {
    shuffle_xor(1, 1);
  }
}
PRNN_KERNEL full_shuffle_kernel() { shuffle_xor(1, 1); }

TEST_F(TheEmulatedGpu, ReportsWaitsThatCouldNeverEnd) {
  for (const Schedule schedule : kSchedules) {
    set_schedule(schedule);
    EXPECT_EQ(error_of(&exit_kernel, 1, 64, 0, nullptr, 40), "emulated: block 0: early exit: thread 0 waits at barrier(), thread 40 has ended");
    EXPECT_EQ(error_of(&exit_kernel, 1, 64, 0, nullptr, 0), "emulated: block 0: early exit: thread 0 has ended, thread 1 waits at barrier()");
    EXPECT_EQ(error_of(&mixed_kernel, 1, 64, 0, nullptr, 63), "emulated: block 0: divergent barrier: thread 0 waits at barrier(), thread 63 waits at barrier_or()");
    EXPECT_EQ(error_of(&half_warp_kernel, 1, 32, 0, nullptr), "emulated: block 0: divergent barrier: thread 0 waits at a shuffle, thread 16 waits at barrier()");
    EXPECT_EQ(error_of(&leaving_lane_kernel, 1, 32, 0, nullptr), "emulated: block 0: early exit: thread 0 waits at a shuffle, thread 5 has ended");
    EXPECT_EQ(error_of(&sizes_kernel, 1, 32, 0, nullptr), "emulated: block 0: divergent shuffle: thread 0 and thread 3 of one warp exchange values of different sizes");
    EXPECT_EQ(error_of(&full_shuffle_kernel, 1, 48, 0, nullptr), "emulated: block 0: a shuffle in a warp of 16 lanes: all 32 must exist");
    EXPECT_EQ(error_of(&full_shuffle_kernel, 1, 64, 0, nullptr), "");
    EXPECT_EQ(error_of(&exit_kernel, 1, 64, 0, nullptr, 64), "");
  }
}

struct Counted {
  int* alive;
  explicit Counted(int* count) : alive(count) { ++*alive; }
  ~Counted() { --*alive; }
};
PRNN_KERNEL throwing_kernel(int thrower, int* alive, int* started) {
  const Counted counted(alive);
  ++*started;
  barrier();
  if (thread_index() == thrower) throw std::out_of_range("thrown in a kernel");
  barrier();
}

TEST_F(TheEmulatedGpu, PassesOnWhatAKernelThrowsAndUnwindsEveryThread) {
  for (const Schedule schedule : kSchedules) {
    set_schedule(schedule);
    int alive = 0, started = 0;
    EXPECT_THROW(launch(&throwing_kernel, 3, 64, 0, nullptr, 33, &alive, &started), std::out_of_range);
    EXPECT_EQ(alive, 0);
    EXPECT_EQ(started, 64);  // no block after the one that failed
    std::vector<int> out(32, -1);
    launch(&ring_kernel, 1, 32, 128, nullptr, 1, out.data());  // the next launch is none the worse
    EXPECT_EQ(out[31], 0);
  }
}

PRNN_KERNEL nesting_kernel() { launch(&full_shuffle_kernel, 1, 32, 0, nullptr); }

TEST_F(TheEmulatedGpu, RefusesALaunchThatAGpuWouldRefuse) {
  int x = 0;
  EXPECT_EQ(error_of(&exit_kernel, 0, 32, 0, nullptr, 64), "emulated: a launch with 0 blocks, not 1 to 2147483647");
  EXPECT_EQ(error_of(&exit_kernel, std::int64_t(1) << 31, 32, 0, nullptr, 64), "emulated: a launch with 2147483648 blocks, not 1 to 2147483647");
  EXPECT_EQ(error_of(&exit_kernel, 1, 0, 0, nullptr, 64), "emulated: a launch with 0 threads a block, not 1 to 1024");
  EXPECT_EQ(error_of(&exit_kernel, 1, 1025, 0, nullptr, 1025), "emulated: a launch with 1025 threads a block, not 1 to 1024");
  EXPECT_EQ(error_of(&exit_kernel, 1, 1024, 232448, nullptr, 1024), "");
  EXPECT_EQ(error_of(&exit_kernel, 1, 32, 232449, nullptr, 64), "emulated: a launch with 232449 bytes of shared memory, not 0 to 232448");
  EXPECT_EQ(error_of(&nesting_kernel, 1, 1, 0, nullptr), "emulated: a kernel cannot launch a kernel");
  EXPECT_EQ(x, 0);
}

// --- teams ------------------------------------------------------------------------------------------------------------

/// The block of the same team that comes after this one; after the last, the first.
int next_block(int team_blocks) {
  const int block = int(block_index());
  return block / team_blocks * team_blocks + (block + 1) % team_blocks;
}

/// Threads hand values to their neighbours in the next block through global memory `rounds` times. box, out [block, thread].
template <class T>
PRNN_KERNEL team_ring_kernel(Team team, int team_blocks, TeamBarrier* barriers, int rounds, bool before_reading, bool before_writing, T* box, T* out) {
  TeamBarrier* const mine = team == Team::grid ? barriers + block_index() / team_blocks : nullptr;
  const std::int64_t me = block_index() * thread_count() + thread_index();
  T value = T(me);
  for (int round = 0; round < rounds; ++round) {
    store_for_team(box + me, value);
    if (before_reading) team_barrier(team, team_blocks, mine);
    barrier();  // blocks may take turns here, too
    value = load_shared_by_team(box + next_block(team_blocks) * thread_count() + (thread_index() + 1) % thread_count());
    if (before_writing) team_barrier(team, team_blocks, mine);
  }
  out[me] = value;
}

/// Whether every value has come to where `rounds` hops lead. barriers: one a team.
template <class T>
bool rings(Team team, int team_blocks, int teams, TeamBarrier* barriers, bool before_reading = true, bool before_writing = true) {
  const int threads = 40, blocks = teams * team_blocks, rounds = 3;
  std::vector<T> box(std::size_t(blocks * threads), T(-1)), out(box.size(), T(-1));
  launch_team(team, team_blocks, &team_ring_kernel<T>, blocks, threads, 0, nullptr, team, team_blocks, barriers, rounds, before_reading, before_writing, box.data(), out.data());
  bool right = true;
  for (int block = 0; block < blocks; ++block) {
    const int from = block / team_blocks * team_blocks + (block + rounds) % team_blocks;
    for (int thread = 0; thread < threads; ++thread) right &= out[std::size_t(block * threads + thread)] == T(from * threads + (thread + rounds) % threads);
  }
  return right;
}

TEST_F(TheEmulatedGpu, ExchangesValuesBetweenTheBlocksOfATeam) {
  for (const Schedule schedule : kSchedules) {
    set_schedule(schedule);
    for (const int size : {1, 2, 6, 16}) {
      EXPECT_TRUE(rings<float>(Team::cluster, size, 3, nullptr));
      EXPECT_TRUE(rings<double>(Team::cluster, size, 3, nullptr));
      std::array<TeamBarrier, 3> barriers{};
      for (const int launches : {1, 2}) {  // the second goes on from the counts that the first has left
        EXPECT_TRUE(launches == 1 ? rings<int>(Team::grid, size, 3, barriers.data()) : rings<std::int64_t>(Team::grid, size, 3, barriers.data()));
        for (const TeamBarrier& barrier : barriers) EXPECT_EQ(barrier.arrived, unsigned(launches * 2 * 3 * size));
      }
    }
    EXPECT_TRUE(rings<float>(Team::block, 1, 3, nullptr));
  }
}

TEST_F(TheEmulatedGpu, ShowsAMissingTeamBarrier) {
  for (const bool first : {true, false}) {
    int wrong = 0;
    for (const Schedule schedule : kSchedules) {
      set_schedule(schedule);
      wrong += !rings<int>(Team::cluster, 4, 2, nullptr, !first, first);
    }
    EXPECT_GT(wrong, 0) << first;
  }
}

/// Every block barrier and the end of a block leave a mark.
PRNN_KERNEL team_trail_kernel(int team_blocks, Trail* trail) {
  for (int i = 0; i < 4; ++i) {
    trail->blocks[trail->count++] = block_index();
    if (i == 1) team_barrier(Team::cluster, team_blocks, nullptr);
    barrier();
  }
}

TEST_F(TheEmulatedGpu, OrdersTeamsAndTheirBlocksAsTheScheduleSays) {
  const auto run = [](Schedule schedule) {
    set_schedule(schedule);
    Trail trail;
    launch_team(Team::cluster, 3, &team_trail_kernel, 6, 1, 0, nullptr, 3, &trail);
    EXPECT_EQ(trail.count, 24);
    return std::vector<std::int64_t>(trail.blocks, trail.blocks + 24);
  };
  const std::vector<std::int64_t> up{0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 3, 3, 4, 4, 5, 5};
  EXPECT_EQ(run({}), up);
  EXPECT_EQ(run({Order::descending}), (std::vector<std::int64_t>{5, 5, 4, 4, 3, 3, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0, 2, 2, 1, 1, 0, 0}));
  std::set<std::vector<std::int64_t>> trails;
  std::set<bool> taking_turns;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const std::vector<std::int64_t> trail = run({Order::random, seed});
    EXPECT_EQ(trail, run({Order::random, seed}));
    trails.insert(trail);
    taking_turns.insert(trail[0] != trail[1]);  // another block ran while the first stood at its own barrier
    EXPECT_EQ(std::set(trail.begin(), trail.begin() + 12).size(), 3u);
    std::vector<std::int64_t> early(trail.begin(), trail.begin() + 6);
    std::sort(early.begin(), early.end());
    const std::int64_t first = early[0];
    EXPECT_EQ(early, (std::vector<std::int64_t>{first, first, first + 1, first + 1, first + 2, first + 2}));  // none passes the team barrier alone
  }
  EXPECT_GT(trails.size(), 10u);
  EXPECT_EQ(taking_turns.size(), 2u);
}

/// Blocks of team t wait t times.
PRNN_KERNEL uneven_teams_kernel(int team_blocks, TeamBarrier* barriers, int* ended) {
  const int team = int(block_index()) / team_blocks;
  for (int i = 0; i < team; ++i) team_barrier(Team::grid, team_blocks, barriers + team);
  if (thread_index() == 0) ++ended[team];
}

TEST_F(TheEmulatedGpu, LetsTeamsOfALaunchWaitIndependentlyOfEachOther) {
  for (const Schedule schedule : kSchedules) {
    set_schedule(schedule);
    std::array<TeamBarrier, 4> barriers{};
    std::array<int, 4> ended{};
    EXPECT_EQ(team_error_of(Team::grid, 4, &uneven_teams_kernel, 16, 33, 0, nullptr, 4, barriers.data(), ended.data()), "");
    for (std::size_t team = 0; team < 4; ++team) {
      EXPECT_EQ(ended[team], 4);
      EXPECT_EQ(barriers[team].arrived, 4 * team);
    }
  }
}

/// Counts the words of shared memory that are not NaN at the start, and those that another block has changed.
PRNN_KERNEL own_memory_kernel(int team_blocks, int words, int* dirty, int* changed) {
  int* const box = shared_memory<int>();
  for (int i = thread_index(); i < words; i += thread_count()) {
    *dirty += unchecked_word(box + i) != 0xffffffffu;
    box[i] = int(block_index());
  }
  team_barrier(Team::cluster, team_blocks, nullptr);
  for (int i = thread_index(); i < words; i += thread_count()) *changed += box[i] != block_index();
}

TEST_F(TheEmulatedGpu, GivesEveryBlockOfATeamItsOwnSharedMemoryFilledWithNan) {
  for (const Schedule schedule : kSchedules) {
    set_schedule(schedule);
    int dirty = 0, changed = 0;
    launch_team(Team::cluster, 4, &own_memory_kernel, 12, 32, 4 * 1000, nullptr, 4, 1000, &dirty, &changed);
    EXPECT_EQ(dirty, 0);
    EXPECT_EQ(changed, 0);
  }
}

/// Each block reads what the thread of the same number in the next block of its cluster has put into shared memory. out [block, thread].
template <class T>
PRNN_KERNEL cluster_ring_kernel(int team_blocks, bool farewell, T* out) {
  T* const box = shared_memory<T>();
  box[thread_index()] = T(block_index() * thread_count() + thread_index());
  team_barrier(Team::cluster, team_blocks, nullptr);
  barrier();  // blocks may take turns here, too
  const T value = load_from_cluster(box + thread_index(), next_block(team_blocks) % team_blocks);
  out[block_index() * thread_count() + thread_index()] = value;
  if (farewell) cluster_farewell();
}

template <class T>
bool reads_its_cluster(int team_blocks, bool farewell) {
  const int threads = 40, blocks = 3 * team_blocks;
  std::vector<T> out(std::size_t(blocks * threads), T(-1));
  launch_team(Team::cluster, team_blocks, &cluster_ring_kernel<T>, blocks, threads, threads * std::int64_t(sizeof(T)), nullptr, team_blocks, farewell, out.data());
  bool right = true;
  for (int block = 0; block < blocks; ++block) {
    const int next = block / team_blocks * team_blocks + (block + 1) % team_blocks;
    for (int thread = 0; thread < threads; ++thread) right &= out[std::size_t(block * threads + thread)] == T(next * threads + thread);
  }
  return right;
}

TEST_F(TheEmulatedGpu, ShowsABlockTheSharedMemoryOfItsClusterUntilItsBlocksEnd) {
  for (const Schedule schedule : kSchedules) {
    set_schedule(schedule);
    for (const int size : {1, 2, 16}) {
      EXPECT_TRUE(reads_its_cluster<float>(size, true)) << size;
      EXPECT_TRUE(reads_its_cluster<std::int64_t>(size, true)) << size;
    }
    EXPECT_TRUE(is_found_out([] { return reads_its_cluster<float>(2, false); }));
    EXPECT_TRUE(is_found_out([] { return reads_its_cluster<int>(16, false); }));
  }
}

PRNN_KERNEL peep_kernel(int byte, int rank) {
  for (int i = 0; i < 16; ++i) shared_memory<int>()[i] = i;
  team_barrier(block_count() == 2 ? Team::block : Team::cluster, block_count() == 2 ? 1 : 4, nullptr);
  load_from_cluster(reinterpret_cast<int*>(shared_memory<unsigned char>() + byte), rank);
}

TEST_F(TheEmulatedGpu, ReportsReadsThatAClusterDoesNotHave) {
  const auto error = [](Team team, int team_blocks, int blocks, int byte, int rank) { return team_error_of(team, team_blocks, &peep_kernel, blocks, 1, 64, nullptr, byte, rank); };
  EXPECT_EQ(error(Team::cluster, 4, 4, 60, 3), "");
  EXPECT_EQ(error(Team::block, 1, 2, 0, 0), "emulated: block 0: thread 0 reads the shared memory of block 0 in a launch without clusters");
  EXPECT_EQ(error(Team::cluster, 4, 4, 0, 4), "emulated: block 0: thread 0 reads the shared memory of block 4 of a cluster of 4");
  EXPECT_EQ(error(Team::cluster, 4, 4, 0, -1), "emulated: block 0: thread 0 reads the shared memory of block -1 of a cluster of 4");
  EXPECT_EQ(error(Team::cluster, 4, 4, 64, 1), "emulated: block 0: thread 0 reads the shared memory of block 1 at byte 64 of 64");
  EXPECT_EQ(error(Team::cluster, 4, 4, -4, 1), "emulated: block 0: thread 0 reads the shared memory of block 1 at byte -4 of 64");
}

/// Block `block` or its one thread (-1: all) ends, waits for its block alone or waits at another TeamBarrier while the others wait for the team.
enum class Astray { ends, alone, elsewhere };
PRNN_KERNEL astray_kernel(Team team, int team_blocks, TeamBarrier* barriers, Astray how, int block, int thread) {
  const bool me = block_index() == block && (thread < 0 || thread_index() == thread);
  TeamBarrier* const ours = barriers + block_index() / team_blocks;
  if (me && how == Astray::ends) return;
  if (me && how == Astray::alone) return barrier();
  team_barrier(team, team_blocks, me && how == Astray::elsewhere ? barriers + 9 : ours);
}
PRNN_KERNEL mismatched_kernel(Team team, int team_blocks, TeamBarrier* barrier) { team_barrier(team, team_blocks, barrier); }

TEST_F(TheEmulatedGpu, ReportsTeamBarriersAtWhichNotTheWholeTeamArrives) {
  for (const Schedule schedule : kSchedules) {
    set_schedule(schedule);
    for (const Team team : {Team::cluster, Team::grid}) {
      const auto error = [&](Astray how, int block, int thread) {
        std::array<TeamBarrier, 10> barriers{};
        return team_error_of(team, 3, &astray_kernel, 6, 64, 0, nullptr, team, 3, barriers.data(), how, block, thread);
      };
      EXPECT_EQ(error(Astray::ends, 1, -1), "emulated: team 0: early exit: thread 0 of block 0 waits at team_barrier(), thread 0 of block 1 has ended");
      EXPECT_EQ(error(Astray::ends, 3, -1), "emulated: team 1: early exit: thread 0 of block 3 has ended, thread 0 of block 4 waits at team_barrier()");
      EXPECT_EQ(error(Astray::alone, 5, -1), "emulated: team 1: early exit: thread 0 of block 3 waits at team_barrier(), thread 0 of block 5 has ended");
      EXPECT_EQ(error(Astray::ends, 2, 40), "emulated: block 2: early exit: thread 0 waits at team_barrier(), thread 40 has ended");
      EXPECT_EQ(error(Astray::alone, 2, 63), "emulated: block 2: divergent barrier: thread 0 waits at team_barrier(), thread 63 waits at barrier()");
      EXPECT_EQ(error(Astray::elsewhere, 4, 7),
                team == Team::cluster ? "" : "emulated: team 1: divergent barrier: thread 0 of block 3 and thread 7 of block 4 wait at different TeamBarriers");
      EXPECT_EQ(error(Astray::ends, 6, -1), "");
    }
  }
}

TEST_F(TheEmulatedGpu, ReportsATeamBarrierThatIsNotTheTeams) {
  TeamBarrier barrier{};
  const auto error = [&](Team launched, int launched_blocks, Team team, int team_blocks, TeamBarrier* at) {
    return team_error_of(launched, launched_blocks, &mismatched_kernel, 4, 1, 0, nullptr, team, team_blocks, at);
  };
  EXPECT_EQ(error(Team::grid, 2, Team::grid, 2, &barrier), "emulated: team 1: thread 0 of block 2 waits at the TeamBarrier of team 0");
  set_schedule({Order::descending});
  EXPECT_EQ(error(Team::grid, 2, Team::grid, 2, &barrier), "emulated: team 0: thread 0 of block 0 waits at the TeamBarrier of team 1");
  set_schedule({});
  EXPECT_EQ(error(Team::grid, 2, Team::grid, 2, nullptr), "emulated: block 0: thread 0 waits at no TeamBarrier");
  EXPECT_EQ(error(Team::cluster, 2, Team::cluster, 4, nullptr), "emulated: block 0: thread 0 waits for a Team::cluster of 4 in a launch with Team::cluster of 2");
  EXPECT_EQ(error(Team::cluster, 2, Team::grid, 2, &barrier), "emulated: block 0: thread 0 waits for a Team::grid of 2 in a launch with Team::cluster of 2");
  EXPECT_EQ(error(Team::block, 1, Team::cluster, 1, nullptr), "emulated: block 0: thread 0 waits for a Team::cluster of 1 in a launch with Team::block of 1");
  EXPECT_EQ(error(Team::block, 1, Team::block, 2, nullptr), "emulated: block 0: thread 0 waits for a Team::block of 2 in a launch with Team::block of 1");
  EXPECT_EQ(error(Team::cluster, 2, Team::block, 1, nullptr), "");
  EXPECT_EQ(error_of(&mismatched_kernel, 4, 1, 0, nullptr, Team::block, 1, nullptr), "");
  barrier.arrived = 7;
  EXPECT_EQ(error(Team::grid, 4, Team::grid, 4, &barrier), "emulated: block 0: thread 0 waits at a TeamBarrier with 7 arrivals, which teams of 4 cannot have left");
  EXPECT_EQ(barrier.arrived, 7u);
  barrier.arrived = ~0ull;  // never zeroed
  EXPECT_EQ(error(Team::grid, 1, Team::grid, 1, &barrier),
            "emulated: block 0: thread 0 waits at a TeamBarrier with 18446744073709551615 arrivals, which teams of 1 cannot have left");
}

TEST_F(TheEmulatedGpu, RefusesATeamThatAGpuWouldRefuse) {
  const auto error = [](Team team, int team_blocks, std::int64_t blocks, int threads) { return team_error_of(team, team_blocks, &exit_kernel, blocks, threads, 0, nullptr, 1024); };
  EXPECT_EQ(error(Team::block, 2, 4, 32), "emulated: a launch with 2 blocks a team, not 1 to 1");
  EXPECT_EQ(error(Team::cluster, 0, 4, 32), "emulated: a launch with 0 blocks a team, not 1 to 16");
  EXPECT_EQ(error(Team::cluster, 17, 34, 32), "emulated: a launch with 17 blocks a team, not 1 to 16");
  EXPECT_EQ(error(Team::cluster, 4, 6, 32), "emulated: a launch with 6 blocks in teams of 4");
  EXPECT_EQ(error(Team::cluster, 16, 160, 32), "");
  EXPECT_EQ(error(Team::grid, 4, 0, 32), "emulated: a launch with 0 blocks, not 1 to 2147483647");
  EXPECT_EQ(error(Team::grid, 4, 4, 1025), "emulated: a launch with 1025 threads a block, not 1 to 1024");
  EXPECT_EQ(error(Team::grid, 32, 96, 32), "emulated: a launch with 96 blocks that run together, not 1 to 64");
  EXPECT_EQ(error(Team::grid, 32, 64, 32), "");
  EXPECT_EQ(error(Team::grid, 1, 17, 1024), "emulated: a launch with 17 blocks that run together, not 1 to 16");
  for (const int threads : {1, 256, 1024}) EXPECT_EQ(error(Team::grid, 1, resident_blocks(&exit_kernel, threads, 0), threads), "");
  EXPECT_EQ(resident_blocks(&exit_kernel, 256, 1000), 64);
}

TEST_F(TheEmulatedGpu, HoldsTheLargestTeams) {
  for (const Team team : {Team::cluster, Team::grid}) {
    TeamBarrier barrier{};
    EXPECT_EQ(team_error_of(team, 16, &mismatched_kernel, 16, 1024, 232448, nullptr, team, 16, &barrier), "");
    EXPECT_EQ(barrier.arrived, team == Team::grid ? 16u : 0u);
  }
}

PRNN_KERNEL throwing_team_kernel(int* alive) {
  const Counted counted(alive);
  team_barrier(Team::cluster, 3, nullptr);
  if (block_index() == 1 && thread_index() == 9) throw std::out_of_range("thrown in a kernel");
  team_barrier(Team::cluster, 3, nullptr);
}

TEST_F(TheEmulatedGpu, UnwindsEveryThreadOfATeamInWhichOneThrows) {
  for (const Schedule schedule : kSchedules) {
    set_schedule(schedule);
    int alive = 0;
    EXPECT_THROW(launch_team(Team::cluster, 3, &throwing_team_kernel, 3, 64, 0, nullptr, &alive), std::out_of_range);
    EXPECT_EQ(alive, 0);
    EXPECT_TRUE(rings<int>(Team::cluster, 4, 1, nullptr));  // the next launch is none the worse
  }
}

// --- tiles ------------------------------------------------------------------------------------------------------------

constexpr int kTileRows = 3, kTileColumns = 8, kStageBytes = 256;
constexpr std::int64_t kMatrices = 3, kRows = 10, kColumns = 16;
/// f(row, column) for the elements of a tile, row by row.
template <class F>
void for_tile(std::int64_t row, std::int64_t column, F&& f) {
  for (std::int64_t r = row; r < row + kTileRows; ++r)
    for (std::int64_t c = column; c < column + kTileColumns; ++c) f(r, c);
}
/// Where element (row, column) of a matrix is in [kMatrices, kRows, kColumns]; nothing: nowhere.
std::optional<std::size_t> element(std::int64_t index, std::int64_t row, std::int64_t column) {
  if (index < 0 || index >= kMatrices || row < 0 || row >= kRows || column < 0 || column >= kColumns) return std::nullopt;
  return std::size_t((index * kRows + row) * kColumns + column);
}
/// f.template operator()<T>() for a storage type of each size.
template <class F>
void for_element_sizes(F&& f) {
  f.template operator()<std::uint16_t>();
  f.template operator()<float>();
  f.template operator()<double>();
}
constexpr std::int64_t kTilesFirstRow = -2, kTilesColumns[] = {-8, -3, 0, 8, 13, 16};
constexpr int kTiles = 5;  // down the rows: -2 .. 12

/// Thread 0 brings kTiles tiles down the rows, two stages; every thread makes one number of what it sees. wait_for_readers: arrivals of all warps before a
/// stage is used anew.
template <class T>
PRNN_KERNEL tiles_kernel(PRNN_GRID_CONSTANT const TileMap from, std::int64_t index, std::int64_t column, bool wait_for_readers, std::uint64_t* seen) {
  unsigned char* const stages = shared_memory<unsigned char>();
  PhaseBarrier* const landed = reinterpret_cast<PhaseBarrier*>(stages + 2 * kStageBytes);
  PhaseBarrier* const read = landed + 2;
  if (thread_index() == 0) {
    for (int i = 0; i < 2; ++i) {
      start_phases(landed + i, 1);
      start_phases(read + i, thread_count() / kWarp);
    }
  }
  barrier();
  std::uint64_t number = 0;
  for (int i = 0; i < kTiles; ++i) {
    unsigned char* const stage = stages + i % 2 * kStageBytes;
    if (thread_index() == 0) {
      if (i >= 2 && wait_for_readers) wait_phase(read + i % 2, (i / 2 - 1) & 1);
      arrive_with_tile(landed + i % 2, stage, from, index, kTilesFirstRow + i * kTileRows, column);
    }
    wait_phase(landed + i % 2, i / 2 & 1);
    for (int j = 0; j < kTileRows * kTileColumns; ++j) number = 1001 * number + std::uint64_t(reinterpret_cast<const T*>(stage)[j]);
    warp_barrier();
    if (thread_index() % kWarp == 0) arrive(read + i % 2);
  }
  seen[thread_index()] = number;
}

TEST_F(TheEmulatedGpu, BringsTilesWithZerosBeyondTheMatrix) {
  constexpr std::int64_t bytes = 2 * kStageBytes + 4 * sizeof(PhaseBarrier);
  for_element_sizes([&]<class T>() {
    std::vector<T> matrices(kMatrices * kRows * kColumns);
    for (std::size_t i = 0; i < matrices.size(); ++i) matrices[i] = T(i + 1);
    const TileMap map = tile_map(matrices.data(), kMatrices, kRows, kColumns, kTileRows, kTileColumns);
    for (const std::int64_t index : {-1, 0, 1, 2, 3}) {
      for (const std::int64_t column : kTilesColumns) {
        std::uint64_t expected = 0;
        for (int i = 0; i < kTiles; ++i) {
          for_tile(kTilesFirstRow + i * kTileRows, column, [&](std::int64_t r, std::int64_t c) {
            const auto at = element(index, r, c);
            expected = 1001 * expected + (at ? std::uint64_t(matrices[*at]) : 0);
          });
        }
        for (const Schedule schedule : kSchedules) {
          set_schedule(schedule);
          std::vector<std::uint64_t> seen(96);
          launch(&tiles_kernel<T>, 1, 96, bytes, nullptr, map, index, column, true, seen.data());
          for (const std::uint64_t number : seen) EXPECT_EQ(number, expected) << sizeof(T) << " bytes, matrix " << index << ", column " << column;
        }
      }
    }
    bool caught = false;  // a stage that is filled again while another warp has yet to read it
    for (const Schedule schedule : kSchedules) {
      set_schedule(schedule);
      std::vector<std::uint64_t> seen(96);
      const std::string error = error_of(&tiles_kernel<T>, 1, 96, bytes, nullptr, map, std::int64_t(0), std::int64_t(0), false, seen.data());
      caught = caught || !error.empty() || seen[0] != seen[95];
    }
    EXPECT_TRUE(caught);
  });
}

/// The block writes kTiles tiles in turn, two stages, and thread 0 stores them down the rows. kUnderWay: tiles that need not have been read when a stage is
/// written to; 1 is right.
template <class T, int kUnderWay>
PRNN_KERNEL storing_kernel(PRNN_GRID_CONSTANT const TileMap to, std::int64_t index, std::int64_t column) {
  for (int i = 0; i < kTiles; ++i) {
    T* const stage = reinterpret_cast<T*>(shared_memory<unsigned char>() + i % 2 * kStageBytes);
    if (thread_index() == 0) wait_for_stored_tiles<kUnderWay>();
    barrier();
    for (int j = thread_index(); j < kTileRows * kTileColumns; j += thread_count()) stage[j] = T(100 * i + j + 1);
    show_to_tiles();
    barrier();
    if (thread_index() == 0) store_tile(to, index, kTilesFirstRow + i * kTileRows, column, stage);
  }
}

TEST_F(TheEmulatedGpu, StoresOfATileWhatLiesInsideTheMatrix) {
  for_element_sizes([&]<class T>() {
    for (const std::int64_t index : {-1, 0, 1, 2, 3}) {
      for (const std::int64_t column : kTilesColumns) {
        const std::vector<T> before(kMatrices * kRows * kColumns, T(9999));
        std::vector<T> expected = before;
        for (int i = 0; i < kTiles; ++i) {
          int j = 0;
          for_tile(kTilesFirstRow + i * kTileRows, column, [&](std::int64_t r, std::int64_t c) {
            ++j;
            if (const auto at = element(index, r, c)) expected[*at] = T(100 * i + j);
          });
        }
        bool caught = false;
        for (const Schedule schedule : kSchedules) {
          set_schedule(schedule);
          std::vector<T> stored = before;
          const TileMap map = tile_map(stored.data(), kMatrices, kRows, kColumns, kTileRows, kTileColumns);
          launch(&storing_kernel<T, 1>, 1, 40, 2 * kStageBytes, nullptr, map, index, column);
          EXPECT_EQ(stored, expected) << sizeof(T) << " bytes, matrix " << index << ", column " << column;
          stored = before;
          caught |= is_found_out([&] {
            launch(&storing_kernel<T, 2>, 1, 40, 2 * kStageBytes, nullptr, map, index, column);
            return stored == expected;
          });
        }
        EXPECT_EQ(caught, expected != before);  // a stage that is written to while it has yet to be read
      }
    }
  });
}

/// Where it must not.
__attribute__((no_sanitize("thread"))) void unchecked_fill(float* p, float x) {
  for (int i = 0; i < kTileRows * kTileColumns; ++i) p[i] = x;
}
/// Thread 0 stores two tiles, of 1 and of 2, waits for the first and ends; then thread 1 overwrites both with 9.
PRNN_KERNEL overwriting_kernel(PRNN_GRID_CONSTANT const TileMap to) {
  float* const stages = shared_memory<float>();
  if (thread_index() == 0) {
    for (int i = 0; i < kTileRows * kTileColumns; ++i) {
      stages[i] = 1;
      stages[kStageBytes / 4 + i] = 2;
    }
    show_to_tiles();
    store_tile(to, 0, 0, 0, stages);
    store_tile(to, 0, kTileRows, 0, stages + kStageBytes / 4);
    wait_for_stored_tiles<1>();
  }
  barrier();
  if (thread_index() == 1) {
    unchecked_fill(stages, 9);
    unchecked_fill(stages + kStageBytes / 4, 9);
  }
}

TEST_F(TheEmulatedGpu, ReadsAStoredTileAtOnceOrNotBeforeItMust) {
  std::set<float> second;
  for (std::uint64_t seed = 0; seed < 32; ++seed) {
    for (const Order order : {Order::ascending, Order::descending, Order::random}) {
      set_schedule({order, seed});
      std::vector<float> stored(kRows * kColumns);
      launch(&overwriting_kernel, 1, 2, 2 * kStageBytes, nullptr, tile_map(stored.data(), 1, kRows, kColumns, kTileRows, kTileColumns));
      EXPECT_EQ(stored[0], 1);
      if (order == Order::random) second.insert(stored[kTileRows * kColumns]);
      else EXPECT_EQ(stored[kTileRows * kColumns], 9);
    }
  }
  EXPECT_EQ(second, (std::set<float>{2, 9}));
}

enum class Show { all, none, first_thread, before_writing };
/// Each thread writes a number of a tile, but the first `kept` of them; thread 0, which had it brought from matrix 0, stores it to matrix 1.
PRNN_KERNEL showing_kernel(PRNN_GRID_CONSTANT const TileMap map, int kept, Show show) {
  float* const tile = shared_memory<float>();
  PhaseBarrier* const landed = reinterpret_cast<PhaseBarrier*>(tile + kTileRows * kTileColumns);
  if (thread_index() == 0) {
    start_phases(landed, 1);
    arrive_with_tile(landed, tile, map, 0, 0, 0);
    wait_phase(landed, 0);
  }
  barrier();
  if (show == Show::before_writing) show_to_tiles();
  if (thread_index() >= kept) tile[thread_index()] = float(thread_index());
  if (show == Show::all || (show == Show::first_thread && thread_index() == 0)) show_to_tiles();
  barrier();
  if (thread_index() == 0) store_tile(map, 1, 0, 0, tile);
}

TEST_F(TheEmulatedGpu, ReportsATileThatIsStoredBeforeItsWritersHaveShownIt) {
  constexpr int threads = kTileRows * kTileColumns;
  constexpr std::int64_t bytes = threads * sizeof(float) + sizeof(PhaseBarrier);
  int first_thread_errors = 0;
  for (const Schedule schedule : kSchedules) {
    set_schedule(schedule);
    const auto run = [&](int kept, Show show) {
      std::vector<float> matrices(2 * threads, -1);
      const std::string error = error_of(&showing_kernel, 1, threads, bytes, nullptr, tile_map(matrices.data(), 2, kTileRows, kTileColumns, kTileRows, kTileColumns), kept, show);
      for (int i = 0; i < threads && error.empty(); ++i) EXPECT_EQ(matrices[std::size_t(threads + i)], i < kept ? -1 : i);
      return error;
    };
    const std::string message = "thread 0 stores a tile from byte 0 that was written to after the last show_to_tiles()";
    EXPECT_EQ(run(0, Show::all), "");
    EXPECT_EQ(run(threads, Show::none), "");
    EXPECT_NE(run(threads - 1, Show::none).find(message), std::string::npos);
    EXPECT_NE(run(0, Show::before_writing).find(message), std::string::npos);
    first_thread_errors += !run(0, Show::first_thread).empty();
  }
  EXPECT_GT(first_thread_errors, 0);
}

PRNN_KERNEL one_phase_kernel(int arrivals, bool start, bool wait) {
  PhaseBarrier* const phases = shared_memory<PhaseBarrier>();
  if (start && thread_index() == 0) start_phases(phases, arrivals);
  barrier();
  arrive(phases);
  if (wait) wait_phase(phases, 0);
}
PRNN_KERNEL misplaced_tile_kernel(PRNN_GRID_CONSTANT const TileMap map, std::int64_t byte, bool back, int written) {
  PhaseBarrier* const phases = shared_memory<PhaseBarrier>();
  unsigned char* const tile = shared_memory<unsigned char>() + byte;
  start_phases(phases, 1);
  for (int i = 0; i < written; ++i) tile[i] = 0;
  show_to_tiles();
  if (back) return store_tile(map, 0, 0, 0, tile);
  arrive_with_tile(phases, tile, map, 0, 0, 0);
}

TEST_F(TheEmulatedGpu, ReportsPhasesAndTilesThatCannotBe) {
  EXPECT_EQ(error_of(&one_phase_kernel, 1, 40, 8, nullptr, 40, true, true), "");
  EXPECT_NE(error_of(&one_phase_kernel, 1, 40, 8, nullptr, 41, true, true).find("waits for a phase that never ends"), std::string::npos);
  EXPECT_NE(error_of(&one_phase_kernel, 1, 40, 8, nullptr, 40, false, false).find("a PhaseBarrier that nobody made"), std::string::npos);
  EXPECT_NE(error_of(&one_phase_kernel, 1, 40, 8, nullptr, 0, true, false).find("for 0 arrivals"), std::string::npos);
  alignas(16) float matrix[64] = {};
  const TileMap map = tile_map(matrix, 1, 8, 8, 4, 8);
  for (const bool back : {false, true}) {
    const auto place_error = [&](std::int64_t shared_bytes, std::int64_t byte, int written = 0) {
      return error_of(&misplaced_tile_kernel, 1, 1, shared_bytes, nullptr, map, byte, back, written);
    };
    const std::string move = back ? "stores a tile of 128 bytes from byte " : "copies a tile of 128 bytes to byte ";
    EXPECT_EQ(place_error(256, 128, 128), "");
    EXPECT_NE(place_error(256, 64).find(move + "64 of 256"), std::string::npos);
    EXPECT_NE(place_error(255, 128).find(move + "128 of 255"), std::string::npos);
    EXPECT_NE(place_error(256, -128).find(move + "-128 of 256"), std::string::npos);
  }
  const auto map_error = [&](const float* from, std::int64_t columns, int tile_rows, int tile_columns) {
    return thrown_by([&] { tile_map(from, 1, 2, columns, tile_rows, tile_columns); });
  };
  EXPECT_EQ(map_error(matrix, 8, 256, 256), "");
  EXPECT_NE(map_error(matrix, 8, 257, 8).find("at most 256 x 256"), std::string::npos);
  EXPECT_NE(map_error(matrix, 6, 2, 8).find("whole 16-byte words"), std::string::npos);
  EXPECT_NE(map_error(matrix, 8, 2, 6).find("whole 16-byte words"), std::string::npos);
  EXPECT_NE(map_error(matrix + 1, 8, 2, 8).find("whole 16-byte words"), std::string::npos);
  const auto extents_error = [&](std::int64_t count, std::int64_t rows, std::int64_t columns) { return thrown_by([&] { tile_map(matrix, count, rows, columns, 2, 8); }); };
  constexpr std::int64_t most = 0xffffffff;
  EXPECT_EQ(extents_error(most, 2, 8), "");
  EXPECT_EQ(extents_error(1, most, 8), "");
  for (const auto [count, rows, columns] :
       std::vector<std::array<std::int64_t, 3>>{{0, 1, 8}, {1, 0, 8}, {1, 1, 0}, {-1, 1, 8}, {most + 1, 1, 8}, {1, most + 1, 8}, {1, 1, most + 1}})
    EXPECT_NE(extents_error(count, rows, columns).find("1 to 2^32 - 1"), std::string::npos) << count << " x " << rows << " x " << columns;
  EXPECT_EQ(extents_error(2, (1 << 28) - 1, 1 << 10), "");
  EXPECT_NE(extents_error(2, 1 << 28, 1 << 10).find("less than 2^40 bytes"), std::string::npos);
}

// --- global memory and recorded work ----------------------------------------------------------------------------------

struct Extremes {
  std::int64_t least_long = 100;
  int least = 100, most = -100, either = 0;
  double magnitude = 0;
};

PRNN_KERNEL atomics_kernel(Extremes* out, int sign) {
  const int value = int(block_index()) * thread_count() + thread_index();
  atomic_min(&out->least_long, std::int64_t(value + 3));
  atomic_min(&out->least, value + 4);
  atomic_max(&out->most, value);
  if (value == 5 || value == 64) atomic_or(&out->either, value);
  atomic_max_magnitude(&out->magnitude, double(sign) * value);
}

TEST_F(TheEmulatedGpu, HasAtomics) {
  for (const Schedule schedule : kSchedules) {
    set_schedule(schedule);
    Extremes out;
    launch(&atomics_kernel, 2, 64, 0, nullptr, &out, -1);
    EXPECT_EQ(out.least_long, 3);
    EXPECT_EQ(out.least, 4);
    EXPECT_EQ(out.most, 127);
    EXPECT_EQ(out.either, 5 | 64);
    EXPECT_EQ(out.magnitude, 127.0);
  }
}

TEST_F(TheEmulatedGpu, NeverLosesANanFromAMaximum) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  double worst = 1.0;
  atomic_max_magnitude(&worst, -0.5);
  EXPECT_EQ(worst, 1.0);
  atomic_max_magnitude(&worst, infinity);
  EXPECT_EQ(worst, infinity);
  atomic_max_magnitude(&worst, -nan);
  EXPECT_TRUE(std::isnan(worst));
  atomic_max_magnitude(&worst, infinity);
  EXPECT_TRUE(std::isnan(worst));
}

TEST_F(TheEmulatedGpu, LoadsAndStoresEveryStorageTypeWithOneRounding) {
  float f = 0;
  double d = 0;
  Bf16 b{};
  F16 h{};
  store(&f, 1.0f + 0x1p-23f);
  store(&d, 1.0 + 0x1p-52);
  store(&b, 1.0f + 0x1.8p-8f);  // between 1 + 2^-8 ulps of bfloat16: rounds up to 1 + 2^-7
  store(&h, 1.0f + 0x1.8p-11f);
  EXPECT_EQ(load(&f), 1.0f + 0x1p-23f);
  EXPECT_EQ(load(&d), 1.0 + 0x1p-52);
  EXPECT_EQ(load(&b), 1.0f + 0x1p-7f);
  EXPECT_EQ(load(&h), 1.0f + 0x1p-10f);
}

TEST_F(TheEmulatedGpu, StreamsEveryStorageTypeWithTheBitsOfStore) {
  const auto check = [](auto storage, double value) {
    using T = decltype(storage);
    T stored{}, streamed{};
    store(&stored, compute_t<T>(value));
    store_streaming(&streamed, compute_t<T>(value));
    EXPECT_NE(widen(stored), 0);
    EXPECT_EQ(widen(streamed), widen(stored));
  };
  for (const double value : {1.0 + 0x1.8p-8, 1.0 + 0x1.8p-11, -1.0 / 3, 0x1p-20}) {
    check(float{}, value);
    check(double{}, value);
    check(Bf16{}, value);
    check(F16{}, value);
  }
  std::array<Bf16, 2> pair{};
  store_pair_streaming(pair.data(), 1.0f, -2.0f);
  EXPECT_EQ(std::bit_cast<std::uint32_t>(pair), 0xc0003f80u);
}

TEST_F(TheEmulatedGpu, FillsExactlyTheBytesAskedFor) {
  std::array<unsigned char, 6> bytes{};
  fill_async(bytes.data() + 1, 0xab, 4, nullptr);
  EXPECT_EQ(bytes, (std::array<unsigned char, 6>{0, 0xab, 0xab, 0xab, 0xab, 0}));
}

PRNN_KERNEL count_kernel(LoopHandle loop, int* count, int limit) {
  if (thread_index() == 0) set_continue(loop, ++*count < limit);
}

TEST_F(TheEmulatedGpu, LoopsWhileTheDeviceSaysSo) {
  int count = 0, prologues = 0, limit = 5;
  ConditionalLoop loop(
      [&](void* stream, LoopHandle) {
        ++prologues;
        fill_async(&count, 0, sizeof count, stream);
      },
      [&](void* stream, LoopHandle handle) { launch(&count_kernel, 1, 32, 0, stream, handle, &count, limit); });
  for (const int often : {5, 1, 0, 7}) {  // the condition starts as true: the body runs at least once
    limit = often;
    loop.launch(nullptr);
    EXPECT_EQ(count, std::max(often, 1));
  }
  EXPECT_EQ(prologues, 4);

  int bodies = 0;
  ConditionalLoop never(
      [](void*, LoopHandle handle) {
        launch(
            +[](LoopHandle h) { set_continue(h, false); }, 1, 1, 0, nullptr, handle);
      },
      [&](void*, LoopHandle) { ++bodies; });
  never.launch(nullptr);
  EXPECT_EQ(bodies, 0);
}

TEST_F(TheEmulatedGpu, ReplaysACapturedGraphAtEachLaunchOnly) {
  int runs = 0;
  void* seen = nullptr;
  CapturedGraph graph([&](void* stream) {
    ++runs;
    seen = stream;
  });
  EXPECT_EQ(runs, 0);
  int token = 0;
  graph.launch(&token);
  graph.launch(&token);
  EXPECT_EQ(runs, 2);
  EXPECT_EQ(seen, &token);
}

}  // namespace
}  // namespace prnn::PRNN_BACKEND
