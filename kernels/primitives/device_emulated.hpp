// device_emulated.hpp: the emulated GPU, device.cuh's second back end. A launch runs on the calling host thread before launch() returns:
// teams of blocks one after another, each thread of a team a fiber that runs until it waits for its warp, its block or its team.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <utility>

#include "kernels/api.hpp"
#include "kernels/cells/scalar.hpp"
#include "kernels/primitives/accesses_emulated.hpp"
#include "kernels/runtime/variant.hpp"

#define PRNN_BACKEND emulated
#define PRNN_KERNEL static void
#define PRNN_DEVICE inline
#define PRNN_DOOR inline __attribute__((always_inline))  // of the functions of this file: the line that is reported of an access or a wait is their caller's
#define PRNN_LAUNCH_BOUNDS(threads, blocks)
#define PRNN_GRID_CONSTANT

namespace prnn::emulated {

inline constexpr const char* kDevice = "emulated";
inline constexpr unsigned kFullWarp = 0xffffffffu;
inline constexpr int kWarp = 32;

// --- schedule: a right kernel gives the same bits under all of them ---------------------------------------------------
enum class Order { ascending, descending, random };
/// Order of teams, of the blocks of a team, of the warps of a block and of the lanes of a warp; random: drawn anew at every turn from the
/// seed, and a team's other blocks may run while one stands at its own barrier.
struct Schedule {
  Order order = Order::ascending;
  std::uint64_t seed = 0;
};
/// For the launches that follow, of all host threads; not while one runs.
void set_schedule(Schedule);

/// In shared memory. A phase ends when all arrivals that it was made for have come and all tiles that they brought have landed; then the next begins.
struct alignas(8) PhaseBarrier {
  std::uint16_t arrivals, missing;  // of a phase; of the running one
  std::uint32_t ended;              // phases
};
/// Matrices [count, rows, columns] in global memory, and how large their tiles are. A kernel takes it as `PRNN_GRID_CONSTANT const TileMap`.
struct TileMap {
  unsigned char* matrices;
  std::int64_t count, rows, columns;
  int tile_rows, tile_columns, element_bytes;
};

/// Who waits for each other: a block alone, the blocks of a thread-block cluster, blocks of a cooperative launch.
enum class Team { block, cluster, grid };
/// In global memory, zero once; one a team, all of one size; only for Team::grid. It only ever grows: nothing is reset between launches.
struct TeamBarrier {
  unsigned long long arrived;
};

namespace detail {
struct Here {
  int thread = 0, threads = 0;
  std::int64_t block = 0, blocks = 0;
  int team_blocks = 0;
  unsigned char* shared = nullptr;
};
/// Where the fiber that runs now stands.
extern constinit thread_local Here here;

void wait_barrier();
bool wait_barrier_or(bool predicate);
/// Waits until all 32 lanes of the warp wait here too, then copies what lane source_lane brought into theirs.
void wait_shuffle(const void* mine, void* theirs, std::size_t bytes, int source_lane);
void copy_async(void* shared, const void* global, std::size_t bytes);
void commit_copies();
void wait_copies(int groups_under_way);
void start_phases(PhaseBarrier* barrier, int arrivals);
void arrive(PhaseBarrier* barrier);
void arrive_with_tile(PhaseBarrier* barrier, void* shared, const TileMap& from, std::int64_t index, std::int64_t row, std::int64_t column);
void show_to_tiles();
void store_tile(const TileMap& to, std::int64_t index, std::int64_t row, std::int64_t column, const void* shared);
void wait_for_stored_tiles(int groups_under_way);
void finish_stored_tiles();
void wait_phase(PhaseBarrier* barrier, int parity);
TileMap tile_map(const void* matrices, std::int64_t count, std::int64_t rows, std::int64_t columns, int tile_rows, int tile_columns, int element_bytes);
void wait_team(Team team, int team_blocks, TeamBarrier* barrier);
[[noreturn]] void wait_for_word();
/// kernel: the function that thread_body calls.
void launch(const void* kernel, Team team, int team_blocks, std::int64_t blocks, int threads, std::int64_t shared_bytes, const std::function<void()>& thread_body);
std::int64_t resident_blocks(int threads, std::int64_t shared_bytes);
/// Where p, in the running block's shared memory, lies in that of block `rank` of its cluster.
const void* in_cluster(const void* p, int rank);
void copy(void* to, const void* from, std::size_t bytes);
/// The value at p, and back.
void load(void* value, const void* p, std::size_t bytes, Use use);
void store(void* p, const void* value, std::size_t bytes, Use use);
template <class T>
PRNN_DOOR T loaded(const T* p, Use use) {
  T x;
  load(&x, p, sizeof x, use);
  return x;
}
}  // namespace detail

// --- where am I -------------------------------------------------------------------------------------------------------
PRNN_DOOR int thread_index() { return detail::here.thread; }
PRNN_DOOR int thread_count() { return detail::here.threads; }
PRNN_DOOR std::int64_t block_index() { return detail::here.block; }
PRNN_DOOR std::int64_t block_count() { return detail::here.blocks; }

// --- block ------------------------------------------------------------------------------------------------------------
PRNN_DOOR void barrier() { detail::wait_barrier(); }
/// Barrier; true on every thread if any thread said so.
PRNN_DOOR bool barrier_or(bool predicate) { return detail::wait_barrier_or(predicate); }
/// Dynamic shared memory of the block, 128-byte aligned; every byte is 0xff (NaN) when a block starts.
template <class T>
PRNN_DOOR T* shared_memory() {
  return reinterpret_cast<T*>(detail::here.shared);
}

/// As kernels call it.
PRNN_DOOR void* memcpy(void* to, const void* from, std::size_t bytes) {
  detail::copy(to, from, bytes);
  return to;
}

// --- warp: all 32 lanes take part. T is any trivially copyable type of whole 4-byte words -----------------------------
namespace detail {
template <class T>
PRNN_DOOR T take_from_lane(int source_lane, const T& x) {
  static_assert(sizeof(T) % 4 == 0);
  T y;
  wait_shuffle(&x, &y, sizeof(T), source_lane);
  return y;
}
}  // namespace detail
template <class T>
PRNN_DOOR T shuffle_up(const T& x, int delta) {
  const int lane = thread_index() % kWarp;
  return detail::take_from_lane(lane >= delta ? lane - delta : lane, x);
}
template <class T>
PRNN_DOOR T shuffle_xor(const T& x, int mask) {
  return detail::take_from_lane((thread_index() ^ mask) % kWarp, x);
}

/// Waits until all lanes of the warp are here; what they wrote to shared memory is seen by all.
PRNN_DOOR void warp_barrier() { detail::take_from_lane(thread_index() % kWarp, 0); }

// --- global memory ----------------------------------------------------------------------------------------------------
/// Storage -> compute of a value in a register.
template <class T>
PRNN_DOOR compute_t<T> widen(const T& x) {
  const T value = x;  // compilers show us assignments, but no arguments and results of calls
  return to_compute(value);
}
/// Read-only data as stored.
template <class T>
PRNN_DOOR T load_stored(const T* p) {
  return detail::loaded(p, detail::Use::read_only);
}
/// Read-only data, storage -> compute.
template <class T>
PRNN_DOOR compute_t<T> load(const T* p) {
  return widen(load_stored(p));
}
/// Compute -> storage, one rounding.
PRNN_DOOR void store(float* p, float x) { *p = x; }
PRNN_DOOR void store(double* p, double x) { *p = x; }
PRNN_DOOR void store(Bf16* p, float x) {
  const Bf16 value = to_bf16(x);
  *p = value;
}
PRNN_DOOR void store(F16* p, float x) {
  const F16 value = to_f16(x);
  *p = value;
}
/// The same for data that will not be read again.
template <class T>
PRNN_DOOR void store_streaming(T* p, compute_t<T> x) {
  store(p, x);
}

/// p[0] = x, p[1] = y, p at a whole word.
template <class T>
PRNN_DOOR void store_pair_streaming(T* p, float x, float y) {
  static_assert(sizeof(T) == 2);
  store(p, x);
  store(p + 1, y);
}

// --- asynchronous copies to shared memory: they land at their wait, not before ----------------------------------------
template <class Word>
PRNN_DOOR void copy_async(Word* shared, const Word* global) {
  detail::copy_async(shared, global, sizeof(Word));
}
/// Makes one group of this thread's copies since the last commit.
PRNN_DOOR void commit_copies() { detail::commit_copies(); }
/// Until at most `under_way` of this thread's groups, the latest, have not landed.
template <int under_way>
PRNN_DOOR void wait_copies() {
  detail::wait_copies(under_way);
}

// --- tiles: rectangles of a matrix that one thread copies to shared memory, where they land at the end of their phase or at once, and back ---
/// By one thread, before a barrier() that all pass who use it.
PRNN_DOOR void start_phases(PhaseBarrier* barrier, int arrivals) { detail::start_phases(barrier, arrivals); }
/// One arrival.
PRNN_DOOR void arrive(PhaseBarrier* barrier) { detail::arrive(barrier); }
/// One arrival that brings the tile of matrix `index` whose first element is (row, column) to `shared`, 128-byte aligned, [tile rows, tile columns]; zeros
/// where it is beyond the matrix.
PRNN_DOOR void arrive_with_tile(PhaseBarrier* barrier, void* shared, const TileMap& from, std::int64_t index, std::int64_t row, std::int64_t column) {
  detail::arrive_with_tile(barrier, shared, from, index, row, column);
}
/// Before the barrier after which another thread stores a tile that this one has written to. A tile of which anything was written since the block's last
/// call (by whom, cannot be seen) is a DeviceError when it is stored: a thread that forgot is found where the schedule lets it write last.
PRNN_DOOR void show_to_tiles() { detail::show_to_tiles(); }
/// The way back, of what lies inside the matrix; `shared` is read and global memory written at wait_for_stored_tiles (at the block's end if nobody waits), or
/// at once. Makes a group of its own.
PRNN_DOOR void store_tile(const TileMap& to, std::int64_t index, std::int64_t row, std::int64_t column, const void* shared) { detail::store_tile(to, index, row, column, shared); }
/// Until all that this thread has stored is in memory; a barrier shows it to the block.
PRNN_DOOR void finish_stored_tiles() { detail::finish_stored_tiles(); }
/// Until at most `under_way` of this thread's groups, the latest, have not been read.
template <int under_way>
PRNN_DOOR void wait_for_stored_tiles() {
  detail::wait_for_stored_tiles(under_way);
}
/// Until the phase of that parity (0: the first, third, ..) has ended, not an earlier one of the same.
PRNN_DOOR void wait_phase(PhaseBarrier* barrier, int parity) { detail::wait_phase(barrier, parity); }
/// Host. Tiles [tile_rows, tile_columns] of matrices [count, rows, columns] of numbers as stored; DeviceError for what a GPU's driver refuses.
template <class T>
TileMap tile_map(const T* matrices, std::int64_t count, std::int64_t rows, std::int64_t columns, int tile_rows, int tile_columns) {
  return detail::tile_map(matrices, count, rows, columns, tile_rows, tile_columns, int(sizeof(T)));
}

// --- atomics on global memory: fibers switch only where they wait, so plain arithmetic is atomic ----------------------
namespace detail {
/// *p = f(*p).
template <class T, class F>
PRNN_DOOR void update(T* p, const F& f) {
  const T x = f(loaded(p, Use::atomic_update));
  store(p, &x, sizeof x, Use::atomic_update);
}
}  // namespace detail
PRNN_DOOR void atomic_min(std::int64_t* p, std::int64_t x) {
  detail::update(p, [x](std::int64_t old) { return std::min(old, x); });
}
PRNN_DOOR void atomic_min(int* p, int x) {
  detail::update(p, [x](int old) { return std::min(old, x); });
}
PRNN_DOOR void atomic_max(int* p, int x) {
  detail::update(p, [x](int old) { return std::max(old, x); });
}
PRNN_DOOR void atomic_or(int* p, int x) {
  detail::update(p, [x](int old) { return old | x; });
}
PRNN_DOOR void atomic_add(std::int64_t* p, std::int64_t x) {
  detail::update(p, [x](std::int64_t old) { return old + x; });
}
/// Maximum of values >= 0; NaN is larger than everything, so a maximum never loses one. *p must hold a value >= 0.
PRNN_DOOR void atomic_max_magnitude(double* p, double x) {
  detail::update(reinterpret_cast<std::uint64_t*>(p), [x](std::uint64_t old) {
    std::uint64_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return std::max(old, bits & 0x7fffffffffffffffu);
  });
}
/// Of what other threads write meanwhile, each without tearing; nothing is put in order by it.
PRNN_DOOR int atomic_load(const int* p) { return detail::loaded(p, detail::Use::atomic_read); }
PRNN_DOOR void atomic_store(int* p, int x) { detail::store(p, &x, sizeof x, detail::Use::atomic_write); }

// --- words that the blocks of a launch show each other, in the order of tickets: only one who has begun is waited for ----
/// The next number of a counter in global memory, from 0 on. It only ever grows.
PRNN_DOOR std::int64_t take_ticket(std::int64_t* counter) {
  const std::int64_t ticket = detail::loaded(counter, detail::Use::atomic_update), next = ticket + 1;
  detail::store(counter, &next, sizeof next, detail::Use::atomic_update);
  return ticket;
}
/// Four bytes, and the number of the launch that wrote them: seen together or not at all. In global memory, zero once.
struct alignas(8) TaggedWord {
  std::uint32_t word, tag;
};
PRNN_DOOR void show_word(TaggedWord* p, TaggedWord x) { detail::store(p, &x, sizeof x, detail::Use::atomic_write); }
PRNN_DOOR TaggedWord see_word(const TaggedWord* p) { return detail::loaded(p, detail::Use::atomic_read); }
/// Blocks run one after another: a word that is not there now never comes.
PRNN_DOOR void wait_for_word() { detail::wait_for_word(); }

// --- teams: consecutive blocks that run together ----------------------------------------------------------------------
/// Waits for all threads of all blocks of the team; load_shared_by_team then shows what any of them wrote to global memory before,
/// load_from_cluster what they wrote to shared memory.
PRNN_DOOR void team_barrier(Team team, int team_blocks, TeamBarrier* barrier) { detail::wait_team(team, team_blocks, barrier); }
/// What another block wrote in this launch. T: float, double, int, std::int64_t.
template <class T>
PRNN_DOOR T load_shared_by_team(const T* p) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  return detail::loaded(p, detail::Use::read_from_all);
}
template <class T>
PRNN_DOOR void store_for_team(T* p, T x) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  *p = x;
}

