// team.cuh: how the blocks of a team find out whether their stretches of a sequence meet: each shows the others the states that its first
// segment starts from and its last one ends in. In a cluster they read each other's shared memory (250 cycles instead of the way to the
// cache that all share and back), in a grid global memory.
#pragma once

#include "kernels/fault.hpp"
#include "kernels/primitives/channel.cuh"
#include "kernels/primitives/segments.hpp"

namespace prnn::PRNN_BACKEND {

/// A block's page: two copies, for odd and even rounds, so that nobody overwrites what is being read, of width = 2^log_width channels.
template <class C, int K>
class TeamBoard {
 public:
  PRNN_HD static constexpr std::int64_t edges(int width) { return 4 * width; }  // [2, first | last, width]
  static constexpr std::int64_t kFlags = 2;                                     // [2]

  /// blocks: of the team; runs_to: those that have segments. edges, flags: this block's page, shared memory of a cluster, else global memory
  /// where the pages of a team follow one another. barrier: of a grid.
  PRNN_DEVICE TeamBoard(Team team, int rank, int blocks, int runs_to, int log_width, State<C, K>* edges, int* flags, TeamBarrier* barrier)
      : team_(team), rank_(rank), blocks_(blocks), runs_to_(runs_to), log_width_(log_width), edges_(edges), flags_(flags), barrier_(barrier) {}

  /// All threads of the team's blocks. firsts, lasts [width]: states that the block's first segment starts from and its last ends in; failed:
  /// a boundary inside the block fails. True if any boundary of the team does.
  PRNN_DEVICE bool meet(int round, const State<C, K>* firsts, const State<C, K>* lasts, bool failed) const {
    for (int c = thread_index(); c < width(); c += thread_count()) {
      show(edge(round, 0, c), firsts[c]);
      show(edge(round, 1, c), lasts[c]);
    }
    failed = barrier_or(failed);
    if (thread_index() == 0) show(flags_ + (round & 1), int(failed));
    team_barrier(team_, blocks_, barrier_);
    bool fails = false;
    for (int i = thread_index(); i < runs_to_ << log_width_; i += thread_count()) {
      const int r = i >> log_width_, c = i & (width() - 1);
      const int inside = see(flags_ + (round & 1), kFlags, r);
      bool parts = false;
      if (r + PRNN_FAULT(14, 1, 2) < runs_to_) {
        const State<C, K> end = see_edge(round, 1, c, r), start = see_edge(round, 0, c, r + 1);
        parts = !continues(start.x, end.x);
      }
      fails = fails | parts | (inside != 0);  // no short cut: what has been read must have come before leave()
    }
    return barrier_or(fails);
  }
  /// The state that channel c ended in, in the block before.
  PRNN_DEVICE State<C, K> before(int round, int c) const { return see_edge(round, 1, c, rank_ - 1); }
  /// Before the block ends: others may still be reading what it shows.
  PRNN_DEVICE void leave() const {
    if (team_ == Team::cluster) cluster_farewell();
  }

 private:
  PRNN_DEVICE int width() const { return 1 << log_width_; }
  PRNN_DEVICE State<C, K>* edge(int round, int last, int c) const { return edges_ + ((round & 1) * 2 + last) * width() + c; }
  PRNN_DEVICE State<C, K> see_edge(int round, int last, int c, int rank) const {
    State<C, K> state;
    PRNN_UNROLL for (int k = 0; k < K; ++k) state.x[k] = see(&edge(round, last, c)->x[k], edges(width()) * K, rank);
    return state;
  }
  PRNN_DEVICE void show(State<C, K>* p, const State<C, K>& state) const { PRNN_UNROLL for (int k = 0; k < K; ++k) show(&p->x[k], state.x[k]); }
  template <class W>
  PRNN_DEVICE void show(W* p, W x) const {
    if (team_ == Team::cluster) {
      *p = x;
    } else {
      store_for_team(p, x);
    }
  }
  /// What block `rank` shows where this block shows *p; pages of `stride` words.
  template <class W>
  PRNN_DEVICE W see(const W* p, std::int64_t stride, int rank) const {
    return team_ == Team::cluster ? load_from_cluster(p, rank) : load_shared_by_team(p + (rank - rank_) * stride);
  }

  const Team team_;
  const int rank_, blocks_, runs_to_, log_width_;
  State<C, K>* const edges_;
  int* const flags_;
  TeamBarrier* const barrier_;
};

}  // namespace prnn::PRNN_BACKEND
