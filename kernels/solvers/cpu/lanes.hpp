// lanes.hpp: channels side by side in vectors, walked along the sequence: what seq_fused and shooting are made of. lanes.cpp: one step of them, and one back
// (adjoint_strip.hpp walks it).
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

#include "kernels/fault.hpp"
#include "kernels/primitives/policy.hpp"
#include "kernels/solvers/cpu/channels.hpp"

namespace prnn::cpu {

constexpr std::int64_t round_up(std::int64_t n, std::int64_t to) { return ceil_div(n, to) * to; }

// ---------------------------------------------------------------------------------------------------------------------
// Steps of lanes

inline constexpr int kMostVectorBytes = 64;

/// Bytes of this machine's vectors: 64 (AVX-512), 32 (AVX2) or 16.
int machine_vector_bytes();

/// A narrower one than the machine's gives the same bits.
inline PolicyParameter vector_bytes_parameter() { return {.key = "vector_bytes", .least = 16, .most = machine_vector_bytes(), .powers_of_two = true}; }
inline int chosen_vector_bytes(const Problem& p) { return chosen(p.policy, "vector_bytes", machine_vector_bytes()); }

/// What lanes compute with; the lane is the fastest axis. As many as keep weights and states, 4 KiB a component, in the first-level cache.
template <class Cell, class C>
struct LaneState {
  static constexpr int K = Cell::kState, kMost = 4096 / sizeof(C);

  alignas(kMostVectorBytes) C a[Cell::kWeights][kMost];
  alignas(kMostVectorBytes) C h[K][kMost];
  alignas(kMostVectorBytes) C product[K][K][kMost];   // of the Jacobians of the steps gone with products, until the lane ends
  alignas(kMostVectorBytes) std::int8_t runs[kMost];  // -1; 0: the lane keeps its state
};

/// Inputs and outputs of `count` steps: u [count, kInputs, lane], h [count, kState, lane], and the distances of their slower axes.
template <class T>
struct Rows {
  const T* u;
  std::int64_t u_step, u_component;
  T* h;
  std::int64_t h_step, h_component;
  std::int64_t count;
};

/// rows.count steps of lanes first .. first + lanes - 1, the rows pointing at the first of them; lanes is rounded up to a multiple of vector_bytes.
/// state: LaneState<Cell, compute_t<T>>, rows: Rows<T>.
using Advance = void (*)(void* state, const void* rows, int first, int lanes);
/// With products: compute types only.
Advance advance_of(std::string_view cell, Storage, bool products, int vector_bytes);

/// What lanes of the backward pass compute with, and what one step of it takes and gives.
template <class Cell, class C>
struct AdjointLanes {
  static constexpr int kLanes = kMostVectorBytes;

  alignas(kMostVectorBytes) C a[Cell::kWeights][kLanes];
  alignas(kMostVectorBytes) C g[Cell::kState][kLanes];                                    // of the step's end before, of its start after it
  alignas(kMostVectorBytes) C sum[Cell::kWeights][kLanes], lost[Cell::kWeights][kLanes];  // CompensatedSum of da
  alignas(kMostVectorBytes) C h_before[Cell::kState][kLanes], u[Cell::kInputs][kLanes], du[Cell::kInputs][kLanes];
};

/// One step back of lanes 0 .. lanes - 1, rounded up to a multiple of vector_bytes. lanes_state: AdjointLanes<Cell, C>, C of Storage f32 or f64.
using StepBack = void (*)(void* lanes_state, int lanes);
StepBack step_back_of(std::string_view cell, Storage compute, int vector_bytes);

// ---------------------------------------------------------------------------------------------------------------------
// Strips of lanes

/// Lanes `lane` .. lane + width - 1 are the neighbouring channels (b, d) .. (b, d + width - 1). They run steps first .. end - 1 and store from `own`.
struct Stretch {
  std::int64_t b, d, first, own, end;
  int width, lane = 0;
};

/// The lanes that a thread walks together: all start at their first step and go on in step.
template <class Cell, class T>
class Strip : public LaneState<Cell, compute_t<T>> {
  using C = compute_t<T>;
  static constexpr int K = Cell::kState;

