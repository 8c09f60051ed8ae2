// scan.cuh: scan of maps along the time-threads of a block, for any Map that has compose(earlier, later): affine.hpp's, in kernels.
//
// Threads are numbered t * lanes + g: g one of `lanes` channels (a power of two), t the time-thread. Neighbours in time are `lanes` threads
// apart, so a warp holds 32 / lanes times of every channel, or with 32 lanes and more, one time of some. The scan has two levels:
//   1. inside a warp, Hillis and Steele's: log2(32 / lanes) shuffles;
//   2. across warps: each leaves its composition in shared memory, in a row of all channels, and each thread composes the rows before its own,
//      in order.
// The order of compositions is fixed, so results are bitwise the same on every run.
#pragma once

#include "kernels/fault.hpp"
#include "kernels/primitives/affine.hpp"
#include "kernels/primitives/device.cuh"

namespace prnn::PRNN_BACKEND {

/// Element of a scan over several sequences that lie end to end; starts: it is the first of its sequence.
template <class Map>
struct Segmented {
  Map map;
  int starts;
};

/// Its operator: what starts forgets what came before it. By a flag, not by J = 0: 0 x inf would let a diverged sequence into the next.
struct ComposeSegments {
  template <class Map>
  PRNN_HD Segmented<Map> operator()(const Segmented<Map>& earlier, const Segmented<Map>& later) const {
    if (PRNN_FAULT(59, later.starts, 0)) return later;
    return {compose(earlier.map, later.map), earlier.starts};
  }
};

template <class Map>
class BlockScan {
 public:
  /// Maps of shared memory that a block needs.
  PRNN_HD static constexpr int shared_maps(int threads, int lanes) { return threads / (lanes < kWarp ? kWarp : lanes) * lanes; }

  /// shared [rows, lanes].
  PRNN_DEVICE BlockScan(Map* shared, int lanes) : shared_(shared), lanes_(lanes) {}

  /// First half, before a barrier of the caller's (which may be its vote): takes this time-thread's own map. All threads of the block.
  PRNN_DEVICE void publish(Map map) {
    const int lane = thread_index() % kWarp;
    PRNN_UNROLL for (int level = 0; level < 5; ++level) {  // 2^5 lanes
      const int distance = lanes_ << level;
      if (distance >= kWarp) break;
      const Map earlier = shuffle_up(map, distance), both = compose(earlier, map);
      if (lane >= distance) map = both;
    }
    before_in_warp_ = shuffle_up(map, lanes_);
    if (lane >= kWarp - lanes_) shared_[slot(row())] = map;
  }

  /// Second half, after that barrier: the composition of the maps of all earlier time-threads (identity for the first).
  /// Another barrier must come before the next publish.
  PRNN_DEVICE Map before() const {
    const int mine = row();
    const bool first_in_warp = thread_index() % kWarp < lanes_;
    // No identity enters a product: inf x 0 would make a NaN of a map that has overflowed.
    if (mine == 0) return PRNN_FAULT(9, first_in_warp, false) ? Map::identity() : before_in_warp_;
    Map map = shared_[slot(0)];
    constexpr int kTogether = 4;  // rows that are read at once: their composition waits for shared memory only once
    PRNN_NO_UNROLL for (int r = 1; r < mine; r += kTogether) {
      Map row[kTogether];
      PRNN_UNROLL for (int i = 0; i < kTogether; ++i) row[i] = shared_[slot(r + i < mine ? r + i : r)];
      PRNN_UNROLL for (int i = 0; i < kTogether; ++i) {
        if (r + i < mine) map = PRNN_FAULT(8, compose(map, row[i]), compose(row[i], map));
      }
    }
    return first_in_warp ? map : compose(map, before_in_warp_);
  }

 private:
  PRNN_DEVICE int row() const { return thread_index() / (lanes_ < kWarp ? kWarp : lanes_); }
  PRNN_DEVICE int slot(int row) const { return row * lanes_ + (thread_index() & (lanes_ - 1)); }

  Map* shared_;
  int lanes_;
  Map before_in_warp_;
};

}  // namespace prnn::PRNN_BACKEND
