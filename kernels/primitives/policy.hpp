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

/// prefetch exists as compiled code: 16 where it gains, f32 and states of two components. (A GRU in bf16 computes: 16 steps cost it 1 to 5 %.)
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
  Policy printed() const {
    return {{"segments", segments}, {"overlap", overlap}, {"channels_a_block", channels_a_block}, {"blocks_a_team", blocks_a_team}, {"prefetch", prefetch}};
  }
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

/// steps_a_thread exists as compiled code: {1, 2, 4} for f32, {2} for the others.
constexpr bool newton_has_steps(std::int64_t steps, std::int64_t storage_bytes) { return steps == 2 || (storage_bytes == 4 && (steps == 1 || steps == 4)); }

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
/// Clusters of four and more leave some multiprocessors of each of the machine's parts without one: three quarters. Measured on an H200.
constexpr AdjointShootingPolicy adjoint_shooting_policy(std::int64_t batch, std::int64_t hidden, std::int64_t seq_len, std::int64_t storage_bytes) {
  const int panel = reduction_panel(storage_bytes), overlap = shooting_overlap(batch * hidden, seq_len, storage_bytes);
  const std::int64_t teams = batch * ceil_div(hidden, panel), all = std::max<std::int64_t>(kMultiprocessors / teams, 1);
  const std::int64_t longest = std::min<std::int64_t>(seq_len / 64, seq_len < 4096 ? kMostClusterBlocks : seq_len < 16384 ? 32 : 64);
  return {{512, panel}, {int(std::clamp<std::int64_t>(longest, 1, all >= 4 && all <= kMostClusterBlocks ? all * 3 / 4 : all)), overlap}};
}

// ---------------------------------------------------------------------------------------------------------------------
// Chained scan (op reduction): a block holds channels_a_block channels x the slots of a tile x kChainedSteps steps; the tiles of a team of blocks see each other

struct ChainedPolicy {
  int threads, channels_a_block, blocks_a_team;
  bool operator==(const ChainedPolicy&) const = default;
};

inline constexpr int kMostChainedThreads = 256, kMostChainedChannels = 256;
/// Steps a thread: their maps stay in registers, so that memory is read once; 80 registers leave every multiprocessor 768 threads, 96 KiB under way.
PRNN_HD constexpr int chained_steps(int state, std::int64_t storage_bytes) {
  if (storage_bytes == 8) return state >= 2 ? 2 : 8;
  return state >= 2 ? 4 : 16;
}

/// Whole cache lines side by side, blocks no longer than the sequence. A team of at most 64 tiles: what a tile reads of the others is a fraction of itself, and the
/// chain from team to team, some 2 us a link, is shorter than memory takes for that much. Few channels move little a step: their tiles are half as wide and
/// twice as long.
constexpr ChainedPolicy chained_policy(std::int64_t batch, std::int64_t hidden, std::int64_t seq_len, int state, std::int64_t storage_bytes) {
  const std::int64_t widest = batch * hidden <= 256 && seq_len >= 1 << 16 ? 16 : storage_bytes == 2 ? 64 : 32;
  const std::int64_t channels = std::min<std::int64_t>(power_of_two_from(batch * hidden), widest);
  const std::int64_t threads = std::clamp<std::int64_t>(power_of_two_from(ceil_div(seq_len, chained_steps(state, storage_bytes))) * channels, 64, kMostChainedThreads);
  const std::int64_t tile = threads / channels * chained_steps(state, storage_bytes);
  return {int(threads), int(channels), int(std::clamp<std::int64_t>(power_of_two_from(ceil_div(seq_len, tile)), 1, 64))};
}

// ---------------------------------------------------------------------------------------------------------------------
// Overrides

/// The problem's value for a key, else the shipped one. The value has been accepted by a *_why_not below.
inline int chosen(const Policy& overrides, const char* key, int shipped) {
  const auto found = overrides.find(key);
  return found == overrides.end() ? shipped : int(found->second);
}

