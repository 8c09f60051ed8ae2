// shooting.cu: segments of a channel run at once from a guess, each starting early enough to forget it; only where two do not meet, Newton on the
// boundaries. One launch.
//   u [B, L, kInputs, D], a [kWeights, D], h0 [B, kState, D] -> h [B, L, kState, D], last [B, kState, D]
// h_l = f(h_{l-1}, u_l), Danieli et al. 2025 (arXiv:2510.21450), eq. 2.1. Multiple shooting: Kiehl 1994, "Parallel multiple shooting for the
// solution of initial value problems"; design section 8.
//
// Segment p runs the plain recurrence from state 0, `overlap` steps before its own first step (segments.hpp). s_p is its state there, e_p its last.
// A cell that forgets makes s_p = e_{p-1} up to rounding: one pass over memory, nothing else. The overlap is a guess and never trusted: every
// boundary is tested (continues()). Where one fails, rounds follow, until all pass:
//     b_p = e_{p-1} + J_{p-1} (b_{p-1} - s_{p-1})    a scan; J the product of Jacobians along the last run, 0 where there was none
//     rerun from b_p the segments whose start moves, now with J
// After k rounds the first k boundaries are exact, whatever J is: a channel that nothing contracts is finished sequentially, a segment a round.
//
// A block holds `lanes` threads of neighbouring channels x the segments of a stretch of time; a team of blocks (cluster or grid) holds all
// segments of its channels. J does not cross blocks: their stretches are long, and the exact prefix still grows by a segment a round.
#include <bit>
#include <functional>
#include <vector>

#include "kernels/cells/approximated.hpp"
#include "kernels/fault.hpp"
#include "kernels/primitives/policy.hpp"
#include "kernels/primitives/register.hpp"
#include "kernels/primitives/scan.cuh"
#include "kernels/primitives/segments.hpp"
#include "kernels/primitives/stream.cuh"
#include "kernels/primitives/team.cuh"

namespace prnn::PRNN_BACKEND {

/// A block's own slot, written at every launch.
struct ShootingStatus {
  std::int64_t nonfinite;  // first position, or kNowhere
  std::int64_t failed;     // boundaries that failed at first
  int rounds, unconverged;
};

/// What the teams of a grid meet at, in global memory; a cluster has its pages in shared memory.
template <class C, int K>
struct TeamPages {
  State<C, K>* edges;     // [blocks, TeamBoard::edges()]
  int* flags;             // [blocks, TeamBoard::kFlags]
  TeamBarrier* barriers;  // [teams]
};

/// Shared memory of a block: a row of `width` channels for each of its segments.
template <class C, int K>
struct ShootingShared {
  State<C, K>* starts;     // [width]: of the first segment
  State<C, K>* ends;       // [segments, width]
  Affine<C, K>* products;  // [segments, width]: the Jacobian of the last run
  Affine<C, K>* maps;      // the scan's
  State<C, K>* edges;      // [TeamBoard::edges()]
  int* flags;              // [TeamBoard::kFlags]

