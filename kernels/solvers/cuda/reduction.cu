// reduction.cu: the gradients of the recurrence as a scan along the sequence, from its end, tile by tile; one pass over memory. Two solvers:
// `reduction`, in which a block has a sequence to itself, and `shooting`, in which a team of blocks has it, a stretch each.
//   u [B, L, kInputs, D], a [kWeights, D], h0 [B, kState, D], h [B, L, kState, D], grad_h [B, L, G, D], grad_last [B, kState, D]
//   -> du [B, L, kInputs, D], da [kWeights, D], dh0 [B, kState, D]
// Danieli et al. 2025 (arXiv:2510.21450), eq. 2.6: g_{l-1} = J_l^T (g_l + grad_h_l) is linear in g, its maps are known from h, so that a scan solves it
// as it does a step of Newton's method; du_l and da are then each step's own vector-Jacobian product. Gates are computed again, once; nothing but h is stored.
//
// A block holds `lanes` neighbouring channels of one batch entry x slots of S consecutive steps: a tile. Slots are numbered from the end of the sequence;
// tiles follow one another towards its start, the adjoint before one being the next one's carry. A slot's map crosses the block through shared memory.
//
// Tile n, one barrier (what crosses it is kept twice, for odd and even tiles):
//     wait until it has landed | derivatives of own steps; publish their map | barrier | store tile n - 1, send for one into the place of tile n - 2;
//     carry through the maps of the slots before; du of own steps, over their inputs
//
// Shooting: stretch r (numbered from the end too) starts from adjoint 0, `overlap` steps late, and knows the start s_r that it came to, its end e_r and
// the product P_r of its Jacobians. A cell that forgets makes s_r = e_{r-1} up to rounding, which every boundary is tested for (continues()). The problem
// is linear: where one fails, the true starts are x_r = e_{r-1} + P_{r-1} (x_{r-1} - s_{r-1}), and one more run from them is the last.
#include <vector>

#include "kernels/cells/approximated.hpp"
#include "kernels/cells/graph.hpp"
#include "kernels/fault.hpp"
#include "kernels/primitives/adjoint.cuh"
#include "kernels/primitives/affine.hpp"
#include "kernels/primitives/register.hpp"
#include "kernels/primitives/segments.hpp"
#include "kernels/primitives/stream.cuh"

namespace prnn::PRNN_BACKEND {

/// u, h, grad_h and du as matrices [B, L n, D].
struct BackwardMaps {
  TileMap u, h, grad_h, du;
};

/// Channels side by side in shared memory: a panel. A constant, so that what a thread reads lies at constant distances.
template <class T>
inline constexpr int kPanel = reduction_panel(sizeof(T));

/// What the blocks of a team show each other, in global memory: of stretch r of team i at [i, r].
template <class C, int K>
struct StretchPages {
  State<C, K>*starts, *ends;  // [teams, R, lanes]: s and e
  Affine<C, K>* products;     // [teams, R, lanes]: P, without offsets
  CompensatedSum<C>* sums;    // [teams, R, kWeights, lanes]: da
  TeamBarrier* barriers;      // [teams]
};

/// How a sequence is cut. length and overlap: whole tiles, so that a tile belongs to a stretch or does not.
struct Stretches {
  std::int64_t length, overlap;
  int count;
};

/// A block's own slot, written at every launch.
struct ReductionStatus {
  std::int64_t nonfinite;    // first position, or kNowhere
  std::int64_t failed;       // boundaries
  std::int64_t rounds;       // 1: another run, from the true start
  std::int64_t unconverged;  // 1: products of Jacobians left the range of numbers where a start was to be put right
};

/// Shared memory of a block. Ring [stages, panels] of u [tile, kInputs, kPanel], later du, h [tile, kState, kPanel] of the states before, and grad_h
/// [tile, G, kPanel]; after the last tile, sums.
template <class Cell, class T>
struct ReductionShared {
  using C = compute_t<T>;
  using Map = Affine<C, Cell::kState>;
  T* ring;
  CompensatedSum<C>* sums;        // [kWeights, slots, lanes]
  State<C, Cell::kState>* carry;  // [2, lanes]
  Map* maps;                      // [2, slots, lanes]
  Map* product;                   // [lanes]
  PhaseBarrier* landed;           // [stages, panels]