/// Empty, or "policy KEY = VALUE: EXPECTED" for the first override that cannot be launched.
inline std::string policy_fault(const Policy& overrides, const char* key, bool (*accepts)(std::int64_t), const char* expected) {
  const auto found = overrides.find(key);
  if (found == overrides.end() || accepts(found->second)) return "";
  return "policy " + std::string(key) + " = " + std::to_string(found->second) + ": " + expected;
}
inline SequentialPolicy sequential_policy(const Problem& p) { return {chosen(p.policy, "threads", sequential_policy(p.batch * p.hidden).threads)}; }

inline bool tiles_fit(const Problem& p, std::int64_t threads) { return tiles_fit(p.batch, p.hidden, p.seq_len, p.storage, threads); }
inline FusedPolicy fused_policy(const Problem& p) {
  const FusedPolicy shipped = fused_policy(p.batch, p.hidden, p.seq_len, p.storage);
  const int tiles = chosen(p.policy, "tiles", shipped.tiles && tiles_fit(p, chosen(p.policy, "threads", shipped.threads)));
  return {chosen(p.policy, "threads", tiles == shipped.tiles ? shipped.threads : tiles ? 128 : sequential_policy(p.batch * p.hidden).threads), tiles};
}

inline std::string fused_why_not(const Problem& p) {
  const std::string fault = policy_fault(
      p.policy, "tiles", [](std::int64_t n) { return n == 0 || n == 1; }, "must be 0 or 1");
  const FusedPolicy policy = fused_policy(p);
  if (!fault.empty()) return fault;
  if (policy.tiles && !tiles_fit(p, policy.threads)) return "policy tiles = 1: f32 alone, hidden a multiple of threads = " + std::to_string(policy.threads);
  const int prefetch = policy.tiles ? kTilePrefetch : p.storage == Storage::f64 ? kMostPrefetch<double> : kMostPrefetch<float>;
  return chosen(p.policy, "prefetch", prefetch) == prefetch ? "" : "policy prefetch: this kernel is compiled for " + std::to_string(prefetch);
}