  static constexpr std::int64_t bytes(int threads, int lanes, int channels_a_thread) {
    const std::int64_t cells = std::int64_t(threads) * channels_a_thread, width = lanes * channels_a_thread;
    return (cells + width + TeamBoard<C, K>::edges(int(width))) * std::int64_t(sizeof(State<C, K>)) +
           (cells + BlockScan<Affine<C, K>>::shared_maps(threads, lanes)) * std::int64_t(sizeof(Affine<C, K>)) + TeamBoard<C, K>::kFlags * std::int64_t(sizeof(int));
  }
  PRNN_DEVICE ShootingShared(unsigned char* base, int threads, int lanes, int channels_a_thread) {
    const int cells = threads * channels_a_thread, width = lanes * channels_a_thread;
    starts = reinterpret_cast<State<C, K>*>(base);
    ends = starts + width;
    products = reinterpret_cast<Affine<C, K>*>(ends + cells);
    maps = products + cells;
    edges = reinterpret_cast<State<C, K>*>(maps + BlockScan<Affine<C, K>>::shared_maps(threads, lanes));
    flags = reinterpret_cast<int*>(edges + TeamBoard<C, K>::edges(width));
  }
};

template <class Cell, class T, int V, bool kChunks, int kPrefetch>
PRNN_KERNEL PRNN_LAUNCH_BOUNDS(kMostShootingThreads, 2) shooting_kernel(Layout<Cell> at, RecurrenceTensors<T> t, Segments cut, int log_lanes, Team team, int team_blocks,
                                                                        int runs_to, TeamPages<compute_t<T>, Cell::kState> pages, ShootingStatus* status) {
  using C = compute_t<T>;
  constexpr int K = Cell::kState;
  const int lanes = 1 << log_lanes, width = lanes * V, slots = thread_count() >> log_lanes;
  const int g = thread_index() & (lanes - 1), slot = thread_index() >> log_lanes, column = g * V;
  const unsigned block = unsigned(block_index()), team_index = block / unsigned(team_blocks);  // a grid has less than 2^31 blocks
  const int rank = int(block - team_index * unsigned(team_blocks));
  const std::int64_t group = team_index;
  // What is beyond the last segment or channel repeats it, so that no warp takes two ways, and stores nothing.
  const std::int64_t numbered = std::int64_t(rank) * slots + slot, p = numbered < cut.count ? numbered : cut.count - 1;
  const bool runs = numbered < cut.count, exists = (group * lanes + g) * V < at.channels(), stores = runs && exists;
  const Place place = place_of_channel(at, exists ? (group * lanes + g) * V : at.channels() - V);
  const std::int64_t first = cut.first(p), own = cut.own(p), stop = cut.end(p);
  T* const results = t.h + at.h(place.b, own, 0, place.d);
  T* h = results - (own - first) * K * at.hidden;
  using Inputs = InputStream<Cell, T, V, kChunks, kPrefetch>;
  unsigned char* const memory = shared_memory<unsigned char>();
  const ShootingShared<C, K> shared(memory + Inputs::bytes(thread_count()), thread_count(), lanes, V);
  BlockScan<Affine<C, K>> scan(shared.maps, lanes);
  const bool in_cluster = team == Team::cluster;
  const TeamBoard<C, K> board(team, rank, team_blocks, runs_to, log_lanes + (V == 2), in_cluster ? shared.edges : pages.edges + block * TeamBoard<C, K>::edges(width),
                              in_cluster ? shared.flags : pages.flags + block * TeamBoard<C, K>::kFlags, pages.barriers + team_index);
  if (thread_index() == 0) status[block] = {kNowhere, 0, 0, 0};

  Lane<Cell, T, V> lane;
  C start[V][K] = {}, product[V][K][K] = {};
  load_lane(at, t, place, p == 0, lane);
  const int side = lanes < kWarp ? lanes : kWarp;  // lanes of one warp that walk together
  const Inputs inputs(memory, at, t.u, group * width + g / side * side * V, place, side, first, stop);
  guard_lane(lane);
  walk<true, Cell, T>(
      inputs, ceil_div(cut.length + cut.overlap, Inputs::kGroup), first, own, stop,
      [&](int v, const C(&u)[Cell::kInputs]) {
        C next[K];
        Cell::step(lane.h[v], lane.a[v], u, next);
        PRNN_UNROLL for (int i = 0; i < K; ++i) lane.h[v][i] = next[i];
      },
      [&] {
        PRNN_UNROLL for (int v = 0; v < V; ++v) { PRNN_UNROLL for (int i = 0; i < K; ++i) start[v][i] = lane.h[v][i]; }
      },
      [&](bool owned) {
        if (owned && stores) store_lane(h, at.hidden, lane);
        h += K * at.hidden;
      });

  if (!exists) {  // such a lane passes everywhere
    PRNN_UNROLL for (int v = 0; v < V; ++v) { PRNN_UNROLL for (int i = 0; i < K; ++i) lane.h[v][i] = start[v][i] = C(0); }
  }

  for (int round = 0;; ++round) {
    State<C, K> before[V] = {};
    bool passes[V], failed = false;
    PRNN_UNROLL for (int v = 0; v < V; ++v) {
      const int cell = slot * width + column + v;
      PRNN_UNROLL for (int i = 0; i < K; ++i) {
        if (PRNN_FAULT(19, slot == 0, slot == 0 && round == 0)) shared.starts[column + v].x[i] = start[v][i];
        shared.ends[cell].x[i] = lane.h[v][i];
        PRNN_UNROLL for (int j = 0; j < K; ++j) shared.products[cell].jacobian[i][j] = product[v][i][j];
      }
    }
    barrier();
    PRNN_UNROLL for (int v = 0; v < V; ++v) {
      if (slot > 0) before[v] = shared.ends[(slot - 1) * width + column + v];
      passes[v] = slot == 0 || PRNN_FAULT(13, !runs, !runs || round > 0) || continues(start[v], before[v].x);
      failed = failed || !passes[v];
    }
    if (team_blocks == 1) {
      if (!barrier_or(failed)) break;
    } else {
      if (!board.meet(round, shared.starts, shared.ends + (slots - 1) * width, failed)) break;
      if (slot == 0 && rank > 0 && runs) {
        PRNN_UNROLL for (int v = 0; v < V; ++v) {
          before[v] = board.before(round, column + v);
          passes[v] = continues(start[v], before[v].x);
        }
      }
    }
    if (thread_index() == 0) status[block].rounds = round + 1;
    if (round == 0 && exists) {
      PRNN_UNROLL for (int v = 0; v < V; ++v) {
        if (!passes[v]) atomic_add(&status[block].failed, 1);
      }
    }
    if (round > cut.count) {  // the exact prefix has grown past the last segment: not reached
      if (thread_index() == 0) status[block].unconverged = 1;
      break;
    }

    bool again[V], any_again = false;
    PRNN_UNROLL for (int v = 0; v < V; ++v) {
      Affine<C, K> map;  // b_{p-1} - s_{p-1} -> b_p - s_p
      PRNN_UNROLL for (int i = 0; i < K; ++i) {
        map.offset[i] = passes[v] ? C(0) : before[v].x[i] - start[v][i];
        PRNN_UNROLL for (int j = 0; j < K; ++j) map.jacobian[i][j] = slot == 0 ? C(0) : shared.products[(slot - 1) * width + column + v].jacobian[i][j];
      }
      if (v > 0) barrier();  // the scan before has been read
      scan.publish(map);
      barrier();
      const Affine<C, K> earlier = scan.before();
      C moved[K];
      PRNN_UNROLL for (int i = 0; i < K; ++i) {
        moved[i] = before[v].x[i];
        PRNN_UNROLL for (int j = 0; j < K; ++j) moved[i] = map.jacobian[i][j] * earlier.offset[j] + moved[i];
      }
      if (!all_finite(moved)) {
        PRNN_UNROLL for (int i = 0; i < K; ++i) moved[i] = before[v].x[i];
      }
      again[v] = runs && p > 0 && !(passes[v] && continues(start[v], moved));
      any_again = any_again || again[v];
      PRNN_UNROLL for (int i = 0; i < K; ++i) {
        if (again[v]) start[v][i] = moved[i];
        PRNN_UNROLL for (int j = 0; j < K; ++j) {
          if (again[v]) product[v][i][j] = i == j ? C(1) : C(0);
        }
      }
    }
    if (!any_again) continue;
    C state[V][K];
    PRNN_UNROLL for (int v = 0; v < V; ++v) { PRNN_UNROLL for (int i = 0; i < K; ++i) state[v][i] = start[v][i]; }
    h = results;
    walk<false, Cell, T>(
        InputStream<Cell, T, V, false, kPrefetch>(memory, at, t.u, 0, place, side, own, stop), ceil_div(stop - own, Inputs::kGroup), own, own, stop,
        [&](int v, const C(&u)[Cell::kInputs]) {
          C next[K], exact[K], jacobian[K][K], moved[K][K];
          Cell::step(state[v], lane.a[v], u, next);
          step_and_jacobian<Cell>(state[v], lane.a[v], u, exact, jacobian);  // its value has exact gates whatever the cell's are
          PRNN_UNROLL for (int i = 0; i < K; ++i) {
            PRNN_UNROLL for (int j = 0; j < K; ++j) {
              moved[i][j] = jacobian[i][0] * product[v][0][j];
              PRNN_UNROLL for (int k = 1; k < K; ++k) moved[i][j] = jacobian[i][k] * product[v][k][j] + moved[i][j];
            }
          }
          PRNN_UNROLL for (int i = 0; i < K; ++i) {
            state[v][i] = next[i];
            PRNN_UNROLL for (int j = 0; j < K; ++j) {
              if (again[v]) product[v][i][j] = moved[i][j];
            }
          }
        },
        [] {},
        [&](bool) {
          PRNN_UNROLL for (int v = 0; v < V; ++v) {
            if (!again[v] || !exists) continue;  // a channel that passes keeps its bits, whatever its neighbour does
            PRNN_UNROLL for (int i = 0; i < K; ++i) store(h + i * at.hidden + v, state[v][i]);
          }
          h += K * at.hidden;
        });
    PRNN_UNROLL for (int v = 0; v < V; ++v) {
      PRNN_UNROLL for (int i = 0; i < K; ++i) {
        if (PRNN_FAULT(63, again[v], again[0])) lane.h[v][i] = state[v][i];
      }
    }
  }

  if (team_blocks > 1) board.leave();
  if (!stores) return;
  PRNN_UNROLL for (int v = 0; v < V; ++v) {
    if (p + 1 == cut.count) store_last(at, t, place.b, place.d + v, lane.h[v]);
    if (!all_finite(lane.h[v])) atomic_min(&status[block].nonfinite, first_nonfinite(at, t.h, Place{place.b, place.d + v}, own, stop));
  }
}

#ifndef __CUDACC_RTC__
template <class Cell, class T>
class Shooting final : public Run {
 public:
  static constexpr const char* kName = "shooting";
  static constexpr bool kIterates = false, kDeterministic = true, kApproximates = true;
  static std::int64_t workspace_bytes(const Problem& p) { return Plan(p).workspace_bytes(); }
  static PolicySpace space() {
    PolicySpace all = cut_space();
    all.insert(all.end(), {{.key = "channels_a_block", .most = 2 * kMostShootingLanes, .powers_of_two = true}, team_parameter(), prefetch_parameter()});
    return all;
  }
  static std::string why_not(const Problem& p) { return shared_memory_fault(Plan(p).shared_bytes()); }
  static std::vector<KernelSource> kernels(const Problem& p) {
    std::vector<KernelSource> all;
    with_variant(Plan(p), p.gates == "approx", [&]<class Gated>(const auto& variant) { all.push_back(variant.source); });
    return all;
  }

