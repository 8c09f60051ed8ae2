// Races, reads of what nothing has written, accesses outside of buffers: each kind of kernel is right here, and wrong by one barrier or one element.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "kernels/ops/testing.hpp"
#include "kernels/primitives/device.cuh"
#include "kernels/primitives/source_lines.hpp"

namespace prnn::PRNN_BACKEND {
namespace {

const std::vector<Schedule> kSchedules = {{}, {Order::descending}, {Order::random, 1}, {Order::random, 2}};
constexpr int kThreads = 64, kBytes = 1024;

Machine& gpu() {
  static const std::unique_ptr<Machine> opened = testing::open_machine(kDevice);
  return *opened;
}

template <class... Arguments>
std::string error_of(Team team, int team_blocks, const Arguments&... arguments) {
  try {
    launch_team(team, team_blocks, arguments...);
  } catch (const DeviceError& error) {
    return error.what();
  }
  return "";
}

class CheckedAccesses : public ::testing::Test {
 protected:
  void SetUp() override {
#if !defined(PRNN_CHECKED_ACCESSES)
    GTEST_SKIP() << "kernels of this build are compiled for another sanitizer";
#endif
  }
  ~CheckedAccesses() override { set_schedule({}); }

  /// kernel(arguments .., wrong) of `blocks` blocks in teams is accepted under every schedule where wrong is 0, and reported with each of `words` where it is 1.
  template <class... Parameters, class... Arguments>
  void expect_found(Team team, int blocks, void (*kernel)(Parameters...), const std::vector<std::string>& words, Arguments... arguments) {
    expect_found_as(1, team, blocks, kernel, words, arguments...);
  }
  template <class... Parameters, class... Arguments>
  void expect_found_as(int wrong, Team team, int blocks, void (*kernel)(Parameters...), const std::vector<std::string>& words, Arguments... arguments) {
    for (const Schedule schedule : kSchedules) {
      set_schedule(schedule);
      const auto error = [&](int how) { return error_of(team, team == Team::block ? 1 : blocks, kernel, blocks, kThreads, kBytes, nullptr, arguments..., how); };
      EXPECT_EQ(error(0), "");
      const std::string found = error(wrong);
      for (const std::string& word : words) EXPECT_NE(found.find(word), std::string::npos) << word << " in: " << found;
    }
  }
};

/// "(kernels/.../this file:line)"
std::string line(int number) { return "(kernels/primitives/accesses_emulated.emulated.test.cpp:" + std::to_string(number) + ")"; }

int neighbour() { return (thread_index() + 1) % thread_count(); }

// --- races in shared memory -------------------------------------------------------------------------------------------

constexpr int kWriteLine = __LINE__ + 5, kReadLine = __LINE__ + 7;
/// wrong 1: the next round's write is not kept behind the reads of this one (write after read); 2: reads are not kept behind the round's writes.
PRNN_KERNEL rounds_kernel(int rounds, int wrong) {
  int* const box = shared_memory<int>();
  for (int round = 0; round < rounds; ++round) {
    box[thread_index()] = round;
    if (wrong != 2 || round == 0) barrier();
    const int theirs = box[neighbour()];
    if (wrong != 1 && theirs == round) barrier();
  }
}

TEST_F(CheckedAccesses, FindARaceAcrossAnIterationOrInsideOne) {
  const std::vector<std::string> words = {"emulated: rounds_kernel: race: 4 bytes of shared memory", line(kWriteLine), line(kReadLine)};
  expect_found_as(1, Team::block, 1, &rounds_kernel, words, 3);
  expect_found_as(2, Team::block, 1, &rounds_kernel, words, 3);
  for (const auto& [order, sides] : std::vector<std::pair<Order, std::string>>{
           {Order::ascending, "from byte 4: thread 1 of block 0 writes " + line(kWriteLine) + " what thread 0 of block 0 reads " + line(kReadLine)},
           {Order::descending, "from byte 252: thread 62 of block 0 reads " + line(kReadLine) + " what thread 63 of block 0 writes " + line(kWriteLine)}}) {
    set_schedule({order});
    const std::string found = error_of(Team::block, 1, &rounds_kernel, 1, kThreads, kBytes, nullptr, 3, 1);
    EXPECT_NE(found.find(sides), std::string::npos) << found << "; expected " << sides;
  }
}

/// All write one word: the same, or (wrong) their own number.
PRNN_KERNEL same_word_kernel(int wrong) {
  int* const word = shared_memory<int>();
  *word = wrong ? thread_index() : 7;
  barrier();
  *word = wrong ? thread_index() : 7;
}

TEST_F(CheckedAccesses, LetThreadsWriteTheSameButNothingElse) { expect_found(Team::block, 1, &same_word_kernel, {"race", " writes ", "what thread"}); }

/// The last thing that two threads do is to write different numbers.
PRNN_KERNEL last_word_kernel(int wrong) {
  int* const word = shared_memory<int>();
  if (thread_index() < 2) *word = wrong * thread_index();
}

TEST_F(CheckedAccesses, FindWritesThatDifferAtTheEndOfAThread) { expect_found(Team::block, 1, &last_word_kernel, {"race"}); }

/// Lanes read what another lane of their warp has written. wrong 1: no warp_barrier() between; 2: of another warp.
PRNN_KERNEL warp_kernel(int wrong) {
  int* const box = shared_memory<int>();
  box[thread_index()] = 0;
  barrier();
  box[thread_index()] = 1;
  if (wrong != 1) warp_barrier();
  const int mine = wrong == 2 ? (thread_index() + kWarp) % thread_count() : thread_index() ^ 1;
  box[thread_index() + kThreads] = box[mine];
}

TEST_F(CheckedAccesses, KnowThatLanesOfAWarpWaitForEachOtherOnlyAtItsBarrier) {
  expect_found_as(1, Team::block, 1, &warp_kernel, {"race"});
  expect_found_as(2, Team::block, 1, &warp_kernel, {"race"});
}

/// Three lanes, one of another warp, read a word, which a lane of the first warp then writes to, after a barrier of the block or (wrong) when it knows of one lane
/// of the other warp that it has come as far, but nothing of the reader.
PRNN_KERNEL three_readers_kernel(int last_reader, int wrong) {
  int* const word = shared_memory<int>();
  PhaseBarrier* const phases = reinterpret_cast<PhaseBarrier*>(word + 2);
  if (thread_index() == 0) {
    *word = 0;
    start_phases(phases, 1);
  }
  barrier();
  const bool reads = thread_index() < 2 || thread_index() == last_reader;
  if (reads && *word != 0) return;
  if (thread_index() < kWarp) warp_barrier();
  if (thread_index() == 40) arrive(phases);
  if (thread_index() == 1) wait_phase(phases, 0);
  if (!wrong) barrier();
  if (thread_index() == 1) *word = 1;
}

TEST_F(CheckedAccesses, RememberTheReaderOfAnotherWarpAmongSeveral) {
  for (const int reader : {32, 63})
    expect_found(Team::block, 1, &three_readers_kernel, {"race", "thread 1 of block 0 writes", "what thread " + std::to_string(reader) + " of block 0 reads"}, reader);
}

enum Missing { kNothing, kBeforeAtomics, kBehindAtomics };
/// All count in one word. wrong: the barrier that is missing.
PRNN_KERNEL count_kernel(int wrong) {
  auto* const words = shared_memory<std::int64_t>();
  if (thread_index() == 0) *words = 0;
  if (wrong != kBeforeAtomics) barrier();
  atomic_add(words, 1);
  if (wrong != kBehindAtomics) barrier();
  words[1 + thread_index()] = *words;
}

TEST_F(CheckedAccesses, NeedNoOrderAmongAtomicsButWithTheRest) {
  expect_found_as(kBeforeAtomics, Team::block, 1, &count_kernel, {"emulated: count_kernel: "});
  expect_found_as(kBehindAtomics, Team::block, 1, &count_kernel, {"race"});
}

/// What each thread may read and write at any time, of one word, if all do it so. wrong 1: a plain read; 2: a plain write.
PRNN_KERNEL relaxed_kernel(int wrong) {
  int* const word = shared_memory<int>();
  if (thread_index() == 0) *word = 0;
  barrier();
  const int before = wrong == 1 && thread_index() == 40 ? *word : atomic_load(word);
  if (wrong == 2 && thread_index() == 40) *word = before + 1;
  else atomic_store(word, thread_index());
}

TEST_F(CheckedAccesses, LetAtomicLoadsAndStoresMeet) {
  expect_found_as(1, Team::block, 1, &relaxed_kernel, {"race"});
  expect_found_as(2, Team::block, 1, &relaxed_kernel, {"race"});
}

// --- phases, copies, tiles --------------------------------------------------------------------------------------------

/// Each thread reads a word; thread 0 writes them all when all warps have arrived. wrong 1: the phase ends one arrival too early; 2: a warp's lane arrives for
/// others that may not have read yet; 3: thread 0 does not wait; 4: those who arrive read once more after it.
PRNN_KERNEL arrivals_kernel(int wrong) {
  int* const words = shared_memory<int>();
  PhaseBarrier* const phases = reinterpret_cast<PhaseBarrier*>(words + thread_count());
  words[thread_index()] = 0;
  if (thread_index() == 0) start_phases(phases, thread_count() / kWarp - (wrong == 1));
  barrier();
  const int mine = words[thread_index()];
  if (wrong != 2) warp_barrier();
  if (thread_index() % kWarp == 0 && !(wrong == 1 && thread_index() > 0)) arrive(phases);
  if (wrong == 4 && thread_index() % kWarp == 0 && words[thread_index()] != mine) return;
  if (thread_index() != 0) return;
  if (wrong != 3) wait_phase(phases, 0);
  for (int i = 0; i < thread_count(); ++i) words[i] = mine + 1;
}

TEST_F(CheckedAccesses, KnowWhoHasArrivedAtAPhase) {
  for (const int wrong : {1, 2, 3, 4}) expect_found_as(wrong, Team::block, 1, &arrivals_kernel, {"race: 4 bytes of shared memory from byte "});
}

/// Each thread copies a word, and its neighbour reads it. wrong 1: without the wait; 2: without the barrier; 3: the barrier comes before the wait; 4: the thread
/// itself reads before its wait; 5: it writes there before.
PRNN_KERNEL copy_kernel(const int* from, int wrong) {
  int* const box = shared_memory<int>();
  copy_async(box + thread_index(), from + thread_index());
  commit_copies();
  if (wrong == 4 && box[thread_index()] == 0) return;
  if (wrong == 5) box[thread_index()] = 1;
  if (wrong == 3) barrier();
  if (wrong != 1) wait_copies<0>();
  if (wrong != 2 && wrong != 3) barrier();
  box[thread_index() + kThreads] = box[neighbour()];
}

TEST_F(CheckedAccesses, FindReadsOfACopyThatNeedNotHaveLanded) {
  const Buffer from(gpu(), kThreads * sizeof(int));
  gpu().fill(from.data(), 0, from.bytes());
  for (const int wrong : {1, 4, 5}) expect_found_as(wrong, Team::block, 1, &copy_kernel, {"too early: thread ", "where a copy has yet to land"}, from.as<const int>());
  for (const int wrong : {2, 3}) expect_found_as(wrong, Team::block, 1, &copy_kernel, {"emulated: copy_kernel: "}, from.as<const int>());
}

constexpr int kTileWords = 4;
/// Thread 0 brings a row of 4 words, all read it. wrong 1: nobody waits for it; 2: only warp 0 does; 3: thread 0 brings it again before all have read.
PRNN_KERNEL tile_kernel(PRNN_GRID_CONSTANT const TileMap from, int wrong) {
  int* const box = shared_memory<int>();
  PhaseBarrier* const landed = reinterpret_cast<PhaseBarrier*>(box + 32);
  if (thread_index() == 0) start_phases(landed, 1);
  barrier();
  if (thread_index() == 0) arrive_with_tile(landed, box, from, 0, 0, 0);
  if (wrong != 1 && (wrong != 2 || thread_index() < kWarp)) wait_phase(landed, 0);
  box[64 + thread_index()] = box[thread_index() % kTileWords];
  if (wrong != 3) barrier();
  if (thread_index() == 0) arrive_with_tile(landed, box, from, 0, 0, 0);
}

TEST_F(CheckedAccesses, FindReadsOfATileThatNeedNotHaveLandedAndTilesOverWhatIsStillRead) {
  const Buffer from(gpu(), kTileWords * sizeof(int));
  gpu().fill(from.data(), 0, from.bytes());
  const TileMap map = tile_map(from.as<const float>(), 1, 1, kTileWords, 1, kTileWords);
  for (const int wrong : {1, 2, 3}) expect_found_as(wrong, Team::block, 1, &tile_kernel, {"emulated: tile_kernel: "}, map);
  const Buffer nothing(gpu(), kTileWords * sizeof(int));
  EXPECT_NE(error_of(Team::block, 1, &tile_kernel, 1, kThreads, kBytes, nullptr, tile_map(nothing.as<const float>(), 1, 1, kTileWords, 1, kTileWords), 0).find("uninitialised"),
            std::string::npos);
}

/// Thread 0 stores a row of 4 words that thread 1 has written, and reads it in memory. wrong 1: it writes there again too early; 2: another does, when thread 0
/// need not have waited yet; 3: it reads memory when the tile has been read, but need not have arrived; 4: thread 1's write is not kept behind a barrier.
PRNN_KERNEL storing_kernel(PRNN_GRID_CONSTANT const TileMap to, const int* memory, int wrong) {
  int* const box = shared_memory<int>();
  if (thread_index() == 0 && wrong == 4) {
    for (int i = 0; i < kTileWords; ++i) box[i] = 5;
    show_to_tiles();
  }
  if (wrong == 4) barrier();
  if (thread_index() == 1) {
    for (int i = 0; i < kTileWords; ++i) box[i] = 5;
    show_to_tiles();
  }
  if (wrong != 4) barrier();
  if (thread_index() == 0) {
    store_tile(to, 0, 0, 0, box);
    if (wrong == 1) box[0] = 6;
    if (wrong == 3) wait_for_stored_tiles<0>();
    else finish_stored_tiles();
    if (memory[0] != 5) box[8] = 0;
  }
  if (wrong != 2) barrier();
  if (thread_index() == 9) box[0] = 7;
}

TEST_F(CheckedAccesses, FindWritesToATileThatNeedNotHaveBeenReadAndReadsOfOneThatNeedNotHaveArrived) {
  const Buffer to(gpu(), kTileWords * sizeof(int));
  const TileMap map = tile_map(to.as<const float>(), 1, 1, kTileWords, 1, kTileWords);
  expect_found_as(1, Team::block, 1, &storing_kernel, {"too early", "which a tile that is stored has yet to be read from"}, map, to.as<const int>());
  expect_found_as(2, Team::block, 1, &storing_kernel, {"emulated: storing_kernel: "}, map, to.as<const int>());
  expect_found_as(3, Team::block, 1, &storing_kernel, {"too early", "global memory", "where a copy has yet to land"}, map, to.as<const int>());
  expect_found_as(4, Team::block, 1, &storing_kernel, {"emulated: storing_kernel: "}, map, to.as<const int>());
}

// --- several blocks ---------------------------------------------------------------------------------------------------

/// Each block writes a word, and reads the next one's. wrong 1: without the team's barrier; 2: by a load that may come from the block's own cache.
PRNN_KERNEL exchange_kernel(Team team, TeamBarrier* barrier, int* words, int wrong) {
  const int blocks = int(block_count()), me = int(block_index()), next = (me + 1) % blocks;
  if (thread_index() == 0) store_for_team(words + me, me);
  if (wrong != 1) team_barrier(team, blocks, barrier);
  const int theirs = wrong == 2 ? words[next] : load_shared_by_team(words + next);
  shared_memory<int>()[thread_index()] = theirs;
}

TEST_F(CheckedAccesses, KnowWhatBlocksSeeOfEachOther) {
  const Buffer words(gpu(), 4 * sizeof(int)), barrier(gpu(), sizeof(TeamBarrier));
  gpu().fill(barrier.data(), 0, barrier.bytes());
  gpu().fill(words.data(), 0, words.bytes());
  for (const Team team : {Team::cluster, Team::grid}) {
    expect_found_as(1, team, 4, &exchange_kernel, {"race: 4 bytes of global memory"}, team, barrier.as<TeamBarrier>(), words.as<int>());
    expect_found_as(2, team, 4, &exchange_kernel, {"stale: ", "from a cache that need not see it"}, team, barrier.as<TeamBarrier>(), words.as<int>());
  }
}

/// Each block writes its word, or (wrong) the next block's.
PRNN_KERNEL own_word_kernel(int* words, int wrong) {
  if (thread_index() == 0) words[block_index()] += 1;
  if (thread_index() == 0 && wrong) words[(block_index() + 1) % block_count()] += 1;
}

TEST_F(CheckedAccesses, FindRacesBetweenBlocksOfALaunchAndNoneBetweenLaunches) {
  const Buffer words(gpu(), 3 * sizeof(int));
  gpu().fill(words.data(), 0, words.bytes());
  expect_found(Team::block, 3, &own_word_kernel, {"race: 4 bytes of global memory", "thread 0 of block "}, words.as<int>());
  int last[3];
  gpu().download(last, words.data(), words.bytes());
  EXPECT_GT(last[0], 0);
}

/// wrong 1: reads as read-only what the thread has written; 2: writes what it has read so.
PRNN_KERNEL read_only_kernel(float* words, int wrong) {
  if (wrong == 1) words[thread_index()] = 1;
  const float x = wrong ? load(words + thread_index()) : words[thread_index()];
  if (wrong != 1) words[thread_index()] = x;
}

TEST_F(CheckedAccesses, FindReadOnlyLoadsOfWhatTheLaunchWrites) {
  const Buffer words(gpu(), kThreads * sizeof(float));
  gpu().fill(words.data(), 0, words.bytes());
  expect_found_as(1, Team::block, 1, &read_only_kernel, {"stale: ", "from a cache that need not see it"}, words.as<float>());
  expect_found_as(2, Team::block, 1, &read_only_kernel, {"stale: ", "as what no thread writes"}, words.as<float>());
}

/// Blocks of a cluster read each other's word, then write to their own. wrong: the barrier that is missing, 1: before reading, 2: before writing; 3: a block
/// ends while others may read.
PRNN_KERNEL cluster_kernel(int wrong) {
  int* const word = shared_memory<int>();
  const int blocks = int(block_count());
  if (thread_index() == 0) *word = 1;
  if (wrong != 1) team_barrier(Team::cluster, blocks, nullptr);
  word[1 + thread_index()] = load_from_cluster(word, (int(block_index()) + 1) % blocks);
  if (wrong != 2) team_barrier(Team::cluster, blocks, nullptr);
  if (thread_index() == 0) *word = 2;
  if (wrong == 3) word[1] = load_from_cluster(word + 1, (int(block_index()) + 1) % blocks);
}

TEST_F(CheckedAccesses, FindRacesInTheSharedMemoryOfACluster) {
  for (const int wrong : {1, 2, 3}) expect_found_as(wrong, Team::cluster, 3, &cluster_kernel, {"emulated: cluster_kernel: ", " of shared memory"});
}

// --- uninitialised ----------------------------------------------------------------------------------------------------

constexpr int kTailLine = __LINE__ + 7;
/// Sums what the threads have written, or (wrong) one word more.
PRNN_KERNEL tail_kernel(int wrong) {
  int* const box = shared_memory<int>();
  int sum = 0;
  box[thread_index()] = 1;
  barrier();
  for (int i = 0; i < thread_count() + wrong; ++i) sum += box[i];
  barrier();
  box[thread_index()] = sum;
}

TEST_F(CheckedAccesses, FindATailThatNobodyHasWritten) {
  expect_found(Team::block, 1, &tail_kernel, {"emulated: tail_kernel: uninitialised: thread ", "reads 4 bytes of shared memory from byte 256 " + line(kTailLine)});
}
TEST_F(CheckedAccesses, ForgetSharedMemoryBetweenBlocksAndLaunches) {
  expect_found(Team::block, 3, &tail_kernel, {"uninitialised"});
  EXPECT_EQ(error_of(Team::block, 1, &tail_kernel, 1, 2 * kThreads, kBytes, nullptr, 0), "");  // writes more words
  expect_found(Team::block, 1, &tail_kernel, {"uninitialised"});
}

struct Three {
  float x[3];
};
/// Copies a struct of which all, or (wrong 1) all but the last number has been written; wrong 2: with memcpy().
PRNN_KERNEL struct_kernel(int wrong) {
  Three* const box = shared_memory<Three>() + thread_index();
  for (int i = 0; i < (wrong ? 2 : 3); ++i) box->x[i] = 1;
  Three copy;
  if (wrong == 2) memcpy(&copy, box, sizeof copy);
  else copy = *box;
  box->x[0] = copy.x[1];
}

TEST_F(CheckedAccesses, SeeWhatAStructHolds) {
  for (const int wrong : {1, 2}) expect_found_as(wrong, Team::block, 1, &struct_kernel, {"uninitialised: thread ", "reads 12 bytes of shared memory"});
}

PRNN_KERNEL read_kernel(const int* words, int count) {
  int* const box = shared_memory<int>();
  for (int i = 0; i < count; ++i) box[thread_index()] = words[i];
}

TEST_F(CheckedAccesses, KnowWhatTheHostHasWritten) {
  const Buffer a(gpu(), 8 * sizeof(int)), b(gpu(), 8 * sizeof(int));
  const auto reads = [](const void* p, int count) { return error_of(Team::block, 1, &read_kernel, 1, 1, kBytes, nullptr, static_cast<const int*>(p), count); };
  const std::string at_12 = "uninitialised: thread 0 of block 0 reads 4 bytes of global memory from byte 12 ";
  const std::vector<int> host(3);
  EXPECT_NE(reads(a.data(), 1).find("uninitialised"), std::string::npos);
  gpu().upload(a.data(), host.data(), 12);
  EXPECT_EQ(reads(a.data(), 3), "");
  EXPECT_NE(reads(a.data(), 4).find(at_12), std::string::npos);
  gpu().copy(b.data(), a.data(), b.bytes());
  EXPECT_EQ(reads(b.data(), 3), "");
  EXPECT_NE(reads(b.data(), 4).find(at_12), std::string::npos);
  gpu().fill(a.data(), 0, a.bytes());
  EXPECT_EQ(reads(a.data(), 8), "");
  gpu().fill(a.as<char>() + 12, 0xff, 4);
  EXPECT_NE(reads(a.data(), 8).find(at_12), std::string::npos);
  fill_async(a.as<char>() + 12, 0xff, 4, nullptr);
  EXPECT_EQ(reads(a.data(), 8), "");
}

// --- out of bounds ----------------------------------------------------------------------------------------------------

/// *p, or (by) an element of T from it.
template <class T, bool kWrites>
PRNN_KERNEL at_kernel(T* p, std::int64_t by) {
  if (kWrites) p[by] = T(1);
  else shared_memory<T>()[0] = p[by];
}

template <class T>
void expect_bounds(std::int64_t count) {
  const Buffer before(gpu(), 8), buffer(gpu(), count * std::int64_t(sizeof(T))), behind(gpu(), 8);
  gpu().fill(buffer.data(), 0, buffer.bytes());
  const std::string holds = " the " + std::to_string(buffer.bytes());
  for (const bool writes : {false, true}) {
    const auto error = [&](std::int64_t by) { return error_of(Team::block, 1, writes ? &at_kernel<T, true> : &at_kernel<T, false>, 1, 1, kBytes, nullptr, buffer.as<T>(), by); };
    EXPECT_EQ(error(0), "");
    EXPECT_EQ(error(count - 1), "");
    const std::string does = std::string("out of bounds: thread 0 of block 0 ") + (writes ? "writes " : "reads ") + std::to_string(sizeof(T)) + " bytes (kernels/";
    for (const std::int64_t by : {count, count + 1, count + 40000, -1l, -30000l}) {
      const std::int64_t bytes = std::int64_t(sizeof(T)) * (by < 0 ? -by : by - count);
      const std::string found = error(by),
                        where = std::to_string(bytes) + (by < 0 ? " bytes before " : " bytes beyond ") + std::to_string(buffer.bytes()) + " bytes of global memory";
      EXPECT_NE(found.find(does), std::string::npos) << found;
      EXPECT_NE(found.find(where), std::string::npos) << found << "; expected " << where;
    }
  }
}

TEST_F(CheckedAccesses, FindAnElementBeyondABuffer) {
  expect_bounds<float>(50000);
  expect_bounds<double>(60000);
  expect_bounds<std::uint16_t>(100001);
}

TEST_F(CheckedAccesses, FindAnAccessThatBeginsInsideABuffer) {
  const Buffer buffer(gpu(), 15);  // one byte too few
  const std::string found = error_of(Team::block, 1, &at_kernel<double, true>, 1, 1, kBytes, nullptr, buffer.as<double>(), std::int64_t(1));
  EXPECT_NE(found.find("0 bytes beyond 15 bytes of global memory"), std::string::npos) << found;
}

PRNN_KERNEL shared_at_kernel(int word) { shared_memory<int>()[word] = 1; }

TEST_F(CheckedAccesses, FindAnElementBeyondSharedMemory) {
  const auto error = [](std::int64_t bytes, int word) { return error_of(Team::block, 1, &shared_at_kernel, 2, 1, bytes, nullptr, word); };
  EXPECT_EQ(error(64, 15), "");
  EXPECT_NE(error(64, 16).find("0 bytes beyond 64 bytes of shared memory"), std::string::npos);
  EXPECT_NE(error(64, -1).find("4 bytes before 64 bytes of shared memory"), std::string::npos);
  EXPECT_EQ(error(68, 16), "");
  EXPECT_NE(error(64, 16).find("out of bounds"), std::string::npos);
}

TEST_F(CheckedAccesses, FindAccessesToABufferThatIsGone) {
  void* const p = gpu().allocate(64);
  gpu().fill(p, 0, 64);
  gpu().release(p);
  const Buffer other(gpu(), 64);
  EXPECT_NE(other.data(), p);
  EXPECT_NE(error_of(Team::block, 1, &at_kernel<float, false>, 1, 1, kBytes, nullptr, static_cast<float*>(p), std::int64_t(0)).find("out of bounds"), std::string::npos);
}

// --- divergence, and what follows a report ----------------------------------------------------------------------------

constexpr int kOddLine = __LINE__ + 3, kOthersLine = __LINE__ + 5;
PRNN_KERNEL divergent_kernel(int odd) {
  if (thread_index() == odd) {
    barrier_or(true);
  } else {
    barrier();
  }
}

TEST_F(CheckedAccesses, NameTheLinesOfADivergentBarrier) {
  EXPECT_EQ(error_of(Team::block, 1, &divergent_kernel, 1, kThreads, 0, nullptr, 40),
            "emulated: divergent_kernel: block 0: divergent barrier: thread 0 waits at barrier() " + line(kOthersLine) + ", thread 40 waits at barrier_or() " + line(kOddLine));
}

TEST_F(CheckedAccesses, LeaveTheNextLaunchAlone) {
  for (int i = 0; i < 300; ++i) ASSERT_NE(error_of(Team::block, 1, &tail_kernel, 1, kThreads, kBytes, nullptr, 1), "");
  EXPECT_EQ(error_of(Team::block, 1, &tail_kernel, 1, kThreads, kBytes, nullptr, 0), "");
}

TEST(SourceLines, AreEmptyWhereNothingIsKnown) {
  EXPECT_EQ(source_line(nullptr), "");
  EXPECT_EQ(function_name(nullptr), "");
}

}  // namespace
}  // namespace prnn::PRNN_BACKEND