  PRNN_HD static constexpr int panel_elements(int tile, int G) { return tile * (Cell::kInputs + Cell::kState + G) * kPanel<T>; }
  PRNN_HD static constexpr std::int64_t ring_bytes(int threads, int lanes, int tile, int stages, int G) {
    const std::int64_t ring = std::int64_t(stages) * (lanes / kPanel<T>)*panel_elements(tile, G) * std::int64_t(sizeof(T));
    const std::int64_t sums = std::int64_t(threads) * Cell::kWeights * std::int64_t(sizeof(CompensatedSum<C>));
    return ring > sums ? ring : sums;
  }
  static constexpr std::int64_t bytes(int threads, int lanes, int tile, int stages, int G) {
    return ring_bytes(threads, lanes, tile, stages, G) + 2 * lanes * std::int64_t(sizeof(State<C, Cell::kState>)) + (2 * threads + lanes) * std::int64_t(sizeof(Map)) +
           stages * (lanes / kPanel<T>)*std::int64_t(sizeof(PhaseBarrier));
  }
  PRNN_DEVICE ReductionShared(unsigned char* base, int lanes, int tile, int stages, int G)
      : ring(reinterpret_cast<T*>(base)),
        sums(reinterpret_cast<CompensatedSum<C>*>(base)),
        carry(reinterpret_cast<State<C, Cell::kState>*>(base + ring_bytes(thread_count(), lanes, tile, stages, G))),
        maps(reinterpret_cast<Map*>(carry + 2 * lanes)),
        product(maps + 2 * thread_count()),
        landed(reinterpret_cast<PhaseBarrier*>(product + lanes)) {}
};

/// x [kState], the adjoint after step `from` (without grad_h of it), -> after step `to`, to <= from, step by step from memory: where products of
/// Jacobians leave the range of numbers although the adjoint does not.
template <class Cell, class T>
PRNN_DEVICE void walk_back(const Layout<Cell>& at, const BackwardTensors<T>& t, const Place& place, std::int64_t from, std::int64_t to, compute_t<T> (&x)[Cell::kState]) {
  using C = compute_t<T>;
  PRNN_NO_UNROLL for (std::int64_t l = from; l > to; --l) {
    C h_before[Cell::kState], a[Cell::kWeights], u[Cell::kInputs], before[Cell::kState];
    load_point<Cell>(at, t, place.b, l, place.d, h_before, a, u);
    add_grad_h<Cell>(at, t, place.b, l, place.d, x);
    guard_adjoint<Cell>(h_before, a, u, x);
    C jacobian[Cell::kState][Cell::kState];
    step_jacobian<Cell>(step_values<Cell>(h_before, a, u), jacobian);
    multiply_transposed(jacobian, x, before);
    PRNN_UNROLL for (int i = 0; i < Cell::kState; ++i) x[i] = before[i];
  }
}

/// A block's tiles between memory and shared memory: by the machine's copies of tiles, or by all threads, a number each, whatever rows there are.
template <class Cell, class T>
class TileMover {
 public:
  /// least: the last step (in the order of the pass) that the block has.
  PRNN_DEVICE TileMover(const Layout<Cell>& at, const BackwardTensors<T>& t, const BackwardMaps& maps, bool in_tiles, const ReductionShared<Cell, T>& shared, int lanes, int tile,
                        int stages, std::int64_t b, std::int64_t first_d, std::int64_t least)
      : at_(at), t_(t), maps_(maps), shared_(shared), in_tiles_(in_tiles), panels_(lanes / kPanel<T>), tile_(tile), stages_(stages), b_(b), first_d_(first_d), least_(least) {}