  Shooting(const Problem& p, Machine& machine)
      : at_(layout_of<Cell>(p)),
        plan_(fitting(p, machine)),
        machine_(machine),
        status_(machine, Plan(p).status_bytes()),
        edges_(machine, Plan(p).edge_bytes()),
        flags_(machine, Plan(p).flag_bytes()) {
    machine.fill(flags_.data(), 0, flags_.bytes());  // the barriers start from zero, once
    with_variant(plan_, p.gates == "approx", [&]<class Gated>(const auto& variant) {
      enqueue_ = [this, kernel = ready(variant, machine)](const RecurrenceTensors<T>& t, Stream stream) {
        TeamBarrier* const barriers = flags_.as<TeamBarrier>();
        const TeamPages<C, K> pages{edges_.as<State<C, K>>(), reinterpret_cast<int*>(barriers + plan_.teams), barriers};
        launch_team(team(), plan_.policy.blocks_a_team, kernel, plan_.blocks, plan_.threads, plan_.shared_bytes(), stream, Layout<Gated>(at_), t, plan_.cut,
                    std::countr_zero(unsigned(plan_.lanes)), team(), plan_.policy.blocks_a_team, plan_.runs_to, pages, status_.as<ShootingStatus>());
      };
    });
  }

  Policy policy() const override { return plan_.policy.printed(); }
  int launches() const override { return 1; }
  void launch(const Tensors& tensors, Stream stream) override { enqueue_(RecurrenceTensors<T>(tensors), stream); }

