// policy.hpp: launch policies of the device solvers. A policy is a plain value computed from sizes: printable, recorded, never a #define.
// Problem.policy overrides a field by its name; keys that a solver does not have are another solver's and are left alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "kernels/api.hpp"
#include "kernels/cells/scalar.hpp"

namespace prnn {

/// Multiprocessors that a grid should reach before its blocks grow (H100, H200: 132).
inline constexpr std::int64_t kMultiprocessors = 132;

PRNN_HD constexpr std::int64_t ceil_div(std::int64_t n, std::int64_t d) { return (n + d - 1) / d; }

/// Smallest power of two >= n, n >= 1.
constexpr std::int64_t power_of_two_from(std::int64_t n) {
  std::int64_t p = 1;
  while (p < n) p *= 2;
  return p;
}
constexpr bool is_power_of_two(std::int64_t n) { return n > 0 && (n & (n - 1)) == 0; }

// ---------------------------------------------------------------------------------------------------------------------
// Sequential: one thread a channel

/// Channels a thread: as many as make a 4-byte word of storage, where every row of the tensors starts at a whole word.
template <class T>
inline constexpr int kWordChannels = sizeof(T) < 4 ? int(4 / sizeof(T)) : 1;

/// Threads a block at most: the inputs in flight take registers.
inline constexpr int kMostSequentialThreads = 256;

struct SequentialPolicy {
  int threads;  // a block
  bool operator==(const SequentialPolicy&) const = default;
};

/// Few channels spread over many multiprocessors, a warp each; blocks grow once every multiprocessor holds the 32 blocks it can.
constexpr SequentialPolicy sequential_policy(std::int64_t channels) {
  int threads = 32;
  while (threads < 128 && ceil_div(channels, threads) > 32 * kMultiprocessors) threads *= 2;
  return {threads};
}

// ---------------------------------------------------------------------------------------------------------------------
// Walking along the sequence: inputs are copied ahead of it

/// Steps ahead at most, a multiple of 8.
template <class T>
inline constexpr int kMostPrefetch = sizeof(T) == 8 ? 8 : 24;

/// Enough to hide the latency; more, from many places at once, only closes the memory's pages: 8 x 1024 x 8192 f32, 16 instead of 24 steps: LSTM 352
/// instead of 364 us. Short runs wait for their first bytes instead: GRU 8 x 256 x 2048 29.3, not 28.1.
inline constexpr int kTilePrefetch = 16;
constexpr int shooting_prefetch(std::int64_t channels, std::int64_t seq_len, std::int64_t storage_bytes) {
  return storage_bytes == 8 ? kMostPrefetch<double> : channels * seq_len >= 1 << 24 ? 16 : kMostPrefetch<float>;
}

/// prefetch is compiled with the program: 16 where it gains, f32 and states of two components. (A GRU in bf16 computes: 16 steps cost it 1 to 5 %.)
constexpr bool shooting_has_prefetch(std::int64_t steps, int state, std::int64_t storage_bytes) {
  return steps == (storage_bytes == 8 ? kMostPrefetch<double> : kMostPrefetch<float>) || (steps == 16 && (storage_bytes == 4 || (storage_bytes == 2 && state >= 2)));
}

/// Sequential in one launch. tiles: inputs come as tiles [steps, threads] instead of words a thread.
struct FusedPolicy {
  int threads, tiles;
  bool operator==(const FusedPolicy&) const = default;
};

/// Tiles: f32, blocks that end where a sequence's channels do, rows numbered in 32 bits.
constexpr bool tiles_fit(std::int64_t batch, std::int64_t hidden, std::int64_t seq_len, Storage storage, std::int64_t threads) {
  return storage == Storage::f32 && hidden % threads == 0 && batch * seq_len <= std::int64_t(1) << 28;
}

/// Tiles as wide as leave nearly every multiprocessor one: there memory is the limit. Fewer channels wait for their own chain of steps.
constexpr FusedPolicy fused_policy(std::int64_t batch, std::int64_t hidden, std::int64_t seq_len, Storage storage) {
  const std::int64_t channels = batch * hidden;
  for (const int threads : {256, 128}) {
    if (channels >= 120 * threads && tiles_fit(batch, hidden, seq_len, storage, threads)) return {threads, 1};
  }
  return {sequential_policy(channels).threads, 0};
}

// ---------------------------------------------------------------------------------------------------------------------
// Shooting: a team of blocks holds channels_a_block neighbouring channels and cuts each into `segments`

struct ShootingPolicy {
  int segments, overlap, channels_a_block, blocks_a_team, prefetch;
  bool operator==(const ShootingPolicy&) const = default;
#ifndef __CUDACC_RTC__
  Policy printed() const {
    return {{"segments", segments}, {"overlap", overlap}, {"channels_a_block", channels_a_block}, {"blocks_a_team", blocks_a_team}, {"prefetch", prefetch}};
  }
#endif
};

inline constexpr int kMostShootingThreads = 256;
/// Threads side by side along the channels, at most.
inline constexpr int kMostShootingLanes = kMostShootingThreads;
/// Blocks of a cluster (sm_90); larger teams are a whole grid.
inline constexpr int kMostClusterBlocks = 16;
inline constexpr int kMostTeamBlocks = 1024;

/// Steps after which two runs of a cell that forgets are at the same state, to the bit: in regime paper 9,999 of 10,000 boundaries need 43
/// steps in float; a few more where there are so many that one would fail. A double has 29 more bits to forget.
constexpr int shooting_overlap(std::int64_t channels, std::int64_t seq_len, std::int64_t storage_bytes) {
  return storage_bytes == 8 ? 120 : channels * seq_len <= 1 << 17 ? 48 : 56;
}

/// Enough threads that memory never waits for them: 8 warps a multiprocessor, or 16 where a byte moved is more arithmetic. Segments are no shorter
/// than 8 steps, 16 or 32 in longer sequences: fewer blocks meet faster. The blocks of a team share out the segments until half of the
/// multiprocessors have one, or all where the blocks are full.
/// Channels side by side decide how many distant places a multiprocessor reads at once: cache lines, and beyond them pages. Measured on an H200:
/// whole rows where there are many channels or many pages, fewer where they would leave multiprocessors idle or a short sequence waits for a team.
constexpr ShootingPolicy shooting_policy(std::int64_t batch, std::int64_t hidden, std::int64_t seq_len, std::int64_t storage_bytes, bool approximate) {
  const std::int64_t word = storage_bytes < 4 && hidden % 2 == 0 ? 2 : 1, units = ceil_div(batch * hidden, word);
  const int overlap = shooting_overlap(batch * hidden, seq_len, storage_bytes);
  const std::int64_t wanted = (storage_bytes < 4 ? 512 : 256) * kMultiprocessors / units, shortest = seq_len >= 4096 ? 32 : seq_len >= 1024 ? 16 : 8;
  const std::int64_t segments = std::clamp<std::int64_t>(wanted, 1, std::max<std::int64_t>((seq_len - overlap) / shortest, 1));
  const std::int64_t widest = units >= 16384 && approximate ? 128 : units >= 8192 || seq_len >= 1 << 16 ? 64 : units >= 2048 ? 32 : seq_len >= (units < 512 ? 4096 : 1024) ? 16 : 8;
  const std::int64_t lanes = std::min<std::int64_t>(units >= 32768 ? 32 : widest, power_of_two_from(units)), groups = ceil_div(units, lanes);
  const std::int64_t most_blocks = seq_len >= 4096 ? 128 : kMostClusterBlocks;
  std::int64_t blocks = 1;
  const auto fits = [&](std::int64_t n) { return n <= kMostClusterBlocks || groups * n <= kMultiprocessors; };  // a grid is resident at once
  const auto more = [&] { return groups * blocks < 60 || (groups * blocks < 120 && segments * lanes > kMostShootingThreads * blocks); };
  while (blocks < most_blocks && more() && segments * lanes >= 64 * blocks && fits(2 * blocks)) blocks *= 2;
  return {int(segments), overlap, int(lanes * word), int(blocks), shooting_prefetch(batch * hidden, seq_len, storage_bytes)};
}

// ---------------------------------------------------------------------------------------------------------------------
// Newton on tiles: a block holds channels_a_block channels x threads / channels_a_block time-threads x steps_a_thread steps

struct NewtonPolicy {
  int threads, steps_a_thread, channels_a_block;
  constexpr int tile() const { return threads / channels_a_block * steps_a_thread; }
  bool operator==(const NewtonPolicy&) const = default;
};

/// Channels a block: a power of two; at most 16, so that a warp holds two time-threads.
inline constexpr int kMostChannelsABlock = 16;

/// Threads a block at most: double and two-component states need more than the 64 registers a thread that 1024 of them leave.
constexpr int newton_most_threads(int state, std::int64_t compute_bytes) { return compute_bytes == 8 || state >= 2 ? 512 : 1024; }

/// Whole 32-byte sectors (8 f32 channels a block) unless that leaves multiprocessors idle; then as many time-threads as the sequence needs,
/// up to an equal share of the threads that the machine can hold.
constexpr NewtonPolicy newton_policy(std::int64_t batch, std::int64_t hidden, std::int64_t seq_len, int state, std::int64_t storage_bytes) {
  std::int64_t channels = std::min(32 / storage_bytes, power_of_two_from(std::min<std::int64_t>(hidden, kMostChannelsABlock)));
  while (channels > 1 && batch * ceil_div(hidden, channels) < kMultiprocessors) channels /= 2;
  const std::int64_t blocks = batch * ceil_div(hidden, channels);
  const std::int64_t steps = storage_bytes != 4 ? 2 : seq_len * channels <= 256 ? 1 : seq_len * channels <= 512 ? 2 : 4;
  const std::int64_t share =
      std::clamp<std::int64_t>(power_of_two_from(kMultiprocessors * 1024 / blocks + 1) / 2, 128, newton_most_threads(state, std::max<std::int64_t>(storage_bytes, 4)));
  const std::int64_t wanted = power_of_two_from(ceil_div(std::min<std::int64_t>(seq_len, 4096), steps)) * channels;
  return {int(std::clamp<std::int64_t>(wanted, 32, share)), int(steps), int(channels)};
}

// ---------------------------------------------------------------------------------------------------------------------
// Reduction (pass backward): a block holds channels_a_block channels x the slots of a tile x kReductionSteps steps

struct ReductionPolicy {
  int threads, channels_a_block;
  bool operator==(const ReductionPolicy&) const = default;
};

/// More would leave a thread fewer than the 128 registers that its steps' derivatives need.
inline constexpr int kMostReductionThreads = 512;
/// Rows of tiles are numbered in 31 bits.
inline constexpr std::int64_t kMostTiledSteps = std::int64_t(1) << 28;
/// What a block may have of the shared memory of a multiprocessor (sm_90; smaller ones refuse the launch), and a tile of rows.
inline constexpr std::int64_t kMostSharedBytes = 227 * 1024;
inline constexpr int kMostTileRows = 256;
/// Tiles in shared memory: one that is computed, one on its way back, two that come. (3: 8 x 4096 x 2048 f32 GRU 534 instead of 529 us, LSTM 680 instead of 613.)
inline constexpr int kReductionStages = 4;
/// Channels side by side in shared memory, at least.
PRNN_HD constexpr int reduction_panel(std::int64_t storage_bytes) { return storage_bytes == 2 ? 64 : 32; }
/// Steps a thread: as many as registers hold (f32 with one state: more gains nothing, and leaves no room for 512 threads' tiles).
PRNN_HD constexpr int reduction_steps(int state, std::int64_t storage_bytes) {
  if (storage_bytes == 8) return state >= 2 ? 1 : 2;
  if (storage_bytes == 4) return state >= 2 ? 3 : 4;
  return state >= 2 ? 4 : 8;
}

/// Wide blocks, as long as every multiprocessor has one (f32 with two states: two); where one is all it gets, a large one. Measured on an H200.
constexpr ReductionPolicy reduction_policy(std::int64_t batch, std::int64_t hidden, int state, std::int64_t storage_bytes) {
  const auto blocks = [&](int channels) { return batch * ceil_div(hidden, channels); };
  const bool in_pairs = state >= 2 && storage_bytes == 4;
  int channels = reduction_panel(storage_bytes);
  while (channels < (storage_bytes == 2 ? 128 : 64) && blocks(2 * channels) >= (in_pairs ? 240 : 120)) channels *= 2;
  return {(state == 1 && storage_bytes == 4) || blocks(channels) <= kMultiprocessors ? 512 : 256, channels};
}

/// Shooting backward: reduction by teams of blocks, a stretch of the sequence each.
struct ShootingCut {
  int segments, overlap;
  bool operator==(const ShootingCut&) const = default;
};
struct AdjointShootingPolicy {
  ReductionPolicy blocks;
  ShootingCut cut;
};

/// A block for every multiprocessor, stretches that are longer than what they overlap, and in short sequences no more of them than a cluster has blocks.
/// Clusters of three and more leave some multiprocessors of each of the machine's parts without one: three quarters. One stretch is reduction. Measured on an H200.
constexpr AdjointShootingPolicy adjoint_shooting_policy(std::int64_t batch, std::int64_t hidden, std::int64_t seq_len, int state, std::int64_t storage_bytes) {
  const int panel = reduction_panel(storage_bytes), overlap = shooting_overlap(batch * hidden, seq_len, storage_bytes);
  const std::int64_t teams = batch * ceil_div(hidden, panel), all = std::max<std::int64_t>(kMultiprocessors / teams, 1);
  const std::int64_t resident = all >= 3 && all <= kMostClusterBlocks ? all * 3 / 4 : all;
  const std::int64_t longest = std::min<std::int64_t>(seq_len / 64, seq_len < 4096 ? kMostClusterBlocks : seq_len < 16384 ? 32 : 64);
  const int segments = int(std::clamp<std::int64_t>(longest, 1, resident));
  if (segments == 1) return {reduction_policy(batch, hidden, state, storage_bytes), {segments, overlap}};
  return {{512, panel}, {segments, overlap}};
}

// ---------------------------------------------------------------------------------------------------------------------
// Chained scan (op reduction): a tile is channels_a_block channels x slots of steps_a_thread steps; the tiles of a team see each other

struct ChainedPolicy {
  int threads, channels_a_block, steps_a_thread, tiles_a_team, stages;
  constexpr int tile() const { return threads / channels_a_block * steps_a_thread; }
  bool operator==(const ChainedPolicy&) const = default;
};

inline constexpr int kMostChainedThreads = 512, kMostChainedChannels = 256, kMostChainedSteps = 64, kMostChainedTeam = 1024;
/// Tiles in a block's shared memory, at most: one that is computed, the others on their way.
inline constexpr int kMostChainedStages = 4;
/// Blocks of a launch, at most: each has as many tiles as come its way.
inline constexpr std::int64_t kMostChainedBlocks = 8192;
/// What memory moves while a team waits for the state of the one before: some 2 us.
inline constexpr std::int64_t kChainLinkBytes = std::int64_t(1) << 23;

/// Shared memory of a block: of a tile, and of all maps and states beside the tiles, at most.
constexpr std::int64_t chained_tile_bytes(const ChainedPolicy& policy, int state, std::int64_t storage_bytes) {
  return std::int64_t(policy.threads) * policy.steps_a_thread * state * (state + 1) * storage_bytes;
}
constexpr std::int64_t chained_maps_bytes(const ChainedPolicy& policy, int state, std::int64_t compute_bytes) {
  return (2 * policy.threads * (state + 1) + policy.channels_a_block) * state * compute_bytes + 1024;
}

/// Whole cache lines side by side, tiles of 24 or 32 KiB, no longer than the sequence; two blocks a multiprocessor have 100 KiB under way. Few channels move
/// little a step: their tiles are half as wide and twice as long. A team has as many tiles as memory needs longer for than a link of the chain takes: then
/// the chain from team to team is never what is waited for.
constexpr ChainedPolicy chained_policy(std::int64_t batch, std::int64_t hidden, std::int64_t seq_len, int state, std::int64_t storage_bytes) {
  const int steps = int((state >= 2 ? 16 : 64) / storage_bytes);
  const std::int64_t widest = batch * hidden <= 256 && seq_len >= 1 << 16 ? 16 : storage_bytes == 2 ? 64 : 32;
  const std::int64_t channels = std::min<std::int64_t>(power_of_two_from(hidden), widest);
  const std::int64_t threads = std::clamp<std::int64_t>(power_of_two_from(ceil_div(seq_len, steps)) * channels, 64, 256);
  ChainedPolicy policy{int(threads), int(channels), steps, 1, 3};
  const std::int64_t step_bytes = batch * hidden * state * (state + 2) * storage_bytes, tiles = ceil_div(seq_len, policy.tile());
  policy.tiles_a_team = int(std::min<std::int64_t>(power_of_two_from(std::min(ceil_div(kChainLinkBytes, step_bytes * policy.tile()), tiles)), 64));
  return policy;
}

// ---------------------------------------------------------------------------------------------------------------------
// Overrides

#ifndef __CUDACC_RTC__

/// The problem's value for a key, else the shipped one. The value is one of the solver's space.
inline int chosen(const Policy& overrides, const char* key, int shipped) {
  const auto found = overrides.find(key);
  return found == overrides.end() ? shipped : int(found->second);
}

/// Empty, or that a block cannot have so much shared memory.
std::string shared_memory_fault(std::int64_t bytes);

/// What several solvers' policies have alike. Steps ahead are a kernel's own: whole groups of eight.
inline PolicySpace sequential_space() { return {{.key = "threads", .least = 32, .most = kMostSequentialThreads, .multiple = 32}}; }
inline PolicySpace cut_space() { return {{.key = "segments", .most = 1 << 20}, {.key = "overlap", .least = 0, .most = 1 << 20}}; }
inline PolicyParameter prefetch_parameter() { return {.key = "prefetch", .least = 8, .most = 64, .multiple = 8, .compiled = true}; }
inline PolicyParameter team_parameter() { return {.key = "blocks_a_team", .most = kMostTeamBlocks}; }
inline PolicySpace reduction_space() {
  return {{.key = "threads", .least = 32, .most = kMostReductionThreads, .powers_of_two = true}, {.key = "channels_a_block", .most = 256, .powers_of_two = true}};
}

inline SequentialPolicy sequential_policy(const Problem& p) { return {chosen(p.policy, "threads", sequential_policy(p.batch * p.hidden).threads)}; }

inline bool tiles_fit(const Problem& p, std::int64_t threads) { return tiles_fit(p.batch, p.hidden, p.seq_len, p.storage, threads); }
inline FusedPolicy fused_policy(const Problem& p) {
  const FusedPolicy shipped = fused_policy(p.batch, p.hidden, p.seq_len, p.storage);
  const int tiles = chosen(p.policy, "tiles", shipped.tiles && tiles_fit(p, chosen(p.policy, "threads", shipped.threads)));
  return {chosen(p.policy, "threads", tiles == shipped.tiles ? shipped.threads : tiles ? 128 : sequential_policy(p.batch * p.hidden).threads), tiles};
}

/// Steps ahead of a policy of fused_policy().
inline int fused_prefetch(const Problem& p, const FusedPolicy& policy) {
  return chosen(p.policy, "prefetch", policy.tiles ? kTilePrefetch : p.storage == Storage::f64 ? kMostPrefetch<double> : kMostPrefetch<float>);
}

inline ShootingPolicy shooting_policy(const Problem& p) {
  const ShootingPolicy shipped = shooting_policy(p.batch, p.hidden, p.seq_len, size_of(p.storage), p.gates == "approx");
  return {chosen(p.policy, "segments", shipped.segments), chosen(p.policy, "overlap", shipped.overlap), chosen(p.policy, "channels_a_block", shipped.channels_a_block),
          chosen(p.policy, "blocks_a_team", shipped.blocks_a_team), chosen(p.policy, "prefetch", shipped.prefetch)};
}

/// state: kState of the problem's cell.
inline ReductionPolicy reduction_policy(const Problem& p, int state) {
  const ReductionPolicy shipped = reduction_policy(p.batch, p.hidden, state, size_of(p.storage));
  const int channels = std::max(chosen(p.policy, "channels_a_block", shipped.channels_a_block), reduction_panel(size_of(p.storage)));
  return {std::max(chosen(p.policy, "threads", shipped.threads), channels), channels};
}

/// state: kState of the problem's cell.
inline AdjointShootingPolicy adjoint_shooting_policy(const Problem& p, int state) {
  const AdjointShootingPolicy shipped = adjoint_shooting_policy(p.batch, p.hidden, p.seq_len, state, size_of(p.storage));
  const int channels = std::max(chosen(p.policy, "channels_a_block", shipped.blocks.channels_a_block), reduction_panel(size_of(p.storage)));
  return {{std::max(chosen(p.policy, "threads", shipped.blocks.threads), channels), channels},
          {chosen(p.policy, "segments", shipped.cut.segments), chosen(p.policy, "overlap", shipped.cut.overlap)}};
}

/// state: kState of the scan.
inline ChainedPolicy chained_policy(const Problem& p, int state) {
  const ChainedPolicy shipped = chained_policy(p.batch, p.hidden, p.seq_len, state, size_of(p.storage));
  const int channels = chosen(p.policy, "channels_a_block", shipped.channels_a_block);
  return {std::max(chosen(p.policy, "threads", shipped.threads), channels), channels, chosen(p.policy, "steps_a_thread", shipped.steps_a_thread),
          chosen(p.policy, "tiles_a_team", shipped.tiles_a_team), chosen(p.policy, "stages", shipped.stages)};
}

/// What a scan's tiles take of a block's shared memory must be there. state: as above.
inline std::string chained_fault(const Problem& p, int state) {
  const ChainedPolicy policy = chained_policy(p, state);
  return shared_memory_fault(chained_maps_bytes(policy, state, size_of(compute_storage(p.storage))) + policy.stages * chained_tile_bytes(policy, state, size_of(p.storage)));
}

/// state: kState of the problem's cell.
inline NewtonPolicy newton_policy(const Problem& p, int state) {
  const NewtonPolicy shipped = newton_policy(p.batch, p.hidden, p.seq_len, state, size_of(p.storage));
  return {chosen(p.policy, "threads", shipped.threads), chosen(p.policy, "steps_a_thread", shipped.steps_a_thread), chosen(p.policy, "channels_a_block", shipped.channels_a_block)};
}

/// Steps that newton_fused computes: whole tiles of them. Its time depends on seq_len through these alone.
inline std::int64_t newton_computed_steps(const Problem& p, int state) {
  const NewtonPolicy policy = newton_policy(p, state);
  const std::int64_t tile = policy.threads / policy.channels_a_block * policy.steps_a_thread;
  return ceil_div(p.seq_len, tile) * tile;
}

#endif  // __CUDACC_RTC__

}  // namespace prnn