  /// Once, all threads.
  PRNN_DEVICE void start() const {
    if (!in_tiles_) return;
    for (int i = thread_index(); i < stages_ * panels_; i += thread_count()) start_phases(shared_.landed + i, 3);
    barrier();
  }
  /// Fills the ring, from stage `stage` on, with the tiles from `top` on.
  PRNN_DEVICE void send_first(std::int64_t top, int stage) const {
    PRNN_NO_UNROLL for (int i = 0; i < stages_; ++i, top -= tile_) {
      send_for(top, stage);
      if (++stage == stages_) stage = 0;
    }
  }
  /// The tile of steps top - tile + 1 .. top; nothing where the block has none of them.
  PRNN_DEVICE void send_for(std::int64_t top, int stage) const {
    const std::int64_t low = top - tile_ + 1;
    const int G = t_.grad_components, panel = thread_index() / kWarp;
    if (in_tiles_) {
      if (thread_index() % kWarp != 0 || panel >= panels_ || top < least_) return;
      T* const to = place_of(stage, panel);
      PhaseBarrier* const landed = shared_.landed + stage * panels_ + panel;
      const std::int64_t d = first_d_ + panel * kPanel<T>;
      arrive_with_tile(landed, to, maps_.u, b_, low * I, d);
      arrive_with_tile(landed, to + tile_ * I * kPanel<T>, maps_.h, b_, (low - 1) * K, d);
      arrive_with_tile(landed, to + tile_ * (I + K) * kPanel<T>, maps_.grad_h, b_, low * G, d);
    } else {
      if (top >= least_) {
        const auto zero = [](T* shared) { *shared = T{}; };  // as tiles have it beyond the matrix
        each_number(
            0, I, low * I, stage, [&](T* shared, std::int64_t i) { copy_async(shared, t_.u + at_.u(b_, 0, 0, 0) + i); }, zero);
        each_number(
            tile_ * I, K, (low - 1) * K, stage, [&](T* shared, std::int64_t i) { copy_async(shared, t_.h + at_.h(b_, 0, 0, 0) + i); }, zero);
        each_number(
            tile_ * (I + K), G, low * G, stage, [&](T* shared, std::int64_t i) { copy_async(shared, t_.grad_h + b_ * at_.seq_len * G * at_.hidden + i); }, zero);
      }
      commit_copies();
    }
  }
  /// Until a tile has landed. parity: of the rounds through the ring.
  PRNN_DEVICE void wait(int stage, int parity, int panel) const {
    if (in_tiles_) {
      wait_phase(shared_.landed + stage * panels_ + panel, parity);
    } else {
      wait_copies<0>();
      barrier();
    }
  }
  /// The du of a tile, after a barrier before which all threads called show_to_tiles().
  PRNN_DEVICE void store(std::int64_t top, int stage) const {
    const std::int64_t low = top - tile_ + 1;
    const int panel = thread_index() / kWarp;
    if (!in_tiles_ || low < 0)
      return each_number(
          0, I, low * I, stage, [&](const T* shared, std::int64_t i) { t_.du[at_.u(b_, 0, 0, 0) + i] = *shared; }, [](const T*) {});
    if (thread_index() % kWarp == 0 && panel < panels_) store_tile(maps_.du, b_, low * I, first_d_ + panel * kPanel<T>, place_of(stage, panel));
  }
  /// Until only the last tile that was stored is still being read, seen from the threads that send for others.
  PRNN_DEVICE void wait_for_stores_before_last() const {
    if (in_tiles_) wait_for_stored_tiles<1>();
  }
  /// Until all are in memory; a barrier then shows it to the block.
  PRNN_DEVICE void finish() const {
    if (in_tiles_) finish_stored_tiles();
  }
  PRNN_DEVICE T* place_of(int stage, int panel) const { return shared_.ring + (stage * panels_ + panel) * shared_.panel_elements(tile_, t_.grad_components); }

 private:
  static constexpr int I = Cell::kInputs, K = Cell::kState;

  /// f(place in shared memory, offset in the batch entry) for the numbers of a tile that exist: n rows a step from row `first` on, at row `row` of the panels;
  /// beyond(place) for the others.
  template <class F, class Beyond>
  PRNN_DEVICE void each_number(int row, int n, std::int64_t first, int stage, F&& f, Beyond&& beyond) const {
    PRNN_NO_UNROLL for (int panel = 0; panel < panels_; ++panel) {
      PRNN_NO_UNROLL for (int i = thread_index(); i < tile_ * n * kPanel<T>; i += thread_count()) {
        const int c = i % kPanel<T>, r = i / kPanel<T>;
        const std::int64_t d = first_d_ + panel * kPanel<T> + c;
        T* const place = place_of(stage, panel) + (row + r) * kPanel<T> + c;
        if (first + r >= 0 && d < at_.hidden) f(place, (first + r) * at_.hidden + d);
        else beyond(place);
      }
    }
  }