  Outcome outcome() override {
    std::vector<ShootingStatus> blocks(static_cast<std::size_t>(plan_.blocks));
    machine_.download(blocks.data(), status_.data(), plan_.status_bytes());
    ShootingStatus all{kNowhere, 0, 0, 0};
    for (const ShootingStatus& block : blocks) {
      all.nonfinite = std::min(all.nonfinite, block.nonfinite);
      all.failed += block.failed;
      all.rounds = std::max(all.rounds, block.rounds);
      all.unconverged |= block.unconverged;
    }
    return {.converged = !all.unconverged,
            .rounds = all.rounds,
            .boundaries = at_.channels() * (plan_.cut.count - 1),
            .boundaries_failed = all.failed,
            .nonfinite = place_of(at_, all.nonfinite)};
  }

 private:
  using C = compute_t<T>;
  static constexpr int K = Cell::kState;

  /// A problem's policy, and what follows from it. most_blocks: of a team.
  struct Plan {
    explicit Plan(const Problem& p, int most_blocks = kMostTeamBlocks)
        : policy(shooting_policy(p)),
          shape(stream_shape<T>(p.hidden, std::max(policy.channels_a_block / kWordChannels<T>, 1))),
          channels_a_thread(shape.channels_a_thread),
          lanes(std::clamp(policy.channels_a_block / channels_a_thread, 1, kMostShootingLanes)) {
      policy.blocks_a_team = std::min(policy.blocks_a_team, most_blocks);
      const bool ahead = shape.in_chunks && shooting_has_prefetch(policy.prefetch, Cell::kState, sizeof(T));
      if (!ahead && !p.policy.contains("prefetch")) policy.prefetch = kMostPrefetch<T>;
      const std::int64_t most_slots = kMostShootingThreads / lanes;
      cut = Segments::cut(p.seq_len, std::min(most_slots * policy.blocks_a_team, std::int64_t(policy.segments)), policy.overlap);
      threads = int(ceil_div(std::min(ceil_div(cut.count, policy.blocks_a_team), most_slots) * lanes, kWarp)) * kWarp;
      runs_to = int(ceil_div(cut.count, threads / lanes));
      teams = ceil_div(p.batch * p.hidden, std::int64_t(lanes) * channels_a_thread);
      blocks = teams * policy.blocks_a_team;
    }
    std::int64_t status_bytes() const { return blocks * std::int64_t(sizeof(ShootingStatus)); }
    std::int64_t edge_bytes() const { return policy.blocks_a_team == 1 ? 0 : blocks * TeamBoard<C, K>::edges(lanes * channels_a_thread) * std::int64_t(sizeof(State<C, K>)); }
    std::int64_t flag_bytes() const {
      return policy.blocks_a_team == 1 ? 0 : teams * std::int64_t(sizeof(TeamBarrier)) + TeamBoard<C, K>::kFlags * blocks * std::int64_t(sizeof(int));
    }
    std::int64_t workspace_bytes() const { return status_bytes() + edge_bytes() + flag_bytes(); }
    std::int64_t shared_bytes() const {
      std::int64_t bytes = 0;
      with_shape<T>(shape,
                    [&]<int V, bool kChunks>() { bytes = InputStream<Cell, T, V, kChunks>::bytes(threads, policy.prefetch) + ShootingShared<C, K>::bytes(threads, lanes, V); });
      return bytes;
    }