 public:
  using State = LaneState<Cell, C>;

  Strip(const Layout<Cell>& at, const RecurrenceTensors<T>& t, int vector_bytes)
      : at_(at),
        t_(t),
        vector_bytes_(vector_bytes),
        stored_(advance_of(Cell::name, storage_of<T>, false, vector_bytes)),
        gathered_(advance_of(Cell::name, storage_of<C>, false, vector_bytes)),
        with_products_(advance_of(Cell::name, storage_of<C>, true, vector_bytes)) {}

  void clear() { count_ = lanes_ = 0; }
  const Stretch* begin() const { return stretches_; }
  const Stretch* end() const { return stretches_ + count_; }

  /// Lanes that start from h0 where their first step is 0, else from the state 0. At most State::kMost in all.
  void add(const Stretch& stretch) {
    stretches_[count_] = stretch;
    stretches_[count_++].lane = lanes_;
    for (int i = 0; i < stretch.width; ++i, ++lanes_) {
      C a[Cell::kWeights], h[K];
      load_start<Cell, T>(at_, t_, stretch.b, stretch.d + i, a, h);
      if (stretch.first > 0) std::fill_n(h, K, C(0));
      for (int k = 0; k < Cell::kWeights; ++k) this->a[k][lanes_] = a[k];
      for (int k = 0; k < K; ++k) this->h[k][lanes_] = h[k];
    }
  }

  /// After the last add(). Lanes that only fill the last vector compute with zeros.
  void start() {
    step_ = 0;
    pitch_ = int(round_up(lanes_, vector_bytes_));
    whole_vectors_ = std::all_of(begin(), end(), [&](const Stretch& stretch) { return stretch.width % vector_bytes_ == 0; });
    std::fill_n(this->runs, lanes_, std::int8_t(-1));
    if (pitch_ == lanes_) return;
    const auto fill = [&](auto* x) { std::fill(x + lanes_, x + pitch_, 0); };
    fill(this->runs);
    for (auto& a : this->a) fill(a);
    for (auto& h : this->h) fill(h);
    for (auto& row : this->product) {
      for (auto& x : row) fill(x);
    }
    std::fill(std::begin(u_), std::end(u_), C(0));
  }

  /// Every lane goes `steps` steps further, or to its end.
  void walk(std::int64_t steps, bool products = false) {
    const bool in_place = whole_vectors_ && (!products || std::is_same_v<C, T>);
    for (const std::int64_t stop = step_ + steps; step_ < stop;) {
      std::int64_t count = in_place ? stop - step_ : std::min<std::int64_t>(stop - step_, kGathered / pitch_);
      bool any = false;
      for (const Stretch& stretch : *this) {
        if (ended(stretch)) continue;
        any = true;
        count = std::min(count, (stores(stretch) ? stretch.end : stretch.own) - stretch.first - step_);
      }
      if (!any) return;
      in_place ? walk_in_place(count, products ? with_products_ : stored_) : walk_gathered(count, products ? with_products_ : gathered_);
      step_ += count;
      for (const Stretch& stretch : *this) {
        if (ended(stretch)) std::fill_n(this->runs + stretch.lane, stretch.width, std::int8_t(PRNN_FAULT(54, 0, -1)));
      }
    }
  }

 private:
  static constexpr int kGathered = 2 * State::kMost;  // lanes x steps at a time

  bool ended(const Stretch& stretch) const { return step_ >= stretch.end - stretch.first; }
  bool stores(const Stretch& stretch) const { return step_ >= stretch.own - stretch.first; }
  const T* u_of(const Stretch& stretch) const { return t_.u + at_.u(stretch.b, stretch.first + step_, 0, stretch.d); }
  T* h_of(const Stretch& stretch) const { return t_.h + at_.h(stretch.b, stretch.first + step_, 0, stretch.d); }

