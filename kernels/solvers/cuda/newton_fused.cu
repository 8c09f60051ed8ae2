// newton_fused.cu: Newton's method over the sequence in one launch: guess, iterations, scans and the convergence test.
//   u [B, L, kInputs, D], a [kWeights, D], h0 [B, kState, D] -> h [B, L, kState, D], last [B, kState, D]
// Danieli et al. 2025 (arXiv:2510.21450), eq. 2.1 and A.1: guess h_l = f(0, u_l); then dh_l = J_l dh_{l-1} + r_l with J_l = df/dh at h_{l-1} and
// r_l = f(h_{l-1}, u_l) - h_l, and h += dh. The linear recurrence in dh is a scan of affine maps.
//
// A block holds `lanes` channels of one batch row (neighbours in memory: whole sectors) and threads / lanes time-threads of S consecutive
// steps each. That is a tile; tiles follow one another along the sequence, each starting from the last state of the one before (the carry).
// Inputs, iterate and maps stay in registers for all iterations of a tile; shared memory holds only what crosses a warp.
//
// One iteration, two barriers:
//     publish the warp's last states | barrier | f, J, r of own steps; test; scan inside the warp; publish its map | barrier + vote | h += dh
//
// Iterations are adaptive: a channel stops at the first iterate whose residuals all pass (Fit in convergence.hpp). A stopped channel is not
// touched again while others of its block go on, so no channel's bits depend on its neighbours. After k solves the first k states are exact,
// so tile + 1 solves are enough in exact arithmetic: the cap.
// With a fixed count, as in the paper, nothing is tested.
#include <bit>
#include <vector>

#include "kernels/fault.hpp"
#include "kernels/primitives/affine.hpp"
#include "kernels/primitives/channel.cuh"
#include "kernels/primitives/policy.hpp"
#include "kernels/primitives/register.hpp"
#include "kernels/primitives/scan.cuh"

namespace prnn::PRNN_BACKEND {

/// Iterates whose residual and step a trace keeps; later ones are left out.
inline constexpr int kTraced = 64;

/// A block's own slot, written at every launch.
struct NewtonStatus {
  std::int64_t nonfinite;  // first position, or kNowhere
  int iterations;          // most over tiles
  int unconverged;         // 1: a tile hit the cap
};

/// Shared memory of a block. What has a constant place costs no register.
template <class C, int K>
struct NewtonShared {
  int* failed;         // [lanes]: last round in which a step of the channel did not pass
  int* unfinished;     // [lanes]: last round after which the channel has to go on
  int* first_bad;      // [lanes]: first step of the tile that is not finite
  State<C, K>* edges;  // [1 + warps, lanes]: the carry, then the last state of each warp
  Affine<C, K>* maps;  // [warps, lanes]