    ShootingPolicy policy;
    StreamShape shape;
    int channels_a_thread, lanes;
    Segments cut;
    int threads, runs_to;  // runs_to: blocks of a team that have segments
    std::int64_t teams, blocks;
  };

  /// f.template operator()<Gated>(variant): the cell with its gates, and the kernel.
  template <class F>
  static void with_variant(const Plan& plan, bool approximate, F&& f) {
    with_gates<Cell, T>(approximate, [&]<class Gated>() {
      with_shape<T>(plan.shape, [&]<int V, bool kChunks>() {
        using Prefetch = std::conditional_t<kChunks && shooting_has_prefetch(16, K, sizeof(T)), Ahead<16, kMostPrefetch<T>>, Ahead<kMostPrefetch<T>>>;
        const auto make = []<int kPrefetch>() { return &shooting_kernel<Gated, T, V, kChunks, kPrefetch>; };
        f.template operator()<Gated>(Variant(Prefetch::pick(plan.policy.prefetch, make), "kernels/solvers/cuda/shooting.cu",
                                             kernel_expression<Gated, T>("shooting_kernel", V, kChunks, plan.policy.prefetch)));
      });
    });
  }

  Team team() const {
    if (plan_.policy.blocks_a_team == 1) return Team::block;
    return plan_.policy.blocks_a_team <= kMostClusterBlocks && is_hopper(machine_) ? Team::cluster : Team::grid;
  }
  /// The plan with as many blocks a team as the machine holds at once: a smaller GPU than a policy was made for does the same with fewer.
  static Plan fitting(const Problem& p, const Machine& machine) {
    Plan plan(p);
    if (plan.policy.blocks_a_team <= kMostClusterBlocks) return plan;
    with_variant(plan, false, [&]<class Gated>(const auto& variant) {
      auto* const kernel = ready(variant, machine);
      for (std::int64_t most; plan.policy.blocks_a_team > kMostClusterBlocks && plan.blocks > (most = resident_blocks(kernel, plan.threads, plan.shared_bytes()));)
        plan = Plan(p, int(std::max<std::int64_t>(std::min<std::int64_t>(most / plan.teams, plan.policy.blocks_a_team - 1), 1)));
    });
    return plan;
  }

  const Layout<Cell> at_;
  const Plan plan_;
  Machine& machine_;
  const Buffer status_;  // [blocks] ShootingStatus
  const Buffer edges_;   // see TeamPages
  const Buffer flags_;   // [teams] TeamBarrier, then TeamPages::flags
  std::function<void(const RecurrenceTensors<T>&, Stream)> enqueue_;
};

PRNN_REGISTER_SOLVER(Shooting, kDevice);

#endif  // __CUDACC_RTC__

}  // namespace prnn::PRNN_BACKEND