  /// Stretches of whole vectors read and write the tensors themselves.
  void walk_in_place(std::int64_t count, Advance advance) {
    for (const Stretch& stretch : *this) {
      if (ended(stretch)) continue;
      Rows<T> rows{u_of(stretch), Cell::kInputs * at_.hidden, at_.hidden, h_of(stretch), K * at_.hidden, at_.hidden, count};
      if (!stores(stretch)) rows.h = nowhere_, rows.h_step = rows.h_component = 0;
      advance(static_cast<State*>(this), &rows, stretch.lane, stretch.width);
    }
  }

  /// Others are gathered and scattered, in compute type.
  void walk_gathered(std::int64_t count, Advance advance) {
    for (const Stretch& stretch : *this) {
      if (ended(stretch)) continue;
      copy(u_ + stretch.lane, pitch_, u_of(stretch), at_.hidden, count * Cell::kInputs, stretch.width, [](T x) { return to_compute(x); });
    }
    const Rows<C> rows{u_, Cell::kInputs * pitch_, pitch_, h_, K * pitch_, pitch_, count};
    advance(static_cast<State*>(this), &rows, 0, lanes_);
    for (const Stretch& stretch : *this) {
      if (ended(stretch) || !stores(stretch)) continue;
      copy(h_of(stretch), at_.hidden, h_ + stretch.lane, pitch_, count * K, stretch.width, [](C x) { return to_storage<T>(x); });
    }
  }

  /// [rows, width], the rows lying to_pitch and from_pitch apart.
  template <class To, class From, class Convert>
  static void copy(To* to, std::int64_t to_pitch, const From* from, std::int64_t from_pitch, std::int64_t rows, int width, const Convert& convert) {
    if (width < 8) {
      for (int i = 0; i < width; ++i) {
        for (std::int64_t row = 0; row < rows; ++row) to[row * to_pitch + i] = convert(from[row * from_pitch + i]);
      }
    } else {
      for (std::int64_t row = 0; row < rows; ++row) std::transform(from + row * from_pitch, from + row * from_pitch + width, to + row * to_pitch, convert);
    }
  }

  const Layout<Cell> at_;
  const RecurrenceTensors<T> t_;
  const int vector_bytes_;
  const Advance stored_, gathered_, with_products_;
  int count_ = 0, lanes_ = 0, pitch_ = 0;
  bool whole_vectors_ = false;
  std::int64_t step_ = 0;  // of every lane, from its first
  Stretch stretches_[State::kMost];
  T nowhere_[State::kMost];
  alignas(kMostVectorBytes) C u_[kGathered * Cell::kInputs];
  alignas(kMostVectorBytes) C h_[kGathered * K];
};

// ---------------------------------------------------------------------------------------------------------------------
// Threads

/// Threads that share a problem.
inline int threads_for(std::int64_t cell_steps) { return cell_steps > kStepsWorthThreads ? omp_get_max_threads() : 1; }

/// Shares lanes 0 .. lanes - 1 out in strips: work(strip, first, end) is to add them, start the strip and walk it. S: a strip, made of at, t and vector_bytes.
template <class S, class Layout, class Tensors, class Work>
void for_each_strip(const Layout& at, const Tensors& t, int vector_bytes, int threads, std::int64_t lanes, const Work& work) {
  const std::int64_t width = std::min<std::int64_t>(round_up(ceil_div(lanes, threads), vector_bytes), S::kMost), strips = lanes > 0 ? ceil_div(lanes, width) : 0;
  const int team = int(std::min<std::int64_t>(threads, strips));
#pragma omp parallel num_threads(team) if (team > 1)
  {
    S strip(at, t, vector_bytes);
#pragma omp for schedule(dynamic)
    for (std::int64_t s = 0; s < strips; ++s) {
      strip.clear();
      work(strip, s * width, std::min((s + 1) * width, lanes));
    }
  }
}

}  // namespace prnn::cpu