  static constexpr std::int64_t kFlagBytes = 3 * kMostChannelsABlock * sizeof(int);
  static constexpr std::int64_t bytes(int threads, int lanes) {
    const int slots = threads / kWarp * lanes;
    return kFlagBytes + (slots + lanes) * std::int64_t(sizeof(State<C, K>)) + slots * std::int64_t(sizeof(Affine<C, K>));
  }
  PRNN_DEVICE NewtonShared(unsigned char* base, int threads, int lanes) {
    failed = reinterpret_cast<int*>(base);
    unfinished = failed + kMostChannelsABlock;
    first_bad = unfinished + kMostChannelsABlock;
    edges = reinterpret_cast<State<C, K>*>(base + kFlagBytes);
    maps = reinterpret_cast<Affine<C, K>*>(edges + threads / kWarp * lanes + lanes);
  }
};

/// Larger of two magnitudes; a NaN wins and stays.
template <class C>
PRNN_DEVICE C larger(C a, C b) {
  return a != a || a >= b ? a : b;
}

/// limit: number of linear solves, or -1 for adaptive. trace [2, kTraced]: residual and step maxima, where kTrace.
template <class Cell, class T, int S, bool kTrace>
PRNN_KERNEL PRNN_LAUNCH_BOUNDS(newton_most_threads(Cell::kState, sizeof(compute_t<T>)), 1)
    newton_fused_kernel(Layout<Cell> at, RecurrenceTensors<T> tensors, int log_lanes, int limit, NewtonStatus* status, double* trace) {
  using C = compute_t<T>;
  constexpr int K = Cell::kState;
  const int lanes = 1 << log_lanes, lane = thread_index() % kWarp, warp = thread_index() / kWarp, g = thread_index() & (lanes - 1), time = thread_index() >> log_lanes;
  const int tile = (thread_count() >> log_lanes) * S, own = time * S;  // own: my first step, in the tile
  const bool adaptive = limit < 0, first_in_warp = lane < lanes, last_in_warp = lane >= kWarp - lanes;
  const unsigned groups = unsigned((at.hidden + lanes - 1) / lanes), block = unsigned(block_index());  // a grid has less than 2^31 blocks
  const unsigned b = block / groups, group = block % groups;
  const bool exists = std::int64_t(group) * lanes + g < at.hidden;
  const std::int64_t d = exists ? std::int64_t(group) * lanes + g : at.hidden - 1;  // lanes beyond the last channel repeat it, and store nothing
  const NewtonShared<C, K> shared(shared_memory<unsigned char>(), thread_count(), lanes);
  BlockScan<Affine<C, K>> scan(shared.maps, lanes);

  C a[Cell::kWeights], u[S][Cell::kInputs];
  State<C, K> start;
  /// Inputs of the tile that starts at `begin`, 0 beyond the sequence: under way until they are guarded.
  const auto load_tile = [&](std::int64_t begin) {
    const T* const from = tensors.u + at.u(b, begin + own, 0, d);
    PRNN_UNROLL for (int s = 0; s < S; ++s) {
      PRNN_UNROLL for (int k = 0; k < Cell::kInputs; ++k) u[s][k] = begin + own + s < at.seq_len ? load(from + (s * Cell::kInputs + k) * at.hidden) : C(0);
    }
  };
  load_weights(at, tensors.a, d, a);
  PRNN_UNROLL for (int i = 0; i < K; ++i) start.x[i] = load(tensors.h0 + at.edge(b, i, d));
  load_tile(0);
  guard_start<Cell>(a, start.x);
  bool dead = !all_finite(start.x);  // the channel is NaN from here on
  if (thread_index() == 0) status[block] = {kNowhere, 0, 0};
  if (time == 0) {
    shared.edges[g] = start;
    shared.failed[g] = shared.unfinished[g] = -1;
  }
  barrier();
  if (time == 0 && dead) atomic_min(&status[block].nonfinite, at.position(b, 0, d));

  int round = 0;  // evaluations so far, over all tiles
  for (std::int64_t begin = 0; begin < at.seq_len; begin += tile) {
    const int steps = at.seq_len - begin < tile ? int(at.seq_len - begin) : tile;
    int alive = dead ? 0 : steps;  // steps of the tile that are numbers, of my channel

    /// Ends the channel's life at its first bad step of the tile; bad: my first, or tile.
    const auto bury = [&](int bad) {
      if (!barrier_or(bad < alive)) return;
      if (time == 0) shared.first_bad[g] = tile;
      barrier();
      if (bad < alive) atomic_min(&shared.first_bad[g], bad);
      barrier();
      const int first = shared.first_bad[g];
      if (first >= alive) return;
      if (time == 0) atomic_min(&status[block].nonfinite, at.position(b, begin + first, d));
      alive = first;
      dead = true;
    };

    State<C, K> h[S];
    Affine<C, K> map[S];
    int bad = tile;
    PRNN_UNROLL for (int s = S - 1; s >= 0; --s) {
      guard_inputs<Cell>(u[s]);
      if (!is_finite(u[s][0])) bad = own + s;
      const C zero[K] = {};
      Cell::step(zero, a, u[s], h[s].x);
    }
    bury(bad);

    int solves = 0;
    C step_max = 0;
    bool passed = false;  // my channel, at the iterate before
    while (adaptive || solves < limit || kTrace) {
      if (last_in_warp) shared.edges[(warp + 1) * lanes + g] = h[S - 1];
      PRNN_FAULT(18, barrier(), void());
      State<C, K> before = shuffle_up(h[S - 1], lanes);
      if (first_in_warp) before = shared.edges[warp * lanes + g];

      Fit fit;
      C residual_max = 0;
      PRNN_UNROLL for (int s = 0; s < S; ++s) {
        C f[K];
        step_and_jacobian<Cell>(before.x, a, u[s], f, map[s].jacobian);
        PRNN_UNROLL for (int i = 0; i < K; ++i) map[s].offset[i] = f[i] - h[s].x[i];
        fit.also(fit_of(map[s], h[s].x, before.x), own + s < alive);
        if (kTrace && own + s < alive) {
          PRNN_UNROLL for (int i = 0; i < K; ++i) residual_max = larger(residual_max, magnitude(map[s].offset[i]));
        }
        before = h[s];
      }
      Affine<C, K> mine = map[0];
      PRNN_UNROLL for (int s = 1; s < S; ++s) mine = compose(mine, map[s]);
      scan.publish(mine);
      if (kTrace && solves < kTraced) {
        atomic_max_magnitude(trace + solves, residual_max);
        atomic_max_magnitude(trace + kTraced + solves, step_max);
      }
      bool active = true;
      if (adaptive) {
        const bool go_on = !fit.converged(passed);
        if (!fit.passes) shared.failed[g] = round;
        if (go_on) shared.unfinished[g] = round;
        const bool any = barrier_or(go_on);
        active = shared.unfinished[g] == round;
        passed = shared.failed[g] != round;
        ++round;
        if (!any) break;
        if (solves == steps + 1) {
          if (thread_index() == 0) status[block].unconverged = 1;
          break;
        }
      } else {
        barrier();
        if (solves == limit) break;
      }

      const Affine<C, K> earlier = scan.before();
      C delta[K];
      step_max = 0;
      PRNN_UNROLL for (int i = 0; i < K; ++i) delta[i] = earlier.offset[i];
      PRNN_UNROLL for (int s = 0; s < S; ++s) {
        C next[K];
        apply(map[s], delta, next);
        State<C, K> moved;
        PRNN_UNROLL for (int i = 0; i < K; ++i) {
          delta[i] = next[i];
          moved.x[i] = h[s].x[i] + delta[i];
        }
        if (adaptive && !all_finite(moved.x)) {
          // Products of Jacobians overflow where the cell expands. f(h_{l-1}) instead keeps an exact prefix exact and lengthens it by a step.
          PRNN_UNROLL for (int i = 0; i < K; ++i) moved.x[i] = h[s].x[i] + map[s].offset[i];
          if (!all_finite(moved.x)) moved = {};
        }
        if (PRNN_FAULT(56, !active, false)) continue;
        if (kTrace && own + s < alive) {
          PRNN_UNROLL for (int i = 0; i < K; ++i) step_max = larger(step_max, magnitude(moved.x[i] - h[s].x[i]));
        }
        h[s] = moved;
      }
      ++solves;
    }
    if (thread_index() == 0 && solves > status[block].iterations) status[block].iterations = solves;

    if (!adaptive) {  // an unchecked iterate may have overflowed
      bad = tile;
      PRNN_UNROLL for (int s = S - 1; s >= 0; --s) {
        if (!all_finite(h[s].x)) bad = own + s;
      }
      bury(bad);
    }
    load_tile(begin + tile);
    PRNN_UNROLL for (int s = 0; s < S; ++s) {
      if (own + s >= steps || !exists) continue;
      if (own + s >= alive) {
        PRNN_UNROLL for (int i = 0; i < K; ++i) h[s].x[i] = not_a_number<C>();
      }
      store_step(at, tensors, b, begin + own + s, d, h[s].x);
      if (begin + own + s + 1 == at.seq_len) store_last(at, tensors, b, d, h[s].x);
    }
    // The carry's last reader was before the vote above; its next one is behind the next tile's first barrier.
    if (own + S == tile) shared.edges[g] = h[PRNN_FAULT(11, S - 1, 0)];
  }
}

#ifndef __CUDACC_RTC__
template <class Cell, class T>
class NewtonFused final : public Run {
 public:
  static constexpr const char* kName = "newton_fused";
  static constexpr bool kIterates = true, kDeterministic = true;
  static std::int64_t workspace_bytes(const Problem& p) { return blocks_of(p) * std::int64_t(sizeof(NewtonStatus)) + kTraceBytes; }
  static PolicySpace space() {
    return {{.key = "threads", .least = kWarp, .most = newton_most_threads(Cell::kState, sizeof(compute_t<T>)), .multiple = kWarp},
            {.key = "steps_a_thread", .most = 8, .compiled = true},
            {.key = "channels_a_block", .most = kMostChannelsABlock, .powers_of_two = true}};
  }
  static std::vector<KernelSource> kernels(const Problem& p) { return {variant<false>(newton_policy(p, Cell::kState)).source}; }