/// Waits for all threads of all blocks of the cluster.
PRNN_DOOR void cluster_farewell() { detail::wait_team(Team::cluster, detail::here.team_blocks, nullptr); }
/// What lies in the shared memory of block `rank` of my cluster where p lies in mine; NaN where that block has ended.
template <class T>
PRNN_DOOR T load_from_cluster(const T* p, int rank) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  return detail::loaded(static_cast<const T*>(detail::in_cluster(p, rank)), detail::Use::read_from_all);
}

// --- launches ---------------------------------------------------------------------------------------------------------
/// The kernel; the emulated GPU has those alone that were compiled with the program.
template <class Function>
Function* ready(const Variant<Function>& variant, const Machine&) {
  if (!variant.ahead) throw DeviceError(variant.source.expression + " is not compiled with the program");
  return variant.ahead;
}
/// Runs kernel on blocks x threads; throws DeviceError for a launch a GPU would refuse, for a wait that could never end, and passes on
/// whatever the kernel throws.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), std::int64_t blocks, int threads, std::int64_t shared_bytes, void* /*stream*/, Arguments... args) {
  detail::launch(reinterpret_cast<const void*>(kernel), Team::block, 1, blocks, threads, shared_bytes, [&] { kernel(static_cast<Parameters>(args)...); });
}
/// Blocks that the emulated GPU holds at once: a launch of Team::grid may not have more.
template <class... Parameters>
std::int64_t resident_blocks(void (* /*kernel*/)(Parameters...), int threads, std::int64_t shared_bytes) {
  return detail::resident_blocks(threads, shared_bytes);
}
/// As launch(); every team_blocks consecutive blocks are a team, and blocks is a multiple of it. A barrier at which not all of a team can
/// arrive, or that is another team's, is a DeviceError.
template <class... Parameters, class... Arguments>
void launch_team(Team team, int team_blocks, void (*kernel)(Parameters...), std::int64_t blocks, int threads, std::int64_t shared_bytes, void* /*stream*/, Arguments... args) {
  detail::launch(reinterpret_cast<const void*>(kernel), team, team_blocks, blocks, threads, shared_bytes, [&] { kernel(static_cast<Parameters>(args)...); });
}
/// bytes of `byte` from p on.
inline void fill_async(void* p, int byte, std::int64_t bytes, void* /*stream*/) {
  std::memset(p, byte, std::size_t(bytes));
  detail::set_contents(p, std::size_t(bytes), detail::Content::written);
}

// --- recorded work: see graph.cuh -------------------------------------------------------------------------------------
class CapturedGraph {
 public:
  explicit CapturedGraph(std::function<void(void* stream)> work) : work_(std::move(work)) {}
  void launch(void* stream) { work_(stream); }

 private:
  std::function<void(void*)> work_;
};

using LoopHandle = bool*;
/// Whether the loop's body runs (again); by one thread of one kernel of its prologue or body.
PRNN_DOOR void set_continue(LoopHandle loop, bool value) { *loop = value; }

class ConditionalLoop {
 public:
  using Work = std::function<void(void* stream, LoopHandle)>;
  ConditionalLoop(Work prologue, Work body) : prologue_(std::move(prologue)), body_(std::move(body)) {}
  void launch(void* stream) {
    bool go_on = true;
    prologue_(stream, &go_on);
    while (go_on) body_(stream, &go_on);
  }

 private:
  Work prologue_, body_;
};

}  // namespace prnn::emulated