inline std::string sequential_why_not(const char* solver, const Problem& p) {
  if (p.iteration_limit) return std::string(solver) + " has no iterations to limit";
  return policy_fault(
      p.policy, "threads", [](std::int64_t n) { return n >= 32 && n <= kMostSequentialThreads && n % 32 == 0; }, "must be a multiple of 32 from 32 to 256");
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

inline std::string reduction_why_not(const Problem& p) {
  if (p.iteration_limit) return "reduction has no iterations to limit";
  const std::string fault = policy_fault(
      p.policy, "threads", [](std::int64_t n) { return is_power_of_two(n) && n >= 32 && n <= kMostReductionThreads; }, "must be 32, 64, 128, 256 or 512");
  return !fault.empty() ? fault
                        : policy_fault(
                              p.policy, "channels_a_block", [](std::int64_t n) { return is_power_of_two(n) && n <= 256; }, "must be a power of two up to 256");
}

inline AdjointShootingPolicy adjoint_shooting_policy(const Problem& p) {
  const AdjointShootingPolicy shipped = adjoint_shooting_policy(p.batch, p.hidden, p.seq_len, size_of(p.storage));
  const int channels = std::max(chosen(p.policy, "channels_a_block", shipped.blocks.channels_a_block), reduction_panel(size_of(p.storage)));
  return {{std::max(chosen(p.policy, "threads", shipped.blocks.threads), channels), channels},
          {chosen(p.policy, "segments", shipped.cut.segments), chosen(p.policy, "overlap", shipped.cut.overlap)}};
}

inline std::string shooting_cut_fault(const Policy& policy) {
  const std::string fault = policy_fault(
      policy, "segments", [](std::int64_t n) { return n >= 1 && n <= 1 << 20; }, "must be 1 to 1048576");
  return !fault.empty() ? fault
                        : policy_fault(
                              policy, "overlap", [](std::int64_t n) { return n >= 0 && n <= 1 << 20; }, "must be 0 to 1048576");
}

inline std::string shooting_why_not(const Problem& p) {
  if (p.iteration_limit) return "shooting has no iterations to limit";
  std::string fault = shooting_cut_fault(p.policy);
  if (fault.empty()) {
    fault = policy_fault(
        p.policy, "channels_a_block", [](std::int64_t n) { return is_power_of_two(n) && n <= 2 * kMostShootingLanes; }, "must be a power of two up to 512");
  }
  if (fault.empty()) {
    fault = policy_fault(
        p.policy, "blocks_a_team", [](std::int64_t n) { return n >= 1 && n <= kMostTeamBlocks; }, "must be 1 to 1024");
  }
  if (fault.empty()) {
    fault = p.storage == Storage::f64 ? policy_fault(
                                            p.policy, "prefetch", [](std::int64_t n) { return n == kMostPrefetch<double>; }, "must be 8 in this storage type")
                                      : policy_fault(
                                            p.policy, "prefetch", [](std::int64_t n) { return n == 16 || n == kMostPrefetch<float>; }, "must be 16 or 24");
  }
  return fault;
}

inline std::string adjoint_shooting_why_not(const Problem& p) {
  if (p.iteration_limit) return "shooting has no iterations to limit";
  const std::string fault = shooting_cut_fault(p.policy);
  return fault.empty() ? reduction_why_not(p) : fault;
}

/// state: kState of the scan.
inline ChainedPolicy chained_policy(const Problem& p, int state) {
  const ChainedPolicy shipped = chained_policy(p.batch, p.hidden, p.seq_len, state, size_of(p.storage));
  const int channels = chosen(p.policy, "channels_a_block", shipped.channels_a_block);
  return {std::max(chosen(p.policy, "threads", shipped.threads), channels), channels, chosen(p.policy, "blocks_a_team", shipped.blocks_a_team)};
}

inline std::string chained_why_not(const Problem& p) {
  if (p.iteration_limit) return "scan_chained has no iterations to limit";
  std::string fault = policy_fault(
      p.policy, "threads", [](std::int64_t n) { return is_power_of_two(n) && n >= 32 && n <= kMostChainedThreads; }, "must be 32, 64, 128 or 256");
  if (fault.empty()) {
    fault = policy_fault(
        p.policy, "channels_a_block", [](std::int64_t n) { return is_power_of_two(n) && n <= kMostChainedChannels; }, "must be a power of two up to 256");
  }
  if (fault.empty()) {
    fault = policy_fault(
        p.policy, "blocks_a_team", [](std::int64_t n) { return n >= 1 && n <= kMostTeamBlocks; }, "must be 1 to 1024");
  }
  return fault;
}

/// state: kState of the problem's cell.
inline NewtonPolicy newton_policy(const Problem& p, int state) {
  const NewtonPolicy shipped = newton_policy(p.batch, p.hidden, p.seq_len, state, size_of(p.storage));
  return {chosen(p.policy, "threads", shipped.threads), chosen(p.policy, "steps_a_thread", shipped.steps_a_thread), chosen(p.policy, "channels_a_block", shipped.channels_a_block)};
}

inline std::string newton_why_not(const Problem& p, int state) {
  std::string fault = policy_fault(
      p.policy, "threads", [](std::int64_t n) { return n >= 32 && n <= 1024 && n % 32 == 0; }, "must be a multiple of 32 from 32 to 1024");
  if (fault.empty()) {
    fault = policy_fault(
        p.policy, "channels_a_block", [](std::int64_t n) { return is_power_of_two(n) && n <= kMostChannelsABlock; }, "must be 1, 2, 4, 8 or 16");
  }
  if (fault.empty()) {
    fault = p.storage == Storage::f32 ? policy_fault(
                                            p.policy, "steps_a_thread", [](std::int64_t n) { return newton_has_steps(n, 4); }, "f32 is compiled for 1, 2 and 4")
                                      : policy_fault(
                                            p.policy, "steps_a_thread", [](std::int64_t n) { return newton_has_steps(n, 8); }, "is compiled for 2 in this storage type");
  }
  if (!fault.empty()) return fault;
  const int most = newton_most_threads(state, size_of(compute_storage(p.storage))), threads = newton_policy(p, state).threads;
  if (threads > most) return "policy threads = " + std::to_string(threads) + ": at most " + std::to_string(most) + " for this cell and storage type";
  return "";
}

}  // namespace prnn