  const Layout<Cell>& at_;
  const BackwardTensors<T>& t_;
  const BackwardMaps& maps_;
  const ReductionShared<Cell, T>& shared_;
  const bool in_tiles_;
  const int panels_, tile_, stages_;
  const std::int64_t b_, first_d_, least_;
};

/// A value of a page, written for the other blocks of the team, and read by them; word by word.
template <class T>
struct PageWords {
  using Word = std::conditional_t<sizeof(T) % 8 == 0, double, float>;
  static constexpr int kCount = int(sizeof(T) / sizeof(Word));
  Word words[kCount];
};
template <class T>
PRNN_DEVICE void show_value(T* p, const T& x) {
  PageWords<T> value;
  memcpy(&value, &x, sizeof x);
  PRNN_UNROLL for (int i = 0; i < PageWords<T>::kCount; ++i) store_for_team(reinterpret_cast<typename PageWords<T>::Word*>(p) + i, value.words[i]);
}
template <class T>
PRNN_DEVICE T see_value(const T* p) {
  PageWords<T> value;
  T x;
  PRNN_UNROLL for (int i = 0; i < PageWords<T>::kCount; ++i) value.words[i] = load_shared_by_team(reinterpret_cast<const typename PageWords<T>::Word*>(p) + i);
  memcpy(&x, &value, sizeof x);
  return x;
}

/// kShoots: several blocks a sequence.
template <class Cell, class T, bool kShoots>
PRNN_KERNEL PRNN_LAUNCH_BOUNDS(kMostReductionThreads, 1)
    reduction_kernel(Layout<Cell> at, BackwardTensors<T> t, PRNN_GRID_CONSTANT const BackwardMaps maps, bool in_tiles, int lanes, int stages, Team team, Stretches cut,
                     StretchPages<compute_t<T>, Cell::kState> pages, CompensatedSum<compute_t<T>>* sums, bool accumulate, ReductionStatus* status) {
  using C = compute_t<T>;
  using Map = Affine<C, Cell::kState>;
  constexpr int K = Cell::kState, W = Cell::kWeights, I = Cell::kInputs, P = kPanel<T>, S = reduction_steps(K, sizeof(T));
  constexpr int kTogether = 4;  // maps that are read at once: what is done with them waits for shared memory only once
  const int slots = thread_count() / lanes, tile = slots * S, G = t.grad_components;
  const int slot = thread_index() / lanes, lane = thread_index() - slot * lanes, panel = lane / P;
  const bool first_slot = slot == 0, last_slot = slot == slots - 1;
  const unsigned groups = unsigned((at.hidden + lanes - 1) / lanes), block = unsigned(block_index());  // a grid has less than 2^31 blocks
  const unsigned team_index = kShoots ? block / unsigned(cut.count) : block, rank = kShoots ? block - team_index * unsigned(cut.count) : 0;
  const std::int64_t b = team_index / groups, first_d = std::int64_t(team_index % groups) * lanes, D = at.hidden, d = first_d + lane;
  // The block's own steps, and where it starts, with the loss's own adjoint or none.
  const std::int64_t end = at.seq_len - 1, high = end - rank * cut.length, least = !kShoots || rank + 1 == unsigned(cut.count) ? 0 : high - cut.length + 1;
  const bool guesses = kShoots && high + cut.overlap < end;
  const ReductionShared<Cell, T> shared(shared_memory<unsigned char>(), lanes, tile, stages, G);
  const TileMover<Cell, T> mover(at, t, maps, in_tiles, shared, lanes, tile, stages, b, first_d, least);
  const bool exists = d < D;
  const Place place{b, exists ? d : D - 1};  // what is beyond the last channel has its weights, and stores nothing

  C a[W], poison = C(0);  // poison: NaN for a weight that is not finite
  State<C, K> x;          // the adjoint that the block starts from
  CompensatedSum<C> da[W];
  bool bad = false;
  std::int64_t first = guesses ? high + cut.overlap : end;
  int stage = 0, parity = 0;
  mover.start();
  mover.send_first(first, stage);
  load_weights(at, t.a, place.d, a);
  PRNN_UNROLL for (int k = 0; k < W; ++k) poison = C(0) * a[k] + poison;
  C nan_last = C(0);  // what is not finite in one component of an adjoint makes all of them NaN: a result need not depend on every input
  PRNN_UNROLL for (int i = 0; i < K; ++i) {
    x.x[i] = guesses ? C(0) : load(t.grad_last + at.edge(b, i, place.d));
    nan_last = C(0) * x.x[i] + nan_last;
  }
  PRNN_UNROLL for (int i = 0; i < K; ++i) x.x[i] = x.x[i] + nan_last;
  if (thread_index() == 0) status[block] = {kNowhere, 0, 0, 0};

  /// da of weight k and channel c of the block: in the end the batch's, or on the way there.
  const auto keep_sum = [&](int k, int c, const CompensatedSum<C>& of_sequence) {
    if (first_d + c >= D) return;
    const std::int64_t weight = at.a(k, first_d + c);
    if (at.batch > 1) {
      sums[b * at.a(W, 0) + weight] = of_sequence;
    } else {
      CompensatedSum<C> total(accumulate ? t.da[weight] : C(0));
      total.add(of_sequence);
      t.da[weight] = total.value();
    }
  };
  const int own = (slots - 1 - slot) * S;  // the lowest of this thread's steps in a tile
  const std::int64_t page = block * std::int64_t(lanes) + lane;
  for (bool corrected = false;;) {
    PRNN_UNROLL for (int k = 0; k < W; ++k) da[k] = CompensatedSum<C>(C(0));
    if (first_slot) shared.carry[lane] = x;
    if (kShoots && last_slot) {
      const Map nothing = Map::identity();
      shared.product[lane] = nothing;
    }
    int odd = 0, behind = -1;
    PRNN_NO_UNROLL for (std::int64_t top = first; top >= least; top -= tile, odd ^= 1) {
      const std::int64_t low = top - tile + 1 + own;
      const bool last_tile = top < tile;  // of the sequence: it may be cut, and h0 is before it
      mover.wait(stage, parity, panel);
      T* const u_at = mover.place_of(stage, panel) + own * I * P + lane % P;
      const T* const h_at = mover.place_of(stage, panel) + (tile * I + own * K) * P + lane % P;
      const T* const grad_at = mover.place_of(stage, panel) + (tile * (I + K) + own * G) * P + lane % P;
      StepValues<Cell, C> step[S];
      C jacobian[S][K][K], grad_h[S][K], u[S][I], before[S][K];
      Map all;
      PRNN_UNROLL for (int s = 0; s < S; ++s) {
        PRNN_UNROLL for (int k = 0; k < I; ++k) u[s][k] = widen(u_at[(s * I + k) * P]);
        PRNN_UNROLL for (int i = 0; i < K; ++i) {
          before[s][i] = widen(h_at[(s * K + i) * P]);
          grad_h[s][i] = i < K - G ? C(0) : t.grad_factor() * widen(grad_at[(s * G + i - (K - G)) * P]);
        }
      }
      if (last_tile) {
        PRNN_UNROLL for (int s = 0; s < S; ++s) {
          if (low + s != 0) continue;
          PRNN_UNROLL for (int i = 0; i < K; ++i) before[s][i] = load(t.h0 + at.edge(b, i, place.d));
        }
      }
      // Steps before the sequence have maps too; only other such steps use them.
      PRNN_UNROLL for (int s = S - 1; s >= 0; --s) {
        C nan = poison;
        PRNN_UNROLL for (int k = 0; k < I; ++k) nan = C(0) * u[s][k] + nan;
        PRNN_UNROLL for (int i = 0; i < K; ++i) nan = C(0) * before[s][i] + (C(0) * grad_h[s][i] + nan);
        PRNN_UNROLL for (int i = 0; i < K; ++i) grad_h[s][i] = grad_h[s][i] + nan;
        step[s] = step_values<Cell>(before[s], a, u[s]);
        step_jacobian<Cell>(step[s], jacobian[s]);
        Map map;
        multiply_transposed(jacobian[s], grad_h[s], map.offset);
        PRNN_UNROLL for (int i = 0; i < K; ++i) { PRNN_UNROLL for (int j = 0; j < K; ++j) map.jacobian[i][j] = PRNN_FAULT(28, jacobian[s][j][i], jacobian[s][i][j]); }
        all = s == S - 1 ? map : compose(all, map);
      }
      Map* const published = shared.maps + odd * thread_count() + lane;
      published[slot * lanes] = all;
      show_to_tiles();
      barrier();
      if (behind >= 0) {
        if (!kShoots || top + tile <= high) mover.store(top + tile, behind);
        if (top + 2 * tile <= first) {
          mover.wait_for_stores_before_last();
          mover.send_for(top - (stages - 2) * std::int64_t(tile), behind == 0 ? stages - 1 : behind - 1);
        }
      }
      behind = stage;
      if (++stage == stages) stage = 0, parity ^= 1;

      const State<C, K> carry = shared.carry[odd * lanes + lane];
      C sum[W] = {};
      x = carry;
      PRNN_NO_UNROLL for (int r = 0; r < slot; r += kTogether) {
        Map row[kTogether];
        PRNN_UNROLL for (int i = 0; i < kTogether; ++i) row[i] = published[(r + i < slot ? r + i : r) * lanes];
        PRNN_UNROLL for (int i = 0; i < kTogether; ++i) {
          if (r + i >= slot) continue;
          C next[K];
          apply(row[i], x.x, next);
          PRNN_UNROLL for (int j = 0; j < K; ++j) x.x[j] = next[j];
        }
      }
      if (kShoots && top <= high) {
        if (first_slot && top == high && !corrected) show_value(pages.starts + page, carry);
        if (last_slot) {
          Map product = shared.product[lane];
          PRNN_NO_UNROLL for (int r = 0; r < slots; ++r) product = compose(product, published[r * lanes]);
          shared.product[lane] = product;
        }
      }
      if (!all_finite(x.x) && all_finite(carry.x) && exists && low + S > 0) {
        x = carry;
        walk_back(at, t, place, top, PRNN_FAULT(62, low + S - 1, low + S), x.x);
      }
      const auto own_gradients = [&]<bool kLastTile>() {
        PRNN_UNROLL for (int s = S - 1; s >= 0; --s) {
          C g[K], by_a[W], by_u[I];
          if (kLastTile && low + s < 0) continue;
          PRNN_UNROLL for (int i = 0; i < K; ++i) g[i] = x.x[i] + grad_h[s][i];
          multiply_transposed(jacobian[s], g, x.x);
          step_gradients<Cell>(step[s], g, by_a, by_u);
          PRNN_UNROLL for (int k = 0; k < W; ++k) sum[k] = sum[k] + by_a[k];
          PRNN_UNROLL for (int k = 0; k < I; ++k) store(u_at + (s * I + k) * P, by_u[k]);
          if constexpr (kLastTile) {
            if (low + s > 0 || !exists) continue;
            PRNN_UNROLL for (int i = 0; i < K; ++i) t.dh0[at.edge(b, i, d)] = x.x[i];
            bad = !all_finite(x.x);
          }
        }
      };
      if (last_tile) own_gradients.template operator()<true>();
      else own_gradients.template operator()<false>();  // without branches: steps overlap
      if (!kShoots || top <= high) {
        PRNN_UNROLL for (int k = 0; k < W; ++k) da[k].add(sum[k]);
      }
      if (last_slot) shared.carry[PRNN_FAULT(20, odd ^ 1, odd) * lanes + lane] = x;
    }
    show_to_tiles();
    barrier();
    mover.store(least + (high - least) % tile, behind);
    mover.finish();
    const State<C, K> ended = shared.carry[odd * lanes + lane];
    if (kShoots && least > 0) bad = exists && first_slot && !all_finite(ended.x);
    if (kShoots && last_slot && !corrected) {  // others may still be reading what they were shown
      show_value(pages.ends + page, ended);
      show_value(pages.products + page, shared.product[lane]);
    }
    barrier();  // the ring is free
    PRNN_UNROLL for (int k = 0; k < W; ++k) shared.sums[(k * slots + slot) * lanes + lane] = da[k];
    barrier();
    for (int i = thread_index(); i < W * lanes; i += thread_count()) {
      const int k = i / lanes, c = i - k * lanes;
      CompensatedSum<C> total(C(0));
      for (int r = 0; r < slots; ++r) total.add(shared.sums[(k * slots + r) * lanes + c]);
      if (kShoots) show_value(pages.sums + block * std::int64_t(W * lanes) + i, total);
      else keep_sum(k, c, total);
    }
    if (!kShoots) break;
    team_barrier(team, cut.count, pages.barriers + team_index);
    if (corrected) break;

    // The true starts, as far as another was taken.
    bool any = false, mine = false;
    if (first_slot && exists) {
      const std::int64_t other = (block - rank) * std::int64_t(lanes) + lane;
      C shift[K] = {};  // of the start of stretch r
      bool shifted = false;
      PRNN_NO_UNROLL for (int r = 1; r < cut.count; ++r) {
        const State<C, K> before = see_value(pages.ends + other + (r - 1) * lanes), taken = see_value(pages.starts + other + r * lanes);
        State<C, K> truth = before;
        if (shifted) {
          Map moved = see_value(pages.products + other + (r - 1) * lanes);
          PRNN_UNROLL for (int i = 0; i < K; ++i) moved.offset[i] = before.x[i];
          apply(moved, shift, truth.x);
          if (!all_finite(truth.x) && all_finite(before.x) && all_finite(shift)) status[block].unconverged = 1;
        }
        shifted = !continues(taken.x, truth.x);
        any = any || shifted;
        PRNN_UNROLL for (int i = 0; i < K; ++i) shift[i] = truth.x[i] - taken.x[i];
        if (r != int(rank)) continue;
        mine = shifted;
        x = shifted ? truth : taken;
      }
    }
    if (mine) atomic_add(&status[block].failed, 1);
    if (!barrier_or(any)) break;
    corrected = true;
    if (barrier_or(mine)) {
      first = high;
      if (thread_index() == 0) status[block].rounds = 1;
      mover.send_first(first, stage);
    } else {
      team_barrier(team, cut.count, pages.barriers + team_index);
      break;
    }
  }
  if (kShoots && rank == 0) {
    for (int i = thread_index(); i < W * lanes; i += thread_count()) {
      CompensatedSum<C> total(C(0));
      for (int r = 0; r < cut.count; ++r) total.add(see_value(pages.sums + (block + r) * std::int64_t(W * lanes) + i));
      keep_sum(i / lanes, i % lanes, total);
    }
  }
  if (bad) atomic_min(&status[block].nonfinite, first_nan_gradient(at, t.du, place, high, least));
}

#ifndef __CUDACC_RTC__
/// Host side of both. R: the stretches of a sequence.
template <class Cell, class T, bool kShoots>
class ReductionRun : public Run {
  using C = compute_t<T>;
  static constexpr int K = Cell::kState, I = Cell::kInputs, W = Cell::kWeights, S = reduction_steps(K, sizeof(T));

