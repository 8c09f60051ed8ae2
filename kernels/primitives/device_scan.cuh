// device_scan.cuh: one scan of the maps of all channels, that lie in memory a channel after another [B D, L], by CUB (device_scan.cu); and how a block
// transposes between that order and the tensors', channel fastest. CUB's order of compositions varies from run to run.
#pragma once

#include "kernels/fault.hpp"
#include "kernels/primitives/policy.hpp"
#include "kernels/primitives/scan.cuh"
#include "kernels/primitives/stored.cuh"

namespace prnn::PRNN_BACKEND {

/// An element of the scan over all channels.
template <class C, int K>
using Element = Segmented<Affine<C, K>>;

#ifndef __CUDACC_RTC__
/// In place. C: float or double, K: 1 or 2.
template <class C, int K>
struct DeviceScan {
  static std::int64_t bytes(std::int64_t count);  // of workspace
  static void run(void* workspace, std::int64_t workspace_bytes, Element<C, K>* elements, std::int64_t count, Stream);
#if defined(__CUDACC__)
  static constexpr int kLaunches = 2;
#else
  static constexpr int kLaunches = 1;
#endif
};
#endif

// A transposing block: 32 channels x 8 rows of threads, 16 steps of each channel.
inline constexpr int kTileChannels = 32, kTileSteps = 16, kTileRows = 8;

/// Where a transposing block works, and what a thread does in it: steps with the channel fastest on one side, with the step fastest on the other.
template <class Cell>
struct TransposedTile {
  Layout<Cell> at;
  std::int64_t b, first_l, first_d;

  static std::int64_t blocks(const Layout<Cell>& at) { return at.batch * ceil_div(at.seq_len, kTileSteps) * ceil_div(at.hidden, kTileChannels); }
  PRNN_DEVICE explicit TransposedTile(const Layout<Cell>& layout) : at(layout) {
    const std::int64_t across = ceil_div(at.hidden, kTileChannels), along = ceil_div(at.seq_len, kTileSteps), row = block_index() / across;
    first_d = block_index() % across * kTileChannels;
    first_l = row % along * kTileSteps;
    b = row / along;
  }
  /// This thread's channel where neighbouring threads are neighbouring channels; >= hidden: none.
  PRNN_DEVICE std::int64_t my_channel() const { return first_d + thread_index() % kTileChannels; }
  /// f(slot in shared memory, l, d, load(l, d)) for this thread's steps; neighbouring threads are neighbouring channels. All its loads wait for memory together.
  template <class Load, class F>
  PRNN_DEVICE void for_each_channel_fastest(Load&& load, F&& f) const {
    constexpr int kMine = kTileSteps / kTileRows;
    const std::int64_t d = my_channel(), c = d - first_d;
    decltype(load(first_l, d)) loaded[kMine] = {};
    const auto step = [](int i) { return thread_index() / kTileChannels + i * kTileRows; };
    const auto exists = [&](int i) { return d < at.hidden && first_l + step(i) < at.seq_len; };
    PRNN_UNROLL for (int i = 0; i < kMine; ++i) {
      if (exists(i)) loaded[i] = load(first_l + step(i), d);
    }
    PRNN_UNROLL for (int i = 0; i < kMine; ++i) {
      if (exists(i)) f(int(c) * kPitch + step(i), first_l + step(i), d, loaded[i]);
    }
  }
  /// f(slot, l, d), one step after the other.
  template <class F>
  PRNN_DEVICE void for_each_channel_fastest(F&& f) const {
    const std::int64_t d = my_channel(), c = d - first_d;
    for (int s = thread_index() / kTileChannels; s < kTileSteps; s += kTileRows) {
      if (d < at.hidden && first_l + s < at.seq_len) f(int(c) * kPitch + s, first_l + s, d);
    }
  }
  /// f(slot, l, d); neighbouring threads are neighbouring steps.
  template <class F>
  PRNN_DEVICE void for_each_step_fastest(F&& f) const {
    const int s = thread_index() % kTileSteps;
    for (int c = thread_index() / kTileSteps; c < kTileChannels; c += kTileChannels * kTileRows / kTileSteps) {
      if (first_d + c < at.hidden && first_l + s < at.seq_len) f(c * kPitch + s, first_l + s, first_d + c);
    }
  }
  static constexpr int kPitch = kTileSteps + 1;  // odd: a column of the tile lies in different banks
  static constexpr int kSlots = kTileChannels * kPitch;
};

}  // namespace prnn::PRNN_BACKEND