  NewtonFused(const Problem& p, Machine& machine)
      : at_(layout_of<Cell>(p)),
        policy_(newton_policy(p, Cell::kState)),
        limit_(p.iteration_limit.value_or(-1)),
        machine_(machine),
        kernel_(ready(variant<false>(policy_), machine)),
        status_(machine, blocks_of(p) * std::int64_t(sizeof(NewtonStatus))),
        trace_(machine, kTraceBytes) {}

  Policy policy() const override { return {{"threads", policy_.threads}, {"steps_a_thread", policy_.steps_a_thread}, {"channels_a_block", policy_.channels_a_block}}; }
  int launches() const override { return 1; }
  void launch(const Tensors& tensors, Stream stream) override {
    traced_ = false;
    enqueue(kernel_, tensors, stream);
  }
  void trace(const Tensors& tensors, Stream stream) override {
    traced_ = true;
    fill_async(trace_.data(), 0, kTraceBytes, stream);
    enqueue(ready(variant<true>(policy_), machine_), tensors, stream);
  }

  Outcome outcome() override {
    std::vector<NewtonStatus> blocks(std::size_t(status_.bytes()) / sizeof(NewtonStatus));
    machine_.download(blocks.data(), status_.data(), status_.bytes());
    NewtonStatus all{kNowhere, 0, 0};
    for (const NewtonStatus& block : blocks) {
      all.nonfinite = std::min(all.nonfinite, block.nonfinite);
      all.iterations = std::max(all.iterations, block.iterations);
      all.unconverged |= block.unconverged;
    }
    Outcome outcome{.iterations = all.iterations, .steps_a_tile = policy_.tile(), .nonfinite = place_of(at_, all.nonfinite)};
    if (limit_ < 0) outcome.converged = !all.unconverged;
    if (traced_) {
      double maxima[2][kTraced];
      machine_.download(maxima, trace_.data(), kTraceBytes);
      const int entries = std::min(all.iterations + 1, kTraced);
      outcome.residual_max.assign(maxima[0], maxima[0] + entries);
      outcome.step_max.assign(maxima[1], maxima[1] + entries);
    }
    return outcome;
  }