 public:
  static constexpr const char *kName = kShoots ? "shooting" : "reduction", *kPass = "backward";
  static constexpr bool kIterates = false, kDeterministic = true, kApproximates = !kShoots;
  static std::int64_t workspace_bytes(const Problem& p) { return Plan(p).workspace_bytes(); }
  static PolicySpace space() {
    PolicySpace all = cut_space(), blocks = reduction_space();
    if (!kShoots) return blocks;
    all.insert(all.begin(), blocks.begin(), blocks.end());
    return all;
  }

  ReductionRun(const Problem& p, Machine& machine)
      : at_(layout_of<Cell>(p)),
        plan_(fitting(p)),
        accumulate_(p.accumulate_da),
        approximate_(p.gates == "approx"),
        in_tiles_(is_hopper(machine) && p.hidden * std::int64_t(sizeof(T)) % 16 == 0 && p.seq_len < kMostTiledSteps),
        machine_(machine),
        status_(machine, Plan(p).status_bytes()),
        sums_(machine, Plan(p).sums_bytes()),
        pages_(machine, Plan(p).pages_bytes()) {
    if (kShoots) machine.fill(pages_.data(), 0, pages_.bytes());  // the barriers start from zero, once
  }

  Policy policy() const override {
    Policy all{{"threads", plan_.policy.threads}, {"channels_a_block", plan_.policy.channels_a_block}, {"tiles", in_tiles_}};
    if (kShoots) all.insert({{"segments", plan_.cut.count}, {"overlap", plan_.cut.overlap}});
    return all;
  }
  int launches() const override { return at_.batch == 1 ? 1 : 2; }
  void launch(const Tensors& tensors, Stream stream) override {
    const BackwardTensors<T> t(tensors);
    const int G = t.grad_components;
    BackwardMaps maps{};
    if (in_tiles_) {
      const auto map = [&](const T* tensor, int n) { return tile_map(tensor, at_.batch, at_.seq_len * n, at_.hidden, plan_.tile * n, kPanel<T>); };
      maps = {map(t.u, I), map(t.h, K), map(t.grad_h, G), map(t.du, I)};
    }
    const Team team = plan_.cut.count == 1 ? Team::block : plan_.cut.count <= kMostClusterBlocks && is_hopper(machine_) ? Team::cluster : Team::grid;
    const auto launch_with = [&]<class Gated>() {
      const auto kernel = plan_.cut.count == 1 ? &reduction_kernel<Gated, T, false> : &reduction_kernel<Gated, T, kShoots>;
      launch_team(team, plan_.cut.count, kernel, plan_.blocks, plan_.policy.threads, plan_.shared_bytes(G), stream, Layout<Gated>(at_), t, maps, in_tiles_,
                  plan_.policy.channels_a_block, kReductionStages, team, plan_.cut, pages(), sums_.as<CompensatedSum<C>>(), accumulate_, status_.as<ReductionStatus>());
    };
    if constexpr (kApproximates) with_gates<Cell, T>(approximate_, launch_with);
    else launch_with.template operator()<Cell>();
    if (at_.batch > 1) combine_batch_on(at_.batch, at_.a(W, 0), sums_.as<const CompensatedSum<C>>(), accumulate_, t.da, stream);
  }
  Outcome outcome() override {
    std::vector<ReductionStatus> blocks(static_cast<std::size_t>(plan_.blocks));
    machine_.download(blocks.data(), status_.data(), plan_.status_bytes());
    ReductionStatus all{kNowhere, 0, 0, 0};
    for (const ReductionStatus& block : blocks) {
      all.nonfinite = std::min(all.nonfinite, block.nonfinite);
      all.failed += block.failed;
      all.rounds |= block.rounds;
      all.unconverged |= block.unconverged;
    }
    Outcome outcome{.nonfinite = place_of_gradient(at_, all.nonfinite)};
    if (!kShoots) return outcome;
    outcome.converged = !all.unconverged;
    outcome.rounds = int(all.rounds);
    outcome.boundaries = at_.channels() * (plan_.cut.count - 1);
    outcome.boundaries_failed = all.failed;
    return outcome;
  }

 private:
  // Every policy that is accepted can be launched.
  static constexpr int kLargestTile = kMostReductionThreads / kPanel<T> * S;
  static_assert(kLargestTile * std::max(I, K) <= kMostTileRows);
  static_assert(ReductionShared<Cell, T>::bytes(kMostReductionThreads, kPanel<T>, kLargestTile, kReductionStages, K) <= kMostSharedBytes);

  /// A problem's policy, and what follows from it. most_blocks: of a team.
  struct Plan {
    explicit Plan(const Problem& p, int most_blocks = kMostTeamBlocks)
        : policy(kShoots ? adjoint_shooting_policy(p, K).blocks : reduction_policy(p, K)),
          tile(policy.threads / policy.channels_a_block * S),
          teams(p.batch * ceil_div(p.hidden, policy.channels_a_block)),
          batch(p.batch),
          weights(p.batch * W * p.hidden) {
      const ShootingCut wanted = kShoots ? adjoint_shooting_policy(p, K).cut : ShootingCut{1, 0};
      cut.overlap = ceil_div(std::int64_t(wanted.overlap), tile) * tile;
      cut.length = ceil_div(ceil_div(p.seq_len, std::int64_t(std::min(wanted.segments, most_blocks))), tile) * tile;
      cut.count = int(ceil_div(p.seq_len, cut.length));
      blocks = teams * cut.count;
    }
    std::int64_t shared_bytes(int G) const { return ReductionShared<Cell, T>::bytes(policy.threads, policy.channels_a_block, tile, kReductionStages, G); }
    std::int64_t status_bytes() const { return blocks * std::int64_t(sizeof(ReductionStatus)); }
    std::int64_t sums_bytes() const { return batch == 1 ? 0 : weights * std::int64_t(sizeof(CompensatedSum<C>)); }
    std::int64_t page_cells() const { return blocks * policy.channels_a_block; }
    std::int64_t pages_bytes() const {
      return kShoots ? page_cells() * (2 * std::int64_t(sizeof(State<C, K>)) + std::int64_t(sizeof(Affine<C, K>)) + W * std::int64_t(sizeof(CompensatedSum<C>))) +
                           teams * std::int64_t(sizeof(TeamBarrier))
                     : 0;
    }
    std::int64_t workspace_bytes() const { return status_bytes() + sums_bytes() + pages_bytes(); }