 private:
  static constexpr std::int64_t kTraceBytes = 2 * kTraced * sizeof(double);

  static std::int64_t blocks_of(const Problem& p) { return p.batch * ceil_div(p.hidden, newton_policy(p, Cell::kState).channels_a_block); }

  using Kernel = void(Layout<Cell>, RecurrenceTensors<T>, int, int, NewtonStatus*, double*);

  template <bool kTrace>
  static Variant<Kernel> variant(const NewtonPolicy& policy) {
    using Steps = std::conditional_t<std::is_same_v<T, float>, Ahead<1, 2, 4>, Ahead<2>>;
    return {Steps::pick(policy.steps_a_thread, []<int S>() { return &newton_fused_kernel<Cell, T, S, kTrace>; }), "kernels/solvers/cuda/newton_fused.cu",
            kernel_expression<Cell, T>("newton_fused_kernel", policy.steps_a_thread, kTrace)};
  }
  void enqueue(Kernel* kernel, const Tensors& tensors, Stream stream) {
    const int lanes = policy_.channels_a_block;
    prnn::PRNN_BACKEND::launch(kernel, at_.batch * ceil_div(at_.hidden, lanes), policy_.threads, NewtonShared<compute_t<T>, Cell::kState>::bytes(policy_.threads, lanes), stream,
                               at_, RecurrenceTensors<T>(tensors), std::countr_zero(unsigned(lanes)), limit_, status_.as<NewtonStatus>(), trace_.as<double>());
  }

  const Layout<Cell> at_;
  const NewtonPolicy policy_;
  const int limit_;
  Machine& machine_;
  Kernel* const kernel_;
  const Buffer status_;  // [blocks] NewtonStatus
  const Buffer trace_;   // [2, kTraced] double
  bool traced_ = false;
};

PRNN_REGISTER_SOLVER(NewtonFused, kDevice);

#endif  // __CUDACC_RTC__

}  // namespace prnn::PRNN_BACKEND