    ReductionPolicy policy;
    int tile;
    std::int64_t teams, batch, weights, blocks;
    Stretches cut;
  };
  /// The plan with as many blocks a team as the machine holds at once.
  static Plan fitting(const Problem& p) {
    Plan plan(p);
    for (std::int64_t most;
         plan.cut.count > kMostClusterBlocks && plan.blocks > (most = resident_blocks(&reduction_kernel<Cell, T, kShoots>, plan.policy.threads, plan.shared_bytes(K)));)
      plan = Plan(p, int(std::max<std::int64_t>(std::min<std::int64_t>(most / plan.teams, plan.cut.count - 1), 1)));
    return plan;
  }
  StretchPages<C, K> pages() const {
    if (!kShoots) return {};
    CompensatedSum<C>* const sums = pages_.as<CompensatedSum<C>>();  // the most aligned first
    TeamBarrier* const barriers = reinterpret_cast<TeamBarrier*>(sums + plan_.page_cells() * W);
    Affine<C, K>* const products = reinterpret_cast<Affine<C, K>*>(barriers + plan_.teams);
    State<C, K>* const starts = reinterpret_cast<State<C, K>*>(products + plan_.page_cells());
    return {starts, starts + plan_.page_cells(), products, sums, barriers};
  }

  const Layout<Cell> at_;
  const Plan plan_;
  const bool accumulate_, approximate_, in_tiles_;
  Machine& machine_;
  const Buffer status_;  // [blocks] ReductionStatus
  const Buffer sums_;    // [B, kWeights, D] CompensatedSum<C>, where the batch is more than one
  const Buffer pages_;   // see StretchPages
};

template <class Cell, class T>
using Reduction = ReductionRun<Cell, T, false>;
template <class Cell, class T>
using AdjointShooting = ReductionRun<Cell, T, true>;

PRNN_REGISTER_SOLVER(Reduction, kDevice);
PRNN_REGISTER_SOLVER(AdjointShooting, kDevice);

#endif  // __CUDACC_RTC__

}  // namespace prnn::PRNN_BACKEND
